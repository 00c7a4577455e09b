"""The EfficientNet-Lite2 of ``grid`` and ``bottom-up`` as a backbone; nothing is downloaded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from han_retrieval.errors import ConfigError
from han_retrieval.regions.backbones.backbone import PhotoTokens
from han_retrieval.regions.efficientnet_lite import CHANNELS, WEIGHTS_SHA256, EfficientNetLite2, pixels, shape_for

_SIZES = (224, 448)  # of the photo for large boxes, and for small ones


class EfficientNetBackbone:
    """The last map of the network at two sizes of the photo.

    A large box is then about as large, in pixels, as the photos of ImageNet, and a small box has some cells of its own.

    Attributes:
        fingerprint: Names the weights and the sizes.
        feature_size: 1280.
    """

    feature_size = CHANNELS
    fingerprint = f"efficientnet-lite2-1-{WEIGHTS_SHA256[:8]}-{'.'.join(map(str, _SIZES))}"

    def __init__(self, *, device: str | torch.device | None = None) -> None:
        """Load the network; on a GPU where there is one."""
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.network = EfficientNetLite2().to(self.device)

    @torch.inference_mode()
    def encode(self, photos: Sequence[Image.Image]) -> list[PhotoTokens]:
        """See ``Backbone.encode``; photos of one shape pass the network together."""
        small, large = (self._maps(photos, size) for size in _SIZES)
        return [PhotoTokens(maps, pooled=None) for maps in zip(small, large, strict=True)]

    def _maps(self, photos: Sequence[Image.Image], size: int) -> list[Tensor]:
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, photo in enumerate(photos):
            alike[shape_for(*photo.size, size=size)].append(place)
        maps: dict[int, Tensor] = {}
        for shape, places in alike.items():
            maps.update(zip(places, self.network(pixels([photos[p] for p in places], shape, self.device)), strict=True))
        return [maps[place] for place in range(len(photos))]


def make_backbone(argument: str) -> EfficientNetBackbone:
    """Make the backbone; see ``BackboneFactory``."""
    if argument:
        raise ConfigError(f"efficientnet-lite2 takes no argument, not {argument!r}")
    return EfficientNetBackbone()
