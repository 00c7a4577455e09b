"""Near-duplicates: photos of one burst, copies at another size.

Legend: K photos, m regions, d numbers a token.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from han_retrieval.search.reader import IndexReader
from han_retrieval.search.vectors import Rows

NEAR_DUPLICATE = 0.88  # docs/results/search.md has the measurements behind it
_PHOTOS_AT_ONCE = 32


def without_near_duplicates(index: IndexReader, rows: Rows, k: int, *, threshold: float = NEAR_DUPLICATE) -> list[int]:
    """The places of the first k of the rows (K,), best first, that are no near-duplicates of a row kept before them.

    Two photos are near-duplicates if their ``photo_similarity`` is at least the threshold.
    """
    kept: list[int] = []
    shown: list[Tensor] = []
    for first in range(0, len(rows), _PHOTOS_AT_ONCE):
        tokens, mask = index.tokens(rows[first : first + _PHOTOS_AT_ONCE])
        for place, (padded, real) in enumerate(zip(normalize(tokens, dim=2), mask, strict=True), first):
            photo = padded[real]  # (m, d)
            if len(kept) == k:
                return kept
            if all(photo_similarity(photo, other) < threshold for other in shown):
                kept.append(place)
                shown.append(photo)
    return kept


def photo_similarity(one: Tensor, other: Tensor) -> float:
    """The similarity of two photos, at most 1, from their unit tokens (m, d) and (m', d).

    Each region of one photo has a best cosine with the regions of the other. The similarity is the mean of these over
    the photo for which it is lower.
    """
    cosines = one @ other.T
    return float(torch.minimum(cosines.amax(0).mean(), cosines.amax(1).mean()))
