"""Where scenes take place: sky and ground, wall and table, painted from gradients and noise seen in perspective.

Legend: h rows, w columns; pictures are float32 arrays (h, w, 3) from 0 to 255.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from research.scenes.textures import clouds, ground_noise, noise, window

Colour = tuple[float, float, float]

_DAYS: dict[str, tuple[Colour, Colour, Colour]] = {  # the sky's top, its foot, and the tint of its light
    "noon": ((70, 134, 214), (186, 216, 238), (1.02, 1.01, 0.98)),
    "morning": ((120, 168, 220), (246, 222, 206), (1.04, 0.99, 0.94)),
    "sunset": ((84, 98, 160), (252, 178, 118), (1.08, 0.94, 0.82)),
    "overcast": ((152, 164, 178), (210, 215, 220), (0.95, 0.97, 0.99)),
    "night": ((8, 12, 34), (38, 48, 88), (0.62, 0.68, 0.9)),
}
_CLEAR = {"noon": 0.9, "morning": 0.6, "sunset": 0.5, "overcast": -0.6, "night": 0.9}  # the least dense cloud seen
_WALLS: tuple[Colour, ...] = ((206, 214, 204), (222, 208, 188), (190, 204, 218), (222, 200, 202), (198, 194, 186))
_WOODS: tuple[tuple[Colour, Colour], ...] = (
    ((112, 70, 40), (186, 132, 84)),
    ((150, 108, 66), (214, 172, 120)),
    ((78, 50, 36), (136, 94, 66)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A backdrop in the making: its picture, the row of its horizon, its light, and its dice."""

    picture: np.ndarray
    horizon: int
    day: str
    rng: np.random.Generator

    @property
    def height(self) -> int:
        """Of the whole picture."""
        return len(self.picture)

    @property
    def above(self) -> np.ndarray:
        """The rows above the horizon, for painting on."""
        return self.picture[: self.horizon]

    @property
    def below(self) -> np.ndarray:
        """The rows from the horizon down, for painting on."""
        return self.picture[self.horizon :]

    @property
    def near(self) -> np.ndarray:
        """(rows, 1), from 0 at the horizon to 1 at the bottom."""
        return np.linspace(0, 1, len(self.below), dtype=np.float32)[:, None]

    def ground(self, seed: int, octaves: tuple[int, ...], *, stretch: float, depth: float) -> np.ndarray:
        """Noise in perspective, as large as the ground."""
        return window(ground_noise(seed, octaves, stretch, depth), self.rng, self.picture.shape[1], len(self.below))


def daylight(day: str) -> np.ndarray:
    """The factors by which the day's light multiplies red, green and blue."""
    return np.array(_DAYS[day][2], np.float32)


def _blend(low: Colour | np.ndarray, high: Colour, share: np.ndarray) -> np.ndarray:
    """Colours between two, by a share (h, w) or (h, 1) from 0 to 1."""
    a, b = np.asarray(low, np.float32), np.asarray(high, np.float32)
    colours: np.ndarray = np.clip(share, 0, 1)[..., None] * (b - a)
    colours += a
    return colours


def _cover(picture: np.ndarray, share: np.ndarray, colour: Colour | np.ndarray) -> None:
    """Paints a colour, or colours (h, w, 3), over the picture, as thickly as the share (h, w) from 0 to 1 says."""
    picture += share[..., None] * (np.asarray(colour, np.float32) - picture)


def _sky(canvas: Canvas) -> None:
    rng, sky, (rows, width, _) = canvas.rng, canvas.above, canvas.above.shape
    top, foot, _ = _DAYS[canvas.day]
    fall = np.linspace(0, 1, rows, dtype=np.float32)[:, None] ** 1.3
    sky[:] = _blend(top, foot, fall)
    start = rng.integers(512 - rows)
    billows = window(clouds(), rng, width, 512)[start : start + rows]
    veil = np.clip((billows - _CLEAR[canvas.day] - rng.normal(0, 0.35)) * 1.3, 0, 1) * (0.85 - 0.5 * fall)
    if canvas.day == "night":
        _light_up(rng, sky)
        _cover(sky, 0.25 * veil, (90, 98, 130))
        return
    _cover(sky, veil, np.array(foot) * 0.35 + 255 * 0.65)
    glow = rng.uniform(0.1, 0.9) * width
    y, x = np.ogrid[:rows, :width]
    shine = np.exp(-((x - glow) ** 2 + 2 * (y - 0.8 * rows) ** 2) / (0.35 * width) ** 2)
    _cover(sky, shine * (0.5 if canvas.day == "sunset" else 0.22), (255, 240, 205))


def _light_up(rng: np.random.Generator, sky: np.ndarray) -> None:
    """Stars and the moon."""
    rows, width = sky.shape[:2]
    count = int(rng.integers(25, 60))
    sky[rng.integers(0, rows, count), rng.integers(0, width, count)] += rng.uniform(60, 190, (count, 1))
    y, x = np.ogrid[:rows, :width]
    distance = np.hypot(x - rng.uniform(0.08, 0.92) * width, y - rng.uniform(0.12, 0.3) * rows)
    radius = 0.045 * width
    _cover(sky, 0.4 * np.exp(-((distance / (3.2 * radius)) ** 2)), (190, 200, 230))
    _cover(sky, np.clip(radius - distance, 0, 1), (244, 240, 218))


def _ridge(canvas: Canvas, height: float, colour: Colour, *, rough: float) -> None:
    """Hills or mountains on the horizon, paler by the air before them; ``height`` as a share of the picture's."""
    rng, tall = canvas.rng, height * canvas.height
    x = np.linspace(0, 2 * np.pi, canvas.picture.shape[1], dtype=np.float32)
    line = np.zeros_like(x)
    for waves, amplitude in ((0.8, 0.5), (1.9, 0.3), (4.3, 0.15 + rough), (9.7, 0.5 * rough)):
        line += np.float32(amplitude) * np.sin(np.float32(waves * rng.uniform(0.7, 1.3)) * x + rng.uniform(0, 6))
    tops = canvas.horizon - tall * (1 + 0.6 * line)
    first = max(0, int(tops.min()))
    depth = np.arange(first, canvas.horizon, dtype=np.float32)[:, None] - tops
    seen = 0.7 * np.array(colour) * daylight(canvas.day) + 0.3 * np.array(_DAYS[canvas.day][1])
    shaded = (1 - np.clip(depth * (0.125 / tall), 0, 0.25))[..., None] * seen
    _cover(canvas.above[first:], np.clip(depth, 0, 1), shaded)


def _meadow(canvas: Canvas) -> None:
    _sky(canvas)
    _ridge(canvas, 0.07, (96, 126, 140), rough=0.0)
    _ridge(canvas, 0.03, (70, 112, 74), rough=0.1)
    patches = canvas.ground(2, (24, 9), stretch=1.0, depth=14)
    blades = canvas.ground(3, (2, 1), stretch=0.6, depth=30)
    dry = canvas.rng.uniform(0, 1)
    light = 0.62 - 0.25 * canvas.near + 0.13 * patches + (0.05 + 0.07 * canvas.near) * blades
    canvas.below[:] = _blend((52 + 22 * dry, 104, 40), (124 + 40 * dry, 168, 70), light) * daylight(canvas.day)


def _water(canvas: Canvas, deep: Colour) -> None:
    """Waves, which mirror the sky's foot the more the farther they are."""
    waves = canvas.ground(4, (6, 2), stretch=6.0, depth=8)
    ripples = canvas.ground(5, (2, 1), stretch=5.0, depth=16)
    light = 0.62 * (1 - canvas.near) ** 1.4 + 0.08 + 0.1 * waves + 0.06 * ripples
    canvas.below[:] = _blend(np.array(deep) * daylight(canvas.day), _DAYS[canvas.day][1], light)


def _lake(canvas: Canvas) -> None:
    _sky(canvas)
    _ridge(canvas, 0.06, (84, 112, 130), rough=0.05)
    _ridge(canvas, 0.018, (52, 84, 62), rough=0.2)
    _water(canvas, (24, 84, 122))


def _beach(canvas: Canvas) -> None:
    _sky(canvas)
    _water(canvas, (30, 130, 158))
    rng, (rows, width, _) = canvas.rng, canvas.below.shape
    dunes = canvas.ground(6, (18, 7), stretch=2.5, depth=20)
    grains = noise(7, (1,))[:rows, :width]
    sand = _blend((196, 160, 108), (238, 214, 166), 0.6 + 0.14 * dunes + 0.07 * grains) * daylight(canvas.day)
    x = np.linspace(0, 2 * np.pi, width, dtype=np.float32)
    shore = rng.uniform(0.2, 0.3) * rows + 1.8 * np.sin(1.7 * x + rng.uniform(0, 6))
    shore += 0.9 * np.sin(4.1 * x + rng.uniform(0, 6))
    inland = np.arange(rows, dtype=np.float32)[:, None] - shore.astype(np.float32)
    wet = 0.22 * np.exp(-np.clip(inland, 0, None) / 4)
    _cover(canvas.below, np.clip(inland, 0, 1), sand * (1 - wet)[..., None])
    _cover(canvas.below, 0.75 * np.exp(-((inland + 0.5) ** 2) / 2.2), 245 * daylight(canvas.day))  # foam


def _snow(canvas: Canvas) -> None:
    _sky(canvas)
    _ridge(canvas, 0.14, (150, 166, 190), rough=0.2)
    _ridge(canvas, 0.05, (198, 208, 222), rough=0.1)
    drifts = canvas.ground(8, (40, 22), stretch=3.0, depth=34)
    sparkle = noise(9, (1,))[: len(drifts), : drifts.shape[1]]
    light = 0.72 + 0.15 * drifts + 0.035 * sparkle
    canvas.below[:] = _blend((176, 192, 218), (250, 250, 252), light) * daylight(canvas.day)


def _street(canvas: Canvas) -> None:
    _meadow(canvas)
    light, kerb = daylight(canvas.day), round(0.12 * len(canvas.below))
    tar = canvas.ground(10, (1, 3), stretch=1.5, depth=40)[kerb:]
    road = canvas.below[kerb:]
    road[:] = _blend((74, 76, 82), (142, 142, 144), 0.42 + 0.09 * tar) * light
    y, x = np.ogrid[: len(canvas.below), : canvas.picture.shape[1]]
    _cover(canvas.below, 0.8 * np.clip(2.2 - np.abs(y - kerb), 0, 1), np.array((196, 194, 188)) * light)
    middle = kerb + 0.45 * len(road)
    dashes = ((x + canvas.rng.integers(60)) % 60 < 34) & (np.abs(y - middle) < 0.011 * canvas.height)
    _cover(canvas.below, 0.75 * dashes, np.array((232, 226, 204)) * light)


def _table(canvas: Canvas) -> None:
    rng, near, (rows, width, _) = canvas.rng, canvas.near, canvas.above.shape
    x, y = np.linspace(0, 1, width, dtype=np.float32)[None], np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    lamp = 0.78 + 0.3 * np.exp(-((x - rng.uniform(0.1, 0.9)) ** 2 / 0.25 + (y - 0.3) ** 2 / 0.5))
    if rng.random() < 0.5:  # wallpaper
        lamp = lamp * (1 + 0.035 * np.sign(np.sin(x * rng.uniform(50, 90))))
    canvas.above[:] = np.array(_WALLS[rng.integers(len(_WALLS))], np.float32) * lamp[..., None]
    canvas.above[-5:] *= np.linspace(1, 0.72, 5, dtype=np.float32)[:, None, None]
    fibres = canvas.ground(11, (3, 1), stretch=14.0, depth=60)
    rings = canvas.ground(12, (14, 5), stretch=8.0, depth=60)
    wood = _blend(*_WOODS[rng.integers(len(_WOODS))], 0.6 - 0.15 * near + 0.12 * fibres + 0.12 * rings)
    light = 1.08 - 0.16 * near
    for gap in (0.16, 0.4, 0.72):  # between the boards
        light = light * (1 - 0.4 * np.exp(-(((near - gap) * len(near) / 0.9) ** 2)))
    canvas.below[:] = wood * light[..., None]


@dataclass(frozen=True, slots=True)
class Setting:
    """One kind of place.

    Attributes:
        paint: Paints it.
        horizon: Between which shares of the height its horizon (or the table's edge) lies.
        ground: "ground" or "water": what things stand on.
        places: Phrases that say where.
        sky: Whether things may hang above the horizon.
    """

    paint: Callable[[Canvas], None]
    horizon: tuple[float, float]
    ground: str
    places: tuple[str, ...]
    sky: bool = True


SETTINGS: dict[str, Setting] = {
    "meadow": Setting(_meadow, (0.36, 0.5), "ground", ("on the grass", "in a meadow", "in a green field")),
    "beach": Setting(_beach, (0.34, 0.44), "ground", ("on the beach", "on the sand", "by the sea")),
    "lake": Setting(_lake, (0.34, 0.46), "water", ("on the water", "on a lake", "on the lake")),
    "snow": Setting(_snow, (0.36, 0.48), "ground", ("in the snow", "on the snow", "in a snowy field")),
    "night": Setting(_meadow, (0.38, 0.5), "ground", ("at night", "in the moonlight", "in the dark")),
    "street": Setting(_street, (0.36, 0.48), "ground", ("on the road", "on a street", "in the street")),
    "table": Setting(_table, (0.4, 0.52), "ground", ("on the table", "on a wooden table", "on a table"), sky=False),
}


def day_of(setting: str, rng: np.random.Generator) -> str:
    """The light that a place of this kind is seen in."""
    if setting == "night":
        return "night"
    if setting == "table":
        return "overcast"
    return str(rng.choice(["noon", "noon", "morning", "sunset", "overcast"]))


def backdrop(setting: str, day: str, size: tuple[int, int], horizon: int, rng: np.random.Generator) -> np.ndarray:
    """The place without anything in it, (h, w, 3) float32; ``size`` is width and height."""
    canvas = Canvas(np.empty((size[1], size[0], 3), np.float32), horizon, day, rng)
    SETTINGS[setting].paint(canvas)
    return canvas.picture
