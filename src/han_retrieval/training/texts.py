"""The texts of a training step."""

from __future__ import annotations

import torch
from torch import Tensor

from han_retrieval.matchers import Matcher
from han_retrieval.text.language_model import LanguageModel
from han_retrieval.training.dropout import PlacedDropout

_AT_ONCE = 32  # texts of like length that go through a language model together


def encode_texts(matcher: Matcher, words: Tensor, word_mask: Tensor, *, places: Tensor, seed: int) -> Tensor:
    """Tokens (k, n, d) float32 of k texts, with gradients: ``Matcher.encode_texts`` of less padding.

    A language model computes padding as it does words. One that is trained along is given texts of like length
    together. Its dropout is the same however they are grouped.

    Args:
        matcher: The matcher.
        words: (k, n) or (k, n, s) int64, or (k, n, F) frozen tokens.
        word_mask: (k, n) bool.
        places: (k,) int64, the places of the texts in the global batch.
        seed: Of the language model's dropout.
    """
    encoder = matcher.text_encoder
    if isinstance(encoder, LanguageModel) and encoder.trained_backbone is not None and len(words):
        words, word_mask = words.to(matcher.device), word_mask.to(matcher.device)
        groups, parts = encoder.by_length(words, word_mask, at_once=_AT_ONCE), []
        for some in groups:
            with PlacedDropout(seed).within(places[some]):
                parts.append(encoder.tokens(words[some], word_mask[some]))
        words = torch.cat(parts)[torch.cat(groups).argsort()]
    return matcher.encode_texts(words, word_mask).float()
