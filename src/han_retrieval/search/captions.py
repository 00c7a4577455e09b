"""Sentences that fit a photo, by the model's own scores.

Legend: T captions, n words, m regions, d numbers a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from han_retrieval.errors import HANError
from han_retrieval.matchers import AligningMatcher
from han_retrieval.regions import Regions
from han_retrieval.search.calibration import Calibration
from han_retrieval.search.encode import encode_regions
from han_retrieval.text import tokenize

_CAPTIONS_AT_ONCE = 512


class RankedCaption(NamedTuple):
    """A caption, the model's score, and the probability of ``Calibration``, None where that is not known."""

    caption: str
    score: float
    probability: float | None


@torch.no_grad()
def rank_captions(
    model: AligningMatcher,
    captions: Sequence[str],
    photo: Regions | torch.Tensor,
    *,
    k: int = 10,
    calibration: Calibration | None = None,
) -> list[RankedCaption]:
    """The captions that fit a photo best, best first; those of which the model knows no word are left out.

    Args:
        model: Any that aligns words and regions.
        captions: Sentences.
        photo: Its regions, or the tokens (m, d) of one that is encoded already.
        k: How many; all where there are fewer.
        calibration: Of the model. It was fitted to photos found for a sentence, so here it is a rough guide.

    Raises:
        HANError: The model knows no word of any caption, the photo has no region, or a score is not finite.
    """
    if isinstance(photo, Regions) and not len(photo.features):
        raise HANError("the detector found no region in the photo, so no sentence can be scored")
    readable = [caption for caption in captions if model.reads(caption)]
    if not readable:
        raise HANError(f"the model knows no word of any of the {len(captions)} captions")
    if isinstance(photo, Regions):
        tokens, mask = encode_regions(model, [photo])
    else:
        tokens, mask = photo.unsqueeze(0), torch.ones(1, len(photo), dtype=torch.bool)
    scores = np.empty(len(readable), np.float32)
    order: NDArray[np.int64] = np.argsort([len(tokenize(caption)) for caption in readable], kind="stable")
    for first in range(0, len(order), _CAPTIONS_AT_ONCE):
        some = order[first : first + _CAPTIONS_AT_ONCE]
        words, word_mask = model.words([readable[i] for i in some])
        texts = model.encode_texts(words, word_mask)
        scores[some] = model.score(tokens.to(model.device), mask, texts, word_mask)[0].float().cpu().numpy()
    if not np.isfinite(scores).all():
        raise HANError(f"the score of {readable[int(np.flatnonzero(~np.isfinite(scores))[0])]!r} is not finite")
    best = np.argsort(-scores, kind="stable")[:k]
    probabilities = [None] * len(best)
    if calibration is not None:
        probabilities = calibration.probability(scores[best], among=len(scores)).tolist()
    return [
        RankedCaption(readable[i], float(scores[i]), probability)
        for i, probability in zip(best, probabilities, strict=True)
    ]
