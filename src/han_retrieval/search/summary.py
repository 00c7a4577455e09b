"""What an index holds, in numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from han_retrieval.objects import ObjectPath, is_remote
from han_retrieval.search.table import read_broken

if TYPE_CHECKING:
    from han_retrieval.search.reader import IndexReader


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What an index holds, in numbers.

    Attributes:
        photos, files: Files with the same content are one photo.
        regions_mean: The mean number of regions a photo; 0 without photos.
        bytes_a_photo: The size of the data files and the vector index by the number of photos; 0 without photos.
        first_date, last_date: The earliest and the latest EXIF date; None if no photo has one.
        broken: The number of files that could not be read.
        roots: The folders that are indexed.
        model: The model's folder.
        model_hash, detector, joint_size, tokens, pooling: What the index was made with; tokens are stored as int8 or
            float16.
        vector_index: The number of photos that a vector index has; 0 where candidates are chosen exactly.
        exact_up_to: The number of photos above which there is one.
    """

    photos: int
    files: int
    regions_mean: float
    bytes_a_photo: float
    first_date: str | None
    last_date: str | None
    broken: int
    roots: tuple[str, ...]
    model: str
    model_hash: str
    detector: str
    joint_size: int
    tokens: str
    pooling: str
    vector_index: int
    exact_up_to: int


def summarise_index(index: IndexReader) -> IndexSummary:
    """Count what an index holds."""
    photos, table, made_by = index.photos, index.path / index.settings.table, index.made_by
    data_bytes = sum(_size(file) for name in ("data", "_indices") for file in _files(table / name))
    dates = [date for date in photos["date"].to_pylist() if date]
    return IndexSummary(
        photos=len(photos),
        files=len(photos) + sum(len(copies or ()) for copies in photos["copies"].to_pylist()),
        regions_mean=float(photos["regions"].to_numpy().mean()) if len(photos) else 0.0,
        bytes_a_photo=data_bytes / len(photos) if len(photos) else 0.0,
        first_date=min(dates, default=None),
        last_date=max(dates, default=None),
        broken=len(read_broken(table)),
        roots=tuple(index.settings.roots),
        model=index.settings.model,
        model_hash=made_by.model,
        detector=made_by.detector,
        joint_size=made_by.joint_size,
        tokens=made_by.storage,
        pooling=made_by.pooling,
        vector_index=index.vectors.indexed(),
        exact_up_to=index.settings.exact_up_to,
    )


def _files(folder: Path) -> Iterable[Path | ObjectPath]:
    """All files below a folder, or below a prefix of object storage."""
    return folder.walk_files() if is_remote(folder) else folder.rglob("*")


def _size(file: Path | ObjectPath) -> int:
    try:
        return file.stat().st_size if is_remote(file) or file.is_file() else 0
    except FileNotFoundError:  # a writer has just deleted it
        return 0
