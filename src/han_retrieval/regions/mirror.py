"""Photos as a mirror shows them: a second view of each, to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image, ImageOps

from han_retrieval.regions.regions import Detector, Regions

_MIRRORED = "-mirrored"


class MirroredDetector:
    """What a detector finds in the mirror images of photos, its boxes where the things are in the photos themselves.

    A detector sees a mirrored photo a little differently, and what a photo shows is the same: captions and boxed
    phrases hold for both. ``han train --view`` takes the two in turn.

    Args:
        detector: What finds the regions.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.fingerprint = detector.fingerprint + _MIRRORED
        self.feature_size = detector.feature_size

    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """One ``Regions`` a photo, in order."""
        return [_turned(regions) for regions in self._detector.detect([ImageOps.mirror(photo) for photo in photos])]


def same_detector(fingerprint: str, view: str) -> bool:
    """Whether features of fingerprint ``view`` are the same detector's as those of ``fingerprint``, mirrored or not."""
    return view.removesuffix(_MIRRORED) == fingerprint.removesuffix(_MIRRORED)


def _turned(regions: Regions) -> Regions:
    if regions.boxes is None:
        return regions
    boxes = regions.boxes.copy()
    boxes[:, [0, 2]] = regions.width - regions.boxes[:, [2, 0]]
    return replace(regions, boxes=boxes)
