"""A model far from its start, and masks of items with some of their tokens."""

from __future__ import annotations

import torch

from han_retrieval.matchers import HAN, HANConfig


def random_model(**options: object) -> HAN:
    model = HAN(HANConfig(region_size=5, vocabulary_size=9, word_size=4, **options))
    for parameter in model.parameters():  # far from the start, so that attention is far from even
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def random_mask(items: int, tokens: int) -> torch.Tensor:
    mask = torch.rand(items, tokens) < 0.7
    mask[torch.arange(items), torch.randint(tokens, (items,))] = True
    return mask
