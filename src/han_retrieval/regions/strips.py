"""Photos that are many times as long as wide, made wide enough for a network that detects objects."""

from __future__ import annotations

import math

from PIL import Image

_LONGEST = 16  # times as long as wide


def widened(photo: Image.Image) -> Image.Image:
    """The photo, stretched where it is more than 16 times as long as wide.

    Networks resize photos and keep their proportions, by which such a strip would be less than a pixel wide.
    """
    least = math.ceil(max(photo.size) / _LONGEST)
    if min(photo.size) >= least:
        return photo
    return photo.resize((max(photo.width, least), max(photo.height, least)), Image.Resampling.BILINEAR)
