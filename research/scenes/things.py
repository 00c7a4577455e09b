"""The kinds of things that stand in scenes, and their pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from research.scenes.drawings import DRAWINGS
from research.scenes.pen import RGB, Pen

COLOURS: dict[str, RGB] = {
    "red": (206, 38, 38),
    "orange": (242, 126, 22),
    "yellow": (245, 208, 42),
    "green": (40, 146, 62),
    "blue": (36, 92, 208),
    "purple": (124, 56, 172),
    "pink": (242, 132, 178),
    "white": (238, 236, 230),
    "brown": (122, 76, 44),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What scenes know of one kind of thing.

    Attributes:
        aspect: Width over height.
        height: How tall it usually stands, as a share of the root of the photo's area.
        volume: How round its shading is; 0 where the drawing's own facets say it all.
        faces: Whether it looks to one side, so that either may be drawn.
        tilt: Degrees that it may lean either way.
        places: Where it is seen: "ground", "sky", "water".
        nouns: Its names, the first one the usual; plurals add an s.
        type: The Entities category of phrases about it.
    """

    aspect: float
    height: float
    volume: float
    faces: bool
    tilt: float
    places: tuple[str, ...]
    nouns: tuple[str, ...]
    type: str = "other"


KINDS: dict[str, Kind] = {
    "ball": Kind(1.0, 0.20, 2.2, False, 15, ("ground", "water"), ("ball",)),
    "cube": Kind(1.0, 0.24, 0.0, False, 0, ("ground",), ("cube", "block")),
    "cone": Kind(0.8, 0.26, 0.3, False, 0, ("ground",), ("cone",)),
    "tree": Kind(0.77, 0.46, 0.8, False, 0, ("ground",), ("tree",)),
    "house": Kind(1.25, 0.38, 0.2, True, 0, ("ground",), ("house",)),
    "car": Kind(2.1, 0.19, 0.9, True, 0, ("ground",), ("car",), "vehicles"),
    "boat": Kind(1.14, 0.34, 0.5, True, 3, ("water",), ("boat", "sailboat"), "vehicles"),
    "fish": Kind(1.8, 0.17, 1.4, True, 10, ("water",), ("fish",), "animals"),
    "bird": Kind(1.36, 0.18, 1.2, True, 8, ("sky", "ground"), ("bird",), "animals"),
    "star": Kind(1.05, 0.20, 0.2, False, 12, ("sky",), ("star",)),
    "cup": Kind(1.17, 0.22, 0.3, True, 0, ("ground",), ("cup", "mug")),
    "kite": Kind(0.8, 0.34, 0.3, False, 18, ("sky",), ("kite",)),
    "balloon": Kind(0.74, 0.38, 1.2, False, 3, ("sky",), ("balloon",)),
    "mushroom": Kind(1.0, 0.23, 1.3, False, 4, ("ground",), ("mushroom",)),
}


def draw_thing(
    kind: str,
    colour: str,
    size: tuple[int, int],
    *,
    rng: np.random.Generator,
    light: int,
    tint: np.ndarray,
    night: bool,
    flying: bool,
) -> Image.Image:
    """One thing, filling its picture from edge to edge.

    Args:
        kind: A key of ``KINDS``.
        colour: A key of ``COLOURS``.
        size: Width and height in pixels.
        rng: Chooses its variant, tint, lean and the side that it faces.
        light: -1 for light from the left, 1 from the right.
        tint: Three factors, the colour of the light.
        night: Whether its windows are lit.
        flying: Whether its wings are spread.

    Returns:
        An RGBA picture of that size whose opaque part touches all four edges.
    """
    known = KINDS[kind]
    red, green, blue = (
        int(np.clip(c * f, 0, 255)) for c, f in zip(COLOURS[colour], rng.normal(1, 0.035, 3), strict=True)
    )
    mirror = bool(rng.integers(2)) if known.faces else light > 0
    lean = rng.uniform(-known.tilt, known.tilt)
    pen = Pen(known.aspect, (red, green, blue), tint=tint, mirror=mirror, lean=lean, lit=night, flying=flying)
    DRAWINGS[kind](pen, rng)
    picture = pen.canvas.crop(pen.canvas.getchannel("A").getbbox()).resize(size, Image.Resampling.BOX)
    return _rounded(picture, known.volume, light)


def _rounded(picture: Image.Image, volume: float, light: int) -> Image.Image:
    """Shades the picture as if its silhouette were swollen: bright towards the light and the sky."""
    side = min(picture.size)
    if volume == 0 or side < 8:
        return picture
    swell = np.asarray(picture.getchannel("A").filter(ImageFilter.GaussianBlur(0.16 * side)), np.float32)
    down, right = np.gradient(swell)
    light_on = np.asarray(np.clip(1 + volume * 0.1 * side / 255 * (down * 0.9 - light * right * 0.7), 0.45, 1.5))
    pixels = np.asarray(picture).astype(np.float32)
    pixels[..., :3] *= light_on[..., None]
    return Image.fromarray(np.minimum(pixels, 255).astype(np.uint8), "RGBA")
