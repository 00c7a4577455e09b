"""A text tower that stands in for that of a vision-language model, under the name "towers:F/P"."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from han_retrieval import plugins

TOKEN, POOLED = 6, 5


class TextTower(nn.Module):
    """A frozen embedding of F numbers a word; the vector of a sentence has P numbers; a head that is trained."""

    def __init__(self, frozen_size: int, pooled_size: int, config):
        super().__init__()
        self.frozen_size = frozen_size
        random = torch.Generator().manual_seed(1)
        self._table = torch.randn(config.vocabulary_size, frozen_size, generator=random)
        self._projection = torch.randn(frozen_size, pooled_size, generator=random)
        self.head = nn.Linear(frozen_size, config.joint_size)

    def frozen_tokens(self, words, word_mask):
        return self._table[words] * word_mask.unsqueeze(-1)

    def pooled(self, words, word_mask):
        return self.frozen_tokens(words, word_mask).sum(1) @ self._projection

    def forward(self, words, word_mask):
        tokens = words if words.is_floating_point() else self.frozen_tokens(words, word_mask)
        return self.head(F.layer_norm(tokens, (self.frozen_size,))) * word_mask.unsqueeze(-1)


def make(argument, config):
    frozen_size, _, pooled_size = argument.partition("/")
    return TextTower(int(frozen_size or TOKEN), int(pooled_size or POOLED), config)


def register_towers() -> str:
    """Make the tower known for the rest of the process, and return its name."""
    part = plugins.Plugin("text_encoders", "towers", "two_towers:make", "tests 0")
    plugins.installed("text_encoders").setdefault("towers", part)
    return "towers"
