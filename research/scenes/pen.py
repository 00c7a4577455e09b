"""A pen for small shaded pictures on a transparent ground.

It draws in units of a thing's height (x to the right from 0 to the thing's aspect, y downwards from 0 to 1) and in
shades of the thing's own colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Paint = float | RGB  # a shade of the thing's own colour (1 as it is, below darker, above towards white), or a colour
Points = Sequence[tuple[float, float]]

_UNIT = 120  # pixels of a drawing's height before it is made smaller
_MARGIN = 0.3


class Pen:
    """Draws on one thing's canvas."""

    def __init__(
        self, aspect: float, colour: RGB, *, tint: np.ndarray, mirror: bool, lean: float, lit: bool, flying: bool
    ) -> None:
        self.colour, self.lit, self.flying = colour, lit, flying
        self._tint = [float(factor) for factor in tint]
        self._aspect, self._mirror = aspect, mirror
        self._cos, self._sin = math.cos(math.radians(lean)), math.sin(math.radians(lean))
        size = (round((aspect + 2 * _MARGIN) * _UNIT), round((1 + 2 * _MARGIN) * _UNIT))
        self.canvas = Image.new("RGBA", size)
        self._draw = ImageDraw.Draw(self.canvas)

    def polygon(self, points: Points, paint: Paint, *, shines: bool = False) -> None:
        """What shines has its own light: the day's does not tint it."""
        self._draw.polygon([self._at(x, y) for x, y in points], fill=self._ink(paint, shines=shines))

    def ellipse(self, x: float, y: float, rx: float, ry: float, paint: Paint, *, shines: bool = False) -> None:
        """An ellipse about (x, y)."""
        self.polygon(arc(x, y, rx, ry, 0, 360, steps=10 + round(50 * max(rx, ry))), paint, shines=shines)

    def line(self, points: Points, width: float, paint: Paint) -> None:
        """A line of rounded corners."""
        at = [self._at(x, y) for x, y in points]
        self._draw.line(at, fill=self._ink(paint), width=max(1, round(width * _UNIT)), joint="curve")

    def _at(self, x: float, y: float) -> tuple[float, float]:
        x, y = (self._aspect / 2 - x if self._mirror else x - self._aspect / 2), y - 0.5
        x, y = x * self._cos - y * self._sin, x * self._sin + y * self._cos
        return (x + self._aspect / 2 + _MARGIN) * _UNIT, (y + 0.5 + _MARGIN) * _UNIT

    def _ink(self, paint: Paint, *, shines: bool = False) -> RGB:
        colour = shade(self.colour, paint) if isinstance(paint, float | int) else paint
        if shines:
            return colour
        red, green, blue = (min(255, round(c * factor)) for c, factor in zip(colour, self._tint, strict=True))
        return red, green, blue


def shade(colour: RGB, by: float) -> RGB:
    """The colour, darker below 1, towards white above."""
    if by <= 1:
        red, green, blue = (round(c * by) for c in colour)
    else:
        red, green, blue = (round(c + (255 - c) * min(by - 1, 1)) for c in colour)
    return red, green, blue


def arc(x: float, y: float, rx: float, ry: float, start: float, stop: float, *, steps: int = 20) -> Points:
    """Points on an ellipse from one angle to another, in degrees, 0 to the right and 90 downwards."""
    return [(x + rx * cos, y + ry * sin) for cos, sin in _unit_arc(start, stop, steps)]


@cache
def _unit_arc(start: float, stop: float, steps: int) -> Points:
    angles = [math.radians(start + (stop - start) * i / (steps - 1)) for i in range(steps)]
    return [(math.cos(a), math.sin(a)) for a in angles]
