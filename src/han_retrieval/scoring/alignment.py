"""Alignment without blocks: words attend to regions, or regions to words, as in SCAN and in HAN's last step.

With attending tokens g_j and sources s_i of unit length, the sources' own lengths |s_i|, and cosines x_ij = s_i . g_j,

    alpha_ij = softmax_i(lambda f(x)_ij),   delta_ij = alpha_ij |s_i|
    r_j = cos(g_j, sum_i delta_ij s_i) = (delta_j . x_j) / sqrt(delta_j' (s s') delta_j)

so a pair needs one (m, n) block of cosines, and the attended vectors are never written down.

``attention`` names f. "cosine": x itself (HAN, Yu et al., SIGIR 2021). "clipped": SCAN's (Lee et al., ECCV 2018; in
func_attention of their code "clipped_l2norm"): a leaky ReLU multiplies cosines below 0 by 0.1 (the paper makes them 0),
then those of each source are divided by their Euclidean norm over all attending tokens of the pair, plus 1e-8. Where
words attend, a region that is like many words thus counts for less with each. Padding is zeros here, so it adds nothing
to that norm; SCAN's code cuts each caption to its words for the same end.

Legend: I images, T texts of equal length, m regions, n words, s sources, g attending tokens, d the joint size.
``alignment_kernel`` has the same statements for one image and a few texts at a time, and their derivatives.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from han_retrieval.scoring.gram import positive_sqrt
from han_retrieval.scoring.single_block import CLOSED, cross

SLOPE, ADDED = 0.1, 1e-8  # of the leaky ReLU; to the norm
_LEAST = 1e-12


class Sources(NamedTuple):
    """What is known of t sources, beside their cosines with the attending tokens.

    Attributes:
        closed: (..., t), 0 or CLOSED.
        lengths: (..., t), positive.
        gram: (..., t, t), cosines among themselves.
    """

    closed: Tensor
    lengths: Tensor
    gram: Tensor


def matches_of_pairs(
    images: Tensor,
    region_mask: Tensor,
    texts: Tensor,
    *,
    direction: str,
    temperature: float,
    attention: str,
    factors: torch.dtype,
) -> Tensor:
    """r of every word or every region of all pairs, in plain torch, differentiable.

    Args:
        images: (I, m, d).
        region_mask: (I, m) bool.
        texts: (T, n, d), no padding.
        direction: "words": words attend to regions; "regions": regions attend to words.
        temperature: lambda.
        attention: "cosine" or "clipped".
        factors: What the large product's factors are rounded to.

    Returns:
        (T, I, n) of words or (T, I, m) of regions; those of padding mean nothing.
    """
    images, of_regions = sources(images, region_mask)
    texts, of_words = sources(texts, torch.ones_like(texts[..., 0], dtype=torch.bool))
    x = cross(images.to(factors), texts.to(factors), dtype=images.dtype)
    if direction == "words":
        return matches(x, of_regions, temperature=temperature, attention=attention)
    of_words = Sources(*(table.unsqueeze(1) for table in of_words))  # (T, 1, ...)
    return matches(x.mT, of_words, temperature=temperature, attention=attention)


def matches(cosines: Tensor, of_sources: Sources, *, temperature: float, attention: str) -> Tensor:
    """r of every attending token: cosines (..., s, g) to (..., g)."""
    closed, lengths, gram = of_sources
    logits = cosines
    if attention == "clipped":
        clipped = F.leaky_relu(cosines, SLOPE)
        logits = clipped / (positive_sqrt(clipped.square().sum(-1, keepdim=True)) + ADDED)
    alpha = (temperature * logits + closed.unsqueeze(-1)).softmax(-2)
    delta = alpha * lengths.unsqueeze(-1)
    attended_norm = positive_sqrt((delta * (gram @ delta)).sum(-2))
    return (delta * cosines).sum(-2) / attended_norm


def sources(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Sources]:
    """Tokens (..., t, d), mask (..., t) to tokens of unit length, zeros where none is, and what else they bring."""
    unit, lengths = unit_tokens(tokens.masked_fill(~mask.unsqueeze(-1), 0))
    return unit, Sources(closed_tokens(mask, unit), lengths, unit @ unit.mT)


def unit_tokens(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (..., d) to tokens of unit length and their lengths (...), 1e-12 at least.

    Shorter ones become zeros without a gradient, which would be 1e12 there: one photo whose features are zeros would
    clip the gradients of all others away.
    """
    found = tokens.norm(dim=-1)
    lengths = found.clamp_min(_LEAST)
    return torch.where((found < _LEAST).unsqueeze(-1), 0, tokens / lengths.unsqueeze(-1)), lengths


def closed_tokens(mask: Tensor, like: Tensor) -> Tensor:
    """What is added to logits of sources: 0, or CLOSED where the mask is false."""
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, CLOSED)
