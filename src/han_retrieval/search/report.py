"""What an update of an index did."""

from __future__ import annotations

from dataclasses import dataclass

STAGES = ("read", "decode", "resize", "network", "choose", "encode", "write", "other")
"""What ``IndexReport.processor_seconds`` tells apart: reading and hashing files; decoding; resizing to what the
detector takes; its network; the choice among its boxes; the model's encoding; commits; the rest."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What an update did to an index.

    Attributes:
        photos: The number of photos in the index now; files with the same content are one photo.
        added: The number of new photos.
        moved: Photos whose files were renamed, moved, touched or copied, or that lost a copy.
        removed: Photos that have no file any more.
        broken: Files that could not be indexed, with the reason; those of earlier updates included.
        unread: Files that cannot be read now, with the reason, as where a disk is away. The next update tries them
            again, and what the index has of them stays.
        unreadable: Folders that could not be listed; the photos below them stay in the index.
        seconds: Wall-clock time.
        processor_seconds: Processor time of this process by stage (``STAGES``), from the first file to the last commit.
    """

    photos: int
    added: int
    moved: int
    removed: int
    broken: list[tuple[str, str]]
    unread: list[tuple[str, str]]
    unreadable: list[str]
    seconds: float
    processor_seconds: dict[str, float]
