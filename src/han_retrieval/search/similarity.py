"""Search by a photo: those of an index that are most similar, region by region.

Legend: K candidates, m regions, d numbers a token.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from han_retrieval.clock import Clock
from han_retrieval.matchers import AligningMatcher
from han_retrieval.regions import Regions
from han_retrieval.search.parts import encode_photo
from han_retrieval.search.prepared import StoredPhotos
from han_retrieval.search.query import CANDIDATES
from han_retrieval.search.ranking import check_model, choose_rows
from han_retrieval.search.reader import IndexReader
from han_retrieval.search.results import SearchResult, make_result


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
