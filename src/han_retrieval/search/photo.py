"""Read a photo file: the hash of its content, its pixels, and what it says of itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Container
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, cast

from PIL import Image

from han_retrieval.data import (
    PhotoBytes,
    PhotoInfo,
    ShrinkTo,
    UnreadablePhotoError,
    count_pixels,
    open_file,
    open_photo,
    read_info,
)
from han_retrieval.data.url_path import UrlPath
from han_retrieval.errors import DataError, StoreError
from han_retrieval.objects import ObjectPath, is_remote
from han_retrieval.search.scan import FileState
from han_retrieval.stages import stage

_MOST_HELD = 2**24  # bytes of a file that are read once and held until it is decoded, for twice a batch of files


@dataclass(frozen=True, slots=True)
class Photo:
    """A file that was read.

    Attributes:
        state: The file's, from before it was read, so that the next update notices a later change.
        id: Hash of its content, 32 hexadecimal digits.
        image: The photo, upright; None if its content is known already.
        info: What the file says of it.
    """

    state: FileState
    id: str
    image: Image.Image | None
    info: PhotoInfo


def hash_file(path: Path) -> str:
    """The id of a photo: the hash of its file's content, 32 hexadecimal digits.

    Raises:
        UnreadablePhotoError: The file cannot be read now.
        DataError: It cannot be a photo's, as ``open_file`` has it.
    """
    with open_file(path) as file:
        return _hash(path, file)


def read_photo(
    path: Path | UrlPath, known: Container[str], *, shrink_to: ShrinkTo | None = None
) -> tuple[int, Callable[[], Photo | DataError]]:
    """Begin to read a file: the pixels that are to be decoded, and what decodes them and gives the photo, or the error.

    A photo that is known is not decoded. Where the error is an ``UnreadablePhotoError``, it says nothing of the file's
    content. A file is read once, but for a very large one.

    Args:
        path: The file.
        known: Ids of photos that are not to be decoded.
        shrink_to: The pixels that are needed, see ``open_photo``.
    """
    with stage("read"):
        return _read_photo(path, known, shrink_to)


def _read_photo(
    path: Path | UrlPath, known: Container[str], shrink_to: ShrinkTo | None
) -> tuple[int, Callable[[], Photo | DataError]]:
    photo: Path | PhotoBytes
    try:
        if is_remote(path):
            path = _with_state(path)  # type: ignore[assignment]  # see ``to_path``
        with open_file(path) as file:
            if isinstance(path, UrlPath):
                photo = PhotoBytes(str(path), file.read())
                state = FileState(file.tell(), 0)
            else:
                status, photo = path.stat() if is_remote(path) else os.fstat(file.fileno()), path
                state = FileState(status.st_size, status.st_mtime_ns)
                if state.size <= _MOST_HELD:
                    photo = PhotoBytes(str(path), _read(path, file))
            photo_id = _hash(path, BytesIO(photo.content) if isinstance(photo, PhotoBytes) else file)
        pixels = 0 if photo_id in known else count_pixels(photo)
    except DataError as error:
        failed = error
        return 0, lambda: failed
    if not pixels:
        return 0, lambda: Photo(state, photo_id, None, PhotoInfo())
    return pixels, lambda: _decode(photo, path, state, photo_id, shrink_to)


def _with_state(path: ObjectPath) -> ObjectPath:
    try:
        return path.with_state()
    except (OSError, StoreError) as error:
        raise UnreadablePhotoError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _decode(
    photo: Path | PhotoBytes, path: Path | UrlPath, state: FileState, photo_id: str, shrink_to: ShrinkTo | None
) -> Photo | DataError:
    try:
        with stage("decode"):
            image = open_photo(photo, shrink_to=shrink_to)
    except UnreadablePhotoError as error:
        return error
    except DataError as error:
        if isinstance(path, UrlPath):
            return error
        try:
            same = hash_file(path) == photo_id
        except DataError as unreadable:
            return unreadable
        return error if same else UnreadablePhotoError(f"{path}: was changed while it was read")
    return Photo(state, photo_id, image, read_info(image))


def _read(path: Path, file: IO[bytes]) -> bytes:
    try:
        return file.read(_MOST_HELD)
    except OSError as error:
        raise UnreadablePhotoError(f"{path}: cannot be read ({error.strerror})") from None


def content_id(file: IO[bytes]) -> str:
    """The id of a photo from the content of its open file."""
    return hashlib.file_digest(cast(BufferedReader, file), lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _hash(path: Path | UrlPath, file: IO[bytes]) -> str:
    try:
        return content_id(file)
    except OSError as error:
        raise UnreadablePhotoError(f"{path}: cannot be read ({error.strerror})") from None
