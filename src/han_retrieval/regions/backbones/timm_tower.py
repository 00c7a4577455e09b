"""Backbones of timm: vision transformers, convolutional networks and those between them.

Legend: B photos, h, w cells of the map, H, W pixels, n tokens, D numbers a feature.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.layers.format import Format
from torch import Tensor, nn

from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.regions.backbones.loading import local, near, one_line, shared_space
from han_retrieval.regions.backbones.tower import Preprocessing, TowerBackbone, patch_map
from han_retrieval.weights import Unfilled

# What makes a network take photos of any shape; which of them it knows differs. Convolutional ones need nothing.
_ANY_SHAPE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


class TimmTower:
    """A network of timm without its classifier.

    The map is what ``forward_features`` gives, after the last norm, which timm puts behind the pooling for some
    networks; class and register tokens are dropped. The pooled vector is what goes into the classifier.

    Attributes:
        feature_size: D.
        preprocessing: The size, mean, standard deviation and interpolation of the network's own configuration.
    """

    def __init__(self, network: Any, *, config: dict[str, Any]) -> None:
        """Wrap a network.

        Args:
            network: In evaluation mode.
            config: What ``resolve_model_data_config`` gives for it.
        """
        self.network = network
        _, height, width = config["input_size"]
        interpolation = config["interpolation"]
        self.preprocessing = Preprocessing(
            width=width,
            height=height,
            step=_step(network),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            interpolation=interpolation if interpolation in ("bilinear", "lanczos", "nearest") else "bicubic",
            any_shape=_takes_any_shape(network),
        )
        self.feature_size: int = network.num_features
        self._norm = _norm_behind_the_pooling(network)

    def modules(self) -> Iterable[nn.Module]:
        """See ``Tower``."""
        return [self.network]

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Tower``."""
        features = self.network.forward_features(pixels)
        return self.map_of(features, pixels), self.network.forward_head(features, pre_logits=True)

    def map_of(self, features: Tensor, pixels: Tensor, *, normed: bool = True) -> Tensor:
        """The map (B, D, h, w) of what ``forward_features`` gives for photos (B, 3, H, W).

        Without ``normed``, a norm behind the pooling is left out.
        """
        norm = self._norm if normed else nn.Identity()
        if features.ndim == 3:  # (B, n, D), class and register tokens first
            return patch_map(norm(features), pixels, prefix=getattr(self.network, "num_prefix_tokens", 0))
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            features = features.permute(0, 3, 1, 2)
        return norm(features)


def make_backbone(argument: str) -> TowerBackbone:
    """Load ``NAME``, ``NAME@FILE``, ``hf-hub:USER/NAME`` or a folder; see ``BackboneFactory``."""
    name, shared = shared_space(argument)
    if shared:
        raise ConfigError(
            f"timm:{argument}: timm's networks share no space with texts; name a CLIP with open_clip:NAME/PRETRAINED"
        )
    name, options = _resolve(name)
    by_file = f"its file: timm:{name}@FILE, or " if ":" not in name else ""
    with one_line(f"timm:{argument}", offline=f"name {by_file}its folder: timm:FOLDER"):
        network = timm.create_model(name, pretrained=True, num_classes=0, **options, **_any_shape(name)).eval()
        tower = TimmTower(network, config=resolve_model_data_config(network))
    file = options.get("pretrained_cfg_overlay", {}).get("file")
    return TowerBackbone(tower, name=f"timm:{name.removeprefix('local-dir:')}" + (f"@{file}" if file else ""))


def _resolve(argument: str) -> tuple[str, dict[str, Any]]:
    """Timm's name of a model, and options for its own file.

    Raises:
        ConfigError: Timm has no such model, or no such weights of it.
        ModelError: There is no such file or folder.
    """
    if not argument:
        raise ConfigError("timm has many networks; name one, such as timm:vit_base_patch16_dinov3.lvd1689m")
    if argument.startswith(("hf-hub:", "hf_hub:")):
        return argument, {}
    if not timm.is_model(argument.partition("@")[0].partition(".")[0]) and (folder := local(argument)):
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder}: no folder of a timm model, which has config.json and model.safetensors")
        return f"local-dir:{folder}", {}
    name, _, file = argument.partition("@")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ConfigError(f"timm:{name}: timm has no such model{near(architecture, timm.list_models())}")
    if file:
        path = Path(local(file) or Path(file).absolute())
        if not path.is_file():
            raise ModelError(f"{path}: no such file; timm:{name}@FILE takes the weights of {name}")
        return name, {"pretrained_cfg_overlay": {"file": str(path)}}
    known = timm.list_pretrained(f"{architecture}*")
    if (tag and name not in known) or not any(each.partition(".")[0] == architecture for each in known):
        of_it = ", ".join(each for each in known if each.partition(".")[0] == architecture) or "none"
        raise ConfigError(f"timm:{name}: timm knows no such weights; of {architecture} it has {of_it}")
    return name, {}


def _any_shape(name: str) -> dict[str, Any]:
    """The first of ``_ANY_SHAPE`` that a network knows."""
    for options in _ANY_SHAPE[:-1]:
        try:
            with Unfilled():
                timm.create_model(name, pretrained=False, num_classes=0, **options)
        except TypeError:  # an argument that it does not know
            continue
        return options
    return {}


def allow_any_shape(network: Any) -> None:
    """Make a vision transformer that was built for one shape take any, as ``dynamic_img_size`` does from the start."""
    if getattr(network, "dynamic_img_size", None) is not False or not hasattr(network, "blocks"):
        return
    if getattr(network, "rope", None) is not None:  # computed for one shape; those of any have the same parameters
        with Unfilled():
            network.rope = timm.create_model(network.pretrained_cfg["architecture"], dynamic_img_size=True).rope
    network.dynamic_img_size = True
    network.patch_embed.strict_img_size = False
    network.patch_embed.flatten, network.patch_embed.output_fmt = False, Format.NHWC


def _embedding(network: Any) -> Any:
    return getattr(network, "patch_embed", None) or getattr(network, "embeds", None)


def _step(network: Any) -> int:
    """The stride of the network's last map in pixels."""
    info = getattr(network, "feature_info", None)
    if info:
        return int(max(each["reduction"] if isinstance(each, dict) else each for each in _reductions(info)))
    return int(_embedding(network).patch_size[0])


def _reductions(info: Any) -> list[Any]:
    return list(info) if isinstance(info, list) else list(info.reduction())


def _takes_any_shape(network: Any) -> bool:
    """Try a small photo that is no square."""
    step = _step(network)
    try:
        with torch.inference_mode():
            network.forward_features(torch.zeros(1, 3, 2 * step, 3 * step))
    except (AssertionError, RuntimeError, ValueError):
        return False
    return True


def _norm_behind_the_pooling(network: Any) -> nn.Module:
    """The last norm where timm applies it to the pooled vector alone, as ``global_pool="avg"`` has it."""
    norm = getattr(network, "norm", None)
    if isinstance(getattr(network, "fc_norm", None), nn.LayerNorm) and isinstance(norm, nn.Identity | None):
        return network.fc_norm  # type: ignore[no-any-return]
    of_head = getattr(getattr(network, "head", None), "norm", None)
    if type(of_head).__name__.startswith("LayerNorm2d"):
        return of_head  # type: ignore[return-value]
    return nn.Identity()
