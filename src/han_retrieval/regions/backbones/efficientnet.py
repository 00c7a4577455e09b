"""The EfficientNet-Lite2 of ``grid`` and ``bottom-up`` as a backbone; nothing is downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.files import sha256_of, write_whole
from han_retrieval.parsing import read_settings
from han_retrieval.processor import device_or_best, prefers_bfloat16
from han_retrieval.regions.backbones.backbone import PhotoTokens
from han_retrieval.regions.backbones.loading import local
from han_retrieval.regions.efficientnet_lite import (
    CHANNELS,
    WEIGHTS_SHA256,
    EfficientNetLite2,
    FrozenEfficientNet,
    pixels,
    shape_for,
)
from han_retrieval.regions.workers import map_by_shape
from han_retrieval.stages import stage
from han_retrieval.storage.folder_checksums import refuse_damage, write_files
from han_retrieval.weights import read_tensors, tensor_bytes

NAME = "efficientnet-lite2"
# A photo is resized to about a size squared, at its own proportions. Features of large boxes come from a small photo
# and those of small boxes from a large one, so that a box has about the size of the photos the network learned from.
SIZES = (224, 448)
LEAST_SIZE, MOST_SIZE = 64, 1024
_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"


class _Config(BaseModel):
    """What config.json of a trained backbone says."""

    backbone: str = Field(default=NAME, pattern=f"^{NAME}$")
    sizes: tuple[int, ...] = Field(min_length=1, max_length=2)


class EfficientNetBackbone:
    """The last map of the network at one or two sizes of the photo.

    A large box is then about as large, in pixels, as the photos of ImageNet, and a small box has some cells of its own.

    Attributes:
        fingerprint: Names the weights, by their hash, and the sizes; not the folder of trained ones, which may move.
        feature_size: 1280.
        sizes: A photo is resized to about a size squared, at its own proportions.
        network: The network, frozen.
    """

    feature_size = CHANNELS

    def __init__(self, argument: str = "", *, device: str | torch.device | None = None) -> None:
        """Load the network; on a GPU where there is one.

        Args:
            argument: Nothing for ImageNet's weights and two sizes, a number for one size of the photo, or the folder of
                a backbone that was trained along (``han train --train-backbone``).
            device: Where to run.

        Raises:
            ConfigError: The argument is neither.
            ModelError: The folder is damaged or holds something else.
        """
        self.device = device_or_best(device)
        self.network = EfficientNetLite2()
        name, weights = NAME, WEIGHTS_SHA256
        self.sizes: tuple[int, ...] = SIZES
        if argument.isdecimal():
            if not LEAST_SIZE <= int(argument) <= MOST_SIZE:
                raise ConfigError(f"{NAME}:{argument}: photos are resized to {LEAST_SIZE} to {MOST_SIZE} pixels")
            name, self.sizes = f"{NAME}:{argument}", (int(argument),)
        elif argument:
            folder = local(argument)
            if folder is None:
                raise ConfigError(f"{NAME} takes a size in pixels or a folder of trained weights, not {argument!r}")
            self.sizes, weights = _load(folder, self.network)
        self.network.to(self.device)
        self.fingerprint = f"{name}-1-{weights[:8]}-{'.'.join(map(str, self.sizes))}"

    def size_needed(self, width: int, height: int) -> tuple[int, int]:
        """See ``Backbone``."""
        return shape_for(width, height, size=max(self.sizes))

    def encode(self, photos: Sequence[Image.Image]) -> list[PhotoTokens]:
        """See ``Backbone.encode``; photos of one shape pass the network together on a GPU, one a thread on the CPU."""
        of_sizes = [self._maps(photos, size) for size in self.sizes]
        return [PhotoTokens(maps, pooled=None) for maps in zip(*of_sizes, strict=True)]

    @cached_property
    def _running(self) -> Callable[[Tensor], Tensor]:
        """The network as it computes: on the CPU with folded batch norms, in bfloat16 where the CPU is faster in it."""
        if self.device.type != "cpu":
            return self.network
        return FrozenEfficientNet(self.network, dtype=torch.bfloat16 if prefers_bfloat16() else torch.float32)

    def _maps(self, photos: Sequence[Image.Image], size: int) -> list[Tensor]:
        shapes = [shape_for(*photo.size, size=size) for photo in photos]
        running = self._running  # made before the threads start

        @torch.inference_mode()
        def run(alike: list[Image.Image], shape: tuple[int, int]) -> list[Tensor]:
            with stage("network"):
                return list(running(pixels(alike, shape, self.device)).float())

        return map_by_shape(run, photos, shapes, one_a_thread=self.device.type == "cpu")


def save_backbone(folder: Path, weights: dict[str, Tensor], sizes: Sequence[int], *, card: str) -> str:
    """Write a trained network as a folder that ``efficientnet-lite2:FOLDER`` loads; its fingerprint.

    Args:
        folder: Made if it is not there; each file is written whole.
        weights: The network's, by name; kept in float16.
        sizes: Of the photos that it is for, in pixels: each is resized to about a size squared.
        card: README.md.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = tensor_bytes({name: value.half() for name, value in weights.items()})
    config = _Config(sizes=tuple(sizes)).model_dump_json().encode() + b"\n"
    write_files(folder, {_WEIGHTS: content, _CONFIG: config})
    write_whole(folder / _CARD, card)
    return f"{NAME}-1-{hashlib.sha256(content).hexdigest()[:8]}-{'.'.join(map(str, sizes))}"


def _load(folder: Path, network: EfficientNetLite2) -> tuple[tuple[int, ...], str]:
    """Load trained weights into a network; their sizes and the hash of their file."""
    if not (folder / _WEIGHTS).is_file():
        raise ModelError(f"{folder}: no trained backbone; it is a folder of {_CONFIG} and {_WEIGHTS}")
    refuse_damage(folder, [_CONFIG, _WEIGHTS])
    try:
        config = _Config.model_validate(read_settings(folder / _CONFIG, kind=ModelError))
        network.net.load_state_dict(read_tensors(folder / _WEIGHTS))
    except (ValidationError, RuntimeError):
        raise ModelError(f"{folder}: not the weights of a trained {NAME}") from None
    return config.sizes, sha256_of(folder / _WEIGHTS)


def make_backbone(argument: str) -> EfficientNetBackbone:
    """Make the backbone; see ``BackboneFactory``."""
    return EfficientNetBackbone(argument)
