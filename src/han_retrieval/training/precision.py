"""The precision of a training's large products."""

from __future__ import annotations

import torch

from han_retrieval.errors import ConfigError
from han_retrieval.training.config import LoopConfig


def autocast(config: LoopConfig, device: torch.device) -> torch.autocast:
    """A context in which torch computes in ``config.precision`` what loses little by it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")


def check_precision(config: LoopConfig, device: torch.device) -> None:
    """See that a device computes in ``config.precision``; a CPU does in any, if slowly.

    Raises:
        ConfigError: It is a GPU without bfloat16.
    """
    if config.precision == "bfloat16" and device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise ConfigError(f"precision = bfloat16: the GPU {name} has none; leave it at float32")
