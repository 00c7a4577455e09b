"""The index and its model, loaded once; everything that the server needs of them is in this file.

All of it runs in one thread of its own, a request after the other: an answer takes all cores by itself, and rows of the
index hold until it is refreshed.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from han_retrieval.errors import HANError
from han_retrieval.evaluation import Calibration
from han_retrieval.evaluation.calibration import NAME as CALIBRATION
from han_retrieval.evidence import Evidence, evidence_from_index
from han_retrieval.matchers import AligningMatcher, model_folder
from han_retrieval.regions import Detector, Regions, detector_for
from han_retrieval.search import Answer, Hit, Index, Part, RankedCaption, parse_query, rank_captions, search, similar
from han_retrieval.search.pooling import TEXT_MAP
from han_retrieval.serve.catalogue import Catalogue
from han_retrieval.serve.rankings import Ranking, Rankings

_CHECK_SECONDS = 2.0  # between two looks at whether the index was changed
_UPLOADS_KEPT = 16
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a ranking.

    Attributes:
        hits: From the place that was asked for.
        total: How many photos there are to rank: all, or those that the condition holds for.
        nothing: No photo is likely to match.
        threshold: The probability below which that is said of a photo; None where there are no probabilities.
        unknown: Words of the query that the model does not know.
        seconds: By stage; empty where nothing had to be computed.
    """

    hits: Sequence[Hit]
    total: int
    nothing: bool
    threshold: float | None
    unknown: tuple[str, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """A photo that is not asked for by its id: what it is known by, the hash of its file, and its pixels, upright."""

    id: str
    photo: Image.Image


class NotReady(HANError):
    """The index changed so that it cannot be searched until somebody mends it."""


class Engine:
    """An index that is kept up to date, with the model that made it.

    Only ``catalogue`` may be read while another thread is in a method.

    Args:
        index: The index's folder.
        model: Where its model is, if it was moved.
        device: Of the model.
        detector: Finds the regions of uploads; without one the index's is loaded when it is first needed.

    Attributes:
        catalogue: What is known of the photos; another one after each change of the index.
        refreshes: How many changes were taken in, of the index or of what lies beside its model's weights.
        trouble: Why they could not be read the last time, or None; answers are then of what was read before.

    Raises:
        HANError: The index or the model is not there, or they do not belong together.
    """

    def __init__(
        self,
        index: str | Path,
        *,
        model: str | Path | None = None,
        device: torch.device | str = "cpu",
        detector: Detector | None = None,
    ) -> None:
        self._index = Index.open(index)
        self._model_folder, self._device, self._detector = model, device, detector
        self._load_model()
        self._rankings = Rankings()
        self._uploads: OrderedDict[tuple[str, str], Regions] = OrderedDict()  # by the detector and the photo
        self._checked = time.monotonic()
        self.catalogue = Catalogue(self._index.photos)
        self.refreshes = 0
        self.trouble: str | None = None

    def close(self) -> None:
        """Let go of the index."""
        self._index.close()

    def warm_up(self) -> None:
        """Answer once, so that the first person does not wait for what is compiled or loaded at first use."""
        assert self._model.vocabulary is not None  # or it could not have been searched with
        self.search(self._model.vocabulary.words[-1], first=0, count=1)
        self._rankings.clear()

    def refresh(self) -> None:
        """Take in what others did to the index, its model's calibration or its map of sentences.

        Nothing is done where that was looked at just now. What cannot be read any more, ``trouble`` tells.
        """
        now = time.monotonic()
        if now - self._checked < _CHECK_SECONDS:
            return
        self._checked = now
        try:
            if self._index.refresh():
                self._rankings.clear()
                self.catalogue = Catalogue(self._index.photos)
                self.refreshes += 1
            if self._index.made_by.model != self._loaded:
                self._load_model()
            elif self._read_beside_weights():
                self._rankings.clear()
                self.refreshes += 1
        except (HANError, OSError) as error:
            if str(error) != self.trouble:
                _log.warning("what is searched cannot be brought up to date: %s", error)
            self.trouble = str(error)
            return
        self.trouble = None

    def search(self, query: str, *, first: int, count: int, where: str | None = None) -> Piece:
        """The photos from place ``first`` on that fit a query, a sentence or parts; see ``parse_query``.

        Raises:
            HANError: The model knows none of the words of a sentence, or the query or the condition cannot be used.
        """
        self._check_model()
        known = {
            word: there for part in parse_query(query) for word, there in self._model.known_words(part.text).items()
        }
        ranking = self._rankings.get((query, where), partial(self._count, where))

        def rank(depth: int) -> Answer:
            return search(
                self._index, self._model, query, k=depth, candidates=depth, where=where, calibration=self._calibration
            )

        unknown = tuple(word for word, there in known.items() if not there)
        return self._piece(ranking, rank, first=first, count=count, unknown=unknown)

    def similar(self, photo: int | Upload, *, first: int, count: int, where: str | None = None) -> Piece:
        """The photos from place ``first`` on that are like one, given by its row or uploaded; without itself.

        Raises:
            HANError: No region is found in the photo, the condition cannot be used, or the detector is not to be had.
        """
        self._check_model()
        began = time.perf_counter()
        like = self._row_or_regions(photo)
        detected = {"detect": time.perf_counter() - began} if isinstance(like, Regions) else {}
        key = like if isinstance(like, int) else photo.id  # type: ignore[union-attr]
        itself = like if isinstance(like, int) else None
        ranking = self._rankings.get((key, where), partial(self._count, where, but=itself))

        def rank(depth: int) -> Answer:
            return similar(self._index, self._model, like, k=depth, candidates=depth, where=where)

        piece = self._piece(ranking, rank, first=first, count=count)
        return replace(piece, seconds=detected | piece.seconds)

    def captions(self, photo: int | Upload, sentences: Sequence[str]) -> list[RankedCaption]:
        """The sentences for a photo, given by its row or uploaded, best first; those of unknown words are left out.

        Raises:
            HANError: The model knows no word of any, no region is found, or the detector is not to be had.
        """
        self._check_model()
        found: int | Regions | torch.Tensor = self._row_or_regions(photo)
        if isinstance(found, int):
            found = self._tokens(found)
        return rank_captions(self._model, sentences, found, k=len(sentences), calibration=self._calibration)

    def newest(self, *, first: int, count: int, where: str | None = None) -> tuple[list[int], int]:
        """Rows of the photos from place ``first`` on, newest first, and how many there are in all.

        Raises:
            HANError: The condition cannot be used.
        """
        order = self.catalogue.newest_first
        if where is not None:
            order = order[np.isin(order, self._index.filter(where))]
        return order[first : first + count].tolist(), len(order)

    def evidence(self, row: int, query: str) -> tuple[list[tuple[Part, Evidence]], float | None]:
        """Why a photo and each part of a query match, and how probable the match is, where it is known.

        Raises:
            HANError: The model knows none of the words of a part, the query cannot be used, or the photo has no boxes.
        """
        self._check_model()
        parts = parse_query(query)
        evidence = evidence_from_index(self._index, self._model, row, [part.text for part in parts])
        pairs = list(zip(parts, evidence, strict=True))
        if self._calibration is None or len(pairs) > 1:
            return pairs, None
        return pairs, float(self._calibration.probability(pairs[0][1].score, among=len(self._index)))

    def _load_model(self) -> None:
        self._model: AligningMatcher = self._index.load_model(self._model_folder, device=self._device)
        self._loaded = self._index.made_by.model
        self._calibration: Calibration | None = None
        self._beside: tuple[object, ...] | None = None
        self._read_beside_weights()

    def _read_beside_weights(self) -> bool:
        """Take in what `han calibrate` and `han distil` wrote since the last time; whether they wrote anything.

        Where the folder is gone, what was read of it holds.

        Raises:
            HANError: A file is not what it should be; it is looked at again the next time.
        """
        folder = model_folder(self._model_folder or self._index.settings.model).expanduser()
        found = tuple(_stamp(folder / name) for name in (CALIBRATION, TEXT_MAP))
        if found == self._beside or not folder.is_dir():
            return False
        calibration = Calibration.read(folder)
        self._index.load_text_map(folder)
        # The folder may hold other weights by now, calibrated too.
        self._calibration = calibration if calibration and calibration.model == self._loaded else None
        self._beside = found
        return True

    def _check_model(self) -> None:
        if self._index.made_by.model != self._loaded:
            raise NotReady(self.trouble or "the index was made anew with another model")

    def _count(self, where: str | None, *, but: int | None = None) -> int:
        """How many photos a condition holds for, one of them perhaps not counted."""
        if where is None:
            return len(self._index) - (but is not None)
        rows = self._index.filter(where)
        return len(rows) - (but is not None and but in rows)

    def _piece(
        self, ranking: Ranking, rank: Callable[[int], Answer], *, first: int, count: int, unknown: tuple[str, ...] = ()
    ) -> Piece:
        seconds = ranking.grow(first + count, rank)
        hits = ranking.hits[first : first + count]
        likely = self._calibration is not None and any(hit.probability is not None for hit in ranking.hits[:1])
        threshold = self._calibration.threshold if likely and self._calibration else None
        return Piece(hits, ranking.total, ranking.nothing, threshold, unknown, seconds)

    def _tokens(self, row: int) -> torch.Tensor:
        """The tokens (m, d) of a photo, without padding."""
        tokens, mask = self._index.tokens([row])
        return tokens[0][mask[0]]

    def _row_or_regions(self, photo: int | Upload) -> int | Regions:
        """The row of a photo if the index has it, else what the index's detector finds in it."""
        if isinstance(photo, int):
            return photo
        if (row := self.catalogue.row(photo.id)) is not None:
            return row
        fingerprint = self._index.made_by.detector
        if (fingerprint, photo.id) not in self._uploads:
            if self._detector is None or self._detector.fingerprint != fingerprint:
                self._detector = detector_for(fingerprint)
            self._uploads[fingerprint, photo.id] = self._detector.detect([photo.photo])[0]
            if len(self._uploads) > _UPLOADS_KEPT:
                self._uploads.popitem(last=False)
        return self._uploads[fingerprint, photo.id]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from one that takes its place; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
