"""A folder of photos, or one photo, without captions.

Every file below the folder whose name has the ending of a photo, in the order of its path, which is its id. Hidden
files and folders are left out, links to folders are not followed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from han_retrieval.data.dataset import CaptionedPhoto, CaptionedPhotos
from han_retrieval.data.photos import PHOTO_SUFFIXES
from han_retrieval.errors import DataError


class _PhotoFolder:
    """See ``DatasetAdapter``."""

    description = f"photos without captions: one, or a folder with any below it ({', '.join(sorted(PHOTO_SUFFIXES))})"

    def recognises(self, source: Path) -> bool:
        """A photo, or a folder with at least one photo in it or below it."""
        return next(_photo_files(source), None) is not None

    def read(self, source: Path) -> CaptionedPhotos:
        """The photos in the order of their paths, without captions and splits."""
        root = source if source.is_dir() else source.parent
        unreadable: list[OSError] = []
        paths = {path.relative_to(root).as_posix(): path for path in _photo_files(source, unreadable.append)}
        if not paths:
            locked = f"; {unreadable[0].filename} cannot be read" if unreadable else ""
            raise DataError(f"{source}: expected {self.description}; found none{locked}")
        skipped = Counter[str]()
        if unreadable:
            skipped[f"folder that cannot be read, such as {unreadable[0].filename}"] = len(unreadable)
        photos = tuple(CaptionedPhoto(name, paths[name], ()) for name in sorted(paths))
        return CaptionedPhotos("photos", source, photos, skipped)


ADAPTER = _PhotoFolder()


def photo_files(
    folder: Path,
    *,
    suffixes: frozenset[str] = PHOTO_SUFFIXES,
    enter: Callable[[str], bool] | None = None,
    unreadable: Callable[[OSError], None] | None = None,
) -> Iterator[Path]:
    """The photo files of a folder and those below it, as they come.

    Args:
        folder: Where to begin.
        suffixes: File name endings, in lower case.
        enter: Whether to go into a folder, given its path; all by default.
        unreadable: Called with the error of each folder that cannot be listed or entered, whose ``filename`` is the
            folder; such folders are left out.
    """
    for where, subfolders, names in os.walk(folder, onerror=unreadable):
        subfolders[:] = [
            name
            for name in subfolders
            if not name.startswith(".") and (enter is None or enter(os.path.join(where, name)))  # noqa: PTH118
        ]
        for name in names:
            path = Path(where, name)
            if name.startswith(".") or path.suffix.lower() not in suffixes:
                continue
            try:
                is_file = path.is_file()
            except OSError as error:  # the folder can be listed, but not entered
                if unreadable is not None:
                    unreadable(OSError(error.errno, error.strerror, where))
                break
            if is_file:
                yield path


def _photo_files(source: Path, unreadable: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    if source.is_file():
        yield from [source] if source.suffix.lower() in PHOTO_SUFFIXES else []
    else:
        yield from photo_files(source, unreadable=unreadable)
