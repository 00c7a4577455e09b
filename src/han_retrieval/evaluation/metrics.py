"""Ranks and recalls of both directions, from one score matrix.

Legend: I images, T captions, Q queries of a direction, R relevant items of a query.

Ties count against the system: an irrelevant item ranks before a relevant one of the same score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from han_retrieval.errors import DataError
from han_retrieval.evaluation.relevance import Relevance
from han_retrieval.evaluation.scores import refuse_not_finite

DIRECTIONS = ("image_to_text", "text_to_image")
CUTOFFS = (1, 5, 10)
RECALLS = tuple(f"R@{cutoff}" for cutoff in CUTOFFS)
NDCG = f"nDCG@{CUTOFFS[-1]}"
DISCOUNTS = 1 / np.log2(np.arange(2, CUTOFFS[-1] + 2))  # of the first ten places
CHUNK_CELLS = 2**24  # cells of the score matrix in a chunk, whose temporaries take a byte a cell


@dataclass(frozen=True, slots=True)
class Queries:
    """The results of each query of one direction.

    Attributes:
        ids: Q query ids: image ids, or caption ids.
        images: Q ids of the queries' images: the query itself, or the caption's own image.
        rank: (Q,) int64, 1 + the number of irrelevant items that score at least as high as the best relevant one.
        average_precision: (Q,) float64, AP@R: 1 / R times the sum of the precisions at the relevant items among the
            first R (Musgrave et al., ECCV 2020).
        r_precision: (Q,) float64, the share of relevant items among the first R.
        ndcg: (Q,) float64, nDCG@10: the sum of 1 / log2(1 + place) of the relevant items among the first ten, by what
            it is when these come first (Järvelin and Kekäläinen, TOIS 2002).
        fold: (Q,) int64, the fold in which the query was ranked, from 0.
        equal_captions: "relevant" where a caption counts for other photos than its own, too; "negative" where not.
    """

    ids: tuple[str, ...]
    images: tuple[str, ...]
    rank: np.ndarray
    average_precision: np.ndarray
    r_precision: np.ndarray
    ndcg: np.ndarray
    fold: np.ndarray
    equal_captions: str = "negative"

    def linear(self) -> dict[str, np.ndarray]:
        """The (Q,) float64 values whose means are metrics, by name; in percent, except the rank."""
        values = {name: 100.0 * (self.rank <= cutoff) for name, cutoff in zip(RECALLS, CUTOFFS, strict=True)}
        return values | {
            "mean_rank": self.rank.astype(np.float64),
            "mAP@R": 100.0 * self.average_precision,
            "R-Precision": 100.0 * self.r_precision,
            NDCG: 100.0 * self.ndcg,
        }


PerQuery = dict[str, Queries]
"""The results of both directions, by direction."""

Metrics = dict[str, dict[str, float]]
"""Metrics by direction and by name."""


def query_results(scores: np.ndarray, relevance: Relevance) -> PerQuery:
    """Rank all captions for each image and all images for each caption.

    An image without captions is no query, but is ranked for every caption.

    Args:
        scores: (I, T) float, higher is better. An np.memmap works too: it is read in chunks of rows, and by
            columns where a caption is relevant to several images.
        relevance: Which caption belongs to which image.

    Raises:
        ModelError: A score is NaN or infinite; the message names the first such pair.
        DataError: There is no caption.
    """
    images, captions = scores.shape
    if (images, captions) != (len(relevance.image_ids), len(relevance.caption_ids)):
        raise ValueError(f"scores are {scores.shape}, the relevance is of {len(relevance.image_ids)} images and "
                         f"{len(relevance.caption_ids)} captions")  # fmt: skip
    if not captions:
        raise DataError("no caption to evaluate: every photo's captions are missing or without a word")
    own_columns = relevance.captions_of()
    own_scores = np.asarray(scores[relevance.caption_image, np.arange(captions)])  # (T,) of each caption with its image

    asked = [row for row in range(images) if len(own_columns[row])]
    image_results = np.empty((images, 4))
    at_least = np.zeros(captions, dtype=np.int64)  # images that score at least as high as the caption's own
    step = max(1, CHUNK_CELLS // captions)
    for start in range(0, images, step):
        chunk = np.asarray(scores[start : start + step])  # (b, T)
        refuse_not_finite(chunk, relevance.image_ids[start : start + step], relevance.caption_ids)
        at_least += (chunk >= own_scores).sum(axis=0)
        for row in range(start, start + len(chunk)):
            if len(own_columns[row]):
                image_results[row] = _rank_items(chunk[row - start], own_columns[row])

    image_results = image_results[asked]  # (Q, 4)
    first = (at_least == 1).astype(np.float64)
    ndcg = np.append(DISCOUNTS, 0.0)[np.minimum(at_least - 1, len(DISCOUNTS))]
    caption_results = np.stack([at_least, first, first, ndcg], axis=1)  # (T, 4)
    if relevance.caption_images is not None:
        for column, rows in enumerate(relevance.caption_images):
            caption_results[column] = _rank_items(np.asarray(scores[:, column]), rows)
    image_ids = tuple(relevance.image_ids[row] for row in asked)
    own = tuple(relevance.image_ids[row] for row in relevance.caption_image)
    return {
        "image_to_text": _queries(image_ids, image_ids, image_results, relevance.equal_captions),
        "text_to_image": _queries(relevance.caption_ids, own, caption_results, relevance.equal_captions),
    }


def _queries(ids: tuple[str, ...], images: tuple[str, ...], results: np.ndarray, equal_captions: str) -> Queries:
    """Queries of one fold from their (Q, 4) rank, AP@R, R-Precision and nDCG@10."""
    rank, average_precision, r_precision, ndcg = results.T.copy()
    fold = np.zeros(len(ids), dtype=np.int64)
    return Queries(ids, images, rank.astype(np.int64), average_precision, r_precision, ndcg, fold, equal_captions)


def _rank_items(row: np.ndarray, own: np.ndarray) -> tuple[float, float, float, float]:
    """The rank of the best relevant item, AP@R, R-Precision and nDCG@10, from one query's scores of all items."""
    everything, relevant = np.sort(row), np.sort(row[own])
    # For each relevant caption, ascending: how many others score at least as high.
    others = (len(row) - np.searchsorted(everything, relevant)) - (len(own) - np.searchsorted(relevant, relevant))
    found = np.arange(1, len(own) + 1)
    places = found + others[::-1]
    inside = places <= len(own)
    ndcg = DISCOUNTS[places[places <= len(DISCOUNTS)] - 1].sum() / DISCOUNTS[: len(own)].sum()
    return float(places[0]), float((found / places)[inside].sum() / len(own)), float(inside.mean()), float(ndcg)


def fold_results(scores: np.ndarray, relevance: Relevance, *, folds: int = 1) -> PerQuery:
    """Rank as ``query_results`` does, within each of ``folds`` consecutive folds of equally many images.

    Raises:
        HANError: As ``query_results``.
        DataError: The images do not divide into that many folds.
    """
    if folds == 1:
        return query_results(scores, relevance)
    parts = []
    for number, (rows, columns, part) in enumerate(relevance.folds(folds)):
        results = query_results(scores[rows][:, columns], part)
        parts.append({way: replace(queries, fold=queries.fold + number) for way, queries in results.items()})
    return {way: _joined([part[way] for part in parts]) for way in DIRECTIONS}


def _joined(parts: list[Queries]) -> Queries:
    return Queries(
        ids=tuple(chain.from_iterable(part.ids for part in parts)),
        images=tuple(chain.from_iterable(part.images for part in parts)),
        rank=np.concatenate([part.rank for part in parts]),
        average_precision=np.concatenate([part.average_precision for part in parts]),
        r_precision=np.concatenate([part.r_precision for part in parts]),
        ndcg=np.concatenate([part.ndcg for part in parts]),
        fold=np.concatenate([part.fold for part in parts]),
        equal_captions=parts[0].equal_captions,
    )


def summarise(per_query: PerQuery) -> Metrics:
    """The metrics of both directions: means and medians over the queries of a fold, then means over the folds.

    Recalls, mAP@R, R-Precision and nDCG@10 are in percent. Where a caption has one image, its mAP@R and R-Precision are
    R@1.
    """
    metrics: Metrics = {}
    for way, queries in per_query.items():
        folds = [queries.fold == number for number in np.unique(queries.fold)]
        linear = queries.linear()
        means = {name: float(np.mean([values[fold].mean() for fold in folds])) for name, values in linear.items()}
        median = float(np.mean([np.median(queries.rank[fold]) for fold in folds]))
        metrics[way] = {name: means[name] for name in RECALLS} | {"median_rank": median} | means
    return metrics


def recall_sum(metrics: Metrics) -> float:
    """rSum: the sum of the six recalls, in percentage points."""
    return sum(metrics[way][recall] for way in DIRECTIONS for recall in RECALLS)


def expected_recalls(scores: np.ndarray, relevance: Relevance) -> dict[str, dict[str, float]]:
    """Recalls in percent of both directions, by name, as they are expected where ties are broken at random.

    A query whose relevant items tie with others, such as those of captions that stand word by word under several
    images, counts by the probability that one of them comes among the first k. Programs that sort scores without a rule
    for ties come near it, as rounding breaks them by chance.

    Args:
        scores: (I, T) float, finite.
        relevance: Which caption belongs to which image.
    """
    of_images = [_chances(scores[row], own) for row, own in enumerate(relevance.captions_of()) if len(own)]
    of_captions = [_chances(scores[:, column], own) for column, own in enumerate(relevance.images_of())]
    return {
        way: dict(zip(RECALLS, (100 * np.mean(chances, axis=0)).tolist(), strict=True))
        for way, chances in zip(DIRECTIONS, (of_images, of_captions), strict=True)
    }


def _chances(items: np.ndarray, own: np.ndarray) -> list[float]:
    """For each cutoff the probability that a relevant item is among the first so many, with ties in random order."""
    best = items[own].max()
    before, tied = int((items > best).sum()), int((items == best).sum())
    relevant = int((items[own] == best).sum())
    chances = []
    for cutoff in CUTOFFS:
        drawn = min(cutoff - before, tied)  # of the items that tie with the best relevant one
        if drawn <= 0:
            chances.append(0.0)
        else:  # none of them is relevant: hypergeometric
            none = math.prod(max(tied - relevant - i, 0) / (tied - i) for i in range(drawn))
            chances.append(1.0 - none)
    return chances
