"""Words to tokens: w_i = l2norm((forward_i + backward_i) / 2) of a one-layer Bi-GRU, and what peers have instead."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class TextEncoder(nn.Module):
    """Word embedding and bidirectional GRU, its two directions averaged (Yu et al., SIGIR 2021).

    Legend: T texts, n words, e the word size, d the joint size.

    Args:
        vocabulary_size: Word ids.
        word_size: e.
        joint_size: d.
        unit: Whether tokens are brought to unit length.
        bidirectional: Whether there is a backward direction; else a token is the forward one alone.
    """

    def __init__(
        self, vocabulary_size: int, word_size: int, joint_size: int, *, unit: bool = True, bidirectional: bool = True
    ):
        super().__init__()
        self.unit = unit
        self.embedding = nn.Embedding(vocabulary_size, word_size, padding_idx=0)
        self.gru = nn.GRU(word_size, joint_size, batch_first=True, bidirectional=bidirectional)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        with torch.no_grad():
            self.embedding.weight[0].zero_()

    def forward(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n) int64 ids and (T, n) bool, true where a word is, to (T, n, d) tokens; zero at padding.

        The words of a text are those under its mask, in order: gaps do not reach the GRU.
        """
        if not len(words):
            return self.embedding.weight.new_zeros(*words.shape, self.gru.hidden_size)
        order = torch.argsort((~word_mask).to(torch.uint8), dim=1, stable=True)  # (T, n), a text's words first
        lengths = word_mask.sum(1)
        # A text without words still takes a step, which the mask then clears: an empty sequence cannot be packed.
        packed = pack_padded_sequence(
            self.embedding(words.masked_fill(~word_mask, 0).gather(1, order)),  # (T, n, e)
            lengths.clamp(min=1).cpu(),
            batch_first=True,
            enforce_sorted=False,
        )
        tokens, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=words.shape[1])
        if self.gru.bidirectional:
            forward, backward = tokens.chunk(2, dim=-1)  # (T, n, d) each
            tokens = (forward + backward) / 2
        if self.unit:
            tokens = F.normalize(tokens, dim=-1)
        back = order.argsort(dim=1).unsqueeze(-1).expand_as(tokens)
        return torch.where(word_mask.unsqueeze(-1), tokens.gather(1, back), 0)
