"""SCAN, stacked cross attention (Lee et al., ECCV 2018), in the order of its formulas.

Each query (a word, "text-to-image", or a region, "image-to-text") is aligned with the keys of the other set:

    x_ij = cos(q_i, k_j)
    x'_ij = [x_ij]_+ / sqrt(sum_i [x_ij]_+^2)            over all queries of the pair
    alpha_i = softmax_j(lambda x'_ij)                    alignment                       clipped_align
    r_i = cos(q_i, sum_j alpha_ij k_j)                   matching                        match
    S = mean r_i (AVG), or log(sum_i exp(t r_i)) / t (LSE)                               pool

[x]_+ is 0 below 0 in the paper; the authors' code, and this, take 0.1 x there. Encoders are those of HAN.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from han_retrieval.matchers.aligning import AligningMatcher, AlignmentConfig
from han_retrieval.matchers.han import ImageEncoder, match, pool, score_pairs
from han_retrieval.text import Vocabulary, make_text_encoder


class SCANConfig(AlignmentConfig):
    """The configuration of a SCAN; the defaults are the authors' text-to-image AVG."""

    matcher: Literal["scan"] = "scan"


def clipped_align(queries: Tensor, keys: Tensor, key_mask: Tensor, *, temperature: float) -> Tensor:
    """alpha over valid keys: (B, q, d), (B, k, d), (B, k) -> (B, q, k). Queries that are padding must be zero."""
    clipped = F.leaky_relu(F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).mT, 0.1)
    logits = clipped / (clipped.norm(dim=1, keepdim=True) + 1e-8)
    return (temperature * logits).masked_fill(~key_mask.unsqueeze(1), -torch.inf).softmax(-1)


class SCAN(AligningMatcher):
    """Encoders, alignment over clipped and normalised cosines, and matching.

    Args:
        config: Sizes and options.
        vocabulary: The words that ids stand for; without it the model takes ids alone, no sentences.
    """

    config: SCANConfig
    config_class = SCANConfig
    title = "A stacked cross attention network"
    summary = "Matches photos and sentences by their regions and words (SCAN, Lee et al., ECCV 2018)"
    tags = ("cross-attention", "visual-grounding")
    attention = "clipped"
    match, pool = staticmethod(match), staticmethod(pool)

    def __init__(self, config: SCANConfig, *, vocabulary: Vocabulary | None = None):
        super().__init__(config, vocabulary=vocabulary)
        self.image_encoder = ImageEncoder(config.region_size, config.joint_size)
        self.text_encoder = make_text_encoder(config.text_encoder, config)

    def encode_texts(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n) int64 ids and (T, n) bool to (T, n, d) tokens of unit length; zero at padding."""
        return F.normalize(super().encode_texts(words, word_mask), dim=-1)

    def align(self, queries: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        """alpha of B pairs: (B, q, d), (B, k, d), (B, k) -> (B, q, k)."""
        return clipped_align(queries, keys, key_mask, temperature=self.config.alignment_temperature)

    def score_text(self, image_tokens: Tensor, region_mask: Tensor, text_tokens: Tensor) -> Tensor:
        """S of one text with all images, by the formulas: (I, m, d), (I, m), (n, d) without padding -> (I,)."""
        words = text_tokens.expand(len(image_tokens), -1, -1)  # (I, n, d)
        word_mask = torch.ones_like(words[..., 0], dtype=torch.bool)
        return score_pairs(image_tokens, region_mask, words, word_mask, align=self.align, config=self.config)
