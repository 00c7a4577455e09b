"""A scene as a picture: backdrop, shadows and reflections, things from far to near, and a camera's grain."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from research.scenes.compose import Box, Scene, Thing
from research.scenes.settings import backdrop, daylight
from research.scenes.textures import grain
from research.scenes.things import draw_thing


def render(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """The scene as an RGB photo of its size."""
    empty = backdrop(scene.setting, scene.day, (scene.width, scene.height), scene.horizon, rng)
    picture = Image.fromarray(np.clip(empty, 0, 255).astype(np.uint8))
    sprites: dict[Box, Image.Image] = {}
    for thing, box in _far_to_near(scene):
        sprite = draw_thing(
            thing.kind,
            thing.colour,
            (box[2] - box[0], box[3] - box[1]),
            rng=rng,
            light=scene.light,
            tint=daylight(scene.day),
            night=scene.day == "night",
            flying=thing.place == "sky",
        )
        sprites[box] = sprite
        if thing.place == "ground":
            _cast_shadow(picture, sprite, box, scene)
        elif thing.place == "water" and thing.kind != "fish":
            _reflect(picture, sprite, box, rng)
        picture.paste(sprite, box[:2], sprite)
    for one, relation, other in scene.relations:
        if relation == "in":  # the side of the cup or boat that is before its passenger
            (_, _, _, rim), box = scene.things[one].seen[0], scene.things[other].boxes[0]
            wall = sprites[box].crop((0, rim - box[1], box[2] - box[0], box[3] - box[1]))
            picture.paste(wall, (box[0], rim), wall)
    return _photographed(picture, rng, night=scene.day == "night")


def _far_to_near(scene: Scene) -> list[tuple[Thing, Box]]:
    """Things in the order of painting: the sky, then by how low they stand; what is on or in a thing after it."""
    hosts = {one: scene.things[other] for one, relation, other in scene.relations if relation in ("on", "in")}
    order = []
    for i, thing in enumerate(scene.things):
        stands = hosts.get(i, thing)
        for box in thing.boxes:
            low = stands.extent[3] if i in hosts else box[3]
            order.append(((stands.place != "sky", low, i in hosts), (thing, box)))
    return [item for _, item in sorted(order, key=lambda entry: entry[0])]


def _cast_shadow(picture: Image.Image, sprite: Image.Image, box: Box, scene: Scene) -> None:
    """The silhouette laid on the ground, away from the light, with a darker spot where the thing touches it."""
    soft = scene.day in ("overcast", "night")
    width, height = sprite.size
    long = max(3, round(height * (0.22 if soft else 0.34)))
    lean = round(long * 1.1)
    pad = 6
    wide = width + lean + 2 * pad
    flat = sprite.getchannel("A").resize((width, long), Image.Resampling.BILINEAR)
    offset = -pad if scene.light < 0 else -pad - lean
    lean_a_row = lean / long * (1 if scene.light < 0 else -1)
    # An output row y, counted from the feet up, takes its pixels from lean_a_row * (long - y) further back.
    shadow = flat.transform(
        (wide, long + 2 * pad),
        Image.Transform.AFFINE,
        (1, lean_a_row, offset - lean_a_row * (long + pad), 0, 1, -pad),
        Image.Resampling.BILINEAR,
    )
    touch, feet = max(2, width // 14), long + pad
    spot = 0.12 * width - offset, feet - touch, 0.88 * width - offset, feet + 0.6 * touch
    ImageDraw.Draw(shadow).ellipse(spot, fill=230)
    strength = 0.3 if soft else 0.42
    shadow = shadow.filter(ImageFilter.GaussianBlur(2.2 if soft else 1.3)).point(lambda a: int(a * strength))
    picture.paste((18, 20, 34), (box[0] + offset, box[3] - long - pad), shadow)


def _reflect(picture: Image.Image, sprite: Image.Image, box: Box, rng: np.random.Generator) -> None:
    """The thing upside down in the water, broken by ripples and fading with depth."""
    width, height = sprite.size
    rows = max(3, min(round(0.55 * height), picture.height - box[3] + 4))
    upside_down = sprite.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize((width, round(0.55 * height) + 1))
    below = np.asarray(upside_down)[:rows]
    depth = np.arange(rows)
    shift = np.round(1.8 * np.sin(depth * 1.3 + rng.uniform(0, 6)) * np.minimum(depth / 6, 1)).astype(int)
    columns = np.clip(np.arange(width)[None] + shift[:, None], 0, width - 1)
    broken = below[depth[:, None], columns].astype(np.float32)
    broken[..., 3] *= (0.5 * (1 - depth / rows) ** 0.8)[:, None]
    broken[..., :3] *= 0.8
    mirrored = Image.fromarray(broken.astype(np.uint8), "RGBA")
    picture.paste(mirrored, (box[0], box[3] - 3), mirrored)


def _photographed(picture: Image.Image, rng: np.random.Generator, *, night: bool) -> Image.Image:
    """Exposure, white balance, darker corners and grain."""
    width, height = picture.size
    x, y = np.linspace(-1, 1, width, dtype=np.float32)[None], np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    corners = 1 - np.float32(rng.uniform(0.04, 0.1)) * (x * x + y * y)
    balance = (rng.normal(1, 0.02, 3) * rng.uniform(0.93, 1.06)).astype(np.float32)
    speckle = grain(rng, width, height) * np.float32(4.0 if night else 2.4)
    pixels = np.asarray(picture).astype(np.float32)
    pixels *= corners[..., None]
    pixels *= balance
    pixels += speckle[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))
