"""Boxes of annotations against regions of a photo.

Legend: m regions, k annotated boxes; boxes are x0 y0 x1 y1.
"""

from __future__ import annotations

import numpy as np

from han_retrieval.data.entities import EntitiesPhoto

IOU = 0.5
"""Intersection over union from which a region counts as showing what a box surrounds."""


def to_stored_size(boxes: np.ndarray, photo: EntitiesPhoto, *, width: int, height: int) -> np.ndarray:
    """Scale annotated boxes (k, 4) to a photo of this width and height, 0 where they are unknown; (k, 4) float64."""
    shares = [(width or photo.width) / photo.width, (height or photo.height) / photo.height]
    return boxes.astype(np.float64) * np.array(shares * 2)


def overlapping(regions: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether each region (m, 4) has an IoU of at least ``IOU`` with any of the boxes (k, 4): (m,) bool."""
    low = np.maximum(regions[:, None, :2], boxes[:, :2])  # (m, k, 2)
    high = np.minimum(regions[:, None, 2:], boxes[:, 2:])
    both = (high - low).clip(min=0).prod(-1)  # (m, k)
    union = _areas(regions)[:, None] + _areas(boxes) - both
    return ((both > 0) & (both >= IOU * union)).any(-1)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(-1)
