"""The grid detector: a fixed pyramid of boxes over a frozen ImageNet network. It is not trained and fits any photo.

Legend: B photos, m regions, h, w pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from han_retrieval.errors import ConfigError
from han_retrieval.regions.efficientnet_lite import (
    CHANNELS,
    WEIGHTS_SHA256,
    EfficientNetLite2,
    mean_in_boxes,
    pixels,
    shape_for,
)
from han_retrieval.regions.regions import Regions

# A photo is resized to about a size squared, at its own proportions. Features of large boxes come from a small photo
# and those of small boxes from a large one, so that a box has about the size of the photos the network learned from.
_SIZES = (224, 448)
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
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.fingerprint = f"grid-1-{regions}-efficientnet-lite2-{WEIGHTS_SHA256[:8]}-{'+'.join(map(str, _SIZES))}"

    @cached_property
    def network(self) -> EfficientNetLite2:
        """The network, loaded when it first sees a photo; it is not where a backbone describes the boxes."""
        return EfficientNetLite2().to(self.device)

    def size_needed(self, width: int, height: int) -> tuple[int, int]:
        """See ``Detector``."""
        return shape_for(width, height, size=max(_SIZES))

    def detect_boxes(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """The same boxes without features."""
        nothing = np.zeros((len(self.boxes), 0), np.float16)
        return [
            Regions(nothing, self.boxes * np.array([*photo.size] * 2, np.float32), photo.width, photo.height)
            for photo in photos
        ]

    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """See ``Detector.detect``; photos of one shape in both sizes pass the network together."""
        alike: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
        for place, photo in enumerate(photos):
            alike[tuple(shape_for(*photo.size, size=size) for size in _SIZES)].append(place)
        found: dict[int, Regions] = {}
        for shapes, places in alike.items():
            parts = zip(shapes, (self.boxes[:LARGE_BOXES], self.boxes[LARGE_BOXES:]), strict=True)
            features = [
                self._features([photos[place] for place in places], shape, boxes)
                for shape, boxes in parts
                if len(boxes)
            ]
            for place, of_photo in zip(places, np.concatenate(features, axis=1), strict=True):
                size = np.array([photos[place].width, photos[place].height] * 2, dtype=np.float32)
                found[place] = Regions(of_photo, self.boxes * size, photos[place].width, photos[place].height)
        return [found[place] for place in range(len(photos))]

    @torch.inference_mode()
    def _features(self, photos: Sequence[Image.Image], shape: tuple[int, int], shares: np.ndarray) -> np.ndarray:
        """(B, m, 1280) float16 of photos resized to one (w, h), for boxes (m, 4) in shares of the photo."""
        feature_map = self.network(pixels(photos, shape, self.device))  # (B, 1280, h / 32, w / 32)
        boxes: Tensor = torch.from_numpy(shares * np.array([*shape, *shape], dtype=np.float32)).to(self.device)
        means = mean_in_boxes(feature_map, [boxes] * len(photos))  # (B m, 1280)
        return means.unflatten(0, (len(photos), len(shares))).half().cpu().numpy()  # type: ignore[no-any-return]


def make_detector(argument: str, *, regions: int) -> GridDetector:
    """Make a grid detector; see ``DetectorFactory``."""
    if argument:
        raise ConfigError(f"the grid detector takes no argument: --detector grid, not grid:{argument}")
    return GridDetector(regions=regions)
