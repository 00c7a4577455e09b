"""A sentence to the photos of an index, ordered by the model's own scores.

Legend: N photos, K candidates, n words, m regions, d numbers a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from han_retrieval.errors import HANError
from han_retrieval.index.index import Index, Rows
from han_retrieval.matchers import AligningMatcher

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
        score: The model's.
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
    width: int
    height: int
    date: str | None
    boxes: np.ndarray | None
    labels: tuple[str, ...] | None


def search(
    index: Index,
    model: AligningMatcher,
    sentence: str,
    *,
    k: int = 10,
    candidates: int = CANDIDATES,
    where: str | None = None,
    exact: bool = False,
) -> list[Hit]:
    """The photos that fit a sentence best, best first.

    Pooled vectors choose the candidates, the model's exact scores order them.

    Args:
        index: The photos.
        model: The one that made the index.
        sentence: Any; words that the model does not know count as one unknown word.
        k: How many; all where there are fewer.
        candidates: How many photos are scored; at least ``k``.
        where: Only photos that this SQL condition holds for; see ``Index.filter``.
        exact: Score every photo.

    Raises:
        HANError: The model knows no word of the sentence, the condition cannot be used, or a score is not finite.
        ValueError: ``k`` is less than 1, or the model's tokens are of another size than the index's.
    """
    if k < 1 or model.config.joint_size != index.made_by.joint_size:
        raise ValueError(f"k is {k}, joint sizes {model.config.joint_size} and {index.made_by.joint_size}")
    model.known_words(sentence)
    with torch.no_grad():
        words = model.encode_texts(*model.words([sentence]))  # (1, n, d), one sentence has no padding
    rows: Rows = np.arange(len(index)) if where is None else index.filter(where)
    wanted = max(candidates, k)
    if not exact and wanted < len(rows):
        there = torch.ones(words.shape[:2], dtype=torch.bool, device=words.device)
        nearest, _ = index.candidates(index.pooling.texts(words, there), wanted, rows=rows if where else None)
        rows = np.sort(nearest[0])
    scores = score_rows(index, model, words[0], rows)
    best = np.argsort(-scores, kind="stable")[:k]
    return _hits(index, rows[best], scores[best])


def score_rows(index: Index, model: AligningMatcher, words: torch.Tensor, rows: Rows) -> NDArray[np.float32]:
    """The model's scores (K,) of encoded words (n, d) with some photos of an index.

    Raises:
        HANError: A score is not finite.
    """
    parts = [np.empty(0, np.float32)]
    for first in range(0, len(rows), _PHOTOS_AT_ONCE):
        tokens, mask = index.tokens(rows[first : first + _PHOTOS_AT_ONCE])
        # The index has rounded them; float32 keeps them as they are.
        photos = model.store_images(tokens.to(model.device), mask, storage="float32")
        parts.append(photos.scores(words).cpu().numpy())
    scores = np.concatenate(parts)
    if not np.isfinite(scores).all():
        first = int(rows[np.flatnonzero(~np.isfinite(scores))[0]])
        raise HANError(f"{index.files(first)[0]}: its score is not finite; index anew: --rebuild")
    return scores


def _hits(index: Index, rows: Rows, scores: NDArray[np.float32]) -> list[Hit]:
    photos = index.photos.take(rows).to_pylist()
    hits = []
    for row, photo, score, regions in zip(rows, photos, scores, index.regions(rows), strict=True):
        path, *copies = index.files(int(row))
        size = photo["width"], photo["height"]
        hits.append(Hit(int(row), photo["id"], path, tuple(copies), float(score), *size, photo["date"], *regions))
    return hits
