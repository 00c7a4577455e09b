"""A detector: the whole photo and its four quarters, each described by a colour histogram."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from han_retrieval.errors import ConfigError
from han_retrieval.regions import Detector, Regions

BINS = 8  # a colour channel


class Quadrants:
    """Up to five boxes a photo, 24 numbers each."""

    feature_size = 3 * BINS

    def __init__(self, *, regions: int):
        self.count = min(regions, 5)
        self.fingerprint = f"quadrants-1-{self.count}"  # name, version, regions: whatever the features depend on

    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """One ``Regions`` a photo, in order."""
        return [self._regions(photo) for photo in photos]

    def _regions(self, photo: Image.Image) -> Regions:
        w, h = photo.size
        quarters = [(x, y, x + w / 2, y + h / 2) for y in (0, h / 2) for x in (0, w / 2)]
        boxes = np.array([(0, 0, w, h), *quarters], np.float32)[: self.count]  # (m, 4) x0 y0 x1 y1 in pixels
        features = [np.array(photo.resize((32, 32), box=tuple(box)).histogram()) for box in boxes]
        shares = np.reshape(features, (len(boxes), 3 * BINS, -1)).sum(2) / 32**2  # (m, 24)
        return Regions(shares.astype(np.float16), boxes, w, h)


def make(argument: str, *, regions: int) -> Detector:
    """Called for ``--detector quadrants``; ``argument`` is what stands behind a colon."""
    if argument:
        raise ConfigError(f"quadrants takes nothing behind a colon; got {argument!r}")
    return Quadrants(regions=regions)
