"""The Faster R-CNNs of torchvision, with weights that torchvision knows by name or that a file holds."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import detection, get_model_builder, get_model_weights, list_models

from han_retrieval.errors import ConfigError, ModelError, first_line
from han_retrieval.files import from_home, sha256_of

MODELS = tuple(name for name in list_models(detection) if "rcnn" in name)
_SHA = 8  # digits of a file's SHA-256 that torchvision has in the file's name
_CLASSES = "roi_heads.box_predictor.cls_score.weight"
# Weights of a time when torchvision's frozen batch norms had no epsilon; its own builders set it to 0 for them too.
_WITHOUT_EPSILON = ("258fb6c6", "bf2d0c1e", "fc266e95")


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a network and their origin.

    Attributes:
        model: One of ``MODELS``.
        source: Their file or address.
        state: The state dict.
        sha: The first eight digits of the file's SHA-256.
        classes: The names of the classes, the background first.
    """

    model: str
    source: str
    state: dict[str, Tensor]
    sha: str
    classes: tuple[str, ...]


def read_weights(model: str, weights: str | None) -> Weights:
    """Read the weights of a model: torchvision's default weights, its others by name, or those of a file.

    A file's classes have the names of the model's default weights where there are as many; else "class 1" and so on.

    Raises:
        ConfigError: There is no such model.
        ModelError: The weights are not known, not readable, or cannot be downloaded.
    """
    if model not in MODELS:
        reason = "has no box head" if model in list_models(detection) else "is no detection model of torchvision"
        near = ", ".join(get_close_matches(model, MODELS, n=3) or MODELS)
        raise ConfigError(f"torchvision:{model}: {model!r} {reason}; it must be a Faster R-CNN, such as {near}")
    entries = get_model_weights(model)
    wanted = (weights or "DEFAULT").removeprefix(f"{entries.__name__}.")
    if wanted in entries.__members__:
        entry = entries[wanted]
        source, state, sha = entry.url, _download(model, entry), _sha_in_name(entry)
    else:
        path = from_home(wanted)
        if not path.is_file():
            names = ", ".join(dict.fromkeys(each.name for each in entries))
            raise ModelError(f"{path}: no such file; the weights that torchvision has for {model} are {names}")
        sha = _sha(path)
        source, state = str(path), _read(path)
        entry = entries[weights_name(model, sha) or "DEFAULT"]
    names, count = entry.meta["categories"], len(state[_CLASSES])
    classes = tuple(names) if len(names) == count else tuple(f"class {i}" for i in range(count))
    return Weights(model, source, state, sha, classes)


def weights_name(model: str, sha: str) -> str | None:
    """Torchvision's name of the weights of this model with this hash, or None where they are not torchvision's."""
    entries = get_model_weights(model) if model in MODELS else ()
    return next((each.name for each in entries if _sha_in_name(each) == sha), None)


def load_network(weights: Weights) -> Any:
    """The network with its weights, ready to detect; masks and key points are left out.

    Raises:
        ModelError: The weights are of another model.
    """
    build = get_model_builder(weights.model)
    network = build(weights=None, weights_backbone=None, num_classes=len(weights.classes)).eval().requires_grad_(False)
    try:
        network.load_state_dict(weights.state)
    except RuntimeError as error:
        raise ModelError(f"{weights.source}: not the weights of a {weights.model} ({_in_short(error)})") from None
    if weights.sha in _WITHOUT_EPSILON:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    heads: Any = network.roi_heads
    heads.mask_roi_pool = heads.keypoint_roi_pool = None
    # RoI pooling learns the strides of the maps from the first photo that it gets, and wrongly from a very long one.
    with torch.inference_mode():
        maps = network.backbone(torch.zeros(1, 3, 128, 128))
        heads.box_roi_pool(maps, [torch.tensor([[0.0, 0.0, 128.0, 128.0]])], [(128, 128)])
    return network


def _sha(path: Path) -> str:
    return sha256_of(path)[:_SHA]


def _sha_in_name(entry: Any) -> str:
    return Path(entry.url).stem.rpartition("-")[2]


def _download(model: str, entry: Any) -> dict[str, Tensor]:
    """Torchvision's weights, downloaded into its cache where they are not there, with its own progress bar.

    Torchvision checks the hash of what it downloads, not of what is in the cache.
    """
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(entry.url).name)
    sha = _sha_in_name(entry)
    if cached.is_file() and _sha(cached) != sha:
        raise ModelError(
            f"{cached}: damaged, its SHA-256 does not begin with {sha}; delete it, and it is downloaded again"
        )
    try:
        return entry.get_state_dict(progress=True, check_hash=True, weights_only=True, map_location="cpu")  # type: ignore[no-any-return]
    except Exception as error:  # of the network, the disk, or a damaged file in the cache
        raise ModelError(
            f"{entry.url}: cannot be downloaded or read ({_in_short(error)}); fetch the file by other means and use "
            f"--detector torchvision:{model}@FILE"
        ) from None


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict of a file; no code in the file is run."""
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # damaged files raise anything
        raise ModelError(f"{path}: no weights that can be read ({_in_short(error)})") from None
    if not isinstance(state, dict) or not isinstance(state.get(_CLASSES), Tensor):
        raise ModelError(f"{path}: not the state dict of a Faster R-CNN, which has {_CLASSES}: save model.state_dict()")
    return state


def _in_short(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # torch's own message proposes to run what is in the file
        return "damaged, or it holds more than tensors"
    return first_line(error)
