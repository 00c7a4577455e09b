"""The training loop of a detector: boxes that captions speak of, what they say; checkpoints that resume exactly."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from han_retrieval.data import CaptionedPhotos, EntitiesPhotos
from han_retrieval.errors import HANError
from han_retrieval.regions.bottom_up import BottomUp, BottomUpConfig, BottomUpDetector, Names, save_detector
from han_retrieval.training.detector.batches import AnnotatedPhoto, DetectorBatch, DetectorBatches
from han_retrieval.training.detector.card import detector_card
from han_retrieval.training.detector.config import DetectorTrainingConfig
from han_retrieval.training.detector.figures import DetectorFigures, detector_figures
from han_retrieval.training.detector.truth import box_truth, phrases
from han_retrieval.training.log import Log
from han_retrieval.training.schedule import learning_rate
from han_retrieval.training.sitting import Sitting
from han_retrieval.training.state import State, check_folder, claimed_folder, content_hash


@dataclass(frozen=True)
class DetectorTrainingResult:
    """What a finished run left.

    Attributes:
        folder: The detector's folder.
        steps: Optimiser steps in all.
        figures: Of the detector on the watched dev photos; None without a dev split.
        seconds: Time spent, over all of the run's sittings.
    """

    folder: Path
    steps: int
    figures: DetectorFigures | None
    seconds: float


def train_detector(
    config: DetectorTrainingConfig,
    dataset: CaptionedPhotos,
    entities: EntitiesPhotos,
    out: str | Path,
    *,
    annotation: str,
    resume: bool = False,
    command: str = "",
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> DetectorTrainingResult:
    """Train a bottom-up detector on the boxes and phrases of a dataset's photos.

    ``out`` is a detector after the first epoch, and the newest one from then on: the moving average of the weights.

    Args:
        config: How.
        dataset: The photos and their splits.
        entities: What is annotated of them, by photo id.
        out: The detector's folder, new or with ``resume`` an interrupted run's.
        annotation: Where ``entities`` come from, for the card.
        resume: Go on from the newest checkpoint; exact on the same machine with as many threads.
        command: The command line, for the card.
        device: Where to train.
        progress: Show progress and figures on stderr.

    Raises:
        HANError: No photo is annotated, no noun is frequent or no dev photo has a box; ``out`` holds another run, one
            that another process is at, or other things; a photo cannot be read; or the loss is not finite.
    """
    folder = Path(out)
    check_folder(folder, config, resume=resume)
    annotated = [entities[photo] for photo in _annotated(dataset, config.train_split, entities)]
    names = Names.count(
        ((words, "people" in phrase.types) for photo in annotated for words, phrase in phrases(photo)),
        noun_count=config.noun_count,
        attribute_count=config.attribute_count,
        most_nouns=config.most_nouns,
    )
    if len(names.nouns) == 1:  # "thing"
        raise HANError(f"{annotation}: no noun is said {config.noun_count} times of a box; lower noun_count")
    photos, proportions = _photos(dataset, config.train_split, entities, names)
    dev = _dev_photos(config, dataset, entities, names) if config.dev_split else []
    torch.manual_seed(config.seed)
    shape = BottomUpConfig(
        names=names, channels=config.channels, representation=config.representation, dropout=config.dropout,
        size=config.size,
    )  # fmt: skip
    network = BottomUp(shape).to(device)
    facts = {
        "dataset": str(dataset.source),
        "entities": annotation,
        "photos": len(photos),
        "boxes": sum(len(photo.truth.boxes) for photo in photos),
        "content_hash": _content_hash(names, photos, dev),
    }
    run = _Run(config, DetectorBatches(photos, proportions, config), dev, network, folder, facts)
    run.command, run.progress = command, progress
    with claimed_folder(folder, config) as of_run:
        if resume:
            run.state.resume(of_run)
        with Log(of_run, after_step=run.state.step) as log:
            run.train(log)
    figures = run.state.best.get("figures")
    return DetectorTrainingResult(
        folder, run.state.step, DetectorFigures(**figures) if figures else None, run.state.seconds
    )


class _Run:
    """A training run between its first and its last step."""

    def __init__(
        self,
        config: DetectorTrainingConfig,
        batches: DetectorBatches,
        dev: list[AnnotatedPhoto],
        network: BottomUp,
        folder: Path,
        facts: dict[str, Any],
    ) -> None:
        self.config, self.batches, self.dev, self.network, self.folder = config, batches, dev, network, folder
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.device = trained[0].device
        self.state = State(network.learned(), optimizer, facts)
        self.steps = config.epochs * batches.steps_per_epoch
        self.command, self.progress = "", True

    def train(self, log: Log) -> None:
        """From the current step to the last."""
        state, per_epoch = self.state, self.batches.steps_per_epoch
        self.network.train()
        with (
            tqdm(
                total=self.steps, initial=state.step, unit="step", desc="training", disable=not self.progress,
                mininterval=0.2 if sys.stderr.isatty() else 30.0,
            ) as bar,
            Sitting(
                state, log, self.folder / "training", minutes=self.config.checkpoint_minutes, tell=self.progress
            ) as sitting,
        ):  # fmt: skip
            for batch in self.batches.steps(state.step, self.steps):
                rate = learning_rate(self.config, state.step, steps=self.steps)
                losses = self._update(batch, rate=rate)
                state.step += 1
                log.step(state.step, rate=rate, **losses)
                bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()}, refresh=False)
                bar.update()
                end_of_epoch = state.step % per_epoch == 0
                if end_of_epoch:
                    self._end_epoch(state.step // per_epoch, log)
                sitting.end_step(end_of_epoch=end_of_epoch)

    def _update(self, batch: DetectorBatch, *, rate: float) -> dict[str, float]:
        """One optimiser step; the losses before it."""
        state = self.state
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(batch.seed)  # boxes are sampled, and numbers dropped, by torch's own generator
        truths = [type(truth)(*(part.to(self.device) for part in truth)) for truth in batch.truths]
        losses = self.network.losses(batch.photos.to(self.device), truths)
        loss = torch.stack(list(losses.values())).sum()
        values = {name: float(value.detach()) for name, value in losses.items()}
        if not np.isfinite(list(values.values())).all():
            raise HANError(
                f"a loss is not finite at step {state.step} ({values}): lower learning_rate; the last checkpoint stands"
            )
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        state.optimizer.step()
        state.follow(self.config.average)
        return values

    def _end_epoch(self, epoch: int, log: Log) -> None:
        """See how far the averaged weights are, and save them."""
        state, figures = self.state, None
        if self.dev:
            with state.averaged(), _evaluating(self.network):
                figures = asdict(
                    detector_figures(BottomUpDetector(self.network, weights_hash="", device=self.device), self.dev)
                )
            if self.progress:
                accuracy = figures["noun_accuracy"]
                tqdm.write(
                    f"epoch {epoch}: {figures['coverage']:.1f} % of {figures['boxes']} true boxes covered"
                    + ("" if accuracy is None else f", {accuracy:.1f} % of nouns right"),
                    file=sys.stderr,
                )
        log.epoch(state.step, epoch=epoch, figures=figures or {})
        state.best = {"epoch": epoch, "figures": figures, "photos": len(self.dev)}
        card = detector_card(self.config, self.network.config, facts=state.facts, best=state.best, command=self.command)
        save_detector(self.folder, self.network.config, state.average, card=card)


def _content_hash(names: Names, *photos: list[AnnotatedPhoto]) -> str:
    """Of the words, and of the photos that are learned from and watched with what is said of their boxes."""
    parts: list[Any] = [names.model_dump()]
    for some in photos:
        parts.append([photo.path.name for photo in some])
        parts += [part.tobytes() for photo in some for part in photo.truth]
    return content_hash(parts)


@contextmanager
def _evaluating(network: BottomUp) -> Iterator[None]:
    network.eval()
    try:
        yield
    finally:
        network.train()


def _annotated(dataset: CaptionedPhotos, split: str, entities: EntitiesPhotos) -> list[str]:
    """The ids of a split's photos that are annotated."""
    found = [photo.id for photo in dataset.split(split).photos if photo.id in entities]
    if not found:
        raise HANError(f"{dataset.source}: none of the photos of split {split!r} is annotated")
    return found


def _photos(
    dataset: CaptionedPhotos, split: str, entities: EntitiesPhotos, names: Names
) -> tuple[list[AnnotatedPhoto], np.ndarray]:
    """A split's annotated photos that have a file, and their width / height."""
    photos, proportions = [], []
    for photo in dataset.split(split).only(_annotated(dataset, split, entities)).photos:
        if photo.path is not None:
            annotated = entities[photo.id]
            photos.append(AnnotatedPhoto(photo.path, box_truth(annotated, names)))
            proportions.append(annotated.width / annotated.height)
    if not photos:
        raise HANError(f"{dataset.source}: names no files of its photos")
    return photos, np.array(proportions)


def _dev_photos(
    config: DetectorTrainingConfig, dataset: CaptionedPhotos, entities: EntitiesPhotos, names: Names
) -> list[AnnotatedPhoto]:
    """The photos to watch: those with boxes of a sample of the dev split that depends on the seed alone."""
    photos, _ = _photos(dataset, config.dev_split, entities, names)
    if 0 < config.dev_photos < len(photos):
        chosen = np.random.default_rng(config.seed).choice(len(photos), config.dev_photos, replace=False)
        photos = [photos[place] for place in chosen]
    boxed = [photo for photo in photos if len(photo.truth.boxes)]
    if not boxed:
        raise HANError(
            f"{dataset.source}: none of the {len(photos)} watched photos of split {config.dev_split!r} has a box; "
            "watch more of them (dev_photos), or set dev_split='' to train without"
        )
    return boxed
