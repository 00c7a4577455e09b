"""Paths, dates, sizes and folders of an index's photos: a read-only copy of one version, safe in threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from han_retrieval.data.url_path import UrlPath
from han_retrieval.errors import StoreError
from han_retrieval.search import Hit
from han_retrieval.search.rows import PhotoFile, files_of, newest_first
from han_retrieval.search.scan import path_of
from han_retrieval.serve.schemas import FolderFacet, PhotoSummary


class Catalogue:
    """The photos of an index by their ids.

    Args:
        photos: ``Index.photos``.
        names: What the detector calls regions, the most frequent first.
    """

    def __init__(self, photos: pa.Table, names: Sequence[str] = ()) -> None:
        self._photos, self._names = photos, names
        self._rows: dict[str, int] = {photo_id: row for row, photo_id in enumerate(photos["id"].to_pylist())}

    def __len__(self) -> int:
        return len(self._photos)

    def row(self, photo_id: str) -> int | None:
        """The photo's row in the index, or None if the index does not have it."""
        return self._rows.get(photo_id)

    def facts(self, row: int) -> dict[str, Any]:
        """The photo's columns by name: path, date, size and the others of ``Index.photos``."""
        (facts,) = self._photos.slice(row, 1).to_pylist()
        return dict(facts)

    def summary(self, row: int, hit: Hit | None = None) -> PhotoSummary:
        """The photo as lists of results show it; with ``hit``, where a query found it."""
        facts = self.facts(row)
        found = {} if hit is None else {"score": hit.score, "probability": hit.probability, "match": hit.match}
        return PhotoSummary(**{**facts, "name": facts["path"], **found})

    def files(self, row: int) -> tuple[PhotoFile, ...]:
        """All files with the photo's content, as they were when they were indexed."""
        (files,) = files_of(self._photos.slice(row, 1))
        return files

    @cached_property
    def newest_first(self) -> NDArray[np.int64]:
        """(N,) rows; see ``search.rows.newest_first``."""
        return newest_first(self._photos)

    @cached_property
    def folders(self) -> list[FolderFacet]:
        """All folders in order, each with the photos below it; the folder of a root itself is ""."""
        counts: Counter[tuple[str, str]] = Counter()
        groups = self._photos.group_by(["root", "folder"]).aggregate([("id", "count")])
        for group in groups.to_pylist():
            for folder in _with_parents(group["folder"]):
                counts[group["root"], folder] += group["id_count"]
        return [FolderFacet(root=root, folder=name, photos=photos) for (root, name), photos in sorted(counts.items())]

    @cached_property
    def months(self) -> dict[str, int]:
        """Number of photos by month, "2024-01", in order; photos without a date are not counted."""
        counts = Counter(date[:7] for date in self._photos["date"].to_pylist() if date)
        return dict(sorted(counts.items()))

    @cached_property
    def examples(self) -> list[str]:
        """Up to three queries for what the detector found often, of different things: "brown dog", "blue shirt"."""
        found: dict[str, str] = {}
        for name in sorted(self._names, key=lambda name: " " not in name):  # longer names say more
            found.setdefault(name.split()[-1], name)
        return list(found.values())[:3]


def unchanged_file(files: tuple[PhotoFile, ...], size: int) -> Path | UrlPath | None:
    """The first of a photo's files whose size and time are those at indexing, or None; a URL is taken to be so.

    Raises:
        StoreError: There is none, and object storage could not be asked.
    """
    away: StoreError | None = None
    for file in files:
        path = path_of((file.root, file.path))
        if isinstance(path, UrlPath):
            return path
        try:
            status = path.stat()
        except StoreError as error:
            away = error
            continue
        except (OSError, ValueError):
            continue
        if (status.st_size, status.st_mtime_ns) == (size, file.mtime):
            return path
    if away is not None:
        raise away
    return None


def _with_parents(folder: str) -> Iterator[str]:
    """The folder and all folders above it: "a/b/" gives "", "a/" and "a/b/"."""
    yield ""
    for end, letter in enumerate(folder, start=1):
        if letter == "/":
            yield folder[:end]
