"""HAN, the Heterogeneous Attention Network (Yu et al., SIGIR 2021): the whole model, in the order of its formulas.

    o_i   = l2norm(W_r x_i + b_r)                              image encoder      ImageEncoder
    w_i   = l2norm((forward_i + backward_i) / 2)               text encoder       BiGRU, HAN.encode_texts
    H     = [o_1 .. o_m, w_1 .. w_n]                           joint set          HAN.attend
    q, k, v = W_q h + b_q, W_k h + b_k, W_v h + b_v            one block          HeterogeneousAttention
    A     = softmax_j(beta q_i . k_j) over both sets
    h~_i  = W_f (sum_j A_ij v_j) + b_f + q_i
    alpha_i = softmax_j(lambda cos(w^_i, o^_j))                alignment          align
    o~_i  = sum_j alpha_ij o^_j                                                   match
    r_i   = cos(w^_i, o~_i)                                    matching           match
    S     = mean of r_i                                                           pool
    L     = sum of the p-norms over rows and columns of [S_ij - S_pos + mu]_+     losses.soft_max_triplet_loss

The formulas are the paper's. Sizes and temperatures are this project's choice.

The model's ``forward`` scores all pairs of some images and some texts. ``AligningMatcher.score`` computes them in Gram
space (``han_retrieval.scoring``), which gives the same numbers as ``HAN.score_text``, the formulas as they stand.

Legend: I images, T texts, B pairs, m regions, n words, s = m + n tokens, D numbers a region feature, d the joint size,
L blocks. Masks are boolean, true where there is a token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from han_retrieval.matchers.aligning import AligningMatcher, AlignmentConfig
from han_retrieval.scoring.alignment import unit_tokens
from han_retrieval.text import Vocabulary, make_text_encoder


class HANConfig(AlignmentConfig):
    """The configuration of a HAN; ``AlignmentConfig`` has lambda and the direction of alignment.

    Attributes:
        blocks: L, how many blocks of heterogeneous attention; 0 leaves alignment and matching alone.
        attention_temperature: beta, the factor on q . k.
        residual: What a block adds to the attended sum: the query (as published) or the token itself.
        attention_over: What a token attends to: tokens of "both" sets (as published), of its "own", or of the "other".
            "one-way": words attend to both sets, regions to regions alone, so that a photo's side is computed once.

    Example:
        >>> HANConfig(region_size=2048, vocabulary_size=10000, joint_size=256).attention_temperature
        10.0
    """

    matcher: Literal["han"] = "han"
    blocks: int = Field(default=1, ge=0, le=100)
    attention_temperature: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    residual: Literal["query", "token"] = "query"
    attention_over: Literal["both", "own", "other", "one-way"] = "both"


class ImageEncoder(nn.Module):
    """Region features to tokens: o_i = l2norm(W_r x_i + b_r).

    Args:
        region_size: D.
        joint_size: d.
    """

    def __init__(self, region_size: int, joint_size: int):
        super().__init__()
        self.projection = nn.Linear(region_size, joint_size)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, regions: Tensor, region_mask: Tensor) -> Tensor:
        """(I, m, D) features and (I, m) bool to (I, m, d) tokens of unit length; zero at padding."""
        there = region_mask.unsqueeze(-1)  # (I, m, 1)
        # Padding is zeroed on both sides: what stands there, NaN included, must reach neither a token nor a gradient.
        tokens = self.projection(torch.where(there, regions, 0))  # (I, m, d)
        return torch.where(there, unit_tokens(tokens)[0], 0)


class HeterogeneousAttention(nn.Module):
    """One block: h~_i = W_f (sum_j A_ij v_j) + b_f + q_i, with A = softmax_j(beta q_i . k_j).

    There is a single head, and beta takes the place of 1 / sqrt(d).

    Args:
        joint_size: d.
        temperature: beta.
        residual: What is added to the sum: the "query", or the "token" itself.
        over: What a token attends to: tokens of "both" sets, of its "own", or of the "other"; "one-way": both sets for
            words, their own for regions.
    """

    def __init__(self, joint_size: int, *, temperature: float, residual: str = "query", over: str = "both"):
        super().__init__()
        self.query = nn.Linear(joint_size, joint_size)
        self.key = nn.Linear(joint_size, joint_size)
        self.value = nn.Linear(joint_size, joint_size)
        self.output = nn.Linear(joint_size, joint_size)
        self.temperature = temperature
        self.residual = residual
        self.over = over
        # Maps near the identity make a block start as a soft average of like tokens, so that training begins with the
        # cosines of the encoders. From a random start the first epochs go into finding that again.
        for linear in (self.query, self.key, self.value, self.output):
            nn.init.normal_(linear.weight, std=0.1 / joint_size**0.5)
            nn.init.zeros_(linear.bias)
            with torch.no_grad():
                linear.weight.diagonal().add_(1.0)

    def forward(self, tokens: Tensor, mask: Tensor, *, regions: int) -> tuple[Tensor, Tensor]:
        """The attended tokens h~ and the weights A of B pairs.

        (B, s, d), (B, s) -> (B, s, d), (B, s, s); the first ``regions`` of s tokens are regions, the others words.
        """
        query = self.query(tokens)  # (B, s, d)
        logits = self.temperature * query @ self.key(tokens).mT  # (B, s, s)
        seen = mask.unsqueeze(1)  # (B, 1, s)
        if self.over != "both":
            is_region = torch.arange(tokens.shape[1], device=tokens.device) < regions
            same_set = is_region.unsqueeze(1) == is_region  # (s, s)
            open_ways = {"own": same_set, "other": ~same_set, "one-way": same_set | ~is_region.unsqueeze(1)}
            seen = seen & open_ways[self.over]
        attention = logits.masked_fill(~seen, -torch.inf).softmax(-1)
        added = query if self.residual == "query" else tokens
        return self.output(attention @ self.value(tokens)) + added, attention


def align(queries: Tensor, keys: Tensor, key_mask: Tensor, *, temperature: float) -> Tensor:
    """alpha_i = softmax_j(lambda cos(w^_i, o^_j)) over valid keys: (B, q, d), (B, k, d), (B, k) -> (B, q, k).

    Queries are words and keys regions, in the paper.
    """
    cosines = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).mT
    return (temperature * cosines).masked_fill(~key_mask.unsqueeze(1), -torch.inf).softmax(-1)


def match(queries: Tensor, keys: Tensor, alpha: Tensor) -> Tensor:
    """r_i = cos(w^_i, o~_i) with o~_i = sum_j alpha_ij o^_j: (B, q, d), (B, k, d), (B, q, k) -> (B, q)."""
    return F.cosine_similarity(queries, alpha @ keys, dim=-1, eps=1e-12)


def pool(matches: Tensor, mask: Tensor, *, pooling: str, temperature: float) -> Tensor:
    """S of a pair from its matches r_i: (..., q), (..., q) -> (...).

    Either their mean (S_AVG) or their log-sum-exp, log(sum_i exp(t r_i)) / t, over valid queries.
    """
    if pooling == "mean":
        return torch.where(mask, matches, 0).sum(-1) / mask.sum(-1)
    return (temperature * matches).masked_fill(~mask, -torch.inf).logsumexp(-1) / temperature


def score_pairs(
    regions: Tensor,
    region_mask: Tensor,
    words: Tensor,
    word_mask: Tensor,
    *,
    align: Callable[[Tensor, Tensor, Tensor], Tensor],
    config: AlignmentConfig,
) -> Tensor:
    """S of B pairs from their final tokens: (B, m, d), (B, m), (B, n, d), (B, n) -> (B,).

    By ``config.alignment`` each word is aligned with the regions ("words", the paper's direction), each region with the
    words ("regions"), or the score is the mean of the two ("both").
    """
    scores = []
    if config.alignment in ("words", "both"):
        r = match(words, regions, align(words, regions, region_mask))  # (B, n)
        scores.append(pool(r, word_mask, pooling=config.pooling, temperature=config.lse_temperature))
    if config.alignment in ("regions", "both"):
        r = match(regions, words, align(regions, words, word_mask))  # (B, m)
        scores.append(pool(r, region_mask, pooling=config.pooling, temperature=config.lse_temperature))
    return torch.stack(scores).mean(0)


class HAN(AligningMatcher):
    """Encoders, L blocks of heterogeneous attention, alignment and matching.

    Args:
        config: Sizes and options.
        vocabulary: The words that ids stand for; without it the model takes ids alone, no sentences.

    Example:
        >>> model = HAN(HANConfig(region_size=2048, vocabulary_size=10000, joint_size=256))
        >>> regions, words = torch.randn(2, 36, 2048), torch.randint(4, 10000, (3, 12))
        >>> model(regions, torch.ones(2, 36, dtype=torch.bool), words, torch.ones(3, 12, dtype=torch.bool)).shape
        torch.Size([2, 3])
    """

    config: HANConfig
    config_class = HANConfig
    title = "A Heterogeneous Attention Network"
    summary = "Matches photos and sentences by their regions and words (HAN, Yu et al., SIGIR 2021)"
    tags = ("cross-attention", "visual-grounding")
    attention = "cosine"
    match, pool = staticmethod(match), staticmethod(pool)

    def __init__(self, config: HANConfig, *, vocabulary: Vocabulary | None = None):
        super().__init__(config, vocabulary=vocabulary)
        self.image_encoder = ImageEncoder(config.region_size, config.joint_size)
        self.text_encoder = make_text_encoder(config.text_encoder, config)
        self.blocks = nn.ModuleList(
            HeterogeneousAttention(
                config.joint_size,
                temperature=config.attention_temperature,
                residual=config.residual,
                over=config.attention_over,
            )
            for _ in range(config.blocks)
        )

    def forward(self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
        """Scores of all pairs: (I, m, D), (I, m) bool, (T, n) int64, (T, n) bool -> (I, T), with gradients."""
        image_tokens = self.encode_images(regions, region_mask)  # (I, m, d)
        text_tokens = self.encode_texts(words, word_mask)  # (T, n, d)
        return self.score(image_tokens, region_mask, text_tokens, word_mask)

    def encode_texts(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """w_i = l2norm((forward_i + backward_i) / 2): (T, n) int64 ids, (T, n) bool -> (T, n, d), zero at padding.

        The text encoder gives the mean of both directions; see ``han_retrieval.text.BiGRU``.
        """
        return F.normalize(super().encode_texts(words, word_mask), dim=-1)

    def attend(
        self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The tokens h~ of both sets after L blocks, and A of each: (B, m, d), (B, n, d), L x (B, s, s)."""
        m = regions.shape[1]
        joint = torch.cat([regions, words], dim=1)  # H (B, s, d)
        mask = torch.cat([region_mask, word_mask], dim=1)  # (B, s)
        attention = []
        for block in self.blocks:
            joint, weights = block(joint, mask, regions=m)
            attention.append(weights)
        return joint[:, :m], joint[:, m:], attention

    def align(self, queries: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        """alpha of B pairs: (B, q, d), (B, k, d), (B, k) -> (B, q, k)."""
        return align(queries, keys, key_mask, temperature=self.config.alignment_temperature)

    def score_text(self, image_tokens: Tensor, region_mask: Tensor, text_tokens: Tensor) -> Tensor:
        """S of one text with all images, by the formulas: (I, m, d), (I, m), (n, d) without padding -> (I,)."""
        texts = text_tokens.expand(len(image_tokens), -1, -1)  # (I, n, d)
        word_mask = torch.ones_like(texts[..., 0], dtype=torch.bool)  # (I, n)
        regions, words, _ = self.attend(image_tokens, region_mask, texts, word_mask)
        return score_pairs(regions, region_mask, words, word_mask, align=self.align, config=self.config)
