"""Photos of an index as JPEGs for a page: upright, of a size that a screen needs, kept while there is room."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from enum import Enum
from pathlib import Path

from PIL import Image

from han_retrieval.data import open_photo


class Size(Enum):
    """The most pixels of a picture: width, height; and what JPEG quality it has."""

    THUMBNAIL = (1200, 400, 82)
    SCREEN = (2048, 2048, 88)


class Pictures:
    """JPEGs by the photo's id; safe in threads.

    Args:
        room: Bytes that are kept; those used longest ago make room for new ones.
    """

    def __init__(self, *, room: int = 128 * 2**20) -> None:
        self._kept: OrderedDict[tuple[str, Size], bytes] = OrderedDict()
        self._room, self._used = room, 0
        self._lock = threading.Lock()

    def jpeg(self, photo_id: str, path: Path, size: Size) -> bytes:
        """The picture of a photo in a file that is known to hold it.

        Raises:
            HANError: The file cannot be read.
        """
        key = photo_id, size
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
        made = make_jpeg(path, size)
        with self._lock:
            if key not in self._kept and len(made) <= self._room:
                self._kept[key] = made
                self._used += len(made)
            while self._used > self._room:
                _, oldest = self._kept.popitem(last=False)
                self._used -= len(oldest)
        return made


def make_jpeg(path: Path, size: Size) -> bytes:
    """A photo's file as an upright JPEG, made smaller where it is larger than that, without its EXIF.

    Raises:
        HANError: The file cannot be read.
    """
    width, height, quality = size.value
    photo = open_photo(path, shrink_to=min(width, height))
    photo.thumbnail((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=quality, progressive=size is Size.SCREEN)
    return buffer.getvalue()
