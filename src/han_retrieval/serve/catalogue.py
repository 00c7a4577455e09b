"""What is known of an index's photos without their tokens: one version of it, unchanging, for lookups in any thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from han_retrieval.search.rows import PhotoFile, to_files


@dataclass(frozen=True, slots=True)
class FolderCount:
    """A folder with at least one photo in or below it: "trips/2024/" of a root, and how many there are."""

    root: str
    folder: str
    photos: int


class Catalogue:
    """The photos of an index by their ids.

    Args:
        photos: ``Index.photos``.
    """

    def __init__(self, photos: pa.Table) -> None:
        self._photos = photos
        self._rows: dict[str, int] = {photo_id: row for row, photo_id in enumerate(photos["id"].to_pylist())}

    def __len__(self) -> int:
        return len(self._photos)

    def row(self, photo_id: str) -> int | None:
        """The photo's row in the index, or None."""
        return self._rows.get(photo_id)

    def facts(self, row: int) -> dict[str, Any]:
        """The columns of a photo by their names."""
        (facts,) = self._photos.slice(row, 1).to_pylist()
        return dict(facts)

    def files(self, row: int) -> tuple[PhotoFile, ...]:
        """All files of a photo, as they were when it was indexed."""
        (files,) = to_files(self._photos.slice(row, 1)).values()
        return files

    @cached_property
    def newest_first(self) -> NDArray[np.int64]:
        """(N,) rows by date, those without one at the end by when their file was written."""
        order = self._photos.select(["date", "mtime"]).append_column("row", pa.array(range(len(self)), pa.int64()))
        order = order.sort_by([("date", "descending"), ("mtime", "descending"), ("row", "ascending")])
        return np.asarray(order["row"].to_numpy(), dtype=np.int64)

    @cached_property
    def folders(self) -> list[FolderCount]:
        """All folders in order, a folder's photos counting for those above it too; a root has folder ""."""
        counts: Counter[tuple[str, str]] = Counter()
        groups = self._photos.group_by(["root", "folder"]).aggregate([("id", "count")])
        for group in groups.to_pylist():
            for folder in _with_those_above(group["folder"]):
                counts[group["root"], folder] += group["id_count"]
        return [FolderCount(*place, photos) for place, photos in sorted(counts.items())]

    @cached_property
    def months(self) -> dict[str, int]:
        """Photos by month, "2024-01", in order; those without a date are in none."""
        counts = Counter(date[:7] for date in self._photos["date"].to_pylist() if date)
        return dict(sorted(counts.items()))


def unchanged_file(files: tuple[PhotoFile, ...], size: int) -> Path | None:
    """The first of a photo's files that is still as it was when it was indexed."""
    for file in files:
        path = Path(file.root, file.path)
        try:
            status = path.stat()
        except (OSError, ValueError):
            continue
        if (status.st_size, status.st_mtime_ns) == (size, file.mtime):
            return path
    return None


def _with_those_above(folder: str) -> Iterator[str]:
    """ "a/b/" gives "", "a/" and "a/b/"."""
    yield ""
    for end, letter in enumerate(folder, start=1):
        if letter == "/":
            yield folder[:end]
