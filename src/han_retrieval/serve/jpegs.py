"""Photos of an index as JPEGs for the page: upright, scaled down."""

from __future__ import annotations

import io
from collections import OrderedDict
from enum import Enum
from pathlib import Path
from threading import Lock

from PIL import Image

from han_retrieval.data import open_photo
from han_retrieval.data.url_path import UrlPath


class Size(Enum):
    """Largest width and height of a JPEG in pixels, and its quality."""

    THUMBNAIL = (1200, 400, 82)
    SCREEN = (2048, 2048, 88)

    def pixels_of(self, width: int, height: int) -> int:
        """How many decoded pixels take as much memory as a JPEG of this width and height.

        libjpeg decodes a half, a fourth or an eighth of each side. Of a progressive file it holds all coefficients at
        any scale: three bytes or more a pixel, where a decoded pixel takes some 20.
        """
        scale = min(width, height) // min(self.value[:2])
        decoded = width * height // next((side * side for side in (8, 4, 2) if scale >= side), 1)
        return max(decoded, width * height // 6)


class JPEGCache:
    """The JPEGs that were used last, by what names them, for several threads."""

    def __init__(self, most: int) -> None:
        self._most, self._kept, self._lock = most, OrderedDict[str, bytes](), Lock()

    def get(self, name: str) -> bytes | None:
        """The JPEG of this name, or None."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
            return self._kept.get(name)

    def keep(self, name: str, content: bytes) -> None:
        """Keep a JPEG, in place of the one that was not used for longest."""
        with self._lock:
            self._kept[name] = content
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)


def make_jpeg(path: Path | UrlPath, size: Size) -> bytes:
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
