"""Photos of an index as JPEGs for the page: upright, scaled down."""

from __future__ import annotations

import io
from enum import Enum
from functools import lru_cache
from pathlib import Path

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


@lru_cache(maxsize=1024)  # some 40 KB each; full-size photos are cached by browsers alone
def thumbnail(photo_id: str, path: Path | UrlPath) -> bytes:  # noqa: ARG001  # the key of the cache: files may change
    """A photo's file, whose content has the hash ``photo_id``, as a JPEG for a grid.

    Raises:
        HANError: The file cannot be read.
    """
    return make_jpeg(path, Size.THUMBNAIL)


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
