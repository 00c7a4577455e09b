"""The state of a run: all that a checkpoint holds, and the folder that it lives in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from han_retrieval.errors import HANError
from han_retrieval.files import write_whole
from han_retrieval.storage.locks import LOCK_NAME, WriterLock
from han_retrieval.training.checkpoint import (
    Checkpoint,
    newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from han_retrieval.training.config import TrainingConfig


class State:
    """A run after ``step`` steps.

    Attributes:
        weights: What is trained, by name: the model's own tensors, written in place.
        average: Their moving average, from where they started.
        step: Optimiser steps done.
        seconds: Time spent, over all of the run's sittings.
        facts: What the run's data are, as JSON; a run goes on with the same alone.
        best: What is known of the weights that are kept.
    """

    def __init__(self, weights: dict[str, Tensor], optimizer: torch.optim.Optimizer, facts: dict[str, Any]) -> None:
        self.weights = weights
        self.average = {name: value.detach().clone() for name, value in weights.items()}
        self.optimizer = optimizer
        self.step = 0
        self.seconds = 0.0
        self.facts = facts
        self.best: dict[str, Any] = {}

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average on by one step; it starts as a plain mean, not to remember the random start for long."""
        rate = 1 - (min(decay, (self.step + 1) / (self.step + 10)) if decay else 0.0)
        for name, current in self.weights.items():
            if current.is_floating_point():
                self.average[name].lerp_(current, rate)
            else:  # a count
                self.average[name].copy_(current)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The weights are the averaged ones for as long as the block lasts."""
        current = {name: value.detach().clone() for name, value in self.weights.items()}
        self._set(self.average)
        try:
            yield
        finally:
            self._set(current)

    @torch.no_grad()
    def _set(self, values: dict[str, Tensor]) -> None:
        for name, value in self.weights.items():
            value.copy_(values[name])

    def save(self, folder: Path) -> None:
        """Write a checkpoint into ``folder``."""
        tensors = {f"model.{name}": value for name, value in self.weights.items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= optimizer_tensors(self.optimizer)
        of_run = {"best": self.best, "seconds": self.seconds, "facts": self.facts}
        save_checkpoint(folder, Checkpoint(self.step, tensors, of_run))

    def resume(self, folder: Path) -> None:
        """Go back to the newest checkpoint of ``folder``, if there is one.

        Raises:
            HANError: It cannot be read, or is of other data.
        """
        checkpoint = newest_checkpoint(folder)
        if checkpoint is None:
            return
        other = _differences(checkpoint.state["facts"], self.facts)
        for name, value in self.weights.items():
            saved = checkpoint.tensors[f"model.{name}"]
            if saved.shape != value.shape:
                other.append(f"{name} {tuple(saved.shape)}, now {tuple(value.shape)}")
        if other:
            raise HANError(
                f"{folder.parent}: the run was begun on other data ({'; '.join(other)}): resume with the same, or "
                "choose another folder"
            )
        for prefix, target in (("model.", self.weights), ("average.", self.average)):
            with torch.no_grad():
                for name, value in target.items():
                    value.copy_(checkpoint.tensors[prefix + name])
        restore_optimizer(self.optimizer, checkpoint.tensors)
        self.step, self.best, self.seconds = checkpoint.step, checkpoint.state["best"], checkpoint.state["seconds"]


def make_optimizer(config: TrainingConfig, parameters: Iterable[Any]) -> torch.optim.Optimizer:
    """The optimiser that a configuration names, of parameters or groups of them."""
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.learning_rate)
    return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)


def content_hash(parts: Iterable[Any]) -> str:
    """A hash of what a run learns from, given as bytes and as what JSON can hold."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        content = part if isinstance(part, bytes) else json.dumps(part).encode()
        digest.update(f"{len(content)} ".encode() + content)
    return digest.hexdigest()


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In what the facts of a checkpoint differ from those of now, in words.

    Older checkpoints have no hash, and each view by its detector's fingerprint, one of a kind.
    """
    if "content_hash" not in before:
        now = {key: value for key, value in now.items() if key != "content_hash"}
    if isinstance(before.get("views"), dict):
        now = {**now, "views": dict(now.get("views", ()))}
    keys = sorted(before.keys() | now.keys())
    return [f"{key} {before.get(key)}, now {now.get(key)}" for key in keys if before.get(key) != now.get(key)]


def check_folder(folder: Path, config: BaseModel, *, resume: bool) -> None:
    """Whether a run of this configuration may begin or go on in a folder.

    A run that was begun before a field was there goes on with the field's default.

    Raises:
        HANError: It is none, holds a run already and is not to be resumed, one of another configuration, or things that
            are no run's.
    """
    of_run = folder / "training"
    file = of_run / "config.json"
    if not file.exists():
        for place in (folder, of_run):
            _refuse_others(place, folder)
        return
    if not resume:
        raise HANError(f"{folder}: holds a training run already; go on with --resume, or choose another folder")
    try:
        same = type(config).model_validate_json(file.read_text(encoding="utf-8")) == config
    except ValidationError:
        same = False
    if not same:
        raise HANError(f"{folder}: was begun with another configuration ({file}); resume with that one")


def _refuse_others(place: Path, folder: Path) -> None:
    """See that nothing is in a part of a folder but what a run that was killed at its very start leaves."""
    if place.exists() and not place.is_dir():
        raise HANError(f"{place}: is a file; name a new folder")
    for path in sorted(place.iterdir()) if place.exists() else ():
        if path != folder / "training" and path.name != LOCK_NAME and not path.name.startswith(".config.json."):
            raise HANError(f"{folder}: holds other things, such as {path.relative_to(folder)}; choose a new folder")


@contextmanager
def claimed_folder(folder: Path, config: BaseModel) -> Iterator[Path]:
    """As long as it lasts, no other process trains in the folder of a run, which has the configuration in it.

    Gives the part of the folder where the run's own files are.

    Raises:
        HANError: Another process does, or nothing can be written there.
    """
    of_run = folder / "training"
    try:
        of_run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HANError(f"{of_run}: the folder cannot be made ({error.strerror})") from None
    lock = WriterLock(of_run)
    try:
        write_whole(of_run / "config.json", config.model_dump_json(indent=2) + "\n")
        yield of_run
    finally:
        lock.close()
