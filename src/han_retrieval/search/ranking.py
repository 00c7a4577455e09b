"""Search by sentences and photos: pooled vectors choose candidates, the model's exact scores order them.

Legend: N photos, K candidates, P parts of a query, n words, m regions, d numbers a token, e numbers a pooled vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from han_retrieval.clock import Clock
from han_retrieval.matchers import AligningMatcher
from han_retrieval.search.calibration import Calibration
from han_retrieval.search.near_duplicates import without_near_duplicates
from han_retrieval.search.parts import encode_part, score_parts
from han_retrieval.search.query import CANDIDATES, Part, check_parts, condition_of, parse_query, scored
from han_retrieval.search.reader import IndexReader
from han_retrieval.search.results import SearchResult, make_result
from han_retrieval.search.rows import newest_first
from han_retrieval.search.sentence_calibration import SentenceCalibration
from han_retrieval.search.vectors import Rows


def search(
    index: IndexReader,
    model: AligningMatcher,
    query: str | Sequence[Part],
    *,
    k: int = 10,
    candidates: int = CANDIDATES,
    where: str | None = None,
    exact: bool = False,
    collapse: bool = False,
    calibration: Calibration | None = None,
    clock: Clock | None = None,
) -> SearchResult:
    """Find the photos that fit a query best.

    A query of several parts is ordered by the weighted sum of their exact scores; the weighted sum of their pooled
    vectors chooses its candidates. Photos of the index that are parts are left out. A query of conditions alone finds
    all photos that meet them, newest first, without scores.

    Args:
        index: The photos.
        model: The model that made the index. Words that it does not know count as one unknown word.
        query: A sentence, or parts; a part's photo is a row of the index, or regions.
        k, candidates, where, exact, collapse: As in ``Index.search``.
        calibration: The model's; turns the scores of a single sentence into probabilities.
        clock: Measures the steps, and may limit them.

    Raises:
        QueryError: The model knows no word of a sentence, a photo has no region, or the query or the condition cannot
            be used.
        StoreError: A score is not finite, or the index cannot be read any more.
        ValueError: ``k`` is less than 1, or the model's tokens have another size than the index's.
    """
    check_model(index, model, k)
    clock = clock or Clock()
    with clock("encode"):
        parts = parse_query(query) if isinstance(query, str) else list(query)
        check_parts(parts)
        where, parts = condition_of(parts, where), scored(parts)
        if not parts:
            return _newest(index, k, where=where, clock=clock)
        encoded = [encode_part(index, model, part) for part in parts]
        weights = np.array([part.weight for part in parts], np.float32)
        pooled = torch.stack([part.weight * part.vector.float().cpu() for part in encoded]).sum(0)
    themselves = [part.row for part in encoded if part.row is not None]
    wanted = max(candidates, k) + len(themselves)
    rows, among = choose_rows(index, pooled, wanted, where=where, exact=exact, clock=clock)
    rows = rows[~np.isin(rows, themselves)]
    rows, of_parts = index.scores(rows, partial(score_parts, model, encoded), clock=clock)
    scores = weights @ of_parts  # (K,)
    order = np.argsort(-scores, kind="stable")
    with clock("fetch"):
        best = order[without_near_duplicates(index, rows[order], k)] if collapse else order[:k]
    fit = None
    if calibration is not None and len(parts) == 1 and not encoded[0].is_photo:
        fit = SentenceCalibration(calibration, model, parts[0].text, among=among)
    return make_result(index, rows[best], scores[best], clock=clock, calibration=fit, weight=float(weights[0]))


def _newest(index: IndexReader, k: int, *, where: str | None, clock: Clock) -> SearchResult:
    """The newest photos that meet a condition; those without a date come last, by the time their file was written."""
    with clock("filter"):
        rows = newest_first(index.photos)
        if where is not None:
            rows = rows[np.isin(rows, index.filter(where))]
    return make_result(index, rows[:k], None, clock=clock)


def check_model(index: IndexReader, model: AligningMatcher, k: int) -> None:
    """Check that the model's tokens are as wide as the index's, and that ``k`` is positive.

    Raises:
        ValueError: They are not, or it is not.
    """
    if k < 1 or model.config.joint_size != index.made_by.joint_size:
        raise ValueError(f"k is {k}, joint sizes {model.config.joint_size} and {index.made_by.joint_size}")


def choose_rows(
    index: IndexReader, pooled: Tensor, candidates: int, *, where: str | None, exact: bool, clock: Clock
) -> tuple[Rows, int]:
    """Choose the rows to score: those nearest to a pooled vector (1, e), or all.

    Returns:
        The rows, ascending, and the number of rows that met the condition ``where``.
    """
    with clock("filter"):
        rows: Rows = np.arange(len(index)) if where is None else index.filter(where)
    among = len(rows)
    with clock("candidates"):
        if not exact and candidates < among:
            (nearest,) = index.nearest(pooled, candidates, rows=None if where is None else rows, where=where)
            rows = np.sort(nearest)
    return rows, among
