"""How each kind of thing is drawn: as lit from the left, of its own height, at random among its variants."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from research.scenes.pen import RGB, Paint, Pen, arc, shade

_BARK, _CREAM, _INK, _GLASS = (96, 66, 42), (242, 230, 205), (38, 36, 40), (176, 208, 226)


def _ball(pen: Pen, rng: np.random.Generator) -> None:
    pen.ellipse(0.5, 0.5, 0.5, 0.5, 1.0)
    match rng.integers(3):
        case 1:  # a beach ball
            for turn in (20, 140, 260):
                pen.polygon([(0.42, 0.3), *arc(0.5, 0.5, 0.5, 0.5, turn, turn + 60)], _CREAM)
            pen.ellipse(0.42, 0.3, 0.07, 0.06, _CREAM)
        case 2:  # a band around it
            upper = arc(0.5, 0.42, 0.48, 0.16, 180, 0)
            lower = arc(0.5, 0.58, 0.48, 0.16, 0, 180)
            pen.polygon([*upper, *lower], _CREAM)
    pen.ellipse(0.33, 0.24, 0.08, 0.055, 1.85)


def _cube(pen: Pen, rng: np.random.Generator) -> None:
    top, side = 0.24, 0.28
    front = [(0, top), (1 - side, top), (1 - side, 1), (0, 1)]
    pen.polygon(front, 1.0)
    pen.polygon([(0, top), (side, 0), (1, 0), (1 - side, top)], 1.3)
    pen.polygon([(1 - side, top), (1, 0), (1, 1 - top), (1 - side, 1)], 0.62)
    if rng.random() < 0.5:  # a toy block with a frame
        inset = 0.09
        pen.polygon(
            [(inset, top + inset), (1 - side - inset, top + inset), (1 - side - inset, 1 - inset), (inset, 1 - inset)],
            1.22,
        )
        pen.polygon([(0.16, top + 0.16), (1 - side - 0.16, top + 0.16), (1 - side - 0.16, 0.84), (0.16, 0.84)], 0.92)


def _cone(pen: Pen, rng: np.random.Generator) -> None:
    stripe = rng.random() < 0.4
    slices = 14
    for i in range(slices):  # each slice of the mantle faces another way
        a, b = (180 - 180 * i / slices, 180 - 180 * (i + 1) / slices - 2)
        (xa, ya), (xb, yb) = arc(0.4, 0.9, 0.4, 0.1, a, b, steps=2)
        light = 1.28 - 0.75 * (i / slices) ** 1.1
        pen.polygon([(0.4, 0), (xa, ya), (xb, yb)], light)
        if stripe:
            band = [
                (0.4 + (x - 0.4) * part, y * part)
                for x, y, part in ((xa, ya, 0.42), (xb, yb, 0.42), (xb, yb, 0.66), (xa, ya, 0.66))
            ]
            pen.polygon(band, shade((250, 248, 240), min(light, 1.0)))


def _tree(pen: Pen, rng: np.random.Generator) -> None:
    pen.polygon([(0.33, 0.62), (0.45, 0.62), (0.48, 1), (0.29, 1)], _BARK)
    pen.polygon([(0.41, 0.62), (0.45, 0.62), (0.48, 1), (0.42, 1)], shade(_BARK, 0.7))
    if rng.random() < 0.4:  # a fir
        for i, light in enumerate((0.8, 0.95, 1.12)):
            bottom, half = 0.84 - 0.22 * i, 0.385 - 0.08 * i
            pen.polygon(
                [(0.385, bottom - 0.42), (0.385 + half, bottom), (0.385, bottom + 0.05), (0.385 - half, bottom)], light
            )
            pen.polygon(
                [(0.385, bottom - 0.42), (0.385 + half, bottom), (0.385 + 0.3 * half, bottom + 0.02)], light * 0.78
            )
        return
    pen.ellipse(0.385, 0.36, 0.34, 0.32, 0.82)
    for light, count, reach in ((0.72, 9, 1.0), (0.95, 10, 0.9), (1.16, 9, 0.62)):
        for _ in range(count):
            turn, far = rng.uniform(0, 2 * math.pi), rng.uniform(0.3, 1) * reach
            x, y = (
                0.385 - (light - 0.72) * 0.18 + 0.27 * far * math.cos(turn),
                0.36 - (light - 0.72) * 0.2 + 0.26 * far * math.sin(turn),
            )
            pen.ellipse(x, y, 0.1, 0.09, light)


def _house(pen: Pen, rng: np.random.Generator) -> None:
    roof = [(92, 58, 50), (74, 76, 84), (60, 48, 44)][rng.integers(3)]
    window: RGB = (255, 226, 130) if pen.lit else _GLASS
    pen.polygon([(0.92, 0.1), (1.02, 0.1), (1.02, 0.3), (0.92, 0.3)], (120, 70, 60))
    pen.polygon([(0.08, 0.42), (0.55, 0.42), (0.55, 1), (0.08, 1)], 1.0)
    pen.polygon([(0.08, 0.43), (0.315, 0.06), (0.55, 0.43)], 1.0)
    pen.polygon([(0.55, 0.42), (1.18, 0.42), (1.18, 0.95), (0.55, 1)], 0.72)
    pen.polygon([(0.315, 0.02), (1.0, 0.02), (1.25, 0.44), (0.56, 0.45)], roof)
    pen.polygon([(0.315, 0.0), (0.36, 0.02), (0.06, 0.48), (0.0, 0.46)], shade(roof, 1.15))
    pen.polygon([(0.24, 0.68), (0.4, 0.68), (0.4, 1), (0.24, 1)], (88, 58, 40))
    pen.ellipse(0.37, 0.85, 0.014, 0.014, (230, 200, 110))
    pen.ellipse(0.315, 0.4, 0.07, 0.07, window, shines=pen.lit)
    for x in (0.66, 0.92):
        pen.polygon([(x - 0.015, 0.545), (x + 0.165, 0.545), (x + 0.165, 0.775), (x - 0.015, 0.775)], (240, 238, 230))
        pen.polygon([(x, 0.56), (x + 0.15, 0.56), (x + 0.15, 0.76), (x, 0.76)], window, shines=pen.lit)
        pen.line([(x + 0.075, 0.56), (x + 0.075, 0.76)], 0.015, (240, 238, 230))


def _car(pen: Pen, _: np.random.Generator) -> None:
    pen.polygon([(0.42, 0.48), (0.7, 0.06), (1.32, 0.06), (1.68, 0.48)], 0.9)
    for glass in (
        [(0.56, 0.46), (0.75, 0.15), (0.98, 0.15), (0.98, 0.46)],
        [(1.05, 0.46), (1.05, 0.15), (1.29, 0.15), (1.53, 0.46)],
    ):
        pen.polygon(glass, shade(_GLASS, 0.8))
        pen.polygon([glass[0], glass[1], ((glass[1][0] + glass[2][0]) / 2, 0.15)], _GLASS)
    body = [(0.04, 0.84), (0.0, 0.6), (0.1, 0.46), (0.5, 0.42), (1.66, 0.42), (2.02, 0.52), (2.1, 0.64), (2.08, 0.84)]
    pen.polygon(body, 1.0)
    pen.polygon([(0.02, 0.72), (2.1, 0.72), (2.08, 0.84), (0.04, 0.84)], 0.66)
    pen.line([(0.1, 0.5), (1.7, 0.48), (2.0, 0.55)], 0.03, 1.4)
    pen.line([(1.02, 0.5), (1.02, 0.78)], 0.015, 0.6)
    pen.ellipse(2.04, 0.6, 0.045, 0.055, (255, 240, 170), shines=pen.lit)
    pen.ellipse(0.04, 0.6, 0.035, 0.06, (190, 30, 30))
    for x in (0.46, 1.6):
        pen.ellipse(x, 0.8, 0.21, 0.2, _INK)
        pen.ellipse(x, 0.8, 0.11, 0.105, (186, 188, 192))
        pen.ellipse(x, 0.8, 0.04, 0.04, (90, 92, 96))


def _boat(pen: Pen, rng: np.random.Generator) -> None:
    sail: Paint = (246, 243, 234) if rng.random() < 0.6 else 1.25
    pen.line([(0.52, 0.0), (0.52, 0.8)], 0.03, (110, 80, 52))
    pen.polygon([(0.56, 0.04), (0.56, 0.66), (1.02, 0.66), (0.86, 0.36)], sail)
    pen.polygon(
        [(0.56, 0.36), (0.56, 0.66), (1.02, 0.66), (0.95, 0.5)], shade((246, 243, 234), 0.88) if sail != 1.25 else 1.12
    )
    pen.polygon(
        [(0.48, 0.12), (0.48, 0.66), (0.12, 0.66), (0.26, 0.42)], shade((246, 243, 234), 0.94) if sail != 1.25 else 1.05
    )
    pen.polygon([(0.56, 0.0), (0.72, 0.04), (0.56, 0.08)], 1.0)
    pen.polygon([(0.0, 0.72), (1.14, 0.72), (1.02, 0.92), (0.9, 1.0), (0.22, 1.0), (0.1, 0.92)], 0.95)
    pen.polygon([(0.06, 0.86), (1.06, 0.86), (0.98, 0.95), (0.9, 1.0), (0.22, 1.0), (0.14, 0.95)], 0.6)
    pen.line([(0.0, 0.735), (1.14, 0.735)], 0.035, (250, 246, 236))


def _fish(pen: Pen, rng: np.random.Generator) -> None:
    pen.polygon([(0.52, 0.34), (0.0, 0.02), (0.12, 0.5), (0.0, 0.98), (0.52, 0.66)], 0.8)
    pen.polygon([(0.66, 0.2), (0.8, -0.08), (1.26, 0.16)], 0.74)
    pen.polygon([(0.86, 0.84), (0.8, 1.06), (1.14, 0.84)], 0.74)
    pen.polygon([*arc(1.06, 0.86, 0.74, 0.72, 195, 345), *arc(1.06, 0.14, 0.74, 0.72, 15, 165)], 1.0)
    pen.polygon([*arc(1.06, 0.36, 0.62, 0.2, 0, 180), *arc(1.06, 0.24, 0.66, 0.56, 165, 15)], 1.3)
    if rng.random() < 0.6:
        for x in (0.72, 0.98):
            half = 0.3 if x < 0.9 else 0.36
            pen.polygon(
                [
                    (x, 0.5 - half),
                    (x + 0.1, 0.5 - half),
                    (x + 0.13, 0.5),
                    (x + 0.1, 0.5 + half),
                    (x, 0.5 + half),
                    (x + 0.05, 0.5),
                ],
                (250, 246, 236),
            )
    pen.polygon([(1.06, 0.52), (0.86, 0.74), (1.02, 0.7)], 0.7)
    pen.ellipse(1.5, 0.4, 0.085, 0.095, (252, 252, 250))
    pen.ellipse(1.52, 0.41, 0.045, 0.05, _INK)
    pen.line([(1.76, 0.52), (1.62, 0.58)], 0.025, 0.5)


def _bird(pen: Pen, _: np.random.Generator) -> None:
    pen.polygon([(0.36, 0.58), (0.0, 0.5), (0.04, 0.72), (0.42, 0.74)], 0.7)
    if pen.flying:
        pen.polygon([(0.78, 0.5), (0.62, 0.0), (0.5, 0.06), (0.46, 0.5)], 0.62)
    else:
        for x in (0.6, 0.72):
            pen.line([(x, 0.85), (x, 1.0), (x + 0.07, 1.0)], 0.025, (214, 140, 50))
    pen.ellipse(0.66, 0.64, 0.36, 0.24, 1.0)
    pen.ellipse(0.7, 0.74, 0.26, 0.13, 1.35)
    pen.polygon([(1.16, 0.36), (1.36, 0.44), (1.15, 0.5)], (240, 160, 40))
    pen.ellipse(1.02, 0.42, 0.19, 0.19, 1.0)
    pen.ellipse(1.08, 0.37, 0.045, 0.045, (252, 252, 250))
    pen.ellipse(1.09, 0.37, 0.026, 0.026, _INK)
    if pen.flying:
        pen.polygon([(0.76, 0.6), (0.34, 0.02), (0.2, 0.1), (0.24, 0.22), (0.3, 0.34), (0.4, 0.62)], 0.8)
        pen.polygon([(0.76, 0.6), (0.34, 0.02), (0.46, 0.4)], 0.95)
    else:
        pen.polygon([*arc(0.56, 0.62, 0.3, 0.16, -40, 180), (0.2, 0.62)], 0.74)


def _star(pen: Pen, _: np.random.Generator) -> None:
    rim = [
        (0.52 + r * math.sin(math.radians(36 * i)), 0.55 - r * math.cos(math.radians(36 * i)))
        for i, r in enumerate((0.55, 0.23) * 5)
    ]
    for i in range(10):  # ten facets, each lit by the way that it faces
        facing = math.radians(36 * i + 18)
        pen.polygon(
            [(0.52, 0.55), rim[i], rim[(i + 1) % 10]], 1.0 - 0.16 * math.sin(facing) + (0.24 if i % 2 else -0.1)
        )


def _cup(pen: Pen, rng: np.random.Generator) -> None:
    pen.ellipse(0.93, 0.5, 0.24, 0.27, 0.78)
    hole = arc(0.92, 0.5, 0.13, 0.16, 0, 360)
    pen.polygon(hole, 0.3)
    slices = 12
    for i in range(slices):
        a, b = 0.44 * math.cos(math.pi * i / slices), 0.44 * math.cos(math.pi * (i + 1) / slices)
        light = 1.25 - 0.7 * abs(i / slices - 0.72) ** 0.8
        pen.polygon(
            [(0.44 + a, 0.1), (0.44 + b - 0.01, 0.1), (0.44 + 0.8 * b - 0.01, 0.94), (0.44 + 0.8 * a, 0.94)], light
        )
    pen.polygon(arc(0.44, 0.93, 0.355, 0.07, 0, 180), 0.8)
    if rng.random() < 0.4:
        pen.polygon([(0.03, 0.42), (0.85, 0.42), (0.83, 0.6), (0.05, 0.6)], _CREAM)
    pen.ellipse(0.44, 0.1, 0.44, 0.1, 1.35)
    pen.ellipse(0.44, 0.11, 0.37, 0.07, (72, 46, 32))


def _kite(pen: Pen, rng: np.random.Generator) -> None:
    top, left, right, bottom, cross = (0.4, 0.0), (0.08, 0.26), (0.72, 0.26), (0.4, 0.68), (0.4, 0.26)
    other: Paint = (250, 244, 226) if rng.random() < 0.4 else 0.7
    pen.polygon([top, left, cross], 1.15)
    pen.polygon([top, cross, right], other)
    pen.polygon([left, cross, bottom], other if other != 0.7 else 0.82)
    pen.polygon([cross, right, bottom], 1.0)
    pen.line([top, bottom], 0.018, (70, 52, 40))
    pen.line([left, right], 0.018, (70, 52, 40))
    tail = [(0.4 + 0.09 * math.sin(9 * t), 0.68 + 0.32 * t) for t in np.linspace(0, 1, 12)]
    pen.line(tail, 0.02, (80, 70, 66))
    for x, y in (tail[3], tail[6], tail[9]):
        pen.polygon([(x - 0.07, y - 0.035), (x + 0.07, y + 0.035), (x + 0.07, y - 0.035), (x - 0.07, y + 0.035)], 1.0)


def _balloon(pen: Pen, rng: np.random.Generator) -> None:
    for x in (-0.06, 0.06):
        pen.line([(0.37 + 3 * x, 0.62), (0.37 + x, 0.9)], 0.014, (90, 74, 60))
    gores = 7
    other: Paint = (248, 243, 228) if rng.random() < 0.5 else 1.3
    for i in range(gores):  # strips of cloth from crown to mouth, narrower towards the rim
        a, b = -math.cos(math.pi * i / gores), -math.cos(math.pi * (i + 1) / gores)
        sides = []
        for edge in (a, b):
            crown = [
                (0.37 + 0.37 * edge * math.sin(math.radians(t)), 0.36 - 0.36 * math.cos(math.radians(t)))
                for t in range(0, 120, 8)
            ]
            sides.append([*crown, (0.37 + 0.12 * edge, 0.74)])
        pen.polygon([*sides[0], *reversed(sides[1])], 1.0 if i % 2 == 0 else other)
    pen.ellipse(0.37, 0.74, 0.12, 0.025, 0.5)
    pen.polygon([(0.29, 0.88), (0.45, 0.88), (0.43, 1.0), (0.31, 1.0)], (140, 96, 56))
    pen.line([(0.285, 0.89), (0.455, 0.89)], 0.025, (92, 60, 36))


def _mushroom(pen: Pen, rng: np.random.Generator) -> None:
    pen.polygon([(0.36, 0.5), (0.64, 0.5), (0.7, 0.94), *arc(0.5, 0.94, 0.2, 0.06, 0, 180), (0.3, 0.94)], _CREAM)
    pen.polygon([(0.52, 0.5), (0.64, 0.5), (0.7, 0.94), (0.56, 0.99)], shade(_CREAM, 0.82))
    pen.ellipse(0.5, 0.54, 0.5, 0.11, 0.5)
    pen.polygon([*arc(0.5, 0.54, 0.5, 0.54, 180, 360), *arc(0.5, 0.54, 0.5, 0.07, 0, 180)], 1.0)
    spots: Paint = 0.6 if sum(pen.colour) > 600 else (250, 246, 236)
    for x, y, r in (
        (0.3, 0.3, 0.085),
        (0.56, 0.16, 0.075),
        (0.66, 0.4, 0.095),
        (0.14, 0.47, 0.05),
        (0.42, 0.46, 0.06),
        (0.86, 0.44, 0.05),
    ):
        pen.ellipse(x + rng.uniform(-0.03, 0.03), y, r, r * 0.8, spots)


DRAWINGS: dict[str, Callable[[Pen, np.random.Generator], None]] = {
    "ball": _ball,
    "cube": _cube,
    "cone": _cone,
    "tree": _tree,
    "house": _house,
    "car": _car,
    "boat": _boat,
    "fish": _fish,
    "bird": _bird,
    "star": _star,
    "cup": _cup,
    "kite": _kite,
    "balloon": _balloon,
    "mushroom": _mushroom,
}
