"""Checkpoints: everything that a run needs to resume exactly, as tensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from han_retrieval.errors import StoreError
from han_retrieval.files import move, sync, write_whole
from han_retrieval.matchers.saving import write_tensors
from han_retrieval.parsing import read_settings

_PREFIX, _STATE, _TENSORS = "checkpoint-", "state.json", "tensors.safetensors"


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a checkpoint into ``folder``, then delete older ones; a kill in between leaves the older one.

    Args:
        folder: Of the run.
        tensors: Weights, their average and the optimiser's moments, by name.
        state: Everything else, as JSON, with the number of steps done as "step".
    """
    name = f"{_PREFIX}{state['step']:09d}"
    temporary = folder / f".{name}"
    for left in folder.glob(f".{_PREFIX}*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        write_tensors(temporary / _TENSORS, tensors)
        write_whole(temporary / _STATE, json.dumps(state))
        if (folder / name).exists():
            shutil.rmtree(folder / name)
        move(temporary, folder / name)
        sync(folder)
    except OSError as error:
        raise StoreError(f"{folder / name}: the checkpoint cannot be written ({error.strerror or error})") from None
    for older in _checkpoints(folder)[:-1]:
        shutil.rmtree(older, ignore_errors=True)


def newest_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors and the state of the newest checkpoint of ``folder``, or None where there is none.

    Raises:
        StoreError: It cannot be read.
    """
    found = _checkpoints(folder)
    if not found:
        return None
    try:
        return load_file(found[-1] / _TENSORS), read_settings(found[-1] / _STATE, kind=StoreError)
    except (OSError, SafetensorError, StoreError) as error:
        raise StoreError(f"{found[-1]}: the checkpoint cannot be read ({error}); delete it to start afresh") from None


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
