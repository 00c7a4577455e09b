"""A photo to those of an index that are like it, region by region.

Legend: K candidates, m regions, d numbers a token.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from han_retrieval.clock import Clock
from han_retrieval.errors import HANError
from han_retrieval.matchers import AligningMatcher
from han_retrieval.regions import Regions
from han_retrieval.scoring import Tokens
from han_retrieval.search.encode import encode_regions
from han_retrieval.search.index import Index
from han_retrieval.search.ranking import CANDIDATES, Answer, answer, check_model, choose_rows, score_rows


def similar(
    index: Index,
    model: AligningMatcher,
    photo: Regions | int,
    *,
    k: int = 10,
    candidates: int = CANDIDATES,
    where: str | None = None,
    exact: bool = False,
    keep_itself: bool = False,
) -> Answer:
    """The photos that are most like one, best first, by ``AligningMatcher.compare_images``.

    Args:
        index: The photos.
        model: The one that made the index.
        photo: Its regions, as the index's detector finds them, or the row of one that is in the index.
        k, candidates, where, exact: As in ``search``.
        keep_itself: Leave a photo of the index among those that are like it.

    Raises:
        HANError: The photo has no region, the condition cannot be used, or a score is not finite.
        ValueError: As ``search``.
    """
    check_model(index, model, k)
    clock = Clock()
    with clock("encode"):
        if isinstance(photo, Regions):
            if not len(photo.features):
                raise HANError("the detector found no region in the photo, so nothing can be like it")
            tokens, mask = encode_regions(model, [photo])
        else:
            tokens, mask = index.tokens([photo])
        pooled = index.pooling.images(tokens, mask)
    itself = None if keep_itself or isinstance(photo, Regions) else photo
    wanted = max(candidates, k) + (itself is not None)
    rows, _ = choose_rows(index, pooled, wanted, where=where, exact=exact, clock=clock)
    rows = rows[rows != itself] if itself is not None else rows

    @torch.no_grad()
    def score(others: Tokens, there: Tensor) -> list[Tensor]:
        return [model.compare_images(tokens[0], others.load().to(model.device), there)]

    scores = score_rows(index, rows, score, clock=clock)[0]
    best = np.argsort(-scores, kind="stable")[:k]
    return answer(index, rows[best], scores[best], None, calibration=None, clock=clock)
