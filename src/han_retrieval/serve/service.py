"""Search in an index that may change while it is served: the index, its model, and caches of rankings and uploads.

Methods are not safe in threads: the request queue calls them one at a time. Rows of the index are valid until the
next refresh.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from han_retrieval.clock import Clock
from han_retrieval.errors import HANError, QueryError, StoreError
from han_retrieval.evidence import Evidence, evidence_from_index
from han_retrieval.files import stamp
from han_retrieval.matchers import AligningMatcher, model_folder
from han_retrieval.parsing import shown
from han_retrieval.regions import Detector, Regions, detector_for
from han_retrieval.scoring.kernels import finish_loading
from han_retrieval.search import (
    Calibration,
    Index,
    Part,
    RankedCaption,
    SearchResult,
    parse_query,
    rank_captions,
    search,
    similar,
)
from han_retrieval.search.calibration import NAME as CALIBRATION
from han_retrieval.search.calibration import Match
from han_retrieval.search.parts import score_photo
from han_retrieval.search.pooling import TEXT_MAP
from han_retrieval.search.query import check_parts, condition_of, scored
from han_retrieval.search.sentence_calibration import SentenceCalibration
from han_retrieval.search.shards import ShardedIndex, Shards
from han_retrieval.search.unknown import (
    is_mostly_unknown,
    reads_most,
    reads_whole,
    some_sentence,
    spelt_alike,
    what_is_known,
)
from han_retrieval.serve.catalogue import Catalogue
from han_retrieval.serve.likeness import likeness
from han_retrieval.serve.query_parts import query_parts
from han_retrieval.serve.ranking import PageRequest, Ranking
from han_retrieval.serve.schemas import LikenessResponse, SearchResponse
from han_retrieval.serve.uploads import Upload

UPLOAD = "upload"
"""What a query calls the photo that is sent with it."""

_CHECK_SECONDS = 2.0  # between two checks for changes of the index
_MOST_NAMED = 20_000  # photos whose names of regions are read for examples
_NAMES = 100  # of regions, for examples
_LONGEST_SECONDS = 10.0  # of ranking for one request
_CACHED_RANKINGS = 32
_CACHED_UPLOADS = 16
_log = logging.getLogger(__name__)


class NotReady(StoreError):
    """The index changed and cannot be searched until it is repaired."""


class SearchService:
    """An index and its model, loaded once and kept up to date.

    Only ``catalogue`` may be read while another thread runs a method.

    Args:
        index: The index's folder.
        model: The folder of its model, if it was moved.
        device: Where the model runs.
        detector: Finds the regions of uploads; by default the index's detector, loaded when it is first needed.
        shards: Who searches the photos, if this process does not.

    Attributes:
        catalogue: Paths, dates and sizes of the photos; replaced after each change of the index.
        refreshes: How often changes were loaded, of the index or of the model's calibration and map of sentences.
        problem: Why the last refresh failed, or None; results are then those of the state before.

    Raises:
        HANError: The index or the model is missing, or they do not belong together.
    """

    def __init__(
        self,
        index: str | Path,
        *,
        model: str | Path | None = None,
        device: torch.device | str = "cpu",
        detector: Detector | None = None,
        shards: Shards | None = None,
    ) -> None:
        self._index = Index.open(index) if shards is None else ShardedIndex(index, shards)
        self._named_model, self._device, self._detector = model, device, detector
        self._load_model()
        self._ranking = lru_cache(_CACHED_RANKINGS)(self._new_ranking)
        self._uploads: OrderedDict[tuple[str, str], Regions] = OrderedDict()  # by the detector and the photo
        self._checked = time.monotonic()
        self.catalogue, self._is_named = Catalogue(self._index.photos, self._names()), True
        self.refreshes = 0
        self.problem: str | None = None

    def _names(self) -> list[str]:
        """What the detector calls regions often and the model knows; none where that cannot be read."""
        if len(self._index) > _MOST_NAMED:
            return []
        try:
            names = self._index.region_names()[:_NAMES]
        except HANError as error:
            _log.warning("there are no examples of queries: %s", error)
            return []
        return [name for name in names if reads_most(self._model, name) and reads_whole(self._model, name)]

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    def warm_up(self) -> None:
        """Search, so that the first request does not wait for loading; compiling is not waited for."""
        sentence = some_sentence(self._model)
        if sentence is None:  # nobody can search
            return
        for _ in range(2):  # the first begins to load the kernels
            self.search(sentence, PageRequest(first=0, count=1))
            self._ranking.cache_clear()
            finish_loading()

    def refresh(self) -> None:
        """Load changes that other processes made to the index, its model's calibration or its map of sentences.

        Checks at most every two seconds. Where the new state cannot be read, ``problem`` says why.
        """
        now = time.monotonic()
        if now - self._checked < _CHECK_SECONDS:
            return
        self._checked = now
        try:
            changed = self._index.refresh()
            if changed:
                self._ranking.cache_clear()
                self._is_named = False
                self.catalogue = Catalogue(self._index.photos)  # the rows are others from here on, whatever fails below
                self.refreshes += 1
            if (self._index.made_by.model, self._index.settings.model) != (self._loaded, self._loaded_from):
                self._load_model()
                self._ranking.cache_clear()
            elif self._read_beside_weights():
                self._ranking.cache_clear()
                self.refreshes += 1
            if not self._is_named:
                self.catalogue, self._is_named = Catalogue(self._index.photos, self._names()), True
        except (HANError, OSError) as error:
            if str(error) != self.problem:
                _log.warning("the index cannot be refreshed: %s", error)
            self.problem = str(error)
            return
        self.problem = None

    def check(self) -> None:
        """Check that the index can be searched in its newest state.

        Raises:
            HANError: It cannot.
        """
        if self.problem is not None:
            raise NotReady(self.problem)
        if isinstance(self._index, ShardedIndex):
            self._index.check()

    def search(self, query: str, page: PageRequest, photo: int | Upload | None = None) -> SearchResponse:
        """A page of the photos that match a query best: a sentence, or weighted parts (see ``parse_query``).

        Photos of the query are ids or paths of the index; no file is looked at. ``photo``, a row or an upload, is one
        more part: what the query calls ``photo:upload``, else a part with the weight 1. Photos of the index that are
        parts are left out. A query of ``text:`` alone gives the photos about which that is written, newest first.

        Raises:
            HANError: The model knows none of the words of a sentence, the index lacks a photo, no region is found in
                the upload, or the query or the condition cannot be used.
        """
        self._check_model()
        began = time.perf_counter()
        every, names = self._parts(query, photo)
        page = replace(page, where=condition_of(every, page.where))
        asked = query_parts(query, names, self.catalogue)
        parts = scored(every)
        if not parts:
            return self.newest(page).model_copy(update={"parts": asked})
        detected = {"detect": time.perf_counter() - began} if any(isinstance(p.photo, Regions) for p in parts) else {}
        sentences = [part.text for part in parts if part.photo is None]
        known = {word: there for each in sentences for word, there in self._model.known_words(each).items()}
        key = tuple((part.text, part.weight, name) for part, name in zip(every, names, strict=True))
        ranking = self._ranking(key, page.where, without=tuple({p.photo for p in parts if isinstance(p.photo, int)}))
        clock = _limited_clocks()

        def rank(depth: int) -> SearchResult:
            return search(
                self._index,
                self._model,
                parts,
                k=depth,
                candidates=depth,
                where=page.where,
                calibration=self._calibration,
                clock=clock(),
            )

        found = self._page(ranking, rank, page)
        found.seconds |= detected
        found.parts = asked
        found.unknown = [word for word, there in known.items() if not there]
        found.alike = spelt_alike(found.unknown, self._model.vocabulary)
        if any(is_mostly_unknown(self._model, each) for each in sentences):
            found.knows = what_is_known(self._folder)
        return found

    def similar(self, photo: int | Upload, page: PageRequest) -> SearchResponse:
        """A page of the photos that are most similar to one of the index, given by its row, or to an upload.

        The photo itself is left out.

        Raises:
            HANError: No region is found in the photo, the condition cannot be used, or the detector is not available.
        """
        self._check_model()
        began = time.perf_counter()
        like = self._row_or_regions(photo)
        detected = {"detect": time.perf_counter() - began} if isinstance(like, Regions) else {}
        key = like if isinstance(like, int) else photo.id  # type: ignore[union-attr]
        itself = (like,) if isinstance(like, int) else ()
        ranking = self._ranking(key, page.where, without=itself)
        clock = _limited_clocks()

        def rank(depth: int) -> SearchResult:
            return similar(self._index, self._model, like, k=depth, candidates=depth, where=page.where, clock=clock())

        found = self._page(ranking, rank, page)
        found.seconds |= detected
        return found

    def likeness(self, photo: int | Upload, row: int) -> LikenessResponse:
        """How similar the photo in ``row`` is to a photo, a row or an upload, and by which pairs of regions.

        Raises:
            HANError: A photo has no region or no boxes, or the detector is not available.
        """
        self._check_model()
        return likeness(self._index, self._model, self._row_or_regions(photo), row)

    def captions(self, photo: int | Upload, sentences: Sequence[str]) -> list[RankedCaption]:
        """The sentences that match a photo, best first; those of which the model does not know most are left out.

        Raises:
            HANError: The model does not know most of any, no region is found, or the detector is not available.
        """
        self._check_model()
        found: int | Regions | torch.Tensor = self._row_or_regions(photo)
        if isinstance(found, int):
            found = self._tokens(found)
        return rank_captions(self._model, sentences, found, k=len(sentences), calibration=self._calibration)

    def newest(self, page: PageRequest) -> SearchResponse:
        """A page of all photos, newest first.

        Raises:
            HANError: The condition cannot be used.
        """
        order = self.catalogue.newest_first
        if page.where is not None:
            order = order[np.isin(order, self._index.filter(page.where))]
        hits = [self.catalogue.summary(row) for row in order[page.first : page.first + page.count].tolist()]
        return SearchResponse(hits=hits, first=page.first, total=len(order), photos=len(self.catalogue))

    def evidence(
        self, row: int, query: str
    ) -> tuple[list[tuple[Part, Evidence]], list[tuple[Part, float]], float | None, Match | None]:
        """The evidence for a photo and each sentence of a query, the scores of the query's photos, and how it fits.

        That is the probability that the photo is meant, and a word for it; None where that is not known. Photos are as
        in ``search``, but for one that was sent with it, ``photo:upload``, which is left out. Without a part that has a
        score, such as of ``text:`` alone, there is no evidence.

        Raises:
            HANError: The model knows none of the words of a part, the index lacks a photo, the query cannot be used, or
                the photo has no boxes.
        """
        self._check_model()
        every, names = self._parts(query, None, skip_upload=True)
        parts = scored(every)
        if not parts:
            return [], [], None, None
        sentences = [part for part in parts if part.photo is None]
        evidence = evidence_from_index(self._index, self._model, row, [part.text for part in sentences])
        pairs = list(zip(sentences, evidence, strict=True))
        photos = [
            (replace(part, photo=name), score_photo(self._index, self._model, part.photo, row))
            for part, name in zip(every, names, strict=True)
            if isinstance(part.photo, int)
        ]
        if self._calibration is None or len(parts) > 1 or photos:
            return pairs, photos, None, None
        calibration = SentenceCalibration(self._calibration, self._model, parts[0].text, among=len(self._index))
        return pairs, photos, *calibration(pairs[0][1].score)

    def _parts(
        self, query: str, photo: int | Upload | None, *, skip_upload: bool = False
    ) -> tuple[list[Part], list[str]]:
        """The parts of a query, photos being rows or regions, and the ids of these photos, "" for sentences.

        Raises:
            HANError: As ``search``.
        """
        parts = parse_query(query)
        if photo is not None and all(part.photo != UPLOAD for part in parts):
            parts.append(Part(photo=UPLOAD))
            check_parts(parts)
        found, names = [], []
        for part in parts:
            name, like = "", part.photo
            if part.photo == UPLOAD and skip_upload:
                continue
            if part.photo == UPLOAD and photo is not None:
                like = self._row_or_regions(photo)
                name = self._index.photos["id"][like].as_py() if isinstance(like, int) else photo.id  # type: ignore[union-attr]
            elif isinstance(part.photo, str):
                like = self._index.named(part.photo)
                if like is None:
                    raise QueryError(
                        f"the index has no photo {shown(part.photo)}; name one by its id or by its path from the "
                        "indexed folder, or send a file"
                    )
                name = self._index.photos["id"][like].as_py()
            found.append(replace(part, photo=like))
            names.append(name)
        return found, names

    def _load_model(self) -> None:
        # A name on the Hub becomes a folder once: refreshing looks into it every other second.
        self._loaded_from = self._index.settings.model
        self._folder = model_folder(self._named_model or self._loaded_from)
        self._model: AligningMatcher = self._index.load_model(self._folder, device=self._device)
        self._loaded = self._index.made_by.model
        self._calibration: Calibration | None = None
        self._beside: tuple[object, ...] | None = None
        self._read_beside_weights()

    def _read_beside_weights(self) -> bool:
        """Load what `han calibrate` and `han distil` wrote into the model's folder; whether anything was new.

        Where the folder is gone, nothing is loaded. A file that is broken is read again the next time.
        """
        folder = self._folder
        found = tuple(stamp(folder / name) for name in (CALIBRATION, TEXT_MAP))
        if found == self._beside or not folder.is_dir():
            return False
        calibration = Calibration.read(folder)
        self._index.load_text_map(folder)
        # The folder may hold other weights by now, with a calibration of their own.
        self._calibration = calibration if calibration and calibration.model == self._loaded else None
        self._beside = found
        return True

    def _check_model(self) -> None:
        if self._index.made_by.model != self._loaded:
            raise NotReady(self.problem or "the index was rebuilt with another model")

    def _new_ranking(self, _: Hashable, where: str | None, *, without: tuple[int, ...] = ()) -> Ranking:
        """An empty ranking of the photos that meet a condition, but for the rows ``without``."""
        if where is None:
            return Ranking(len(self._index) - len(without))
        rows = self._index.filter(where)
        return Ranking(len(rows) - int(np.isin(without, rows).sum()))

    def _page(self, ranking: Ranking, rank: Callable[[int], SearchResult], page: PageRequest) -> SearchResponse:
        end = page.first + page.count
        self._index.begin_search()
        try:
            seconds = ranking.grow(end, rank)
        finally:  # a later round may fail
            missing = self._index.missing
            if missing:  # another search may find them
                self._ranking.cache_clear()
        return SearchResponse(
            hits=[self.catalogue.summary(hit.row, hit) for hit in ranking.hits[page.first : end]],
            first=page.first,
            total=ranking.total,
            nothing=ranking.nothing,
            photos=len(self.catalogue),
            missing=missing,
            seconds=seconds,
        )

    def _tokens(self, row: int) -> torch.Tensor:
        """The tokens (m, d) of a photo, without padding."""
        tokens, mask = self._index.tokens([row])
        return tokens[0][mask[0]]

    def _row_or_regions(self, photo: int | Upload) -> int | Regions:
        """The photo's row, if the index has it, otherwise the regions that the index's detector finds in it."""
        if isinstance(photo, int):
            return photo
        if (row := self.catalogue.row(photo.id)) is not None:
            return row
        fingerprint = self._index.made_by.detector
        if (fingerprint, photo.id) not in self._uploads:
            if self._detector is None or self._detector.fingerprint != fingerprint:
                self._detector = detector_for(fingerprint, model=self._folder)
            self._uploads[fingerprint, photo.id] = self._detector.detect([photo.decode()])[0]
            if len(self._uploads) > _CACHED_UPLOADS:
                self._uploads.popitem(last=False)
        return self._uploads[fingerprint, photo.id]


def _limited_clocks() -> Callable[[], Clock]:
    """Makes clocks for rounds of ranking that together have the time that one request may take."""
    end = time.monotonic() + _LONGEST_SECONDS
    return lambda: Clock(end - time.monotonic())
