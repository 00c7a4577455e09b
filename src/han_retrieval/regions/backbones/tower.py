"""Image towers of other libraries as backbones: what photos become before a tower, and in which precision it runs.

Legend: B photos, h, w cells of the map, H, W pixels, D numbers a feature, P numbers a pooled vector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from han_retrieval.processor import device_or_best
from han_retrieval.regions.backbones.backbone import PhotoTokens
from han_retrieval.regions.efficientnet_lite import shape_for
from han_retrieval.regions.workers import map_by_shape

_VERSION = 1  # of the features that any tower gives


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a tower takes photos.

    A photo keeps its proportions and has about as many pixels as those that the tower was trained on; nothing of it is
    cut off. A tower that takes one shape alone gets photos stretched to that.

    Attributes:
        width, height: Of the photos that the tower was trained on.
        step: Width and height are multiples of it: the side of a patch, or the stride of the map.
        mean, std: Of the channels, for values from 0 to 1.
        interpolation: A name of ``Image.Resampling``, in lower case.
        any_shape: Whether the tower takes photos of any shape.
    """

    width: int
    height: int
    step: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    any_shape: bool = True

    def shape_for(self, photo: Image.Image) -> tuple[int, int]:
        """The (W, H) that a photo is resized to."""
        if not self.any_shape:
            return self.width, self.height
        return shape_for(*photo.size, size=(self.width * self.height) ** 0.5, step=self.step)

    def pixels(self, photos: Sequence[Image.Image], shape: tuple[int, int], device: torch.device) -> Tensor:
        """(B, 3, H, W) float32, normalised."""
        how = Image.Resampling[self.interpolation.upper()]
        values = torch.from_numpy(np.stack([np.asarray(photo.resize(shape, how)) for photo in photos])).to(device)
        mean, std = (torch.tensor(part, device=device).view(3, 1, 1) for part in (self.mean, self.std))
        return (values.permute(0, 3, 1, 2).float() / 255 - mean) / std

    def __str__(self) -> str:
        """All of it in short, without hyphens, for fingerprints."""
        rest = hashlib.sha256(repr((self.mean, self.std)).encode()).hexdigest()[:4]
        shape = f"{self.width}x{self.height}" + ("" if self.any_shape else "fixed")
        return f"{shape}.{self.step}.{self.interpolation}.{rest}"


class Tower(Protocol):
    """An image tower of a library.

    Attributes:
        feature_size: D.
        preprocessing: How it takes photos.
    """

    feature_size: int
    preprocessing: Preprocessing

    def modules(self) -> Iterable[nn.Module]:
        """The modules whose weights features depend on."""
        ...

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, H, W) to the map after the last norm, (B, D, h, w), and the pooled vectors, (B, P) or None."""
        ...


class TowerBackbone:
    """A tower as a backbone.

    It computes in float32 on a CPU, and on a GPU in half precision. That changes features by 0.07 % (their relative
    distance, for a ViT-S and a ResNet-18), and storing them in half precision by 0.02 %; both are called the same.
    bfloat16 changes them by 0.6 % and is not used.

    Attributes:
        fingerprint: Names the tower, its weights by their hash, and how photos are prepared.
        feature_size: D.
    """

    def __init__(self, tower: Tower, *, name: str, device: str | torch.device | None = None) -> None:
        """Wrap a tower.

        Args:
            tower: In evaluation mode.
            name: What it is asked for by, with everything that features depend on, such as "timm:NAME".
            device: Where it runs; a GPU when there is one.
        """
        self.device = device_or_best(device)
        self.tower, self.feature_size = tower, tower.feature_size
        self.fingerprint = f"{name}-{_VERSION}-{weights_hash(tower.modules())}-{tower.preprocessing}"
        for module in tower.modules():
            module.to(self.device).eval().requires_grad_(False)

    @torch.inference_mode()
    def encode(self, photos: Sequence[Image.Image]) -> list[PhotoTokens]:
        """See ``Backbone.encode``; photos of one shape pass the tower together, so that none is padded."""
        prepare = self.tower.preprocessing
        shapes = [prepare.shape_for(photo) for photo in photos]

        def run(alike: list[Image.Image], shape: tuple[int, int]) -> list[PhotoTokens]:
            maps, pooled = self._run(prepare.pixels(alike, shape, self.device))
            return [PhotoTokens((each,), None if pooled is None else pooled[i]) for i, each in enumerate(maps)]

        return map_by_shape(run, photos, shapes, one_a_thread=False)

    def _run(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        half = self.device.type == "cuda"
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=half):
            maps, pooled = self.tower(pixels)
        found = [maps] if pooled is None else [maps, pooled]
        # Some towers have activations beyond what half precision holds.
        if half and not all(each.isfinite().all() for each in found):
            maps, pooled = self.tower(pixels)
        return maps.float(), pooled if pooled is None else pooled.float()


def weights_hash(modules: Iterable[nn.Module]) -> str:
    """The first eight digits of the SHA-256 of all weights, whatever file they came from.

    Where open_clip has QuickGELU for an activation, the hash is another: the same weights give other features.
    """
    found = hashlib.sha256()
    for module in modules:
        if any(type(part).__name__ == "QuickGELU" for part in module.modules()):
            found.update(b"QuickGELU")
        for name, value in module.state_dict().items():
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()[:8]


def patch_map(tokens: Tensor, pixels: Tensor, *, prefix: int = 0) -> Tensor:
    """The map (B, D, h, w) of the patches among a transformer's tokens, which it has row by row behind all others.

    Args:
        tokens: (B, n, D).
        pixels: (B, 3, H, W), which have the map's proportions.
        prefix: How many class and register tokens stand first, as far as the library says so; more are left out too.
    """
    height, width = pixels.shape[-2:]
    h = int(((tokens.shape[1] - prefix) * height / width) ** 0.5 + 1e-6)
    w = round(h * width / height)
    return tokens[:, tokens.shape[1] - h * w :].mT.unflatten(2, (h, w))
