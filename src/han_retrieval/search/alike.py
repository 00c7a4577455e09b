"""Photos that are nearly the same: shots of a burst, copies at another size.

Legend: K photos, m regions, d numbers a token.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from han_retrieval.search.index import Index, Rows

ALIKE = 0.85  # docs/search.md has how it was chosen
_PHOTOS_AT_ONCE = 32


def first_of_alike(index: Index, rows: Rows, k: int, *, alike: float = ALIKE) -> list[int]:
    """The places of the first k rows that are not nearly the same as one before them that is kept.

    Args:
        index: The photos.
        rows: (K,), best first.
        k: How many are wanted.
        alike: Two photos are nearly the same where the regions of each have, in the mean, a region of the other at
            this cosine or more.
    """
    kept: list[int] = []
    shown: list[Tensor] = []
    for first in range(0, len(rows), _PHOTOS_AT_ONCE):
        tokens, mask = index.tokens(rows[first : first + _PHOTOS_AT_ONCE])
        for place, (its, there) in enumerate(zip(normalize(tokens, dim=2), mask, strict=True), first):
            mine = its[there]  # (m, d)
            if len(kept) == k:
                return kept
            if all(likeness(mine, other) < alike for other in shown):
                kept.append(place)
                shown.append(mine)
    return kept


def likeness(one: Tensor, other: Tensor) -> float:
    """How nearly two photos are the same, at most 1: unit tokens (m, d) of each; see ``first_of_alike``."""
    cosines = one @ other.T
    return float(torch.minimum(cosines.amax(0).mean(), cosines.amax(1).mean()))
