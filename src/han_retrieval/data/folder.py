"""A folder of photos, or one photo, without captions.

Every file below the folder whose name has the ending of a photo, in the order of its path, which is its id. Hidden
files and folders are left out, links to folders are not followed.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from han_retrieval.data.dataset import CaptionedPhoto, CaptionedPhotos
from han_retrieval.data.photos import PHOTO_SUFFIXES
from han_retrieval.errors import DataError
from han_retrieval.objects import ObjectPath, is_remote


class _PhotoFolder:
    """See ``DatasetAdapter``."""

    description = "photos without captions"

    def recognises(self, source: Path) -> bool:
        """A photo, or a folder with at least one photo in it or below it."""
        return next(_photo_files(source), None) is not None

    def read(self, source: Path) -> CaptionedPhotos:
        """The photos in the order of their paths, without captions and splits."""
        root = source if source.is_dir() else source.parent
        unreadable: list[OSError] = []
        odd: list[Path] = []
        found = _photo_files(source, unreadable.append, lambda path, _: odd.append(path))
        paths = {path.relative_to(root).as_posix(): path for path in found}
        if not paths:
            locked = f"; {unreadable[0].filename} cannot be read" if unreadable else ""
            raise DataError(f"{source}: expected {self.description}; found none{locked}")
        skipped = Counter[str]()
        if unreadable:
            skipped[f"folder that cannot be read, such as {unreadable[0].filename}"] = len(unreadable)
        if odd:
            skipped[f"name of a photo without a file that can be read, such as {odd[0]}"] = len(odd)
        photos = tuple(CaptionedPhoto(name, paths[name], ()) for name in sorted(paths))
        return CaptionedPhotos("photos", source, photos, skipped)


ADAPTER = _PhotoFolder()


def photo_files(
    folder: Path,
    *,
    enter: Callable[[str], bool] | None = None,
    unreadable: Callable[[OSError], None] | None = None,
    odd: Callable[[Path, OSError | None], None] | None = None,
) -> Iterator[Path]:
    """The photo files of a folder and those below it, as they come.

    Args:
        folder: Where to begin.
        enter: Whether to go into a folder, given its path; all by default.
        unreadable: Called with the error of each folder that cannot be listed or entered, whose ``filename`` is the
            folder; such folders are left out.
        odd: Called with each path that is named as a photo and left out: with the system's error where what it is
            cannot be told, as for a link to nothing, and with None where it is a pipe, a device or the like.
    """
    if is_remote(folder):
        yield from _photo_objects(folder, enter)
        return
    for where, subfolders, names in os.walk(folder, onerror=unreadable):
        subfolders[:] = [
            name
            for name in subfolders
            if not name.startswith(".") and (enter is None or enter(os.path.join(where, name)))  # noqa: PTH118
        ]
        for name in names:
            path = Path(where, name)
            if name.startswith(".") or path.suffix.lower() not in PHOTO_SUFFIXES:
                continue
            error = None
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    yield path
                    continue
            except OSError as caught:
                if isinstance(caught, PermissionError) and not os.access(where, os.X_OK):  # it can be listed only
                    if unreadable is not None:
                        unreadable(OSError(caught.errno, caught.strerror, where))
                    break
                if isinstance(caught, FileNotFoundError) and not path.is_symlink():  # gone since it was listed
                    continue
                error = caught
            if odd is not None:
                odd(path, error)


def _photo_objects(folder: ObjectPath, enter: Callable[[str], bool] | None) -> Iterator[Path]:
    """As ``photo_files``."""
    entered: dict[ObjectPath, bool] = {folder: True}

    def is_entered(parent: ObjectPath) -> bool:
        if parent not in entered:
            entered[parent] = (
                is_entered(parent.parent) and not parent.name.startswith(".") and (enter is None or enter(str(parent)))
            )
        return entered[parent]

    for file in folder.walk_files():
        is_photo = file.suffix.lower() in PHOTO_SUFFIXES and not file.name.startswith(".")
        if is_photo and file.is_relative_to(folder) and is_entered(file.parent):
            yield cast(Path, file)


def _photo_files(
    source: Path,
    unreadable: Callable[[OSError], None] | None = None,
    odd: Callable[[Path, OSError | None], None] | None = None,
) -> Iterator[Path]:
    if source.is_file():
        yield from [source] if source.suffix.lower() in PHOTO_SUFFIXES else []
    else:
        yield from photo_files(source, unreadable=unreadable, odd=odd)
