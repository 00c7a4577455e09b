"""Photos as a backbone sees them in training: cropped, mirrored, turned and recoloured at random, boxes with them.

Legend: m boxes, h, w pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from han_retrieval.training.config import BackboneConfig

# Of a box's area; of what is cut off further, its region is left out, unless it fills so much of what stays.
_LEAST_VISIBLE, _MOSTLY = 0.3, 0.5


class Change(NamedTuple):
    """What is done to a photo, in this order.

    Attributes:
        crop: x0 y0 x1 y1 of what stays, in shares of the photo.
        is_mirrored: Left and right change places.
        turns: Quarter turns to the left.
        colours: Factors of brightness, contrast and saturation.
    """

    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    is_mirrored: bool = False
    turns: int = 0
    colours: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def of_pixels(self, photo: Image.Image, shape: tuple[int, int]) -> Tensor:
        """(3, h, w) uint8 of an RGB photo that is resized to a (w, h) before it is turned."""
        scale = np.array([photo.width, photo.height] * 2)
        box = None if self.crop == (0.0, 0.0, 1.0, 1.0) else tuple((np.array(self.crop) * scale).tolist())
        resized = photo.resize(shape, Image.Resampling.BICUBIC, box=box)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
        if self.is_mirrored:
            pixels = pixels.flip(2)
        pixels = pixels.rot90(self.turns, dims=(1, 2))
        adjust = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
        for change, factor in zip(adjust, self.colours, strict=True):
            pixels = pixels if factor == 1 else change(pixels, factor)
        return pixels.contiguous()

    def of_boxes(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (m, 4), in shares of the photo, as shares of the changed one, and which of them (m,) are still seen."""
        left, top, right, bottom = self.crop
        origin, size = boxes.new_tensor([left, top] * 2), boxes.new_tensor([right - left, bottom - top] * 2)
        whole = (boxes - origin) / size
        seen = whole.clamp(0, 1)
        filled = _area(seen)
        is_seen = (filled / _area(whole).clamp(min=1e-9) >= _LEAST_VISIBLE) | (filled >= _MOSTLY)
        x0, y0, x1, y1 = seen.unbind(1)
        if self.is_mirrored:
            x0, x1 = 1 - x1, 1 - x0
        for _ in range(self.turns):
            x0, y0, x1, y1 = y0, 1 - x1, y1, 1 - x0
        return torch.stack([x0, y0, x1, y1], dim=1), is_seen


def draw(config: BackboneConfig, random: torch.Generator) -> Change:
    """Draw what is done to a photo; the same numbers are drawn whatever the configuration."""
    area, across, down, mirror, turn, *colours = torch.rand(8, generator=random).tolist()
    side = (1 - config.crop * area) ** 0.5
    x, y = across * (1 - side), down * (1 - side)
    brightness, contrast, saturation = (1 + config.colour * (2 * colour - 1) for colour in colours)
    return Change(
        crop=(x, y, x + side, y + side) if config.crop else (0.0, 0.0, 1.0, 1.0),
        is_mirrored=config.flip and mirror < 0.5,
        turns=int(4 * turn) if config.turn else 0,
        colours=(brightness, contrast, saturation),
    )


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)
