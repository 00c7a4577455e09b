"""Detection on horizontally flipped photos, as an augmentation of the training photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from han_retrieval.regions.regions import Regions

if TYPE_CHECKING:
    from PIL import Image

    from han_retrieval.regions.detector import Detector

FLIPPED = "han-retrieval: flipped"
"""Among what Pillow keeps with an image: that it is flipped, for a detector that knows the photo's boxes."""
_SUFFIX = "-mirrored"  # of the fingerprint; region stores keep it


class FlippedDetector:
    """Runs a detector on horizontally flipped photos and flips the boxes back.

    Features differ a little from those of the photo itself; boxes, captions and phrases hold for both.
    ``han train --augmented`` trains on both. The fingerprint is the detector's, with "-mirrored" behind it.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.fingerprint = detector.fingerprint + _SUFFIX
        self.feature_size, self.size_needed = detector.feature_size, getattr(detector, "size_needed", None)

    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """See ``Detector.detect``; boxes are in pixels of the photos as given."""
        from PIL import ImageOps

        flipped = [ImageOps.mirror(photo) for photo in photos]
        for photo in flipped:
            photo.info[FLIPPED] = True
        return [_flip_boxes(regions) for regions in self._detector.detect(flipped)]


def same_detector(fingerprint: str, other: str) -> bool:
    """Whether two fingerprints are of one detector, on flipped photos or not."""
    return fingerprint.removesuffix(_SUFFIX) == other.removesuffix(_SUFFIX)


def _flip_boxes(regions: Regions) -> Regions:
    if regions.boxes is None:
        return regions
    boxes = regions.boxes.copy()
    boxes[:, [0, 2]] = regions.width - regions.boxes[:, [2, 0]]
    return replace(regions, boxes=boxes)
