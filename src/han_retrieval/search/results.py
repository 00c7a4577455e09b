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
from han_retrieval.search.calibration import Match
from han_retrieval.search.reader import IndexReader
from han_retrieval.search.rows import files_of
from han_retrieval.search.scan import path_of
from han_retrieval.search.sentence_calibration import SentenceCalibration
from han_retrieval.search.vectors import Rows


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """A photo that was found.

    Attributes:
        row: Its row in the index.
        id: The hash of its content, 32 hexadecimal digits.
        path: Its file, or its URL.
        copies: Further files with the same content.
        score: The model's score; for a query of parts, the weighted sum of theirs. None where nothing in the query is
            scored, as in "text:lisbon".
        probability: That the photo is the one that was meant; None without a calibration, and where the model does not
            know more than a third of the sentence.
        match: How well the photo fits: "strong", "likely" or "weak"; "weak" where the model does not know so much of
            it. None without a calibration.
        width, height: Of the upright photo, in pixels.
        date: When it was taken, "2024-01-31 12:00:00", or None.
        boxes: (m, 4) float32 x0 y0 x1 y1 of its regions in pixels, or None.
        labels: The names of its m regions, or None.
    """

    row: int
    id: str
    path: Path | UrlPath
    copies: tuple[Path | UrlPath, ...]
    score: float | None
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
        >>> [hit.path.name for hit in result if hit.match == "strong"]
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
    scores: NDArray[np.float32] | None,
    *,
    clock: Clock,
    calibration: SentenceCalibration | None = None,
    weight: float = 1.0,
) -> SearchResult:
    """The result of a search that found these rows, best first, with their scores, each ``weight`` times a sentence's.

    With a calibration, hits have probabilities and matches.
    """
    with clock("fetch"):
        table, regions = index.photos.take(rows), index.regions(rows)
        photos = table.to_pylist()
        files = [[path_of((file.root, file.path)) for file in each] for each in files_of(table)]
    plain = [] if scores is None or calibration is None else (scores / weight).tolist()
    hits = []
    for i, (row, photo, (path, *copies)) in enumerate(zip(rows, photos, files, strict=True)):
        probability, match = (None, None) if calibration is None else calibration(plain[i])
        hits.append(
            Hit(
                row=int(row),
                id=photo["id"],
                path=path,
                copies=tuple(copies),
                score=None if scores is None else float(scores[i]),
                probability=probability,
                match=match,
                width=photo["width"],
                height=photo["height"],
                date=photo["date"],
                boxes=regions[i].boxes,
                labels=regions[i].labels,
            )
        )
    nothing_matches = calibration is not None and calibration.nothing_matches(plain)
    return SearchResult(hits, nothing_matches, clock.seconds)
