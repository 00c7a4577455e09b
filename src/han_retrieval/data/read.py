"""One door to every dataset format."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Protocol

from han_retrieval.data import coco, flickr, folder, karpathy, lavis, scan, table, vse_infinity
from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.files import reading
from han_retrieval.errors import HANError


class Adapter(Protocol):
    """A module that reads one format."""

    NAME: str
    LOOKS_FOR: str

    def recognises(self, source: Path) -> bool:
        """Whether the file or folder is of this format, or nearly so."""

    def read(self, source: Path) -> CaptionedPhotos:
        """The dataset; HANError where something in it is not as the format has it."""


ADAPTERS: tuple[Adapter, ...] = (flickr, karpathy, coco, table, lavis, vse_infinity, scan, folder)


def read_dataset(source: str | Path, *, format: str | None = None) -> CaptionedPhotos:
    """Read captioned photos from a file or folder in any known format.

    Args:
        source: The folder, or the file that describes the photos.
        format: The name of the format; by default it is recognised by content.

    Raises:
        HANError: There is no such path, it cannot be read, the folder is empty, the format is unknown or ambiguous, or
            something in the files is not as their format has it; the message says which file, line or field.
    """
    source = Path(source)
    with reading(source):
        if not source.exists():
            raise HANError(f"{source}: no such file or folder{_near(source)}")
        return _adapter(source, format).read(source)


def _adapter(source: Path, format: str | None) -> Adapter:
    by_name = {adapter.NAME: adapter for adapter in ADAPTERS}
    if format is not None:
        if format not in by_name:
            raise HANError(f"unknown dataset format {format!r}; known are {', '.join(by_name)}")
        return by_name[format]
    if source.is_dir() and not any(source.iterdir()):
        raise HANError(f"{source}: the folder is empty")
    # A folder of photos is only that where nothing in it says more about them.
    fitting = [adapter for adapter in ADAPTERS if adapter is not folder and adapter.recognises(source)]
    if len(fitting) > 1:
        names = ", ".join(adapter.NAME for adapter in fitting)
        raise HANError(f"{source}: could be any of {names}; choose one with --format NAME, or give the file itself")
    if fitting:
        return fitting[0]
    if folder.recognises(source):
        return folder
    known = "; ".join(f"{adapter.NAME}: {adapter.LOOKS_FOR}" for adapter in ADAPTERS)
    raise HANError(f"{source}: no dataset format that is known here. {known}")


def _near(path: Path) -> str:
    """A hint at a name like the one asked for, in the nearest folder that exists."""
    while not path.parent.is_dir():
        path = path.parent
    near = difflib.get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""
