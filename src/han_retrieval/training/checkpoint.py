"""Checkpoints: everything that a run needs to resume exactly, as tensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from han_retrieval.errors import HANError
from han_retrieval.files import move, sync, write_whole

_PREFIX, _STATE, _TENSORS = "checkpoint-", "state.json", "tensors.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A run after ``step`` steps.

    Attributes:
        step: Steps done.
        tensors: Weights, their average and the optimiser's moments, by name.
        state: Everything else, as JSON.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into ``folder``, then delete older ones; a kill in between leaves the older one."""
    name = f"{_PREFIX}{checkpoint.step:09d}"
    temporary = folder / f".{name}"
    for left in folder.glob(f".{_PREFIX}*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        tensors = {key: value.detach().cpu().contiguous() for key, value in checkpoint.tensors.items()}
        write_whole(temporary / _TENSORS, save(tensors))
        write_whole(temporary / _STATE, json.dumps({"step": checkpoint.step, **checkpoint.state}))
        if (folder / name).exists():
            shutil.rmtree(folder / name)
        move(temporary, folder / name)
        sync(folder)
    except OSError as error:
        raise HANError(f"{folder / name}: the checkpoint cannot be written ({error.strerror or error})") from None
    for older in _checkpoints(folder)[:-1]:
        shutil.rmtree(older, ignore_errors=True)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint of ``folder``, or None where there is none.

    Raises:
        HANError: It cannot be read.
    """
    found = _checkpoints(folder)
    if not found:
        return None
    try:
        state = json.loads((found[-1] / _STATE).read_text(encoding="utf-8"))
        return Checkpoint(state.pop("step"), load_file(found[-1] / _TENSORS), state)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise HANError(f"{found[-1]}: the checkpoint cannot be read ({error}); delete it to start afresh") from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: "optimizer.<parameter>.<name>"."""
    return {
        f"optimizer.{parameter}.{name}": value
        for parameter, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the tensors of ``optimizer_tensors``."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, parameter, name = key.split(".")
            state.setdefault(int(parameter), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}*"))
