"""Boxes of annotations against regions of a photo.

Legend: m regions, k annotated boxes; boxes are x0 y0 x1 y1.
"""

from __future__ import annotations

import numpy as np

from han_retrieval.data.entities import EntitiesPhoto

IOU = 0.5
"""Intersection over union from which a region counts as showing what a box surrounds."""

_SAME, _LARGER = 0.4, 4.0


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


def iou(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The intersection over union of boxes (k, 4) with a box (4,): (k,)."""
    common = _common(boxes, box)
    return np.asarray(common / (_areas(boxes) + _areas(box) - common).clip(1e-9))


def show_same(boxes: np.ndarray, box: np.ndarray, *, within: float) -> np.ndarray:
    """(k,) bool, which of boxes (k, 4) show the same thing as a box (4,), or a large part of it.

    Their IoU is at least 0.4; or one holds the share ``within`` of the other and is at most four times as large.
    """
    areas, area = _areas(boxes).clip(1e-9), _areas(box).clip(1e-9)
    smaller, larger = np.minimum(areas, area), np.maximum(areas, area)
    is_part = (_common(boxes, box) >= within * smaller) & (larger <= _LARGER * smaller)
    return np.asarray(is_part | (iou(boxes, box) >= _SAME))


def _common(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    return np.asarray(sides.clip(0).prod(1))


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).prod(-1))
