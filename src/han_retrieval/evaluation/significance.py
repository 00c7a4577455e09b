"""Confidence intervals of metrics, and significance of differences, by resampling the results of queries.

Images are resampled: an image's query and its captions' queries stay together, since they are not independent. Only
queries are resampled; the items that a query ranks stay the same.

Legend: C units (an image of one system), Q queries of a direction, b resamples at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from han_retrieval.errors import DataError
from han_retrieval.evaluation.metrics import DIRECTIONS, RECALLS, PerQuery, Queries

RESAMPLES = 10_000
QUANTILES = [0.025, 0.975]  # of a 95 % interval
CHUNK_CELLS = 2**22  # numbers in the largest temporary of a chunk of resamples


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two systems in one metric.

    Attributes:
        metric: "rsum", or the direction and the metric's name, such as "image_to_text R@1".
        a, b: The metric of each system.
        difference: b - a.
        low, high: The 95 % bootstrap interval of the difference.
        p_value: Two-sided, of a paired randomisation test.
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float


def compare(a: PerQuery, b: PerQuery, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Difference]:
    """Compare two systems in every metric.

    The interval is a percentile bootstrap over images. The test swaps the two systems' results image by image, with all
    queries of an image together, and counts how often the difference is at least as large in either direction; the
    p-value is (1 + that count) / (1 + resamples). It is not corrected for several metrics.

    Raises:
        DataError: The two systems did not answer the same queries over the same folds, or were evaluated with another
            ``equal_captions``.
    """
    b = {way: _aligned(a[way], b[way], way) for way in DIRECTIONS}
    apart, pooled = (_Units([a]), _Units([b])), _Units([a, b])
    names, ones = apart[0].names, np.ones((1, apart[0].count), dtype=np.int64)
    of_a, of_b = (units.metrics(ones)[0] for units in apart)
    observed = of_b - of_a

    rng = np.random.default_rng(seed)
    drawn = [apart[1].metrics(weights) - apart[0].metrics(weights) for weights in apart[0].draws(rng, resamples)]
    low, high = np.quantile(np.concatenate(drawn), QUANTILES, axis=0)

    # Sums in another order differ in their last bits, so equal differences are equal only within a tolerance.
    threshold = np.abs(observed) * (1 - 1e-9) - 1e-9
    as_large = np.zeros(len(names), dtype=np.int64)
    for kept in pooled.coins(rng, resamples):
        swapped = 1 - kept
        null = pooled.metrics(np.hstack([swapped, kept])) - pooled.metrics(np.hstack([kept, swapped]))
        as_large += (np.abs(null) >= threshold).sum(axis=0)
    p_values = (1 + as_large) / (1 + resamples)

    columns = (of_a, of_b, observed, low, high, p_values)
    return [Difference(name, *(float(column[i]) for column in columns)) for i, name in enumerate(names)]


def intervals(per_query: PerQuery, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, tuple[float, float]]:
    """The 95 % percentile bootstrap interval over images of each metric of one system, named as in ``compare``."""
    units = _Units([per_query])
    drawn = np.concatenate([units.metrics(weights) for weights in units.draws(np.random.default_rng(seed), resamples)])
    low, high = np.quantile(drawn, QUANTILES, axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(units.names)}


def _aligned(a: Queries, b: Queries, way: str) -> Queries:
    """The queries of ``b`` in the order of ``a``."""
    place = {query: row for row, query in enumerate(b.ids)}
    alone = [query for query in a.ids if query not in place] or [*place.keys() - set(a.ids)]
    if alone:
        raise DataError(
            f"the two systems answered different queries ({len(a.ids)} and {len(b.ids)} {way}; {alone[0]!r} stands in "
            "only one of them): evaluate both on the same photos and captions"
        )
    rows = np.array([place[query] for query in a.ids], dtype=np.int64)
    if not np.array_equal(a.fold, b.fold[rows]):
        raise DataError("the two systems were evaluated over different folds: use the same --folds for both")
    if any(a.images[place] != b.images[row] for place, row in enumerate(rows)):
        raise DataError("the two systems have the same queries of other photos: evaluate both on the same dataset")
    if a.equal_captions != b.equal_captions:
        raise DataError(
            f"the two systems were evaluated by different protocols (--equal-captions {a.equal_captions} and "
            f"{b.equal_captions}): use the same --equal-captions for both"
        )
    return replace(
        b,
        ids=a.ids,
        images=a.images,
        rank=b.rank[rows],
        average_precision=b.average_precision[rows],
        r_precision=b.r_precision[rows],
        ndcg=b.ndcg[rows],
        fold=a.fold,
    )


class _Units:
    """The queries of one or more systems, summed by unit, so that the metrics of a resample are a matrix product.

    The units are the images of one system after the other, in the same order. Weights (b, C) are the number of times
    that each unit is drawn.
    """

    def __init__(self, systems: list[PerQuery]) -> None:
        first = systems[0]["image_to_text"]  # every image that has a caption is a query here
        row = {image: number for number, image in enumerate(first.images)}
        self.image_fold = first.fold
        self.count = len(row) * len(systems)
        self.names = ["rsum"]
        self._folds: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = []
        for way in DIRECTIONS:
            parts = [system[way] for system in systems]
            own = [np.array([row[image] for image in part.images]) for part in parts]
            unit = np.concatenate([rows + number * len(row) for number, rows in enumerate(own)])  # (Q,)
            fold = np.concatenate([part.fold for part in parts])
            rank = np.concatenate([part.rank for part in parts])
            linear = [part.linear() for part in parts]
            values = {name: np.concatenate([part[name] for part in linear]) for name in linear[0]}
            self.names += [f"{way} {name}" for name in [*values, "median_rank"]]
            table = np.stack([*values.values(), np.ones(len(rank))], axis=1)  # (Q, metrics + 1)
            self._folds.append([self._sums(fold == number, unit, rank, table) for number in np.unique(fold)])

    def _sums(
        self, fold: np.ndarray, unit: np.ndarray, rank: np.ndarray, table: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For one fold the table summed by unit (C, metrics + 1), the ranks ascending, and the unit of each rank."""
        sums = np.zeros((self.count, table.shape[1]))
        np.add.at(sums, unit[fold], table[fold])
        order = np.argsort(rank[fold], kind="stable")
        return sums, rank[fold][order], unit[fold][order]

    def metrics(self, weights: np.ndarray) -> np.ndarray:
        """Weights (b, C) integer -> (b, metrics) float64, in the order of ``names``."""
        ways = []
        for folds in self._folds:
            of_fold = []
            for sums, ranks, units in folds:
                totals = weights @ sums  # (b, metrics + 1), the number of queries last
                median = _weighted_median(ranks, np.take(weights, units, axis=1))
                of_fold.append(np.column_stack([totals[:, :-1] / totals[:, -1:], median]))
            ways.append(np.mean(of_fold, axis=0))
        recalls = sum(way[:, : len(RECALLS)].sum(axis=1) for way in ways)
        return np.column_stack([recalls, *ways])

    def draws(self, rng: np.random.Generator, resamples: int) -> Iterator[np.ndarray]:
        """Weights of images drawn with replacement, within each fold."""
        folds = [np.flatnonzero(self.image_fold == number) for number in np.unique(self.image_fold)]
        images = len(self.image_fold)
        for chunk in self._chunks(resamples):
            offsets = images * np.arange(chunk)[:, None]
            drawn = [fold[rng.integers(len(fold), size=(chunk, len(fold)))] + offsets for fold in folds]
            counts = np.bincount(np.hstack(drawn).ravel(), minlength=chunk * images)
            yield counts.reshape(chunk, images).astype(np.int32)

    def coins(self, rng: np.random.Generator, resamples: int) -> Iterator[np.ndarray]:
        """Fair coins, (b, images) of 0 and 1."""
        for chunk in self._chunks(resamples):
            yield rng.integers(2, size=(chunk, len(self.image_fold)), dtype=np.int32)

    def _chunks(self, resamples: int) -> Iterator[int]:
        step = max(1, CHUNK_CELLS // max(len(ranks) for folds in self._folds for _, ranks, _ in folds))
        return (min(step, resamples - done) for done in range(0, resamples, step))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The medians (b,) of ascending values (Q,) with integer weights (b, Q)."""
    running = np.cumsum(weights, axis=1, dtype=np.int32)
    half = [(row.searchsorted((row[-1] - 1) // 2, "right"), row.searchsorted(row[-1] // 2, "right")) for row in running]
    return np.asarray(values[np.array(half)].mean(axis=1))
