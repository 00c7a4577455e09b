"""The state of a run: the weights, their average, the optimiser and the step, as checkpoints hold them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from han_retrieval.errors import DataError, StoreError
from han_retrieval.ranks import Ranks
from han_retrieval.training.checkpoint import newest_checkpoint, optimizer_tensors, restore_optimizer, save_checkpoint

PATHS = ("dataset", "entities")
"""Facts that may differ between machines and from one day to another: photos and captions are told by a hash of their
ids and texts."""


class RunState:
    """A run after ``step`` steps.

    Attributes:
        weights: What is trained, by name: the module's own tensors, written in place.
        average: Their exponential moving average, from the initial weights on.
        step: Optimiser steps done.
        seconds: Time spent, over all processes that worked on the run.
        facts: What the run's data are, as JSON; a run only goes on with the same.
        best: What is known about the weights that are saved, as JSON.
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
    def update_average(self, decay: float) -> None:
        """Take the weights of one more step into the average.

        The decay starts small, so that the average soon forgets the random initial weights. (AveragedModel of torch
        starts with a copy instead, and would average integer counts.)
        """
        floating = [name for name, value in self.weights.items() if value.is_floating_point()]
        update = get_ema_multi_avg_fn(min(decay, (self.step + 1) / (self.step + 10)))
        update([self.average[name] for name in floating], [self.weights[name] for name in floating], self.step)
        for name in self.weights.keys() - set(floating):
            self.average[name].copy_(self.weights[name])

    @contextmanager
    def averaged(self, module: nn.Module) -> Iterator[None]:
        """Put the averaged weights into the module, in evaluation mode, for as long as the block lasts."""
        current = {name: value.detach().clone() for name, value in self.weights.items()}
        _copy(self.average, into=self.weights)
        module.eval()
        try:
            yield
        finally:
            module.train()
            _copy(current, into=self.weights)

    def save(self, folder: Path) -> None:
        """Write a checkpoint into ``folder``."""
        tensors = {f"model.{name}": value for name, value in self.weights.items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= optimizer_tensors(self.optimizer)
        of_run = {"step": self.step, "best": self.best, "seconds": self.seconds, "facts": self.facts}
        save_checkpoint(folder, tensors, of_run)

    def share(self, ranks: Ranks) -> None:
        """Take over the state of the first rank, in place; a collective call."""
        if ranks.count == 1:
            return
        for part in (self.weights, self.average):
            ranks.share_tensors(part)
        tensors = optimizer_tensors(self.optimizer)
        shapes = ranks.share({name: (value.shape, value.dtype, value.device.type) for name, value in tensors.items()})
        if not ranks.first:
            own = next(iter(self.weights.values())).device
            tensors = {
                name: torch.empty(shape, dtype=dtype, device="cpu" if kind == "cpu" else own)
                for name, (shape, dtype, kind) in shapes.items()
            }
        ranks.share_tensors(tensors)
        if not ranks.first:
            restore_optimizer(self.optimizer, tensors)
        self.step, self.best, self.seconds = ranks.share((self.step, self.best, self.seconds))

    def resume(self, folder: Path) -> None:
        """Go back to the newest checkpoint of ``folder``, if there is one.

        Raises:
            DataError: It was made from other data.
            HANError: It cannot be read.
        """
        checkpoint = newest_checkpoint(folder)
        if checkpoint is None:
            return
        path, tensors, state = checkpoint
        try:
            other = _differences(state["facts"], self.facts)
            if other:
                raise DataError(
                    f"{folder.parent}: the run was begun on other data ({'; '.join(other)}): resume with the same, or "
                    "choose another folder"
                )
            for prefix, target in (("model.", self.weights), ("average.", self.average)):
                _copy({name: tensors[prefix + name] for name in target}, into=target)
            restore_optimizer(self.optimizer, tensors)
            self.step, self.best, self.seconds = int(state["step"]), dict(state["best"]), float(state["seconds"])
            if self.step < 0:
                raise ValueError(f"step {self.step}")
        except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise StoreError(
                f"{path}: not a checkpoint of this run ({type(error).__name__}: {error}); delete it to begin anew"
            ) from None


@torch.no_grad()
def _copy(values: dict[str, Tensor], *, into: dict[str, Tensor]) -> None:
    for name, target in into.items():
        target.copy_(values[name])


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """In what the facts of a checkpoint differ from those of now, in words.

    Augmentations were called views once.
    """
    before = {"augmentations" if key == "views" else key: value for key, value in before.items()}
    keys = sorted((before.keys() | now.keys()).difference(PATHS))
    return [f"{key} {before.get(key)}, now {now.get(key)}" for key in keys if before.get(key) != now.get(key)]
