"""Drawing of a photo: its scaling, boxes on it, and tags with text beside the boxes."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from han_retrieval.errors import DataError
from han_retrieval.evidence.colours import ink_on, rgb

SCALE = 2  # everything is drawn larger and made smaller at the end, for smooth edges
PAPER = "#fafaf8"

Box = tuple[float, float, float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def load_font(path: str | Path | None, size: float) -> Font:
    """The font of a TrueType file, or Pillow's own, which has Latin letters only.

    Raises:
        DataError: The file is not a font.
    """
    try:
        return ImageFont.truetype(str(path), size) if path else ImageFont.load_default(size)
    except OSError as error:
        raise DataError(f"{path}: not a font that can be read ({error})") from None


def fitted(photo: Image.Image, side: int) -> Image.Image:
    """The photo scaled so that its longer side has ``side`` pixels."""
    scale = side / max(photo.size)
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    return photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def draw_box(photo: Image.Image, box: Box, colour: str, weight: float, unit: float) -> None:
    """Draw a box with a dark and a light edge, so that it shows on any ground; lines are thicker by weight, 0 to 1."""
    thick, opacity = (1.6 + 3.4 * weight) * unit, round(255 * (0.6 + 0.4 * weight))
    around = math.ceil(3 * unit)  # the edges reach so far out
    left, top = math.floor(box[0]) - around, math.floor(box[1]) - around
    layer = Image.new("RGBA", (math.ceil(box[2]) + around - left, math.ceil(box[3]) + around - top))
    draw = ImageDraw.Draw(layer)
    for extra, paint in ((2.6, (0, 0, 0, opacity // 2)), (1.2, (255, 255, 255, opacity)), (0, (*rgb(colour), opacity))):
        grown = extra * unit
        x, y = box[0] - left - grown, box[1] - top - grown
        edge = x, y, max(box[2] - left + grown, x), max(box[3] - top + grown, y)
        draw.rounded_rectangle(edge, 5 * unit, outline=paint, width=round(thick + 2 * grown))
    photo.paste(layer, (left, top), layer)


def draw_tag(photo: Image.Image, box: Box, text: str, colour: str, font: Font, taken: list[Box], unit: float) -> None:
    """Draw a tag with text at its box, where it covers other tags least, and add its place to ``taken``."""
    pad = 5 * unit
    text = shortened(text, font, photo.width * 0.6)
    wide, tall = font.getlength(text) + 2 * pad, line_height(font) + pad
    best, least = (0.0, 0.0, wide, tall), float("inf")
    for x, y in _places(box, wide, tall, photo.size):
        place = (x, y, x + wide, y + tall)
        covered = sum(_shared(place, other) for other in taken)
        if covered < least:
            best, least = place, covered
        if not covered:
            break
    taken.append(best)
    x0, y0, x1, y1 = best
    draw = ImageDraw.Draw(photo)
    draw.rounded_rectangle((x0 - unit, y0 - unit, x1 + unit, y1 + unit), 5 * unit, fill=(20, 22, 26))
    draw.rounded_rectangle(best, 4 * unit, fill=rgb(colour))
    draw.text((x0 + pad, (y0 + y1) / 2), text, font=font, fill=ink_on(rgb(colour)), anchor="lm")


def _places(box: Box, wide: float, tall: float, size: tuple[int, int]) -> Iterator[tuple[float, float]]:
    """Left upper corners of places for a box's tag in the picture: at its corners, along its edges, then anywhere."""
    x0, y0, x1, y1 = box
    most_x, most_y = max(0.0, size[0] - wide), max(0.0, size[1] - tall)
    left, right = min(x0, most_x), max(0.0, x1 - wide)
    levels, sides = (y0 - tall, y0, y1, y1 - tall), (x0, x1 - wide, x1, x0 - wide)
    corners = [(x, y) for y in levels for x in (left, right)]
    edges = [(x, y) for y in levels for x in np.linspace(left, right, 9).tolist()]
    edges += [(x, y) for x in sides for y in np.arange(y0, y1 - tall, tall).tolist()]
    yield from ((x, y) for x, y in corners + edges if 0 <= x <= most_x and 0 <= y <= most_y)
    anywhere = [(x, y) for y in np.linspace(0, most_y, 24).tolist() for x in np.linspace(0, most_x, 12).tolist()]
    yield from sorted(anywhere, key=lambda at: (at[0] - left) ** 2 + (at[1] - y0) ** 2)


def shortened(text: str, font: Font, room: float) -> str:
    """The text, cut and ended with "..." where it is wider than ``room``."""
    if font.getlength(text) <= room:
        return text
    fits = bisect_right(range(len(text)), room, key=lambda end: font.getlength(text[:end] + "..."))
    return text[: max(fits - 1, 0)].rstrip() + "..."


def line_height(font: Font) -> float:
    """The height of a line of text."""
    _, top, _, bottom = font.getbbox("Ågjpq")
    return float(bottom - top)


def _shared(a: Box, b: Box) -> float:
    """The area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
