"""The state of a run: all that a checkpoint holds, and the folder that it lives in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from han_retrieval.errors import HANError
from han_retrieval.files import write_whole
from han_retrieval.training.checkpoint import (
    Checkpoint,
    newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)


class State:
    """A run after ``step`` steps.

    Attributes:
        weights: What is trained, by name: the model's own tensors, written in place.
        average: Their moving average, from where they started.
        step: Optimiser steps done.
        seconds: Time spent, over all of the run's sittings.
        facts: What the run's data are; a run goes on with the same alone.
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
        if checkpoint.state["facts"] != self.facts:
            raise HANError(
                f"{folder.parent}: the run was begun on other data ({checkpoint.state['facts']}, now {self.facts}): "
                "resume with the same, or choose another folder"
            )
        for prefix, target in (("model.", self.weights), ("average.", self.average)):
            with torch.no_grad():
                for name, value in target.items():
                    value.copy_(checkpoint.tensors[prefix + name])
        restore_optimizer(self.optimizer, checkpoint.tensors)
        self.step, self.best, self.seconds = checkpoint.step, checkpoint.state["best"], checkpoint.state["seconds"]


def check_folder(folder: Path, config: BaseModel, *, resume: bool) -> None:
    """Whether a run of this configuration may begin or go on in a folder.

    A run that was begun before a field was there goes on with the field's default.

    Raises:
        HANError: It holds a run already and is not to be resumed, or one of another configuration.
    """
    file = folder / "training" / "config.json"
    if not file.exists():
        return
    if not resume:
        raise HANError(f"{folder}: holds a training run already; go on with --resume, or choose another folder")
    try:
        same = type(config).model_validate_json(file.read_text(encoding="utf-8")) == config
    except ValidationError:
        same = False
    if not same:
        raise HANError(f"{folder}: was begun with another configuration ({file}); resume with that one")


def claim_folder(folder: Path, config: BaseModel) -> Path:
    """Write the configuration into the folder of a run; the part of it where the run's own files are."""
    of_run = folder / "training"
    of_run.mkdir(parents=True, exist_ok=True)
    write_whole(of_run / "config.json", config.model_dump_json(indent=2) + "\n")
    return of_run
