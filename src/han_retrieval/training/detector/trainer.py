"""Training of a bottom-up detector on photos whose captions are linked to boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from han_retrieval.data import CaptionedPhotos, EntitiesPhotos
from han_retrieval.errors import DataError
from han_retrieval.objects import local_path
from han_retrieval.ranks import ALONE, Ranks
from han_retrieval.regions.bottom_up import BottomUp, BottomUpConfig, BottomUpDetector, Names, save_detector
from han_retrieval.regions.bottom_up.sampling import Draws
from han_retrieval.training.detector.batches import AnnotatedPhoto, DetectorBatch, DetectorBatches
from han_retrieval.training.detector.card import detector_card
from han_retrieval.training.detector.config import DetectorTrainingConfig
from han_retrieval.training.detector.figures import DetectorFigures, detector_figures
from han_retrieval.training.detector.labels import box_labels, phrases
from han_retrieval.training.dropout import PlacedDropout
from han_retrieval.training.loop import EpochReport, StepLoss, TrainingTask, run_training
from han_retrieval.training.precision import autocast, check_precision
from han_retrieval.training.run_folder import check_folder, claimed_folder, content_hash
from han_retrieval.training.state import RunState


@dataclass(frozen=True)
class DetectorTrainingResult:
    """What a finished run left.

    Attributes:
        folder: The detector's folder.
        steps: Optimiser steps in all.
        figures: The metrics on the dev photos; None without a dev split.
        seconds: Time spent, in all sessions of the run.
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
    ranks: Ranks = ALONE,
) -> DetectorTrainingResult:
    """Train a bottom-up detector on the boxes and phrases of a dataset's photos.

    ``out`` is a detector after the first epoch, and the newest one from then on, with the averaged weights.

    Args:
        config: How to train.
        dataset: The photos and their splits.
        entities: Their annotations, by photo id.
        out: The detector's folder.
        annotation: Where ``entities`` come from, for the card.
        resume, command, device, progress, ranks: As in ``han_retrieval.training.train``.

    Raises:
        DataError: No photo is annotated, no noun is frequent, no dev photo has a box, a photo cannot be read, or a
            checkpoint is of other data.
        ConfigError: ``out`` holds a run already or one of another configuration.
        HANError: ``out`` holds other things or is another process's, or the loss is not finite.
    """
    folder = local_path(out)
    check_precision(config, torch.device(device))
    if ranks.first:
        check_folder(folder, config, resume=resume)
    task = DetectorTraining(
        config, dataset, entities, folder, annotation=annotation, command=command, device=device, ranks=ranks
    )
    with claimed_folder(folder, config, ranks, resume=resume) as run_folder:
        state = run_training(task, config, run_folder, resume=resume, progress=progress, ranks=ranks)
    figures = state.best.get("figures")
    return DetectorTrainingResult(folder, state.step, DetectorFigures(**figures) if figures else None, state.seconds)


class DetectorTraining(TrainingTask[DetectorBatch]):
    """What the training loop needs to train a detector; the arguments are those of ``train_detector``."""

    module: BottomUp

    def __init__(
        self,
        config: DetectorTrainingConfig,
        dataset: CaptionedPhotos,
        entities: EntitiesPhotos,
        folder: Path,
        *,
        annotation: str,
        command: str,
        device: str | torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        annotated = [entities[photo] for photo in _annotated(dataset, config.train_split, entities)]
        names = Names.count(
            ((words, "people" in phrase.types) for photo in annotated for words, phrase in phrases(photo)),
            noun_count=config.noun_count,
            attribute_count=config.attribute_count,
            most_nouns=config.most_nouns,
        )
        if len(names.nouns) == 1:  # "thing"
            raise DataError(f"{annotation}: no noun names {config.noun_count} boxes; lower noun_count")
        photos, proportions = _photos(dataset, config.train_split, entities, names)
        self.dev = _dev_photos(config, dataset, entities, names) if config.dev_split else []
        torch.manual_seed(config.seed)
        shape = {name: getattr(config, name) for name in ("channels", "representation", "dropout", "size")}
        self.config, self.folder, self.command, self.device = config, folder, command, torch.device(device)
        self.data, self.ranks = DetectorBatches(photos, proportions, config, ranks), ranks
        self.module = BottomUp(BottomUpConfig(names=names, **shape)).to(device)
        self.weights, self.steps_per_epoch = self.module.learned(), self.data.steps_per_epoch
        self.facts = {
            "dataset": str(dataset.source),
            "entities": annotation,
            "photos": len(photos),
            "boxes": sum(len(photo.labels.boxes) for photo in photos),
            "content_hash": _content_hash(names, photos, self.dev),
        }

    def batches(self, start: int, stop: int) -> Iterator[DetectorBatch]:
        """Photos and their boxes."""
        return self.data.steps(start, stop)

    def loss(self, batch: DetectorBatch, *, step: int, steps: int) -> StepLoss:
        """The sum of the losses of proposals, boxes, nouns and attributes."""
        own, ranks = self.ranks.rows(batch.size), self.ranks.of(batch.size)
        seeds = np.random.SeedSequence(batch.seed).generate_state(batch.size).tolist()
        draws = Draws(seeds[own], PlacedDropout(batch.seed), own.start)
        targets = [type(target)(*(part.to(self.device) for part in target)) for target in batch.targets]
        with autocast(self.config, self.device):
            losses = self.module.losses(batch.photos.to(self.device), targets, draws=draws, ranks=ranks)
        return StepLoss(torch.stack(list(losses.values())).sum(), losses, ranks=ranks)

    def end_epoch(self, epoch: int, state: RunState) -> EpochReport:
        """Evaluate the detector on the dev photos, and save it."""
        report, figures = EpochReport({}), None
        if self.dev:
            detector = BottomUpDetector(self.module, weights_hash="", device=self.device)
            figures = asdict(detector_figures(detector, self.dev))
            accuracy = figures["noun_accuracy"]
            line = f"{figures['coverage']:.1f} % of {figures['boxes']} annotated boxes found" + (
                "" if accuracy is None else f", {accuracy:.1f} % of nouns right"
            )
            report = EpochReport(figures, line)
        state.best = {"epoch": epoch, "figures": figures, "photos": len(self.dev)}
        card = detector_card(self.config, self.module.config, facts=self.facts, best=state.best, command=self.command)
        save_detector(self.folder, self.module.config, state.average, card=card)
        return report


def _content_hash(names: Names, *photos: list[AnnotatedPhoto]) -> str:
    """A hash of the words and of the photos, for training and for evaluation, with their boxes and labels."""

    def parts() -> Iterator[Any]:  # one at a time: together they take as much memory as the labels
        yield names.model_dump()
        for some in photos:
            yield [photo.path.name for photo in some]
            yield from (part.tobytes() for photo in some for part in photo.labels)

    return content_hash(parts())


def _annotated(dataset: CaptionedPhotos, split: str, entities: EntitiesPhotos) -> list[str]:
    """The ids of a split's photos that are annotated."""
    found = [photo.id for photo in dataset.split(split).photos if photo.id in entities]
    if not found:
        raise DataError(f"{dataset.source}: none of the photos of split {split!r} is annotated")
    return found


def _photos(
    dataset: CaptionedPhotos, split: str, entities: EntitiesPhotos, names: Names
) -> tuple[list[AnnotatedPhoto], np.ndarray]:
    """A split's annotated photos that have a file, and their width / height."""
    photos, proportions = [], []
    for photo in dataset.split(split).only(_annotated(dataset, split, entities)).photos:
        if photo.path is not None:
            annotated = entities[photo.id]
            photos.append(AnnotatedPhoto(photo.path, box_labels(annotated, names)))
            proportions.append(annotated.width / annotated.height)
    if not photos:
        raise DataError(f"{dataset.source}: names no files of its photos")
    return photos, np.array(proportions)


def _dev_photos(
    config: DetectorTrainingConfig, dataset: CaptionedPhotos, entities: EntitiesPhotos, names: Names
) -> list[AnnotatedPhoto]:
    """Those with boxes among a sample of the dev split that depends on the seed alone."""
    photos, _ = _photos(dataset, config.dev_split, entities, names)
    if 0 < config.dev_photos < len(photos):
        chosen = np.random.default_rng(config.seed).choice(len(photos), config.dev_photos, replace=False)
        photos = [photos[place] for place in chosen]
    boxed = [photo for photo in photos if len(photo.labels.boxes)]
    if not boxed:
        raise DataError(
            f"{dataset.source}: none of the {len(photos)} photos taken from split {config.dev_split!r} has a box; "
            "take more of them (dev_photos), or set dev_split='' to train without"
        )
    return boxed
