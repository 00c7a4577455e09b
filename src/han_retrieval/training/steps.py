"""Data by step: each step's batch depends on the seed and the step alone, so that a run resumes exactly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
import torch

from han_retrieval.data.ahead import read_ahead

Part = TypeVar("Part")  # what is chosen for a step, such as places in the data
B = TypeVar("B")  # the batch that is loaded for it


class EpochBatches(ABC, Generic[Part, B]):
    """The batches of a run, in the order of its steps."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""

    @abstractmethod
    def _epoch(self, epoch: int) -> Sequence[Part]:
        """What each step of an epoch takes; a function of the seed and the epoch."""

    @abstractmethod
    def _load(self, step: int, part: Part) -> B:
        """The batch of a step; a function of the seed and the step."""

    def steps(self, start: int, stop: int) -> Iterator[B]:
        """The batches of the steps from ``start`` to before ``stop``; the next is loaded while one is used."""
        for _, batch in read_ahead(self._parts(start, stop), lambda part: self._load(*part), threads=1, ahead=1):
            yield batch

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, Part]]:
        per_epoch = self.steps_per_epoch
        for epoch in range(start // per_epoch, -(-stop // per_epoch)):
            for step, part in enumerate(self._epoch(epoch), start=epoch * per_epoch):
                if start <= step < stop:
                    yield step, part


def step_seed(seed: int, step: int, *use: int) -> int:
    """The seed of a step's random numbers; a number says which, where there are several."""
    return int(np.random.SeedSequence([seed, step, *use]).generate_state(1)[0])


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random numbers of a step."""
    return torch.Generator().manual_seed(step_seed(seed, step))
