"""SCAN (Lee et al., ECCV 2018) as its public code scores: a Python loop over captions, d-wide contexts of every pair.

A baseline of our own writing for ``benchmarks/scoring.py``: views in place of repeated captions, matrix products in
batches of 128 images, and nothing that slows it.

Legend: I images, T texts, B images of a batch, m regions, n words, s sources, g attending tokens, d the joint size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

IMAGES_A_BATCH = 128


def scan_loop(images: Tensor, texts: Tensor, lengths: Tensor, *, direction: str, temperature: float) -> Tensor:
    """Scores (I, T) of all pairs, differentiable; attention is "clipped_l2norm" and scores are means.

    Args:
        images: (I, m, d) tokens of unit length.
        texts: (T, n, d) tokens of unit length.
        lengths: (T,) words of each text.
        direction: "words" (words attend to regions, text-to-image) or "regions" (image-to-text).
        temperature: lambda.
    """
    rows = []
    for batch in images.split(IMAGES_A_BATCH):
        columns = []
        for text, length in zip(texts, lengths.tolist(), strict=True):
            words = text[:length].expand(len(batch), -1, -1)
            g, s = (words, batch) if direction == "words" else (batch, words)
            columns.append(F.cosine_similarity(g, _attended(g, s, temperature), dim=2, eps=1e-8).mean(1))
        rows.append(torch.stack(columns, dim=1))
    return torch.cat(rows)


def _attended(attending: Tensor, sources: Tensor, temperature: float) -> Tensor:
    """What each token attends to among the sources: (B, g, d), (B, s, d) -> (B, g, d)."""
    attention = F.leaky_relu(torch.bmm(sources, attending.mT), 0.1)  # (B, s, g)
    attention = attention / (attention.norm(dim=2, keepdim=True) + 1e-8)
    return torch.bmm((temperature * attention).softmax(1).mT, sources)
