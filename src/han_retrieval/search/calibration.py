"""Probabilities from scores: how likely a photo is the one that a sentence was written for.

The probability is a logistic function of the score (Platt, 1999). It is fitted to the searches of a split: each
sentence is searched for twice, among all photos of the split and among all but its own. The pairs are the sentence with
each of the first photos shown, and only its own photo counts as right. A sentence that several photos have, word by
word, has these as its own. Other photos that fit the sentence count as wrong, so the probability is rather too low than
too high.

Legend: I photos, T sentences, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from han_retrieval.errors import DataError, ModelError, first_line
from han_retrieval.matchers.saving import folder_hash, model_folder
from han_retrieval.parsing import read_settings
from han_retrieval.storage.folder_checksums import refuse_damage, write_files

if TYPE_CHECKING:
    from torch import Tensor

    from han_retrieval.evaluation.relevance import Relevance

NAME = "calibration.json"
SHOWN = 10
RECALL = 0.95
BINS = 10
_PARTS = 10  # of the photos, for searches among fewer
_SENTENCES_AT_ONCE = 1024
_SAME = 1e-7  # the least difference between scores

Match = Literal["strong", "likely", "weak"]
"""How well a photo fits a sentence."""
_STRONG, _LIKELY = 0.25, 0.08  # the least probability, among as many photos as the calibration had


class Bin(BaseModel):
    """Pairs of similar probability: their mean probability, the share that is right, and their number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    probability: float
    right: float
    pairs: int


class Calibration(BaseModel):
    """P(right) = sigmoid(slope * score + intercept) in a collection of ``photos`` photos, and how well that holds.

    All figures but the slope and the intercept are cross-fitted: those of each half of the photos come from a fit to
    the other half.

    Attributes:
        slope, intercept: Fitted to all pairs.
        threshold: Where no photo shown has at least this probability among ``photos`` photos, nothing matches.
        growth: How fast the threshold, and what makes a strong or a likely match, grow with the number of photos
            searched: their odds, for one score, as the number to this power.
        precision: The share of answered searches that show a right photo. In half of all searches none is in the
            collection.
        recall: The share of searches with a right photo among those shown that are answered.
        answered_without: The share of searches without a right photo in the collection that are answered.
        error: The expected calibration error: the mean distance between probability and share right, over bins of
            equally many pairs.
        reliability: These bins.
        split: The photos' split, or None.
        photos, sentences, shown, pairs: The number of each; ``pairs`` counts both searches of a sentence. Fewer than
            ``shown`` are shown where all others are the sentence's own.
        model: The hash of the model's folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    slope: float
    intercept: float
    threshold: float = Field(ge=0, le=1)
    growth: float = Field(default=0.5, ge=0, le=1)
    precision: float
    recall: float
    answered_without: float
    error: float
    reliability: tuple[Bin, ...]
    split: str | None
    photos: int = Field(ge=1, le=2**53)
    sentences: int
    shown: int
    pairs: int
    model: str

    def probability(self, scores: ArrayLike, *, among: int | None = None) -> NDArray[np.float64]:
        """The probabilities of scores, in their shape.

        Args:
            scores: Of one sentence with photos.
            among: The number of photos searched; that of the fit by default. The odds are proportional to
                1 / ``among``, since the prior probability of each photo is.
        """
        prior = 0.0 if among is None else np.log(self.photos / max(among, 1))
        return _sigmoid(self.slope * np.asarray(scores, np.float64) + self.intercept + prior)

    def passes(self, scores: ArrayLike, *, among: int | None = None) -> NDArray[np.bool_]:
        """Which scores reach the threshold, bool in their shape.

        Among many photos, some score high by chance, so the threshold grows with their number.

        Args:
            scores: Of one sentence with photos.
            among: The number of photos searched; that of the fit by default.
        """
        return self._reaches(self.threshold, scores, among)

    def match(self, score: float, *, among: int | None = None) -> Match:
        """How well a photo fits a sentence; what makes a strong or a likely match grows as the threshold does."""
        if self._reaches(_STRONG, score, among):
            return "strong"
        return "likely" if self._reaches(_LIKELY, score, among) else "weak"

    def _reaches(self, probability: float, scores: ArrayLike, among: int | None) -> NDArray[np.bool_]:
        grown = 0.0 if among is None else self.growth * np.log(max(among, 1) / self.photos)
        with np.errstate(divide="ignore"):  # probabilities of 0 and 1 are infinitely far
            least = np.log(probability) - np.log1p(-probability) + grown
        return np.asarray(self.slope * np.asarray(scores, np.float64) + self.intercept >= least)

    @classmethod
    def read(cls, folder: str | Path) -> Self | None:
        """The calibration in a model's folder; None if there is none, or if it belongs to other weights.

        Raises:
            ModelError: The file cannot be read.
        """
        folder = model_folder(folder)
        path = folder / NAME
        refuse_damage(folder, [NAME], anew="han calibrate")
        if not path.is_file():
            return None
        try:
            found = cls.model_validate(read_settings(path, kind=ModelError))
        except ModelError as error:
            raise ModelError(f"{error}; `han calibrate` writes it anew") from None
        except ValidationError as error:
            raise ModelError(f"{path}: cannot be read ({first_line(error)}); `han calibrate` writes it anew") from None
        return found if found.model == folder_hash(folder) else None

    def write(self, folder: str | Path) -> Path:
        """Write it into the model's folder and return the file's path."""
        folder = model_folder(folder)
        write_files(folder, {NAME: (self.model_dump_json(indent=2) + "\n").encode()})
        return folder / NAME


def calibrate(
    scores: NDArray[np.float32], relevance: Relevance, *, model: str, split: str | None, shown: int = SHOWN
) -> Calibration:
    """Fit probabilities to the scores of a split that the model was not trained on.

    Args:
        scores: (I, T) of all pairs, as ``evaluate`` gives them.
        relevance: Which sentence belongs to which photos: ``evaluate`` knows all that have it word by word with
            ``equal_captions="relevant"``.
        model: The hash of the model's folder.
        split: The photos' split.
        shown: The number of photos that a search shows.

    Raises:
        DataError: There are too few photos.
        ModelError: No sentence finds its photo, all scores are equal, or high ones are not more often right than low
            ones.

    Example:
        >>> found = evaluate(model, dataset.split("dev"), store, equal_captions="relevant")
        >>> calibrate(found.scores, found.relevance, model=folder_hash(folder), split="dev").write(folder)
    """
    photos = len(scores)
    refuse_too_few(photos, shown=shown)
    own = relevance.images_of()
    found, right = _searches(scores, own, shown)
    there = np.isfinite(found)  # (2, T, shown), false behind the last photo of a collection
    # The halves divide photos, not sentences: sentences of one photo are similar.
    first_half = np.isin(relevance.caption_image, np.random.default_rng(0).permutation(photos)[: photos // 2])
    probabilities = np.empty_like(found, dtype=np.float64)  # (2, T, shown)
    for half in (first_half, ~first_half):
        others = there & ~half[:, None]
        slope, intercept = _fit(found[others], right[others])
        probabilities[:, half] = _sigmoid(slope * found[:, half] + intercept)
    slope, intercept = _fit(found[there], right[there])

    shows = right[0].any(1)  # (T,) a photo of the sentence is among those shown
    best = probabilities.max(2)  # (2, T)
    threshold = float(np.quantile(best[0][shows], 1 - RECALL, method="lower"))
    answered = best >= threshold
    bins, error = _reliability(probabilities[there], right[there])
    return Calibration(
        slope=slope,
        intercept=intercept,
        threshold=threshold,
        growth=_growth(scores, relevance.caption_image, own, shown, slope),
        precision=float((answered[0] & shows).sum() / answered.sum()),
        recall=float(answered[0][shows].mean()),
        answered_without=float(answered[1].mean()),
        error=error,
        reliability=bins,
        split=split,
        photos=photos,
        sentences=scores.shape[1],
        shown=shown,
        pairs=int(there.sum()),
        model=model,
    )


def refuse_too_few(photos: int, *, shown: int) -> None:
    """Check that so many photos suffice for a calibration.

    Raises:
        DataError: They do not.
    """
    if photos < 2 * shown:
        raise DataError(f"{photos} photos are too few to calibrate on: take at least {2 * shown}")


def _searches(
    scores: NDArray[np.float32], own: Sequence[NDArray[np.int64]], shown: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What the searches show, best first: scores (2, T, shown), and whether each is right.

    Row 0 searches all photos, row 1 all but the sentence's own, the rows in ``own``; where these leave too few, the
    last scores are -inf.
    """
    found = np.empty((2, scores.shape[1], shown), np.float32)
    right = np.zeros(found.shape, bool)
    for first in range(0, scores.shape[1], _SENTENCES_AT_ONCE):
        some = slice(first, first + _SENTENCES_AT_ONCE)
        block = scores[:, some].T.copy()  # (t, I)
        is_own = np.zeros(block.shape, bool)
        for its_own, rows in zip(is_own, own[some], strict=True):
            its_own[rows] = True
        for row in range(2):
            places = np.argpartition(block, -shown, axis=1)[:, -shown:]
            its = np.take_along_axis(block, places, axis=1)
            order = np.argsort(-its, axis=1, kind="stable")
            found[row, some] = np.take_along_axis(its, order, axis=1)
            if row == 0:
                right[row, some] = np.take_along_axis(is_own, np.take_along_axis(places, order, axis=1), axis=1)
                block[is_own] = -np.inf
    return found, right


def _growth(
    scores: NDArray[np.float32],
    written_for: NDArray[np.int64],
    own: Sequence[NDArray[np.int64]],
    shown: int,
    slope: float,
) -> float:
    """How fast the threshold grows with the number of photos.

    Photos are dealt into parts, and each sentence searches the part of the photo that it was written for. The threshold
    is lower there, by so much that as many of the searches that find a photo of their own are answered as among all
    photos.
    """
    photos = len(scores)
    count = min(_PARTS, photos // (2 * shown))
    if count < 2:
        return 0.5
    parts = np.random.default_rng(0).permutation(photos) % count  # (I,) the part of each photo
    best = np.empty(len(own), np.float32)
    best_of_part, found, found_in_part = best.copy(), np.empty(len(own), bool), np.empty(len(own), bool)
    for column, (row, rows) in enumerate(zip(written_for, own, strict=True)):
        its = scores[:, column]
        of_part = its[parts == parts[row]]
        best[column], best_of_part[column] = its.max(), of_part.max()
        found[column] = (its > its[rows].max()).sum() < shown
        found_in_part[column] = (of_part > its[rows[parts[rows] == parts[row]]].max()).sum() < shown
    least, least_of_part = (np.quantile(each, 1 - RECALL) for each in (best[found], best_of_part[found_in_part]))
    return float(np.clip(slope * (least - least_of_part) / np.log(count), 0, 1))


def _fit(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of the logistic function of greatest likelihood.

    Platt's targets are a little less certain than 0 and 1, so that the slope stays finite where scores separate right
    from wrong.
    """
    if not scores.size:
        raise DataError("a half of the photos has no sentences: take more photos with sentences to calibrate on")
    if np.ptp(scores) < _SAME:
        raise ModelError("all scores are equal: there is nothing to calibrate")
    yes = int(right.sum())
    if not yes:
        raise ModelError(
            "too few sentences find their photo among the first ones to calibrate: the model is not trained"
        )
    targets = np.where(right.ravel(), (yes + 1) / (yes + 2), 1 / (right.size - yes + 2))
    x = scores.ravel().astype(np.float64)
    mean, width = x.mean(), x.std()
    z = (x - mean) / width

    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    at = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    standard, wanted = torch.from_numpy(z), torch.from_numpy(targets)
    optimizer = torch.optim.LBFGS(
        [at], max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = binary_cross_entropy_with_logits(at[0] * standard + at[1], wanted)
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[arg-type]  # torch's annotation says a float
    slope, intercept = at.tolist()
    if slope <= 0:
        raise ModelError("photos with high scores are not more often right than others: there is nothing to calibrate")
    return float(slope / width), float(intercept - slope * mean / width)


def _sigmoid(values: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-np.logaddexp(0, -values)))  # as exact for small values as for large ones


def _reliability(probabilities: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[tuple[Bin, ...], float]:
    """Bins of equally many pairs, and the expected calibration error over them."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    bins = tuple(
        Bin(probability=float(probabilities[part].mean()), right=float(right[part].mean()), pairs=len(part))
        for part in parts
    )
    return bins, sum(abs(each.probability - each.right) * each.pairs for each in bins) / len(order)
