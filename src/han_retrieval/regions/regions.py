"""What a detector makes of a photo, and what it must be to make it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image


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
