"""Alignment and matching: what each word gathers from the image, and how well it fits.

Legend: B pairs, g tokens that gather (the words, in the paper), s tokens gathered from (the regions), d the joint size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def align(
    gatherers: Tensor, sources: Tensor, source_mask: Tensor, *, temperature: float, attention: str = "cosine"
) -> Tensor:
    """alpha_i = softmax_j(lambda cos(w^_i, o^_j)) over valid sources: (B, g, d), (B, s, d), (B, s) -> (B, g, s).

    With "clipped" ``attention`` it is SCAN's: in place of the cosines stand they with a tenth of those below 0, each
    source's divided by their norm over all gatherers. Gatherers that are padding must then be zero.
    """
    logits = F.normalize(gatherers, dim=-1) @ F.normalize(sources, dim=-1).mT
    if attention == "clipped":
        clipped = F.leaky_relu(logits, 0.1)
        logits = clipped / (clipped.norm(dim=1, keepdim=True) + 1e-8)
    return (temperature * logits).masked_fill(~source_mask.unsqueeze(1), -torch.inf).softmax(-1)


def match(gatherers: Tensor, sources: Tensor, alpha: Tensor) -> Tensor:
    """r_i = cos(w^_i, sum_j alpha_ij o^_j): (B, g, d), (B, s, d), (B, g, s) -> (B, g)."""
    return F.cosine_similarity(gatherers, alpha @ sources, dim=-1, eps=1e-12)


def pool(matches: Tensor, mask: Tensor, *, pooling: str, temperature: float) -> Tensor:
    """The matches of one pair to its score: (..., g), (..., g) -> (...).

    Either their mean or their log-sum-exp, log(sum_i exp(t r_i)) / t, over valid gatherers.
    """
    if pooling == "mean":
        return torch.where(mask, matches, 0).sum(-1) / mask.sum(-1)
    return (temperature * matches).masked_fill(~mask, -torch.inf).logsumexp(-1) / temperature
