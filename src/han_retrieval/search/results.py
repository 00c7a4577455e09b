"""What a search gives: the photos that were found, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from han_retrieval.clock import Clock
from han_retrieval.data.url_path import UrlPath
from han_retrieval.search.calibration import Calibration, Match
from han_retrieval.search.reader import IndexReader
from han_retrieval.search.vectors import Rows


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """A photo that was found.

    Attributes:
        row: Its row in the index.
        id: The hash of its content, 32 hexadecimal digits.
        path: Its file, or its URL.
        copies: Further files with the same content.
        score: The model's score; for a query of parts, the weighted sum of theirs.
        probability: That the photo is the one that was meant; None where it is not known.
        match: How well the photo fits: "strong", "likely" or "weak"; None where no probability is known.
        width, height: Of the upright photo, in pixels.
        date: When it was taken, "2024-01-31 12:00:00", or None.
        boxes: (m, 4) float32 x0 y0 x1 y1 of its regions in pixels, or None.
        labels: The names of its m regions, or None.
    """

    row: int
    id: str
    path: Path | UrlPath
    copies: tuple[Path | UrlPath, ...]
    score: float
    probability: float | None
    match: Match | None
    width: int
    height: int
    date: str | None
    boxes: np.ndarray | None = field(repr=False)
    labels: tuple[str, ...] | None = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult(Sequence[Hit]):
    """The photos that fit a query best: a sequence of hits, best first.

    Attributes:
        hits: The same hits as a list. They are there whether or not one of them is likely to be meant.
        nothing_matches: Whether no hit fits well enough, or the model knows too few of the sentence's words; False
            where probabilities are not known.
        seconds: By stage: encode, filter, candidates, fetch, rank.

    Example:
        >>> result = index.search("two dogs in the snow")
        >>> [hit.path.name for hit in result if hit.score > 0.5]
    """

    hits: list[Hit]
    nothing_matches: bool
    seconds: dict[str, float]

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, place: int) -> Hit: ...

    @overload
    def __getitem__(self, place: slice) -> list[Hit]: ...

    def __getitem__(self, place: int | slice) -> Hit | list[Hit]:
        return self.hits[place]


def make_result(
    index: IndexReader,
    rows: Rows,
    scores: NDArray[np.float32],
    *,
    clock: Clock,
    calibration: Calibration | None = None,
    weight: float = 1.0,
    among: int = 1,
    nothing_matches: bool = False,
) -> SearchResult:
    """The result of a search that found these rows, best first.

    With a calibration, hits have the probabilities of their scores, each ``weight`` times a sentence's, among so many
    photos. Where ``nothing_matches``, all are weak matches, whatever their scores.
    """
    plain = scores / weight

    def match(score: float) -> Match | None:
        if calibration is None:
            return None
        return "weak" if nothing_matches else calibration.match(score, among=among)

    probabilities = None if calibration is None else calibration.probability(plain, among=among)
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
            match=match(float(plain[i])),
            width=photo["width"],
            height=photo["height"],
            date=photo["date"],
            boxes=regions[i].boxes,
            labels=regions[i].labels,
        )
        for i, (row, photo, (path, *copies)) in enumerate(zip(rows, photos, files, strict=True))
    ]
    unlikely = calibration is not None and not calibration.passes(plain, among=among).any()
    return SearchResult(hits, bool(nothing_matches or unlikely), clock.seconds)
