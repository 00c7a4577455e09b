"""What an index holds, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from han_retrieval.index.table import read_broken

if TYPE_CHECKING:
    from han_retrieval.index.index import Index


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What an index holds, in numbers.

    Attributes:
        photos, files: Files of the same content are one photo.
        regions_mean: Regions a photo; 0 where there is none.
        bytes_a_photo: Of the data files; 0 where there is no photo.
        first_date, last_date: From EXIF, None where no photo says it.
        broken: Files that could not be read.
        roots: The folders that it follows.
        model: The model's folder.
        model_hash, detector, joint_size, tokens, pooling: What made it; tokens are kept as int8 or float16.
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


def summarise(index: Index) -> IndexSummary:
    """The index's numbers as they are now."""
    photos, made_by, table = len(index), index.made_by, index.path / index.settings.table
    data_bytes = sum(file.stat().st_size for file in (table / "data").glob("*.lance"))
    dates = [date for date in index.photos["date"].to_pylist() if date]
    return IndexSummary(
        photos=photos,
        files=photos + sum(len(copies or ()) for copies in index.photos["copies"].to_pylist()),
        regions_mean=float(index.photos["regions"].to_numpy().mean()) if photos else 0.0,
        bytes_a_photo=data_bytes / photos if photos else 0.0,
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
    )
