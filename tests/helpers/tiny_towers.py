"""Small random towers of timm, transformers and open_clip, saved as their users save them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
_TEXT = {"context_length": 8, "vocab_size": 60, "width": 32, "heads": 2, "layers": 1}


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def save_timm(folder: Path, architecture: str, *, seed: int = 0, **options: Any) -> Path:
    """A folder as timm's ``save_for_hf`` writes it."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    network = timm.create_model(architecture, pretrained=False, num_classes=0, **options).eval()
    side = options.get("img_size", 64)
    timm.models.save_for_hf(network, folder, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    config["model_args"] = options
    config["pretrained_cfg"] |= {"input_size": (3, side, side), "mean": MEAN, "std": STD}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def save_open_clip(folder: Path, vision: dict[str, Any], *, size: int = 24, custom_text: bool = False) -> Path:
    """A folder as open_clip's ``save_for_hf`` writes it."""
    import open_clip

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"embed_dim": size, "vision_cfg": vision, "text_cfg": _TEXT}
    model = (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**config)
    save_file({k: v.clone() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic"}
    whole = {"model_cfg": {**config, "custom_text": custom_text}, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    return folder


def save_hf(folder: Path, model: Any, processor: Any) -> Path:
    """A folder as transformers' ``save_pretrained`` writes it."""
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
