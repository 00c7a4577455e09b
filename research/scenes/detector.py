"""A light detector for drawn scenes: what differs from its row of the picture is a thing, with hand-made features.

It uses pixels alone and is not told what was drawn. It needs no network and is fast, and is meant for the
scenes of ``research.scenes``: in real photos the rows are no background, and it finds little.

Legend: h rows, w columns, m regions, s the side of a crop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

from han_retrieval.errors import ConfigError
from han_retrieval.regions.regions import Regions

_WORKING = 96  # the longer side of the picture in which things are looked for
_SIDE = 24  # s
_HUES = 8
_WINDOWS = np.array(  # the whole photo and its quarters, in shares of it
    [(0, 0, 1, 1), (0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1)], np.float32
)
_WITHIN_A_MASK = np.zeros((3, 3, 3), bool)  # neighbours of a pixel: the four beside it, none in other masks
_WITHIN_A_MASK[1] = ndimage.generate_binary_structure(2, 1)


class SceneDetector:
    """Boxes around what stands out, then fixed windows; colour, edge and shape features of each.

    Attributes:
        fingerprint: Its name, version and number of regions.
        feature_size: D.
    """

    def __init__(self, *, regions: int = 14) -> None:
        """``regions``: the most a photo gets; at least the five windows."""
        if regions < len(_WINDOWS):
            raise ConfigError(f"the scenes detector gives at least {len(_WINDOWS)} regions a photo, not {regions}")
        self.regions = regions
        self.fingerprint = f"scenes-1-{regions}"
        self.feature_size = _describe(np.zeros((1, _SIDE, _SIDE, 4)), np.zeros((1, 4))).shape[1]

    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """See ``Detector``."""
        return [self._regions(photo) for photo in photos]

    def _regions(self, photo: Image.Image) -> Regions:
        width, height = photo.size
        shrink = min(1.0, _WORKING / max(width, height))
        small = photo.resize((max(8, round(width * shrink)), max(8, round(height * shrink))), Image.Resampling.BOX)
        pixels = np.asarray(small, np.float32)  # (h, w, 3)
        contrast = _contrast(pixels)
        found = _things(pixels, contrast)[: self.regions - len(_WINDOWS)]
        shares = np.concatenate([found / (np.array(small.size * 2, np.float32)), _WINDOWS])  # (m, 4)
        boxes = shares * np.array(photo.size * 2)
        salience = Image.fromarray(np.clip(contrast * 2, 0, 255).astype(np.uint8)).resize(photo.size)
        layers = Image.merge("CMYK", (*photo.split(), salience))  # four plain channels, resized as one
        crops = np.stack([_crop(layers, box) for box in boxes])  # (m, s, s, 4)
        features = _describe(crops, shares)
        return Regions(features.astype(np.float16), boxes.astype(np.float32), width, height)


def _contrast(pixels: np.ndarray) -> np.ndarray:
    """(h, w): how much each pixel differs from the median of its row, where 0 is as usual there."""
    usual = np.median(pixels, axis=1, keepdims=True)  # (h, 1, 3)
    distance = np.linalg.norm(pixels - usual, axis=-1)
    rough = np.percentile(distance, 30, axis=1, keepdims=True)  # of the row's own texture
    gain = 200 / (usual.mean(-1) + 80)  # what is dark shows less
    contrast: np.ndarray = gain * np.clip(distance - 2.5 * rough, 0, None)
    return contrast


def _things(pixels: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """(k, 4) boxes of connected pixels that stand out, alone or together with others of their colour, best first."""
    h, w = contrast.shape
    masks = _masks(pixels, contrast)
    labels, count = ndimage.label(masks, structure=_WITHIN_A_MASK)
    flat = labels[masks]
    areas = np.bincount(flat, minlength=count + 1)[1:]
    sums = np.bincount(flat, np.broadcast_to(contrast, masks.shape)[masks], minlength=count + 1)[1:]
    boxes = np.array([(x.start, y.start, x.stop, y.stop) for _, y, x in ndimage.find_objects(labels)], np.float32)
    boxes = boxes.reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    fits = (sides.min(1) >= 5) & (sides.prod(1) <= 0.5 * h * w)
    worth = (sums / np.sqrt(areas))[fits]  # mean contrast by the root of the area
    return _apart(boxes[fits][np.argsort(-worth)])


def _masks(pixels: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """(masks, h, w): what stands out at two levels, and at the lower one by colour: eight hues, pale, dark."""
    out = contrast > 22
    red, green, blue = np.moveaxis(pixels, -1, 0)
    low, high = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
    angle = np.arctan2(np.sqrt(3.0) * (green - blue), 2 * red - green - blue)  # on the colour circle, -pi to pi
    colour = ((angle + np.pi) * (_HUES / (2 * np.pi))).astype(np.int8) % _HUES
    colour = np.where((high - low) > 0.25 * high, colour, (high > 150) + np.int8(_HUES))
    by_colour = out & (colour == np.arange(_HUES + 2, dtype=np.int8)[:, None, None])
    return np.concatenate([[ndimage.binary_closing(out), contrast > 55], by_colour])


def _apart(boxes: np.ndarray, *, most: float = 0.7) -> np.ndarray:
    """Of boxes that nearly coincide only the first."""
    kept: list[np.ndarray] = []
    for box in boxes:
        if all(_overlap(box, other) < most for other in kept):
            kept.append(box)
    return np.array(kept, np.float32).reshape(-1, 4)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union."""
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, across) * max(0.0, down)
    return float(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))


def _crop(picture: Image.Image, box: np.ndarray) -> np.ndarray:
    crop = picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box=tuple(box.tolist()))
    return np.asarray(crop, np.float32) / 255


def _describe(crops: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(m, s, s, 4) red, green, blue and salience, (m, 4) boxes, to (m, D): blocks of numbers, each of length 1."""
    m = len(crops)
    colours, salience = crops[..., :3], crops[..., 3]
    parts = [
        _histogram(colours, salience + 1e-3, levels=4),
        _histogram(colours, np.ones_like(salience), levels=3),
        _edges(colours.mean(-1)),
        _cells(salience, 8).reshape(m, -1),
        _cells(colours, 4).reshape(m, -1) - 0.5,
        _place(shares),
    ]
    return np.concatenate([part / (np.linalg.norm(part, axis=1, keepdims=True) + 1e-6) for part in parts], axis=1)


def _cells(pictures: np.ndarray, cells: int) -> np.ndarray:
    """(m, s, s, ...) to the means of (m, cells, cells, ...)."""
    m, side = len(pictures), _SIDE // cells
    means: np.ndarray = pictures.reshape(m, cells, side, cells, side, *pictures.shape[3:]).mean((2, 4))
    return means


def _histogram(colours: np.ndarray, weights: np.ndarray, *, levels: int) -> np.ndarray:
    """(m, levels^3): the root of the share of the weight that falls to each colour."""
    red, green, blue = np.moveaxis(np.minimum((colours * levels).astype(int), levels - 1), -1, 0)
    return np.sqrt(_count((red * levels + green) * levels + blue, weights, levels**3) / weights.sum((1, 2))[:, None])


def _edges(grey: np.ndarray) -> np.ndarray:
    """(m, 6 x 6 x 8): in each cell the root of the strength of edges in eight directions, as HOG has it."""
    down, right = np.gradient(grey, axis=(1, 2))
    direction = np.floor(np.arctan2(down, right) / (2 * np.pi) * 8 + 8.5).astype(int) % 8
    cell = np.arange(_SIDE) // (_SIDE // 6)
    return np.sqrt(_count((cell[:, None] * 6 + cell) * 8 + direction, np.hypot(down, right), 6 * 6 * 8))


def _count(bins: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """(m, s, s) bin numbers and weights to the weight in each bin, (m, size)."""
    m = len(bins)
    own = bins + size * np.arange(m)[:, None, None]
    return np.bincount(own.ravel(), weights.ravel(), minlength=m * size).reshape(m, size)


def _place(shares: np.ndarray) -> np.ndarray:
    """(m, 7): where the box is and how large."""
    x0, y0, x1, y1 = shares.T
    wide, tall = x1 - x0, y1 - y0
    return np.stack([x0, y0, x1, y1, wide, tall, np.ones_like(x0)], axis=1)
