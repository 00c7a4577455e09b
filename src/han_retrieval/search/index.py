"""The index as people use it: create or open it, add folders, search it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Protocol, Self

import torch
from PIL import Image

from han_retrieval.data import open_photo, upright_rgb
from han_retrieval.data.url_path import UrlPath, is_url
from han_retrieval.errors import DataError, ModelError, QueryError
from han_retrieval.files import from_home
from han_retrieval.matchers import AligningMatcher, Matcher, model_folder
from han_retrieval.objects import is_remote, to_path
from han_retrieval.regions import Detector, Regions, detector_for
from han_retrieval.search.calibration import Calibration
from han_retrieval.search.maker import LazyDetector
from han_retrieval.search.pooling import POOLINGS
from han_retrieval.search.query import CANDIDATES, Part, check_parts, parse_query
from han_retrieval.search.ranking import search
from han_retrieval.search.reader import IndexReader
from han_retrieval.search.report import IndexReport
from han_retrieval.search.results import SearchResult
from han_retrieval.search.rows import DEFAULT_STORAGE
from han_retrieval.search.similarity import similar
from han_retrieval.search.update import create_index, index_photos


class ModelAndDetector(Protocol):
    """A model with its detector and its folder, None if it is in memory alone; ``han_retrieval.load`` gives one."""

    model: Matcher
    detector: Detector
    folder: str | Path | None


class PhotoWithRegions(Protocol):
    """A photo whose regions are known, as ``Retriever.encode_images`` gives it."""

    @property
    def regions(self) -> Regions: ...  # noqa: D102


class Index(IndexReader):
    """An index of the photos in some folders, which grows and can be searched.

    The model that made the index is loaded with its calibration when it is first needed, and kept; so is the detector.
    Close the index when it is no longer needed, or use it in a ``with`` block.

    Example:
        >>> with Index.open("index") as index:
        ...     for hit in index.search("two dogs in the snow", k=10):
        ...         print(hit.score, hit.path)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        model: str | Path | None = None,
        detector: str | Detector | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(path)
        self._detector_name = detector if isinstance(detector, str) else None
        self._detector = None if isinstance(detector, str) else detector
        if self._detector is not None and self._detector.fingerprint != self.made_by.detector:
            self.close()
            raise ModelError(
                f"{path}: was made with the detector {self.made_by.detector!r}, not "
                f"{self._detector.fingerprint!r}: leave it out, or index anew with this one"
            )
        self._folder, self._device = model, device
        self._model: AligningMatcher | None = None
        self._calibration: Calibration | None = None
        self._loaded: str | None = None  # the hash of the model

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        model: str | Path | None = None,
        detector: str | Detector | None = None,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Open an index.

        Args:
            path: The index's folder, or its place in object storage, such as s3://bucket/index.
            model: Where the model that made it is, if it was moved since.
            detector: Finds the regions of photos that are added or compared: an object, or a name such as
                "bottom-up:FOLDER" for weights of one's own; by default the detector that made the index.
            device: Where the model runs.

        Raises:
            StoreError: There is nothing at ``path``, no index, or one of another format.
            ModelError: The index was made with another detector.

        Example:
            >>> index = Index.open("index")
        """
        return cls(path, model=model, detector=detector, device=device)

    @classmethod
    def create(
        cls,
        path: str | Path,
        retriever: ModelAndDetector,
        *,
        storage: str = DEFAULT_STORAGE,
        candidates: str = POOLINGS[0],
    ) -> Self:
        """Make an empty index.

        Args:
            path: A new or empty folder.
            retriever: A model with its detector, as ``han_retrieval.load`` gives it.
            storage: How tokens are stored: "int8", or "float16" at twice the size.
            candidates: What chooses the candidates of a search: the "mean" of the tokens, or "pooled", the vectors that
                the towers of the model give.

        Raises:
            StoreError: There is an index or something else at ``path``, or the folder cannot be made.
            ModelError: The model aligns no words with regions, is in no folder, or does not name its detector.

        Example:
            >>> index = Index.create("index", han_retrieval.load())
            >>> index.add("~/photos")
        """
        model = retriever.model
        if not isinstance(model, AligningMatcher):
            raise ModelError(
                f"a {model.config.matcher} model aligns no words with regions; an index needs one that does (han, "
                "scan, maxsim)"
            )
        if retriever.folder is None:
            raise ModelError("this model is in memory alone; save it with save_pretrained and load it from there")
        fingerprint = model.config.detector_fingerprint
        if fingerprint is None:
            detector = retriever.detector
        else:
            detector = LazyDetector(fingerprint, model.config.region_size, lambda: retriever.detector)
        create_index(
            path, model=retriever.folder, loaded=model, detector=detector, storage=storage, candidates=candidates
        )
        index = cls(path, detector=detector, device=model.device)
        index._keep(model)
        index.load_text_map(model_folder(retriever.folder))
        return index

    @property
    def model(self) -> AligningMatcher:
        """The model that made the index.

        Raises:
            ModelError: It is not where it was, or another model is there.
        """
        if self._model is None or self._loaded != self.made_by.model:
            self._keep(self.load_model(self._folder, device=self._device))
            assert self._model is not None
        return self._model

    @property
    def calibration(self) -> Calibration | None:
        """What `han calibrate` had written into the model's folder when the model was loaded; None without it.

        Raises:
            ModelError: The model is not where it was, or the file cannot be read.
        """
        _ = self.model  # it is loaded with it
        return self._calibration

    @property
    def detector(self) -> Detector:
        """The detector that made the index, loaded when it first sees a photo."""
        fingerprint = self.made_by.detector
        if self._detector is None or self._detector.fingerprint != fingerprint:
            name, size = self._detector_name, self.model.config.region_size
            folder = model_folder(self._folder or self.settings.model)
            self._detector = LazyDetector(fingerprint, size, lambda: detector_for(fingerprint, name=name, model=folder))
        return self._detector

    def add(
        self,
        *folders: str | Path,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        batch_size: int = 8,
        threads: int = 2,
        progress: bool = False,
    ) -> IndexReport:
        """Index the photos in and below folders, or bring the index up to date.

        Only photos that are new, changed or moved are read; photos whose files are gone leave the index.

        Args:
            folders: Folders; "~" is the home folder. Without any, all folders that are indexed already.
            include, exclude, batch_size, threads, progress: As in ``index_photos``.

        Returns:
            The number of photos, of those added, moved and removed, and the files that could not be read.

        Raises:
            DataError: A folder is missing or holds no photo.
            StoreError: Another process is writing to the index.
            ModelError: The model or its detector is not here.

        Example:
            >>> index.add("~/photos", progress=True).added
        """
        report = index_photos(
            folders,
            self.path,
            model=self._folder or self.settings.model,
            loaded=self.model,
            detector=self.detector,
            include=include,
            exclude=exclude,
            batch_size=batch_size,
            threads=threads,
            progress=progress,
        )
        self.refresh()
        return report

    def search(
        self,
        query: str | Sequence[Part],
        *,
        k: int = 10,
        candidates: int = CANDIDATES,
        where: str | None = None,
        exact: bool = False,
        collapse: bool = False,
    ) -> SearchResult:
        """Find the photos that fit a query best.

        Args:
            query: A sentence, or weighted sentences and photos: ``'"a dog" + beach.jpg - 0.5 * "a leash"'``, see
                ``parse_query``; or its parts, whose photos may be whatever ``similar`` takes. Photos of the index that
                are parts are left out of the result.
            k: The number of photos; all where there are fewer.
            candidates: The number of photos that are scored exactly; never less than ``k``.
            where: An SQL condition that photos must meet, such as ``"date >= '2024'"``; see ``filter``.
            exact: Score every photo.
            collapse: Leave out near-duplicates of a better photo.

        Raises:
            QueryError: The model knows no word of the query, or the query or the condition cannot be used.
            DataError: A photo of the query cannot be read.
            ModelError: The model is not here.

        Example:
            >>> for hit in index.search("two dogs in the snow", k=10, where="folder = 'trips/'"):
            ...     print(hit.score, hit.probability, hit.path)
        """
        parts = parse_query(query) if isinstance(query, str) else list(query)
        check_parts(parts)
        return search(
            self,
            self.model,
            [self._with_regions(part) for part in parts],
            k=k,
            candidates=candidates,
            where=where,
            exact=exact,
            collapse=collapse,
            calibration=self.calibration,
        )

    def similar(
        self,
        photo: str | Path | Image.Image | int | Regions | PhotoWithRegions,
        *,
        k: int = 10,
        candidates: int = CANDIDATES,
        where: str | None = None,
        exact: bool = False,
        keep_itself: bool = False,
    ) -> SearchResult:
        """Find the photos that are most similar to one.

        Args:
            photo: A path, a PIL image, the row of a photo in the index, its regions, or a photo that
                ``Retriever.encode_images`` encoded.
            k, candidates, where, exact: As in ``search``.
            keep_itself: Keep a photo of the index in its own result.

        Raises:
            DataError: The photo cannot be read.
            QueryError: The photo has no region, or the condition cannot be used.
            ModelError: The model or its detector is not here.

        Example:
            >>> [hit.path for hit in index.similar("dog.jpg", k=5)]
        """
        return similar(
            self,
            self.model,
            self._row_or_regions(photo),
            k=k,
            candidates=candidates,
            where=where,
            exact=exact,
            keep_itself=keep_itself,
        )

    def _keep(self, model: AligningMatcher) -> None:
        self._calibration = Calibration.read(self._folder or self.settings.model)
        self._model, self._loaded = model, self.made_by.model

    def _with_regions(self, part: Part) -> Part:
        """The part with its photo's row, or its regions."""
        return part if part.photo is None else replace(part, photo=self._row_or_regions(part.photo))

    def _row_or_regions(self, photo: str | Path | Image.Image | int | Regions | PhotoWithRegions) -> int | Regions:
        if isinstance(photo, int | Integral):  # also of NumPy, as of ``filter``
            if not 0 <= photo < len(self):
                raise QueryError(f"row {photo}: the index has {len(self):,} photos, whose rows begin at 0")
            return int(photo)
        if isinstance(photo, Regions):
            return photo
        if isinstance(photo, UrlPath) or (isinstance(photo, str) and is_url(photo) and not is_remote(to_path(photo))):
            row = self.named(str(photo))
            if row is not None:
                return row
            image = open_photo(UrlPath(str(photo)))
        elif isinstance(photo, str | Path) or is_remote(photo):
            row = self.find(from_home(photo))
            if row is not None:
                return row
            if not from_home(photo).exists():
                raise DataError(f"{photo}: no such photo, neither a file nor in the index")
            image = open_photo(from_home(photo))
        elif isinstance(photo, Image.Image):
            image = upright_rgb(photo)
        else:
            return photo.regions
        return self.detector.detect([image])[0]
