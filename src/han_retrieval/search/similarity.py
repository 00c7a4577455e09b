"""Search by a photo: those of an index that are most similar, region by region, and which regions make them so.

Legend: K candidates, m regions, d numbers a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from han_retrieval.clock import Clock
from han_retrieval.data.boxes import show_same
from han_retrieval.matchers import AligningMatcher
from han_retrieval.regions import Regions
from han_retrieval.search.parts import encode_photo
from han_retrieval.search.prepared import StoredPhotos
from han_retrieval.search.query import CANDIDATES
from han_retrieval.search.ranking import check_model, choose_rows
from han_retrieval.search.reader import IndexReader
from han_retrieval.search.results import SearchResult, make_result

PAIRS = 5
_WHOLE = 0.9  # of the photo: a box that says little of where
_WITHIN = 0.7  # of the smaller of two boxes, see ``show_same``


@dataclass(frozen=True, slots=True)
class RegionPair:
    """A region of one photo and one of another that are alike: rows of their boxes, and the cosine of their tokens."""

    region: int
    other: int
    cosine: float


def similar(
    index: IndexReader,
    model: AligningMatcher,
    photo: Regions | int,
    *,
    k: int = 10,
    candidates: int = CANDIDATES,
    where: str | None = None,
    exact: bool = False,
    keep_itself: bool = False,
    clock: Clock | None = None,
) -> SearchResult:
    """Find the photos that are most similar to one, by ``AligningMatcher.compare_images``.

    Args:
        index: The photos.
        model: The model that made the index.
        photo: Its regions, as the index's detector finds them, or its row in the index.
        k, candidates, where, exact, keep_itself: As in ``Index.similar``.
        clock: Measures the steps, and may limit them.

    Raises:
        QueryError: The photo has no region, or the condition cannot be used.
        HANError: As ``search``.
    """
    check_model(index, model, k)
    clock = clock or Clock()
    with clock("encode"):
        tokens, pooled = encode_photo(index, model, photo)
    itself = None if keep_itself or isinstance(photo, Regions) else photo
    wanted = max(candidates, k) + (itself is not None)
    rows, _ = choose_rows(index, pooled, wanted, where=where, exact=exact, clock=clock)
    rows = rows[rows != itself] if itself is not None else rows
    rows, (scores,) = index.scores(rows, partial(compare, model, tokens), clock=clock)
    best = np.argsort(-scores, kind="stable")[:k]
    return make_result(index, rows[best], scores[best], clock=clock)


@torch.no_grad()
def compare(model: AligningMatcher, tokens: Tensor, photos: StoredPhotos) -> list[Tensor]:
    """The similarity (K,) of a photo with tokens (m, d) to K photos of an index."""
    others, mask = photos.tokens()
    return [model.compare_images(tokens, others.load().to(model.device), mask)]


@torch.no_grad()
def alike_regions(
    tokens: Tensor, boxes: np.ndarray, others: Tensor, other_boxes: np.ndarray, *, k: int = PAIRS
) -> list[RegionPair]:
    """The pairs of regions that two photos are alike by: at most ``k``, the greatest cosines first.

    Each region is in one pair at most, and no two pairs show the same thing: their boxes differ in both photos. Boxes
    of the whole photo count only where a photo has no others.

    Args:
        tokens, others: (m, d) of each photo, without padding.
        boxes, other_boxes: (m, 4), x0 y0 x1 y1 of their regions, as shares of the photo's width and height, 0 to 1.
        k: How many pairs at most.
    """
    cosines = (normalize(tokens, dim=1) @ normalize(others.to(tokens.device), dim=1).T).cpu().numpy()
    cosines[~_parts(boxes)] = -np.inf
    cosines[:, ~_parts(other_boxes)] = -np.inf
    pairs: list[RegionPair] = []
    while len(pairs) < k:
        region, other = np.unravel_index(cosines.argmax(), cosines.shape)
        cosine = float(cosines[region, other])
        if cosine <= 0:
            break
        pairs.append(RegionPair(int(region), int(other), cosine))
        cosines[_same(boxes, region)] = -np.inf
        cosines[:, _same(other_boxes, other)] = -np.inf
    return pairs


def _parts(boxes: np.ndarray) -> np.ndarray:
    """(m,) bool, which boxes show a part of the photo; all, where none does."""
    parts = (boxes[:, 2:] - boxes[:, :2]).prod(1) < _WHOLE
    return parts if parts.any() else ~parts


def _same(boxes: np.ndarray, i: np.intp) -> np.ndarray:
    """(m,) bool, which boxes show the same thing as box ``i``, which may be empty, or a large part of it."""
    same = show_same(boxes, boxes[i], within=_WITHIN)
    same[i] = True
    return same
