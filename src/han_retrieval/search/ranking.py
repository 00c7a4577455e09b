"""Search by a sentence: pooled vectors choose candidates, the model's exact scores order them.

Legend: N photos, K candidates, P parts of a query, n words, m regions, d numbers a token, e numbers a pooled vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.clock import Clock
from han_retrieval.errors import StoreError
from han_retrieval.matchers import AligningMatcher
from han_retrieval.scoring import Tokens
from han_retrieval.search.calibration import Calibration
from han_retrieval.search.near_duplicates import without_near_duplicates
from han_retrieval.search.query import Part, check_parts, parse_query
from han_retrieval.search.reader import IndexReader, Rows
from han_retrieval.search.results import SearchResult, make_result

CANDIDATES = 200
_PHOTOS_AT_ONCE = 256


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
    vectors chooses its candidates.

    Args:
        index: The photos.
        model: The model that made the index. Words that it does not know count as one unknown word.
        query, k, candidates, where, exact, collapse: As in ``Index.search``.
        calibration: The model's; turns the scores of a single sentence into probabilities.
        clock: Measures the steps, and may limit them.

    Raises:
        QueryError: The model knows no word of a sentence, or the query or the condition cannot be used.
        StoreError: A score is not finite, or the index cannot be read any more.
        ValueError: ``k`` is less than 1, or the model's tokens have another size than the index's.
    """
    check_model(index, model, k)
    clock = clock or Clock()
    with clock("encode"):
        parts = parse_query(query) if isinstance(query, str) else list(query)
        check_parts(parts)
        texts = [encode_sentence(model, part.text) for part in parts]
        weights = np.array([part.weight for part in parts], np.float32)
        vectors = [part.weight * _pooled(index, text) for part, text in zip(parts, texts, strict=True)]
        pooled = torch.stack(vectors).sum(0)
    rows, among = choose_rows(index, pooled, max(candidates, k), where=where, exact=exact, clock=clock)

    def score(tokens: Tokens, mask: Tensor) -> list[Tensor]:
        photos = model.store_images(tokens.to(model.device), mask)
        return [photos.scores(text) for text in texts]

    scores = weights @ score_rows(index, rows, score, clock=clock)  # (K,)
    order = np.argsort(-scores, kind="stable")
    with clock("fetch"):
        best = order[without_near_duplicates(index, rows[order], k)] if collapse else order[:k]
    probabilities = None
    if calibration and len(parts) == 1:
        probabilities = calibration.probability(scores[best] / weights[0], among=among)
    return make_result(index, rows[best], scores[best], probabilities, calibration=calibration, clock=clock)


def check_model(index: IndexReader, model: AligningMatcher, k: int) -> None:
    """Check that the model's tokens are as wide as the index's, and that ``k`` is positive.

    Raises:
        ValueError: They are not, or it is not.
    """
    if k < 1 or model.config.joint_size != index.made_by.joint_size:
        raise ValueError(f"k is {k}, joint sizes {model.config.joint_size} and {index.made_by.joint_size}")


@torch.no_grad()
def encode_sentence(model: AligningMatcher, sentence: str) -> Tensor:
    """The tokens (n, d) of a sentence.

    Raises:
        QueryError: The model knows no word of it.
    """
    model.known_words(sentence)
    return model.encode_texts(*model.words([sentence]))[0]  # one sentence has no padding


def _pooled(index: IndexReader, text: Tensor) -> Tensor:
    """The pooled vector (1, e) of a sentence's tokens (n, d)."""
    mask = torch.ones(1, len(text), dtype=torch.bool, device=text.device)
    return index.pooling.texts(text.unsqueeze(0), mask)


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
            nearest, _ = index.candidates(pooled, candidates, rows=None if where is None else rows)
            rows = np.sort(nearest[0])
    return rows, among


def score_rows(
    index: IndexReader, rows: Rows, score: Callable[[Tokens, Tensor], list[Tensor]], *, clock: Clock
) -> NDArray[np.float32]:
    """(P, K) scores of photos of an index, read some at a time and kept as they are stored.

    ``score`` gives P rows of (k,) scores for tokens (k, m, d) and their mask (k, m).

    Raises:
        StoreError: A score is not finite.
    """
    parts = []
    for first in range(0, max(len(rows), 1), _PHOTOS_AT_ONCE):
        with clock("fetch"):
            tokens, mask = index.stored_tokens(rows[first : first + _PHOTOS_AT_ONCE])
        with clock("rank"):
            parts.append(torch.stack(score(tokens, mask)).float().cpu().numpy())
    scores = np.concatenate(parts, axis=1)
    wrong = np.flatnonzero(~np.isfinite(scores.sum(0)))
    if len(wrong):
        raise StoreError(f"{index.files(int(rows[wrong[0]]))[0]}: its score is not finite; index anew: --rebuild")
    return scores
