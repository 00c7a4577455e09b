"""Rank sentences for a photo, by the model's scores.

Legend: m regions, d numbers a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from han_retrieval.errors import QueryError
from han_retrieval.evaluation.scores import score_all
from han_retrieval.matchers import AligningMatcher
from han_retrieval.regions import Regions
from han_retrieval.search.calibration import Calibration, Match
from han_retrieval.search.encode import encode_regions
from han_retrieval.search.sentence_calibration import SentenceCalibration
from han_retrieval.search.unknown import reads_most


class RankedCaption(NamedTuple):
    """A caption, its score, and how well it fits by ``Calibration``; None where that is not known."""

    caption: str
    score: float
    match: Match | None


@torch.no_grad()
def rank_captions(
    model: AligningMatcher,
    captions: Sequence[str],
    photo: Regions | torch.Tensor,
    *,
    k: int = 10,
    calibration: Calibration | None = None,
    progress: bool = False,
) -> list[RankedCaption]:
    """The captions that fit a photo best, best first; those of which ``reads_most`` does not hold are left out.

    A search for such a caption says that nothing matches, whatever the scores.

    Args:
        model: A matcher that aligns words and regions.
        captions: Sentences.
        photo: Its regions, or its tokens (m, d) if it is encoded already.
        k: The number of captions; all where there are fewer.
        calibration: The model's. It is fitted to photos for a sentence, so it is only a rough guide here.
        progress: Show progress on standard error.

    Raises:
        QueryError: The model does not know most of any caption, or the photo has no region.
        ModelError: A score is not finite.

    Example:
        >>> rank_captions(model, ["a dog runs", "two cats sleep"], regions, k=1)[0].caption
    """
    if isinstance(photo, Regions) and not len(photo.features):
        raise QueryError("the detector found no region in the photo, so no sentence can be scored")
    readable = [caption for caption in captions if reads_most(model, caption)]
    if not readable:
        raise QueryError(f"the model knows no word, or too few, of each of the {len(captions):,} captions")
    if isinstance(photo, Regions):
        tokens, mask = encode_regions(model, [photo])
    else:
        tokens, mask = photo.unsqueeze(0), torch.ones(1, len(photo), dtype=torch.bool)
    images = [(tokens.to(model.device), mask)]
    scores = score_all(model, images, readable, photo_ids=["the photo"], progress=progress)[0]
    best = np.argsort(-scores, kind="stable")[:k]
    ranked = []
    for i in best:
        score = float(scores[i])
        match = None if calibration is None else SentenceCalibration(calibration, model, readable[i])(score)[1]
        ranked.append(RankedCaption(readable[i], score, match))
    return ranked
