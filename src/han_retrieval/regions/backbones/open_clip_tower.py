"""Image towers of open_clip.

Legend: B photos, h, w cells of the map, H, W pixels, n tokens, D numbers a feature, S numbers in the shared space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.regions.backbones.loading import library, local, near, one_line, shared_space
from han_retrieval.regions.backbones.timm_tower import TimmTower, allow_any_shape
from han_retrieval.regions.backbones.tower import Preprocessing, Tower, TowerBackbone

_LIKE = "open_clip:ViT-B-16/laion2b_s34b_b88k"


class TransformerTower:
    """A vision transformer of open_clip. The map is that after the last norm, the pooled vector the image embedding.

    Attributes:
        feature_size: D, or S.
        preprocessing: The model's own size, mean, standard deviation and interpolation.
    """

    def __init__(self, visual: Any, config: dict[str, Any], *, shared: bool) -> None:
        """Wrap the image tower ``visual``; with ``shared``, patches are projected as the image embedding is."""
        self.visual, self.shared = visual, shared
        # A pooling by attention has the last norm behind it.
        self._normed = visual.attn_pool is None
        if shared and not self._normed:
            raise ConfigError("it pools by attention, and has no projection for patches; leave @proj out")
        self.feature_size: int = visual.output_dim if shared else visual.conv1.out_channels
        self.preprocessing = _preprocessing(config, visual.image_size, step=visual.patch_size[0])
        self._learned_at: nn.Parameter = visual.positional_embedding  # (1 + n, D) of the model's own shape

    def modules(self) -> Iterable[nn.Module]:
        """See ``Tower``."""
        return [self.visual]

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Tower``."""
        found = self._at_shape_of(pixels).forward_intermediates(pixels, indices=1, normalize_intermediates=self._normed)
        of_patches = found["image_intermediates"][0]
        if self.shared:
            of_patches = torch.einsum("bdhw,ds->bshw", of_patches, self.visual.proj)
        return of_patches, found["image_features"]

    def _at_shape_of(self, pixels: Tensor) -> Any:
        """The tower with its position embeddings interpolated to photos (B, 3, H, W)."""
        step = self.preprocessing.step
        at = resample_abs_pos_embed(
            self._learned_at.unsqueeze(0).to(pixels.device),
            new_size=[pixels.shape[-2] // step, pixels.shape[-1] // step],
            old_size=list(self.visual.grid_size),
        )
        self.visual.positional_embedding = nn.Parameter(at[0], requires_grad=False)
        return self.visual


class ResNetTower:
    """CLIP's ResNet: the map of its last layer, before the pooling by attention. It takes one shape.

    Attributes:
        feature_size: D, or S.
        preprocessing: The model's own size, mean, standard deviation and interpolation.
    """

    def __init__(self, visual: Any, config: dict[str, Any], *, shared: bool) -> None:
        """Wrap the image tower ``visual``; with ``shared``, each cell is projected as the pooling projects it."""
        self.visual, self.shared = visual, shared
        pool = visual.attnpool
        self.feature_size: int = pool.c_proj.out_features if shared else pool.c_proj.in_features
        self.preprocessing = _preprocessing(config, visual.image_size, step=32, any_shape=False)

    def modules(self) -> Iterable[nn.Module]:
        """See ``Tower``."""
        return [self.visual]

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Tower``."""
        found = self.visual.forward_intermediates(pixels, indices=1)
        cells = found["image_intermediates"][0]
        if self.shared:
            pool = self.visual.attnpool
            cells = pool.c_proj(pool.v_proj(cells.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return cells, found["image_features"]


class TimmModelTower:
    """A network of timm inside open_clip, as SigLIP's, Perception Encoder's and ConvNeXt-CLIP's are.

    Attributes:
        feature_size: D, or S.
        preprocessing: The model's own size, mean, standard deviation and interpolation.
    """

    def __init__(self, visual: Any, config: dict[str, Any], *, shared: bool) -> None:
        """Wrap the image tower ``visual``; with ``shared``, each cell goes through pooling and head by itself."""
        allow_any_shape(visual.trunk)
        height, width = visual.image_size
        timm_config = {**config, "input_size": (3, height, width)}
        self.trunk = TimmTower(visual.trunk, config=timm_config)
        self.visual, self.shared = visual, shared
        self.preprocessing = self.trunk.preprocessing
        with torch.inference_mode():
            cells = torch.zeros(1, self.trunk.feature_size, 1, 1)
            self.feature_size = self._project(cells).shape[1] if shared else self.trunk.feature_size

    def modules(self) -> Iterable[nn.Module]:
        """See ``Tower``."""
        return [self.visual]

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Tower``."""
        trunk = self.visual.trunk
        features = trunk.forward_features(pixels)
        pooled = self.visual.head(trunk.forward_head(features))
        cells = self.trunk.map_of(features, pixels, normed=not self.shared)
        return self._project(cells) if self.shared else cells, pooled

    def _project(self, cells: Tensor) -> Tensor:
        """(B, D, h, w) to (B, S, h, w): each cell as if it were the whole photo."""
        trunk = self.visual.trunk
        alone = cells.permute(0, 2, 3, 1).flatten(0, 2).unsqueeze(1)  # (B h w, 1, D)
        if hasattr(trunk, "blocks") and getattr(trunk, "attn_pool", None) is None:
            # Pooled by the class token, which stands first, or by the mean of what is behind the prefix.
            alone = alone.expand(-1, 1 + getattr(trunk, "num_prefix_tokens", 0), -1)
        elif not hasattr(trunk, "blocks"):  # it has a map
            of_channels_last = getattr(trunk, "output_fmt", "NCHW") == "NHWC"
            alone = alone.unsqueeze(1) if of_channels_last else alone.mT.unsqueeze(3)
        found = self.visual.head(trunk.forward_head(alone))
        return found.unflatten(0, (len(cells), *cells.shape[2:])).permute(0, 3, 1, 2)


_TOWERS: dict[str, Callable[..., Tower]] = {
    "VisionTransformer": TransformerTower,
    "ModifiedResNet": ResNetTower,
    "TimmModel": TimmModelTower,
}


def make_backbone(argument: str) -> TowerBackbone:
    """Load ``NAME/PRETRAINED``, ``NAME/FILE``, ``hf-hub:USER/NAME`` or a folder, with "@proj"; see the docs."""
    name, shared = shared_space(argument)
    open_clip = library("open_clip", wanted_by=f"open_clip:{argument}", extra="open-clip")
    name, pretrained, options = resolve_name(name, open_clip)
    with one_line(f"open_clip:{argument}", offline=offline_name(name)):
        model = open_clip.create_model(name, pretrained=pretrained, require_pretrained=True, **options).eval()
        kind = _TOWERS.get(type(model.visual).__name__)
        if kind is None:
            raise ModelError(f"its image tower, a {type(model.visual).__name__}, is not known here")
        tower = kind(model.visual, open_clip.get_model_preprocess_cfg(model), shared=shared)
    return TowerBackbone(tower, name=full_name(name, pretrained) + ("@proj" if shared else ""))


def resolve_name(argument: str, open_clip: Any) -> tuple[str, str | None, dict[str, Any]]:
    """Open_clip's name of a model, its weights' name or file, and options.

    Raises:
        ConfigError: Open_clip has no such model, or no such weights of it.
        ModelError: There is no such file or folder.
    """
    if not argument:
        raise ConfigError(f"open_clip has many models; name one with its weights, such as {_LIKE}")
    name, _, pretrained = argument.partition("/")
    models = open_clip.list_models()
    if argument.startswith("hf-hub:"):
        return argument, None, {}
    if name not in models and (folder := local(argument)):
        if not (folder / "open_clip_config.json").is_file():
            raise ModelError(f"{folder}: no folder of an open_clip model, which has open_clip_config.json")
        return f"local-dir:{folder}", None, {}
    if name not in models:
        raise ConfigError(f"open_clip:{argument}: open_clip has no model {name!r}{near(name, models)}")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained.lower().replace("-", "_") in {tag.lower().replace("-", "_") for tag in tags}:
        # Some weights were trained with another activation than the model's configuration says.
        quick = bool(open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu", False))
        return name, pretrained, {"force_quick_gelu": quick}
    file = Path(local(pretrained) or pretrained) if pretrained else None
    if file is None or not file.is_file():
        what = f"no weights {pretrained!r}, nor is that a file" if pretrained else "no weights are named"
        raise ConfigError(
            f"open_clip:{argument}: {what}; name it as in open_clip:{name}/PRETRAINED, with one of "
            f"{', '.join(tags) or 'which there are none, so a file'}"
        )
    return name, str(file), {}


def full_name(name: str, pretrained: str | None) -> str:
    """What finds the same model again from any folder, of what ``resolve_name`` gives."""
    return "open_clip:" + "/".join([name.removeprefix("local-dir:"), *([pretrained] if pretrained else [])])


def offline_name(name: str) -> str:
    """What to name instead of open_clip's model of this name where there is no network."""
    named = f"its file or folder: open_clip:{name}/FILE or " if ":" not in name else "its folder: "
    return f"name {named}open_clip:FOLDER"


def _preprocessing(config: dict[str, Any], size: Any, *, step: int, any_shape: bool = True) -> Preprocessing:
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return Preprocessing(
        width=width,
        height=height,
        step=step,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bilinear" if config.get("interpolation") == "bilinear" else "bicubic",
        any_shape=any_shape,
    )
