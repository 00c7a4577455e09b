"""The grid detector: a fixed pyramid of boxes over a frozen ImageNet network. It is not trained and fits any photo.

Legend: m regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image

from han_retrieval.errors import ConfigError
from han_retrieval.processor import device_or_best
from han_retrieval.regions.backbones.efficientnet import SIZES, EfficientNetBackbone
from han_retrieval.regions.combined import described
from han_retrieval.regions.efficientnet_lite import CHANNELS, WEIGHTS_SHA256, shape_for
from han_retrieval.regions.regions import Regions

LARGE_BOXES = 11  # the first boxes of the pyramid: the whole photo, its middle, the half-size windows


def pyramid(regions: int) -> np.ndarray:
    """The first ``regions`` boxes of the pyramid: (m, 4) float32, x0 y0 x1 y1 in shares of the photo.

    The whole photo, its middle, a 3 x 3 grid of half-size windows and a 5 x 5 grid of third-size windows, neighbours
    overlapping by half or so: 36 in all.
    """
    boxes = [(0.0, 0.0, 1.0, 1.0), (0.125, 0.125, 0.875, 0.875)]
    for count, side in ((3, 1 / 2), (5, 1 / 3)):
        starts = [i * (1 - side) / (count - 1) for i in range(count)]
        boxes += [(x, y, x + side, y + side) for y in starts for x in starts]
    if not 1 <= regions <= len(boxes):
        raise ConfigError(f"the grid detector gives 1 to {len(boxes)} regions a photo, not --regions {regions}")
    return np.array(boxes[:regions], dtype=np.float32)


class GridDetector:
    """Boxes of ``pyramid`` with the mean of an EfficientNet-Lite2 feature map inside each.

    Attributes:
        fingerprint: Names the network, its weights, the photo sizes and the boxes.
        feature_size: 1280.
    """

    feature_size = CHANNELS

    def __init__(self, *, regions: int = 36, device: str | torch.device | None = None):
        """Load the network.

        Args:
            regions: m, at most 36; the whole photo comes first.
            device: Where the network runs; a GPU when there is one.
        """
        self.boxes = pyramid(regions)
        self.device = device_or_best(device)
        self.fingerprint = f"grid-1-{regions}-efficientnet-lite2-{WEIGHTS_SHA256[:8]}-{'+'.join(map(str, SIZES))}"

    @cached_property
    def _backbone(self) -> EfficientNetBackbone:
        """The network, loaded when it first sees a photo; it is not where another backbone describes the boxes."""
        sizes = str(SIZES[0]) if len(self.boxes) <= LARGE_BOXES else ""
        return EfficientNetBackbone(sizes, device=self.device)

    def size_needed(self, width: int, height: int) -> tuple[int, int]:
        """See ``Detector``."""
        return shape_for(width, height, size=max(SIZES))

    def detect_boxes(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """The same boxes without features."""
        nothing = np.zeros((len(self.boxes), 0), np.float16)
        return [
            Regions(nothing, self.boxes * np.array([*photo.size] * 2, np.float32), photo.width, photo.height)
            for photo in photos
        ]

    @torch.inference_mode()
    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """See ``Detector.detect``."""
        pairs = zip(self.detect_boxes(photos), self._backbone.encode(photos), strict=True)
        return [described(regions, [tokens]) for regions, tokens in pairs]


def make_detector(argument: str, *, regions: int) -> GridDetector:
    """Make a grid detector; see ``DetectorFactory``."""
    if argument:
        raise ConfigError(f"the grid detector takes no argument: --detector grid, not grid:{argument}")
    return GridDetector(regions=regions)
