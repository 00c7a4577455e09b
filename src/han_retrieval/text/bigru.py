"""The recurrent text encoders: word embedding and a one-layer GRU.

Legend: T texts, n words, e the word size, d the joint size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from han_retrieval.errors import ConfigError
from han_retrieval.text.encoder import TextEncoderSizes


class BiGRU(nn.Module):
    """Word embedding and a bidirectional GRU whose directions are averaged: (forward_i + backward_i) / 2.

    Args:
        vocabulary_size: Word ids.
        word_size: e.
        joint_size: d, the size of a direction.
        bidirectional: Whether there is a backward direction; without it a token is the forward state.
    """

    def __init__(self, vocabulary_size: int, word_size: int, joint_size: int, *, bidirectional: bool = True):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, word_size, padding_idx=0)
        self.gru = nn.GRU(word_size, joint_size, batch_first=True, bidirectional=bidirectional)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        with torch.no_grad():
            self.embedding.weight[0].zero_()

    def forward(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n) int64 ids and (T, n) bool, true where a word is, to (T, n, d) tokens; zero at padding.

        The words of a text are those under its mask, in order; gaps do not reach the GRU.
        """
        if not torch.compiler.is_exporting() and not len(words):
            return self.embedding.weight.new_zeros(*words.shape, self.gru.hidden_size)
        return gru_states(self.gru, self.embedding(words.masked_fill(~word_mask, 0)), word_mask)


def gru_states(gru: nn.GRU, embedded: Tensor, word_mask: Tensor) -> Tensor:
    """The states of a GRU over texts, the mean of both directions: (T, n, e), (T, n) -> (T, n, d); zero at padding.

    The words of a text are those under its mask, in order; gaps do not reach the GRU.
    """
    order = torch.argsort((~word_mask).to(torch.uint8), dim=1, stable=True)  # (T, n), a text's words first
    lengths = word_mask.sum(1)  # (T,)
    embedded = embedded.gather(1, _wide(order, embedded))
    states = (_unpacked if torch.compiler.is_exporting() else _packed)(gru, embedded, lengths)
    if gru.bidirectional:
        forward, backward = states.chunk(2, dim=-1)  # (T, n, d) each
        states = (forward + backward) / 2
    back = order.argsort(dim=1).unsqueeze(-1).expand_as(states)
    return torch.where(word_mask.unsqueeze(-1), states.gather(1, back), 0)


def _packed(gru: nn.GRU, embedded: Tensor, lengths: Tensor) -> Tensor:
    """States (T, n, d or 2 d), nothing computed at padding."""
    # A text without words still takes a step, which the mask then clears: an empty sequence cannot be packed.
    packed = pack_padded_sequence(embedded, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=embedded.shape[1])
    return states


def _unpacked(gru: nn.GRU, embedded: Tensor, lengths: Tensor) -> Tensor:
    """The same states without packed sequences, which ``torch.export`` does not take.

    The forward direction never meets the padding behind a text. The backward one runs forwards over each text turned
    round, which puts the padding behind it too.
    """
    forward = _one_direction(gru, embedded, "l0")
    if not gru.bidirectional:
        return forward
    place = torch.arange(embedded.shape[1], device=embedded.device)
    turned = (lengths.unsqueeze(1) - 1 - place) % embedded.shape[1]  # (T, n)
    backward = _one_direction(gru, embedded.gather(1, _wide(turned, embedded)), "l0_reverse")
    return torch.cat([forward, backward.gather(1, _wide(turned, backward))], dim=-1)


def _one_direction(gru: nn.GRU, embedded: Tensor, suffix: str) -> Tensor:
    weights = [getattr(gru, f"{name}_{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    start = embedded.new_zeros(1, embedded.shape[0], gru.hidden_size)
    states, _ = torch.gru(embedded, start, weights, True, 1, 0.0, False, False, True)
    return states


def _wide(places: Tensor, like: Tensor) -> Tensor:
    """(T, n) places for gathering from (T, n, size)."""
    return places.unsqueeze(-1).expand(-1, -1, like.shape[-1])


def make_bigru(argument: str, config: TextEncoderSizes) -> BiGRU:
    """The text encoder ``bigru``, HAN's; it takes no argument."""
    _refuse_options("bigru", argument, config)
    return BiGRU(config.vocabulary_size, config.word_size, config.joint_size)


def make_gru(argument: str, config: TextEncoderSizes) -> BiGRU:
    """The text encoder ``gru``, that of VSE++: the forward direction alone; it takes no argument."""
    _refuse_options("gru", argument, config)
    return BiGRU(config.vocabulary_size, config.word_size, config.joint_size, bidirectional=False)


def _refuse_options(name: str, argument: str, config: TextEncoderSizes) -> None:
    if argument:
        raise ConfigError(f"the text encoder {name} takes nothing behind a colon; got {name}:{argument}")
    for option, default in (("text_backbone", "frozen"), ("text_layers", "mix"), ("text_head", "gru")):
        if getattr(config, option, default) != default:
            raise ConfigError(f"{option} is an option of language models, and the text encoder is {name}; leave it out")
