"""Read a photo file: the hash of its content, its pixels, and its EXIF date and camera."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from han_retrieval.data import ExifInfo, open_photo, read_exif
from han_retrieval.errors import HANError
from han_retrieval.search.scan import FileState


@dataclass(frozen=True, slots=True)
class Photo:
    """A file that was read.

    Attributes:
        state: The file's, from before it was read, so that the next update notices a later change.
        id: Hash of its content, 32 hexadecimal digits.
        image: The photo, upright; None if its content is known already.
        exif: When and with which camera it was taken.
    """

    state: FileState
    id: str
    image: Image.Image | None
    exif: ExifInfo


def hash_file(path: Path) -> str:
    """The id of a photo: the hash of its file's content, 32 hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def read_photo(path: Path, known: Container[str]) -> Photo | str:
    """The photo in a file, or the reason why it cannot be read; a photo that is known is not decoded."""
    try:
        status = path.stat()
        photo_id = hash_file(path)
        image = None if photo_id in known else open_photo(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except HANError as error:
        return str(error).removeprefix(f"{path}: ")
    exif = ExifInfo(None, None) if image is None else read_exif(image)
    return Photo(FileState(status.st_size, status.st_mtime_ns), photo_id, image, exif)
