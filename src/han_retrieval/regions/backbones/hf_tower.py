"""Vision towers of transformers: CLIP, SigLIP, DINO, ViT, Swin, ConvNeXt and whatever else has patches or a map.

Legend: B photos, h, w cells of the map, H, W pixels, n tokens, D numbers a feature, S numbers in the shared space.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.regions.backbones.loading import library, local, one_line, quiet, shared_space
from han_retrieval.regions.backbones.tower import Preprocessing, TowerBackbone, patch_map

_NORMS = ("post_layernorm", "layernorm", "norm", "layer_norm", "pooler.layernorm")  # what a tower calls its last one
_LIKE = "hf:google/siglip2-base-patch16-224"


class HFTower:
    """A vision tower of transformers.

    Some towers return their last hidden state before the last norm, which they apply to the pooled vector alone; it is
    then applied here. Class and register tokens are dropped. The pooled vector is the image embedding of a model with a
    text tower, the class token of others, or else the mean of the map.

    Attributes:
        feature_size: D, or S.
        preprocessing: The size, mean, standard deviation and interpolation of the model's own image processor.
    """

    def __init__(self, model: Any, processor: Any, *, shared: bool) -> None:
        """Wrap a model in evaluation mode with its image processor; with ``shared``, cells are projected like photos.

        Raises:
            ConfigError: ``shared``, and the model has no text tower.
            ModelError: The model gives neither patches nor a map.
        """
        self.vision = getattr(model, "vision_model", model)
        config = self.vision.config
        self._project: Any = getattr(model, "visual_projection", None)  # of CLIP
        self._pool: Any = getattr(self.vision, "head", None)  # of SigLIP: by attention, to the image embedding
        self._shared = shared
        if shared and self._project is None and self._pool is None:
            raise ConfigError(f"a {config.model_type} shares no space with texts; leave @proj out")
        knows = inspect.signature(self.vision.forward).parameters
        self._in_patches = "spatial_shapes" in knows
        self._options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in knows else {}
        self._prefix: int = getattr(config, "num_register_tokens", 0) or 0  # as far as the configuration says
        self._norm: nn.Module = nn.Identity()
        self.preprocessing = _preprocessing(processor, config)
        self._try_out()
        with torch.inference_mode():
            cells, _ = self._cells(torch.zeros(1, 3, self.preprocessing.height, self.preprocessing.width))
        self.feature_size: int = cells.shape[1]

    def modules(self) -> Iterable[nn.Module]:
        """See ``Tower``."""
        return [self.vision, *([self._project] if self._project is not None else [])]

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Tower``."""
        cells, found = self._cells(pixels)
        if self._project is not None:
            return cells, self._project(found.pooler_output)
        if self._pool is not None:
            return cells, found.pooler_output
        tokens = found.last_hidden_state  # poolers of other models are trained for something else, or not at all
        if tokens.ndim == 3 and tokens.shape[1] > cells.shape[2] * cells.shape[3]:
            return cells, self._norm(tokens[:, 0])
        return cells, cells.mean((2, 3))

    def _cells(self, pixels: Tensor) -> tuple[Tensor, Any]:
        """The map (B, D, h, w), or (B, S, h, w), and all that the tower gives."""
        found = self._run(pixels)
        hidden = found.last_hidden_state
        if hidden.ndim == 4:  # (B, D, h, w)
            return self._norm(hidden.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), found
        cells = patch_map(self._norm(hidden), pixels, prefix=self._prefix)
        if self._shared:
            rows = cells.permute(0, 2, 3, 1)  # (B, h, w, D)
            if self._project is not None:
                rows = self._project(rows)
            else:  # each patch as if it were the whole photo
                rows = self._pool(rows.flatten(0, 2).unsqueeze(1)).unflatten(0, rows.shape[:3])
            cells = rows.permute(0, 3, 1, 2)
        return cells, found

    def _run(self, pixels: Tensor) -> Any:
        if not self._in_patches:
            return self.vision(pixel_values=pixels, **self._options)
        # SigLIP 2 of any shape takes patches; the photos of a batch have one shape, so that there is no padding.
        p = self.preprocessing.step
        patches = pixels.unfold(2, p, p).unfold(3, p, p)  # (B, 3, h, w, p, p)
        rows, columns = patches.shape[2:4]
        values = patches.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)  # (B, h w, p p 3)
        shapes = torch.tensor([[rows, columns]] * len(pixels), device=pixels.device)
        mask = torch.ones(values.shape[:2], dtype=torch.int64, device=pixels.device)
        return self.vision(pixel_values=values, spatial_shapes=shapes, pixel_attention_mask=mask)

    @torch.inference_mode()
    def _try_out(self) -> None:
        """Find out the map's stride, whether the last norm is still to be applied, and which shapes the tower takes."""
        prepare = self.preprocessing
        noise = torch.randn(1, 3, prepare.height, prepare.width)
        norms = [found for name in _NORMS if (found := _module(self.vision, name)) is not None]
        outputs: list[Tensor] = []
        hooks = [norm.register_forward_hook(lambda _, __, output: outputs.append(output)) for norm in norms]
        hidden = self._run(noise).last_hidden_state
        for hook in hooks:
            hook.remove()
        if not torch.equal(hidden, self._run(noise).last_hidden_state):
            raise ModelError(f"a {self.vision.config.model_type} hides patches by chance, so that its features differ")
        if norms and not any(output.shape == hidden.shape and torch.equal(output, hidden) for output in outputs):
            self._norm = norms[0]
        if hidden.ndim == 4:
            prepare = replace(prepare, step=prepare.height // hidden.shape[2])
        self.preprocessing = replace(prepare, any_shape=self._takes_any_shape(prepare.step))

    def _takes_any_shape(self, step: int) -> bool:
        """Try a small photo that is no square."""
        if any(hasattr(module, "set_shift_and_window_size") for module in self.vision.modules()):
            return False  # Swin's windows, once made smaller for a photo, stay so for the next
        try:
            self._run(torch.zeros(1, 3, 4 * step, 6 * step))
        except (AssertionError, RuntimeError, ValueError, IndexError, TypeError):
            self._options = {}
            return False
        return True


def make_backbone(argument: str) -> TowerBackbone:
    """Load ``NAME[@REVISION]`` or a folder, with "@proj" for the shared space; see ``BackboneFactory``."""
    transformers = library("transformers", wanted_by=f"hf:{argument}", extra="hf")
    name, shared = shared_space(argument)
    if not name:
        raise ConfigError(f"the Hub has many models; name one, or a folder, such as {_LIKE}")
    folder = local(name)
    name, _, revision = (str(folder), "", "") if folder else name.partition("@")
    if folder and not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no folder of a transformers model, which has config.json and model.safetensors")
    options = {"revision": revision} if revision else {}
    with one_line(f"hf:{argument}", offline="name its folder: hf:FOLDER"), quiet(transformers):
        config = transformers.AutoConfig.from_pretrained(name, **options)
        _refuse_detectors(config, argument)
        model = _load(transformers, name, config, options)
        processor = transformers.AutoImageProcessor.from_pretrained(name, **options)
        tower = HFTower(model, processor, shared=shared)
    return TowerBackbone(tower, name=f"hf:{name}" + (f"@{revision}" if revision else "") + ("@proj" if shared else ""))


def _load(transformers: Any, name: str, config: Any, options: dict[str, str]) -> Any:
    """The model in evaluation mode and float32.

    Raises:
        ModelError: Its files lack weights of the image tower.
    """
    architecture = next(iter(config.architectures or ()), "")
    # The class of a tower with its projection, which AutoModel would leave out.
    kind = getattr(transformers, architecture if architecture.endswith("WithProjection") else "AutoModel")
    model, report = kind.from_pretrained(name, dtype=torch.float32, output_loading_info=True, **options)
    lacking = [each for each in report["missing_keys"] if not each.startswith(("text", "pooler", "logit"))]
    if lacking:
        raise ModelError(f"its files lack {len(lacking)} weights of the model, such as {min(lacking)}")
    model.text_model = None
    if hasattr(getattr(model, "pooler", None), "dense"):  # which may be new and random
        model.pooler = None
    return model.eval()


def _refuse_detectors(config: Any, argument: str) -> None:
    if any("ObjectDetection" in each for each in config.architectures or ()):
        raise ConfigError(
            "is an object detector, which gives boxes; name what describes them: "
            f"hf:{argument}+timm:NAME, or +efficientnet-lite2"
        )


def _preprocessing(processor: Any, config: Any) -> Preprocessing:
    crops = getattr(processor, "do_center_crop", False) and processor.crop_size
    size: dict[str, Any] = dict((processor.crop_size if crops else processor.size) or {})
    side = size.get("shortest_edge") or getattr(config, "image_size", None) or 224
    side = side[0] if isinstance(side, list | tuple) else side
    if most := getattr(processor, "max_num_patches", None):
        side = round(most**0.5) * config.patch_size
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else ((0.0,) * 3, (1.0,) * 3)
    return Preprocessing(
        width=int(size.get("width") or side),
        height=int(size.get("height") or side),
        step=_step(config),
        mean=tuple(map(float, mean)),
        std=tuple(map(float, std)),
        interpolation=Image.Resampling(int(processor.resample)).name.lower(),
    )


def _step(config: Any) -> int:
    """The stride of the last map in pixels, where it is of patches."""
    patch = getattr(config, "patch_size", None)
    if patch is None:  # a convolutional network
        return 32
    patch = patch[0] if isinstance(patch, list | tuple) else patch
    stages = len(getattr(config, "depths", None) or [1])
    return int(patch * 2 ** (stages - 1))


def _module(model: nn.Module, name: str) -> nn.Module | None:
    """A module by name, or None where there is none or it does nothing."""
    try:
        found = model.get_submodule(name)
    except AttributeError:
        return None
    return None if isinstance(found, nn.Identity) else found
