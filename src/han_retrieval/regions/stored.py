"""Regions that were extracted before, in the place of a detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from han_retrieval.data.photos import names_of
from han_retrieval.objects import to_path
from han_retrieval.regions.detector import Detector
from han_retrieval.regions.regions import Regions
from han_retrieval.regions.store import RegionStore

if TYPE_CHECKING:
    from PIL import Image


class StoredRegions:
    """A detector that need not look at photos whose regions are in a store.

    A photo is known by its path below ``folder`` and its size, as ``han extract FOLDER`` wrote them. Other photos go
    through the detector that made the store.

    Args:
        store: The regions.
        folder: The folder of the photos.
        detector: The detector with the store's fingerprint, for photos that the store does not have.

    Attributes:
        fingerprint, feature_size: Of the store.
        taken: How many photos had their regions from the store.
    """

    def __init__(self, store: RegionStore, folder: str | Path, detector: Detector) -> None:
        self.fingerprint, self.feature_size, self.taken = store.fingerprint, store.feature_size, 0
        self._store, self._folder, self._detector = store, to_path(folder).absolute(), detector
        self._sizes = {photo.id: (photo.width, photo.height) for photo in store.photos()}

    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """See ``Detector.detect``."""
        ids = [self._id(photo) for photo in photos]
        others = [photo for photo, id_ in zip(photos, ids, strict=True) if id_ is None]
        stored = iter(self._store.read([id_ for id_ in ids if id_ is not None]))
        detected = iter(self._detector.detect(others) if others else ())
        self.taken += len(photos) - len(others)
        return [next(detected if id_ is None else stored) for id_ in ids]

    def _id(self, photo: Image.Image) -> str | None:
        for name in names_of(photo):
            path = to_path(name)
            if type(path) is type(self._folder) and path.is_relative_to(self._folder):
                id_ = path.relative_to(self._folder).as_posix()
                if self._sizes.get(id_) == photo.size:
                    return id_
        return None
