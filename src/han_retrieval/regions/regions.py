"""The regions of a photo: what a detector gives and what a matcher reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of one photo, best first.

    Features alone are enough to score a photo: ``Regions(features)``. Evidence needs boxes and the photo's size.

    Legend: m regions, D numbers a feature, P numbers a pooled vector.

    Attributes:
        features: (m, D) float16.
        boxes: (m, 4) float32, x0 y0 x1 y1 in pixels of the upright photo, or None where they are not known.
        width, height: Size of the upright photo in pixels; 0 where it is not known.
        labels: m names, or None where the detector gives none.
        scores: (m,) float32 detection scores, or None.
        pooled: (P,) float16, the vector that an image tower gives for the whole photo, in the space that it shares with
            its text tower where it has one; None where there is no such vector.
    """

    features: np.ndarray
    boxes: np.ndarray | None = None
    width: int = 0
    height: int = 0
    labels: tuple[str, ...] | None = None
    scores: np.ndarray | None = None
    pooled: np.ndarray | None = None

    def scaled_to(self, width: int, height: int) -> Regions:
        """The same regions of the photo at another size in pixels."""
        if (self.width, self.height) == (width, height):
            return self
        boxes = self.boxes
        if boxes is not None:
            boxes = boxes * np.array([width / self.width, height / self.height] * 2, np.float32)
        return replace(self, boxes=boxes, width=width, height=height)
