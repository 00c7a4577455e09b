"""Photos of an index as JPEGs for the page: upright, scaled down, cached in memory."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from enum import Enum
from pathlib import Path

from PIL import Image

from han_retrieval.data import open_photo


class Size(Enum):
    """Largest width and height of a JPEG in pixels, and its quality."""

    THUMBNAIL = (1200, 400, 82)
    SCREEN = (2048, 2048, 88)


class JpegCache:
    """JPEGs by the photo's id; safe in threads.

    Args:
        capacity: Bytes of all JPEGs together; the least recently used are dropped.
    """

    def __init__(self, *, capacity: int = 128 * 2**20) -> None:
        self._cached: OrderedDict[tuple[str, Size], bytes] = OrderedDict()
        self._capacity, self._used = capacity, 0
        self._lock = threading.Lock()

    def jpeg(self, photo_id: str, path: Path, size: Size) -> bytes:
        """The photo as a JPEG, read from ``path`` if it is not cached.

        Raises:
            HANError: The file cannot be read.
        """
        key = photo_id, size
        with self._lock:
            if (cached := self._cached.get(key)) is not None:
                self._cached.move_to_end(key)
                return cached
        made = make_jpeg(path, size)
        with self._lock:
            if key not in self._cached and len(made) <= self._capacity:
                self._cached[key] = made
                self._used += len(made)
            while self._used > self._capacity:
                _, oldest = self._cached.popitem(last=False)
                self._used -= len(oldest)
        return made


def make_jpeg(path: Path, size: Size) -> bytes:
    """A photo's file as an upright JPEG without EXIF, scaled down where it is larger than ``size``.

    Raises:
        HANError: The file cannot be read.
    """
    width, height, quality = size.value
    photo = open_photo(path, shrink_to=min(width, height))
    photo.thumbnail((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=quality, progressive=size is Size.SCREEN)
    return buffer.getvalue()
