"""What a detector makes of a photo, and what it must be to make it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from han_retrieval.errors import HANError

GEOMETRY_SIZE = 7


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of one photo, best first.

    Legend: m regions, D numbers a feature.

    Attributes:
        features: (m, D) float16.
        boxes: (m, 4) float32, x0 y0 x1 y1 in pixels of the upright photo; None where an importer knows none.
        labels: m names, or None where the detector gives none.
        scores: (m,) float32 detection scores, or None.
        width, height: Size of the upright photo in pixels; 0 where an importer does not know it.
    """

    features: np.ndarray
    boxes: np.ndarray | None
    width: int
    height: int
    labels: tuple[str, ...] | None = None
    scores: np.ndarray | None = None

    def inputs(self, *, geometry: bool) -> np.ndarray:
        """What a matcher is given: features (m, D) float32, with ``geometry`` behind them if asked for (m, D + 7).

        Raises:
            HANError: Geometry is asked for, and the boxes or the photo's size are not known.
        """
        features = self.features.astype(np.float32)
        if not geometry:
            return features
        return np.concatenate([features, box_geometry(self.boxes, self.width, self.height)], axis=1)


def box_geometry(boxes: np.ndarray | None, width: int, height: int) -> np.ndarray:
    """Position and size of boxes (m, 4): left, top, right, bottom, width, height and area in shares of the photo's.

    Returns:
        (m, 7) float32.

    Raises:
        HANError: There are no boxes, or the size of their photo is not known.
    """
    if boxes is None or not width or not height:
        raise HANError(
            "the model takes boxes as well as features (box_geometry), and these features have no boxes or not the "
            "size of their photo: extract them from the photos"
        )
    shares = boxes / np.array([width, height] * 2, np.float32)
    sides = shares[:, 2:] - shares[:, :2]
    return np.concatenate([shares, sides, sides.prod(1, keepdims=True)], axis=1)


class Detector(Protocol):
    """Photos to regions: one method, and two facts that a region store remembers.

    Attributes:
        fingerprint: Names everything that the features depend on (detector, weights' hash, input size, regions), so
            that features of two detectors are never mixed.
        feature_size: D.
    """

    fingerprint: str
    feature_size: int

    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """One ``Regions`` a photo, in order; photos are upright RGB images of any size."""
        ...
