"""Checkpoints: everything that a run needs to resume exactly, as tensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from han_retrieval.errors import StoreError
from han_retrieval.files import move, sync
from han_retrieval.parsing import read_settings
from han_retrieval.storage.damage import Damage
from han_retrieval.storage.folder_checksums import check_files, write_files
from han_retrieval.weights import read_tensors, tensor_bytes

_PREFIX, _STATE, _TENSORS = "checkpoint-", "state.json", "tensors.safetensors"
_MEND = "delete this checkpoint: --resume then goes on from an older one if there is one, or else begins anew"


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a checkpoint into ``folder``, then delete all others; a kill in between leaves the older one.

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
        write_files(temporary, {_TENSORS: tensor_bytes(tensors), _STATE: json.dumps(state).encode()})
        if (folder / name).exists():
            shutil.rmtree(folder / name)
        move(temporary, folder / name)
        sync(folder)
    except OSError as error:
        raise StoreError(f"{folder / name}: the checkpoint cannot be written ({error.strerror or error})") from None
    for other in checkpoints(folder):
        if other.name != name:  # an older one, or a damaged one that the run went back behind
            shutil.rmtree(other, ignore_errors=True)


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Tensor], dict[str, Any]] | None:
    """The newest checkpoint of ``folder`` that is sound, its tensors and its state, or None where there is none at all.

    Newer ones that are damaged are named on standard error.

    Raises:
        StoreError: All are damaged.
    """
    damages: list[Damage] = []
    for found in reversed(checkpoints(folder)):
        damage = check_checkpoint(found)
        try:
            if not damage:
                state = read_settings(found / _STATE, kind=StoreError)
                tensors = read_tensors(found / _TENSORS, error=StoreError)
                for each in damages:
                    tqdm.write(f"warning: {each.path}: {each.what}; going on from {found.name}", file=sys.stderr)
                return found, tensors, state
        except StoreError as error:
            damage = [Damage(found, f"the checkpoint cannot be read ({error})", _MEND)]
        damages += damage
    if damages:
        raise StoreError(str(damages[0]))
    return None


def check_checkpoint(path: Path) -> list[Damage]:
    """Compare a checkpoint with its checksums."""
    missing = [Damage(path / name, "is missing", _MEND) for name in (_TENSORS, _STATE) if not (path / name).is_file()]
    return missing or [replace(each, mend=_MEND) for each in check_files(path, [_TENSORS, _STATE])]


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
            state.setdefault(int(parameter), {})[name] = value.clone()  # not the pages of its file
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run's folder, the newest last."""
    return sorted(folder.glob(f"{_PREFIX}*"))
