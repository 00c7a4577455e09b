"""HAN's forward with d-wide tokens of every pair, but all that one item decides computed once: a strong usual way.

A second baseline for ``benchmarks/scoring.py``, for one block where words attend to regions: queries, keys, values and
residuals are projected once an item, logits inside an image are multiplied once an image, and no tensor of both sets is
copied.

Legend: I images, T texts, B images of a batch, m regions, n words, d the joint size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from han_retrieval.matchers import HAN

IMAGES_A_BATCH = 128


class Projected(NamedTuple):
    """What a block makes of items' tokens, each (..., t, d): a token is sum_j A_ij u_j + c_i, A = softmax(q k')."""

    q: Tensor
    k: Tensor
    u: Tensor
    c: Tensor


def project(model: HAN, tokens: Tensor) -> Projected:
    """(..., t, d) tokens through the only block of ``model``."""
    block = model.blocks[0]
    query = block.query(tokens)
    value = F.linear(block.value(tokens), block.output.weight)
    return Projected(block.temperature * query, block.key(tokens), value, query + block.output.bias)


def cached_forward(model: HAN, images: Tensor, texts: Tensor, lengths: Tensor) -> Tensor:
    """Scores (I, T) of tokens (I, m, d), all valid, and (T, n, d) with ``lengths`` (T,) valid ones each."""
    texts_projected = [project(model, text[:length]) for text, length in zip(texts, lengths.tolist(), strict=True)]
    rows = []
    for batch in images.split(IMAGES_A_BATCH):
        o = project(model, batch)
        inside = o.q @ o.k.mT  # (B, m, m)
        rows.append(torch.stack([_scores(model, o, inside, w) for w in texts_projected], dim=1))
    return torch.cat(rows)


def _scores(model: HAN, o: Projected, inside: Tensor, w: Projected) -> Tensor:
    """A batch of images (B, m, d) with one text (n, d): (B,)."""
    B, m, _ = inside.shape
    of_regions = torch.cat([inside, o.q @ w.k.mT], dim=2).softmax(-1)  # (B, m, m + n)
    of_words = torch.cat([w.q @ o.k.mT, (w.q @ w.k.mT).expand(B, -1, -1)], dim=2).softmax(-1)  # (B, n, m + n)
    regions = of_regions[..., :m] @ o.u + of_regions[..., m:] @ w.u + o.c  # (B, m, d)
    words = of_words[..., :m] @ o.u + of_words[..., m:] @ w.u + w.c  # (B, n, d)
    cosines = F.normalize(words, dim=2) @ F.normalize(regions, dim=2).mT  # (B, n, m)
    pictures = (model.config.alignment_temperature * cosines).softmax(-1) @ regions  # (B, n, d)
    return F.cosine_similarity(words, pictures, dim=2).mean(1)
