"""A query to the photos of an index, ordered by the model's own scores.

Legend: N photos, K candidates, P parts of a query, n words, m regions, d numbers a token, e numbers a pooled vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.clock import Clock
from han_retrieval.errors import HANError
from han_retrieval.evaluation.calibration import Calibration
from han_retrieval.matchers import AligningMatcher
from han_retrieval.scoring import Tokens
from han_retrieval.search.alike import first_of_alike
from han_retrieval.search.index import Index, Rows
from han_retrieval.search.query import Part, check_parts, parse_query

CANDIDATES = 200
_PHOTOS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """A photo that was found.

    Attributes:
        row: In the index.
        id: Of the photo.
        path: Its file.
        copies: Further files of the same content.
        score: The model's; of a query of parts, the weighted sum of theirs.
        probability: That the photo is what was meant, or None where that is not known.
        width, height: Of the upright photo in pixels.
        date: When it was taken, or None.
        boxes: (m, 4) float32 x0 y0 x1 y1 in pixels, or None.
        labels: m names, or None.
    """

    row: int
    id: str
    path: Path
    copies: tuple[Path, ...]
    score: float
    probability: float | None
    width: int
    height: int
    date: str | None
    boxes: np.ndarray | None
    labels: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a search gives.

    Attributes:
        hits: The photos that fit best, best first, whether or not one of them is likely to be meant.
        nothing: No hit is so probable that it should be shown; False where probabilities are not known.
        seconds: By stage: encode, filter, candidates, fetch, rank.
    """

    hits: list[Hit]
    nothing: bool
    seconds: dict[str, float]


def search(
    index: Index,
    model: AligningMatcher,
    query: str | Sequence[Part],
    *,
    k: int = 10,
    candidates: int = CANDIDATES,
    where: str | None = None,
    exact: bool = False,
    collapse: bool = False,
    calibration: Calibration | None = None,
) -> Answer:
    """The photos that fit a query best, best first.

    Pooled vectors choose the candidates, the model's exact scores order them. A query of parts is ordered by the
    weighted sum of their exact scores, and its candidates are those of the weighted sum of their pooled vectors.

    Args:
        index: The photos.
        model: The one that made the index.
        query: A sentence, or parts as text (see ``parse_query``) or as they are; words that the model does not know
            count as one unknown word.
        k: How many; all where there are fewer.
        candidates: How many photos are scored; at least ``k``.
        where: Only photos that this SQL condition holds for; see ``Index.filter``.
        exact: Score every photo.
        collapse: Leave out photos that are nearly the same as a better one; see ``first_of_alike``.
        calibration: Of the model; makes probabilities of the scores of a single sentence.

    Raises:
        HANError: The model knows no word of a sentence, the query or the condition cannot be used, or a score is not
            finite.
        ValueError: ``k`` is less than 1, or the model's tokens are of another size than the index's.
    """
    check_model(index, model, k)
    clock = Clock()
    with clock("encode"):
        parts = parse_query(query) if isinstance(query, str) else list(query)
        check_parts(parts)
        texts = [encode_sentence(model, part.text) for part in parts]
        weights = np.array([part.weight for part in parts], np.float32)
        pooled = torch.stack([part.weight * _pooled(index, text) for part, text in zip(parts, texts, strict=True)]).sum(
            0
        )
    rows, among = choose_rows(index, pooled, max(candidates, k), where=where, exact=exact, clock=clock)

    def score(tokens: Tokens, mask: Tensor) -> list[Tensor]:
        photos = model.store_images(tokens.to(model.device), mask)
        return [photos.scores(text) for text in texts]

    scores = weights @ score_rows(index, rows, score, clock=clock)  # (K,)
    order = np.argsort(-scores, kind="stable")
    with clock("fetch"):
        best = order[first_of_alike(index, rows[order], k)] if collapse else order[:k]
    probabilities = None
    if calibration and len(parts) == 1:
        probabilities = calibration.probability(scores[best] / weights[0], among=among)
    return answer(index, rows[best], scores[best], probabilities, calibration=calibration, clock=clock)


def check_model(index: Index, model: AligningMatcher, k: int) -> None:
    """See that the model's tokens are as wide as the index's, and that something is asked for.

    Raises:
        ValueError: They are not, or ``k`` is less than 1.
    """
    if k < 1 or model.config.joint_size != index.made_by.joint_size:
        raise ValueError(f"k is {k}, joint sizes {model.config.joint_size} and {index.made_by.joint_size}")


@torch.no_grad()
def encode_sentence(model: AligningMatcher, sentence: str) -> Tensor:
    """The tokens (n, d) of a sentence.

    Raises:
        HANError: The model knows no word of it.
    """
    model.known_words(sentence)
    return model.encode_texts(*model.words([sentence]))[0]  # one sentence has no padding


def _pooled(index: Index, text: Tensor) -> Tensor:
    """The pooled vector (1, e) of a sentence's tokens (n, d)."""
    there = torch.ones(1, len(text), dtype=torch.bool, device=text.device)
    return index.pooling.texts(text.unsqueeze(0), there)


def choose_rows(
    index: Index, pooled: Tensor, candidates: int, *, where: str | None, exact: bool, clock: Clock
) -> tuple[Rows, int]:
    """The rows to score, ascending, and among how many they were chosen: those that ``where`` lets through.

    All of these, or those nearest to a pooled vector (1, e).
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
    index: Index, rows: Rows, score: Callable[[Tokens, Tensor], list[Tensor]], *, clock: Clock
) -> NDArray[np.float32]:
    """Scores (P, K) of some photos, read from the index some at a time.

    Args:
        index: The photos.
        rows: K of them.
        score: Tokens (k, m, d) and their mask (k, m) to P times (k,) scores.
        clock: Times the stages.

    Raises:
        HANError: A score is not finite.
    """
    parts = []
    for first in range(0, max(len(rows), 1), _PHOTOS_AT_ONCE):
        with clock("fetch"):
            tokens, mask = index.stored_tokens(rows[first : first + _PHOTOS_AT_ONCE])
        with clock("rank"):
            parts.append(torch.stack(score(tokens, mask)).float().cpu().numpy())
    scores = np.concatenate(parts, axis=1)
    refuse_not_finite(index, rows, scores.sum(0))
    return scores


def refuse_not_finite(index: Index, rows: Rows, scores: NDArray[np.float32]) -> None:
    """See that scores (K,) of photos can be ranked.

    Raises:
        HANError: One is not finite.
    """
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise HANError(f"{index.files(int(rows[wrong[0]]))[0]}: its score is not finite; index anew: --rebuild")


def answer(
    index: Index,
    rows: Rows,
    scores: NDArray[np.float32],
    probabilities: NDArray[np.float64] | None,
    *,
    calibration: Calibration | None,
    clock: Clock,
) -> Answer:
    """The rows that were found, best first, as what a caller is given."""
    with clock("fetch"):
        photos, regions = index.photos.take(rows).to_pylist(), index.regions(rows)
        files = [index.files(int(row)) for row in rows]
    hits = [
        Hit(
            row=int(row),
            id=photo["id"],
            path=path,
            copies=tuple(copies),
            score=float(scores[i]),
            probability=None if probabilities is None else float(probabilities[i]),
            width=photo["width"],
            height=photo["height"],
            date=photo["date"],
            boxes=regions[i].boxes,
            labels=regions[i].labels,
        )
        for i, (row, photo, (path, *copies)) in enumerate(zip(rows, photos, files, strict=True))
    ]
    nothing = False
    if calibration is not None and probabilities is not None:
        nothing = not calibration.passes(probabilities).any()
    return Answer(hits, nothing, clock.seconds)
