"""The training loop that all trainings share, on one process or on several ranks.

A training is a ``TrainingTask``: it gives the batches, the loss of each, and what happens at the end of an epoch.
Everything else is done here: learning rate, gradients, moving average, log, checkpoints and signals. A step depends on
the weights, the seed and its own number alone, so that a run that was stopped resumes exactly, with as many ranks as
before or with others.
"""

from __future__ import annotations

import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from han_retrieval.errors import ModelError
from han_retrieval.progress import progress_bar
from han_retrieval.ranks import ALONE, Ranks
from han_retrieval.training.config import LoopConfig
from han_retrieval.training.distributed import compare_ranks
from han_retrieval.training.log import Log, NoLog
from han_retrieval.training.schedule import learning_rate
from han_retrieval.training.session import TrainingSession
from han_retrieval.training.state import RunState
from han_retrieval.training.steps import step_seed
from han_retrieval.training.watch import CollapseWatch

B = TypeVar("B")

_LOOK_FOR = "look for features that are not finite, or lower learning_rate; the last checkpoint stands"


@dataclass(frozen=True)
class StepLoss:
    """The loss of one batch.

    Attributes:
        total: The scalar whose gradient the step follows.
        parts: Scalars for the log, by name, such as the terms of ``total``.
        notes: Other numbers for the log.
        collapsed: A scalar: what ``parts["loss"]`` is when all scores are equal, for the collapse watch; None watches
            not.
        pairs: Pairs that were scored, for the speed in the log; 0 logs none.
        ranks: The ranks that share the batch. Numbers here are those of the whole batch, on each of them, and gradients
            are summed. A task that knows nothing of ranks computes each batch whole on every one.
    """

    total: Tensor
    parts: Mapping[str, Tensor]
    notes: Mapping[str, float] = field(default_factory=dict)
    collapsed: Tensor | None = None
    pairs: int = 0
    ranks: Ranks = ALONE


@dataclass(frozen=True)
class EpochReport:
    """What an epoch reached: metrics for the log, and a line for people ("" for none)."""

    metrics: dict[str, Any]
    line: str = ""


class TrainingTask(ABC, Generic[B]):
    """What is trained, on what data, with what loss.

    Attributes:
        module: Its parameters that require gradients are trained.
        weights: The tensors that are averaged and saved, by name: the module's own.
        facts: What the data are, as JSON; a run resumes with the same alone.
        steps_per_epoch: Batches in an epoch.
    """

    module: nn.Module
    weights: dict[str, Tensor]
    facts: dict[str, Any]
    steps_per_epoch: int

    @abstractmethod
    def batches(self, start: int, stop: int) -> Iterator[B]:
        """The batches of the steps from ``start`` to before ``stop``, the same however often they are asked for."""

    @abstractmethod
    def loss(self, batch: B, *, step: int, steps: int) -> StepLoss:
        """The loss of the batch of a step, counted from 0, in a run of so many steps."""

    def parameters(self) -> list[tuple[list[nn.Parameter], float]]:
        """What is trained, in groups, each with its share of the learning rate."""
        return [([parameter for parameter in self.module.parameters() if parameter.requires_grad], 1.0)]

    def end_epoch(self, epoch: int, state: RunState) -> EpochReport | None:
        """Evaluate and save the module after an epoch, counted from 1; None where there is nothing to log.

        With several ranks the first alone is asked, and the others wait: it must make no collective call.
        The module has its averaged weights, ``state.average``, and is in evaluation mode.
        """
        return None

    def reason_to_end(self, epochs: int, state: RunState) -> str:
        """Why the run is over after so many epochs, before its last step; "" where it goes on. All ranks are asked."""
        return ""


def run_training(
    task: TrainingTask[B],
    config: LoopConfig,
    run_folder: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    tensorboard: bool = False,
    ranks: Ranks = ALONE,
) -> RunState:
    """Train from the first step, or from the newest checkpoint, to the last, or to where the task has a reason to end.

    Args:
        task: What is trained.
        config: How.
        run_folder: Where the log and the checkpoints go: what ``claimed_folder`` yields.
        resume: Go on from the newest checkpoint; without one, begin.
        progress: Show a progress bar and notes on standard error.
        tensorboard: Write TensorBoard events as well.
        ranks: The processes that train together, each of which calls this with a task of the same data. The first
            reads, writes and shows.

    Raises:
        ModelError: A loss or a gradient is not finite.
        ConfigError: Ranks have other data, another configuration or other versions of packages.
        HANError: The checkpoint is of other data or cannot be read.
        KeyboardInterrupt: The training was asked to stop; a checkpoint is written.
    """
    groups = task.parameters()
    trained = [parameter for parameters, _ in groups for parameter in parameters]
    state = RunState(task.weights, _make_optimizer(config, groups), task.facts)
    compare_ranks(ranks, config, task.facts)
    if resume and ranks.first:
        state.resume(run_folder)
    state.share(ranks)
    steps, watch = config.epochs * task.steps_per_epoch, CollapseWatch()
    if progress and ranks.first and config.warm_up_steps >= steps:
        tqdm.write(
            f"warning: warm_up_steps is {config.warm_up_steps} and the training has {steps} steps, so that the "
            "learning rate stays below learning_rate; lower warm_up_steps",
            file=sys.stderr,
        )
    over = task.reason_to_end(state.step // task.steps_per_epoch, state)  # a run that ended may be resumed
    task.module.train()
    with (
        Log(run_folder, after_step=state.step, tensorboard=tensorboard) if ranks.first else NoLog() as log,
        progress_bar(
            total=steps, initial=state.step, unit="step", desc="training", show=progress and ranks.first
        ) as bar,
        TrainingSession(
            state, log, run_folder, minutes=config.checkpoint_minutes, notes=progress, ranks=ranks
        ) as session,
    ):
        for batch in task.batches(state.step, state.step if over else steps):
            begun = time.monotonic()
            rate = learning_rate(config, state.step, steps=steps)
            torch.manual_seed(step_seed(config.seed, state.step))  # of dropout, which is the same when a run resumes
            loss = task.loss(batch, step=state.step, steps=steps)
            parts = _finite_parts(loss, step=state.step)
            _update(loss, trained, state, rate=rate, config=config, ranks=ranks)

            speed = {"pairs_per_second": loss.pairs / (time.monotonic() - begun)} if loss.pairs else {}
            log.step(state.step, **parts, rate=rate, **loss.notes, **speed)
            shown = {name: f"{value:.3f}" for name, value in parts.items()}
            bar.set_postfix(shown | {name: f"{value:,.0f}" for name, value in speed.items()}, refresh=False)
            bar.update()
            warning = None if loss.collapsed is None else watch.see(parts["loss"], collapsed=float(loss.collapsed))
            if warning and ranks.first:
                tqdm.write(f"warning: {warning}", file=sys.stderr)

            epoch, rest = divmod(state.step, task.steps_per_epoch)
            if rest == 0 and ranks.first:
                with state.averaged(task.module):
                    report = task.end_epoch(epoch, state)
                if report is not None:
                    log.epoch(state.step, epoch=epoch, metrics=report.metrics)
                    if progress and report.line:
                        tqdm.write(f"epoch {epoch}: {report.line}", file=sys.stderr)
            if rest == 0:
                ranks.wait()
                state.best = ranks.share(state.best)
                over = task.reason_to_end(epoch, state)
            session.end_step(end_of_epoch=rest == 0)
            if over:
                break
    if over and state.step < steps and progress and ranks.first:
        epoch = state.step // task.steps_per_epoch
        tqdm.write(f"ended after epoch {epoch} of {config.epochs}: {over}", file=sys.stderr)
    return state


def _update(
    loss: StepLoss, trained: list[nn.Parameter], state: RunState, *, rate: float, config: LoopConfig, ranks: Ranks
) -> None:
    """One step of the optimiser and of the moving average, the same on all ranks.

    Raises:
        ModelError: The gradient is not finite; nothing is changed then.
    """
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    state.optimizer.zero_grad(set_to_none=True)
    loss.total.backward()  # type: ignore[no-untyped-call]
    ranks.reduce_gradients(trained, shared=loss.ranks.count > 1)
    norm = float(nn.utils.clip_grad_norm_(trained, config.gradient_clip))
    if not math.isfinite(norm):
        raise ModelError(f"the gradient's norm is {norm} at step {state.step}: {_LOOK_FOR}")
    state.optimizer.step()
    state.update_average(config.ema_decay)
    state.step += 1


def _finite_parts(loss: StepLoss, *, step: int) -> dict[str, float]:
    """The parts of a loss as numbers.

    Raises:
        ModelError: One is not finite.
    """
    parts = {name: float(value.detach()) for name, value in loss.parts.items()}
    for name, value in parts.items():
        if not math.isfinite(value):
            raise ModelError(f"the {name if name == 'loss' else f'{name} loss'} is {value} at step {step}: {_LOOK_FOR}")
    return parts


def _make_optimizer(config: LoopConfig, groups: list[tuple[list[nn.Parameter], float]]) -> torch.optim.Optimizer:
    parts = [{"params": parameters, "factor": factor} for parameters, factor in groups]
    if config.optimizer == "adam":
        return torch.optim.Adam(parts, lr=config.learning_rate)
    return torch.optim.AdamW(parts, lr=config.learning_rate, weight_decay=config.weight_decay)
