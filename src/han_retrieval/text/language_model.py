"""A language model as a text encoder: its sub-words' states, one token a word, and a head that is trained.

    h_l   = states of layer l over [start, sub-words, end]                       Backbone
    t_i,l = mean of the states of word i's sub-words                             LanguageModel.frozen_tokens
    t_i   = LN(t_i,L),  or sum_l softmax(a)_l LN(t_i,l)                          text_layers: "last", "mix"
    w_i   = W t_i + b,  or the states of a Bi-GRU over t_1 .. t_n                text_head: "linear", "gru"

The backbone is frozen, or trained along, whole or but for its embeddings of sub-words. What is frozen of it is no part
of the weights: it is named, with a hash, and comes from where it came before. The tokens of a frozen backbone never
change, so a training computes those of a sentence once.

Legend: T texts, n rows of sub-words (words), s places of a row, L sub-words of a text, h numbers a state, F numbers a
frozen token, d the joint size, P numbers a pooled vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from han_retrieval.text.bigru import gru_states
from han_retrieval.text.encoder import TextEncoderSizes
from han_retrieval.text.subwords import EMPTY, SubwordTokenizer, beside

if TYPE_CHECKING:
    from han_retrieval.text.frozen import FrozenTokens

_AT_ONCE = 64  # texts of like length that go through a frozen backbone together


class LanguageModelOptions(TextEncoderSizes, Protocol):
    """The part of a matcher's configuration that a language model reads."""

    @property
    def text_backbone(self) -> str:
        """ "frozen", "layers" or "trained"."""
        ...

    @property
    def text_layers(self) -> str:
        """ "last" or "mix"."""
        ...

    @property
    def text_head(self) -> str:
        """ "linear" or "gru"."""
        ...


class Backbone(nn.Module, ABC):
    """A language model that is there, with its tokenizer.

    Attributes:
        tokenizer: Sentences to rows of sub-words.
        hidden_size: h.
        layers: How many layers of states ``states`` can give.
        start, end: The ids that begin and end every sentence.
        padding: The id at padding.
        guesses: Whether it only guesses at words that no training caption had, so that they count as unknown: a model
            of one language does, at words of another.
        name: What finds the same again, as "hf:user/name@REVISION".
        fingerprint: Its name and a hash of its files.
        settings: A hash of what else its states depend on, such as its configuration, where that may change.
    """

    tokenizer: SubwordTokenizer
    hidden_size: int
    layers: int
    start: tuple[int, ...]
    end: tuple[int, ...]
    padding: int
    guesses: bool = False
    settings: str = ""
    name: str
    fingerprint: str

    @abstractmethod
    def states(self, ids: Tensor, mask: Tensor, *, every: bool) -> Tensor:
        """States (layers or 1, T, L, h) of (T, L) int64 ids with (T, L) bool mask: of every layer, or of the last."""

    @abstractmethod
    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The model's own vector (T, P) of each text."""


class LanguageModel(nn.Module):
    """A text encoder of a backbone and a head.

    Args:
        backbone: The language model; in evaluation mode where it stays frozen.
        config: The matcher's configuration.

    Attributes:
        backbone: As given; its weights are this module's only where it is trained along.
        tokenizer: Sentences to rows of sub-words.
        frozen_size: F; None where the backbone is trained along.
        name, fingerprint, settings, guesses: The backbone's.
        remembered: Tokens that a training has computed before; None for none.
    """

    def __init__(self, backbone: Backbone, config: LanguageModelOptions):
        super().__init__()
        self.tokenizer, self.name, self.fingerprint = backbone.tokenizer, backbone.name, backbone.fingerprint
        self.guesses, self.settings = backbone.guesses, backbone.settings
        self.layers = backbone.layers if config.text_layers == "mix" else 1
        self.hidden_size = backbone.hidden_size
        self.frozen_size: int | None = self.layers * self.hidden_size
        self.remembered: FrozenTokens | None = None
        self.trained_backbone: Backbone | None = None
        self._held = (backbone,)  # in a tuple, a module is no part of this one
        if config.text_backbone == "frozen":
            backbone.requires_grad_(False)
        else:
            self.trained_backbone, self.frozen_size = backbone, None
            if config.text_backbone == "layers":
                _freeze_embeddings(backbone)
        self.mix = nn.Parameter(torch.zeros(self.layers)) if self.layers > 1 else None
        self.head: nn.Linear | None = None
        if config.text_head == "linear":
            self.head = nn.Linear(self.hidden_size, config.joint_size)
            nn.init.xavier_uniform_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        else:
            self.gru = nn.GRU(self.hidden_size, config.joint_size, batch_first=True, bidirectional=True)

    @property
    def backbone(self) -> Backbone:
        """The language model."""
        return self._held[0]

    def forward(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """Rows of sub-words (T, n, s) int64, or frozen tokens (T, n, F), with (T, n) bool to tokens (T, n, d).

        Tokens are zero at padding. The mask is true where a row is.
        """
        there = word_mask.unsqueeze(-1)
        if not len(words):
            size = self.gru.hidden_size if self.head is None else self.head.out_features
            return torch.zeros(*word_mask.shape, size, device=word_mask.device)
        if words.is_floating_point():
            tokens = words.float()
        elif self.frozen_size is None:
            tokens = self.tokens(words, word_mask)
        else:
            tokens = self.frozen_tokens(words, word_mask)
        tokens = torch.where(there, tokens, 0).unflatten(-1, (self.layers, self.hidden_size))  # (T, n, layers, h)
        tokens = F.layer_norm(tokens, (self.hidden_size,))
        mixed = tokens[:, :, -1] if self.mix is None else self.mix.softmax(0) @ tokens  # (T, n, h)
        if self.head is not None:
            return torch.where(there, self.head(mixed), 0)
        return gru_states(self.gru, mixed, word_mask)

    @torch.no_grad()
    def frozen_tokens(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """The backbone's own tokens, without gradients: (T, n, s) int64, (T, n) bool -> (T, n, F); zero at padding."""
        tokens = torch.zeros(*word_mask.shape, self.layers * self.hidden_size, device=words.device)
        new = torch.arange(len(words))
        if self.remembered is not None:
            new = self.remembered.fill(tokens, words, word_mask)
        for some in self.by_length(words[new], word_mask[new]):
            some = new[some]
            tokens[some] = self.tokens(words[some], word_mask[some])
        return tokens

    @torch.no_grad()
    def pooled(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """The language model's own vector of each sentence: (T, n, s) int64, (T, n) bool -> (T, P)."""
        order, parts = [], []
        for some in self.by_length(words, word_mask):
            ids, mask, _ = self._sequences(words[some], word_mask[some])
            parts.append(self._ready(words.device).pooled(ids, mask).float())
            order.append(some)
        return torch.cat(parts)[torch.cat(order).argsort()] if parts else torch.zeros(0, 0, device=words.device)

    def tokens(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """The backbone's own tokens, the mean of each row's sub-words: (T, n, s) int64, (T, n) bool -> (T, n, F).

        Zero at padding; with gradients where the backbone is trained. ``forward`` takes them in the place of rows.
        """
        ids, mask, rows = self._sequences(words, word_mask)
        states = self._ready(words.device).states(ids, mask, every=self.layers > 1)  # (layers, T, L, h)
        states = states.float().permute(1, 2, 0, 3).flatten(2)  # (T, L, F)
        count, n = rows.shape[0], words.shape[1]
        sums = states.new_zeros(count, n + 1, states.shape[-1])
        sums = sums.scatter_add(1, rows.unsqueeze(-1).expand_as(states), states)[:, :n]
        own = ((words >= 0) & word_mask.unsqueeze(-1)).sum(-1, keepdim=True)  # (T, n, 1)
        return sums / own.clamp(min=1)

    @staticmethod
    def by_length(words: Tensor, word_mask: Tensor, *, at_once: int = _AT_ONCE) -> list[Tensor]:
        """The places of texts (T, n, s), in parts of like length, in which there is little padding."""
        lengths = _present(words, word_mask).sum((1, 2)).cpu()
        return list(lengths.argsort(descending=True, stable=True).split(at_once)) if len(lengths) else []

    def _sequences(self, words: Tensor, word_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of sub-words as the backbone reads them.

        Returns:
            (T, L) ids, with those that begin and end a sentence; (T, L) bool, false at padding; and (T, L) the row that
            each is pooled into, n for none.
        """
        backbone, (count, n, s) = self.backbone, words.shape
        present = _present(words, word_mask).flatten(1)  # (T, n s)
        lengths = present.sum(1)
        width = int(lengths.max()) if count else 0
        order = (~present).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]  # (T, w), what is there first
        found = words.flatten(1).gather(1, order)
        within = torch.arange(width, device=words.device) < lengths.unsqueeze(1)  # (T, w)
        first, last = len(backbone.start), len(backbone.end)
        ids = words.new_full((count, first + width + last), backbone.padding)
        rows = torch.full_like(ids, n)
        inner = slice(first, first + width)
        ids[:, inner] = torch.where(within, torch.where(found < 0, beside(found), found), backbone.padding)
        rows[:, inner] = torch.where(within & (found >= 0), order // s, n)
        for place, id_ in enumerate(backbone.start):
            ids[:, place] = id_
        for place, id_ in enumerate(backbone.end):
            ids[torch.arange(count), first + lengths + place] = id_
        mask = torch.arange(ids.shape[1], device=words.device) < (first + lengths + last).unsqueeze(1)
        return ids, mask, rows

    def _ready(self, device: torch.device) -> Backbone:
        """The backbone on a device, in evaluation mode where it is frozen."""
        backbone = self.backbone
        if self.trained_backbone is None and next(backbone.parameters()).device != device:
            backbone.to(device)
        return backbone


def same_language_model(one: str | None, other: str | None) -> bool:
    """Whether two fingerprints, ``NAME-VERSION-HASH``, are of the same files, wherever these are."""
    of_one, of_other = ((each or "").rsplit("-", 2) for each in (one, other))
    return one == other or (len(of_one) == 3 and of_one[1:] == of_other[1:])


def _freeze_embeddings(backbone: Backbone) -> None:
    """Make the tables of embeddings constants, which are neither trained nor saved."""
    for part in backbone.modules():
        if isinstance(part, nn.Embedding):
            table = part.weight.detach()
            del part.weight
            part.register_buffer("weight", table, persistent=False)


def _present(words: Tensor, word_mask: Tensor) -> Tensor:
    """Which places (T, n, s) of rows hold a sub-word."""
    return (words != EMPTY) & word_mask.unsqueeze(-1)
