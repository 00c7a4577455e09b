"""What an index holds, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


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
