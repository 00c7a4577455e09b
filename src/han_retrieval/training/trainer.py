"""The training loop: batches, loss, optimiser; the dev split after each epoch; checkpoints that resume exactly."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from han_retrieval.data import CaptionedPhotos
from han_retrieval.errors import HANError
from han_retrieval.evaluation import Evaluation, evaluate
from han_retrieval.files import write_whole
from han_retrieval.losses import soft_max_triplet_loss
from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.matchers.saving import save_folder
from han_retrieval.regions import RegionStore
from han_retrieval.text import Vocabulary, word_vectors
from han_retrieval.training.batches import Batches
from han_retrieval.training.card import model_card
from han_retrieval.training.checkpoint import (
    Checkpoint,
    newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from han_retrieval.training.config import TrainingConfig
from han_retrieval.training.curve import draw_curve
from han_retrieval.training.log import Log, events_writer
from han_retrieval.training.schedule import learning_rate, loss_power
from han_retrieval.training.watch import CollapseWatch


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run left.

    Attributes:
        folder: The model's folder.
        steps: Optimiser steps in all.
        best_epoch: The epoch whose weights are kept.
        rsum: Their rSum on the watched dev photos; None without a dev split.
        seconds: Time spent training and watching, over all of the run's sittings.
    """

    folder: Path
    steps: int
    best_epoch: int
    rsum: float | None
    seconds: float


def train(
    config: TrainingConfig,
    dataset: CaptionedPhotos,
    store: RegionStore,
    out: str | Path,
    *,
    resume: bool = False,
    command: str = "",
    progress: bool = True,
    tensorboard: bool = False,
) -> TrainingResult:
    """Train a HAN on captioned photos and their regions.

    ``out`` becomes a model folder, usable after the first epoch; ``out/training`` holds the configuration, the
    metrics (a JSON line a record), the checkpoints and the curve. A run that was interrupted, at whatever moment, goes
    on with ``resume`` and ends (on one machine, with the same number of threads) with the weights of a run that never
    stopped.

    Args:
        config: How to train.
        dataset: The photos with their captions and splits.
        store: Their regions.
        out: The folder to make.
        resume: Go on from the newest checkpoint in ``out``; without one, begin.
        command: The command line, for the model card.
        progress: Show progress on standard error.
        tensorboard: Write TensorBoard events as well.

    Raises:
        HANError: A split is empty, photos have no regions, ``out`` holds a run already or another configuration's, or
            the loss is no longer finite.
    """
    folder = Path(out)
    if tensorboard:
        events_writer()  # refused now, before anything is written
    run = _Run.begin(config, dataset, store, folder, resume=resume, command=command, progress=progress)
    with Log(folder / "training", after_step=run.step, tensorboard=tensorboard) as log:
        run.train(log)
    draw_curve(folder / "training" / "metrics.jsonl", folder / "training" / "curve.png")
    return TrainingResult(folder, run.step, run.best["epoch"], run.best["rsum"], run.seconds)


class _Run:
    """A training run between its first and its last step; everything that a checkpoint holds is an attribute."""

    def __init__(self, config: TrainingConfig, batches: Batches, dev: CaptionedPhotos | None, model: HAN, folder: Path):
        self.config, self.batches, self.dev, self.model, self.folder = config, batches, dev, model, folder
        self.step = 0
        self.seconds = 0.0
        self.best: dict[str, Any] = {"epoch": 0, "rsum": None}
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        decay = config.weight_decay if config.optimizer == "adamw" else 0.0
        self.optimizer = kind(model.parameters(), lr=config.learning_rate, weight_decay=decay)
        self.steps = config.epochs * batches.steps_per_epoch
        self.command, self.progress = "", True
        self.facts: dict[str, Any] = {}

    @classmethod
    def begin(
        cls,
        config: TrainingConfig,
        dataset: CaptionedPhotos,
        store: RegionStore,
        folder: Path,
        *,
        resume: bool,
        command: str,
        progress: bool,
    ) -> _Run:
        """A run at its first step, or at its newest checkpoint."""
        of_run = folder / "training"
        written = config.model_dump_json(indent=2) + "\n"
        config_file = of_run / "config.json"
        if config_file.exists() and not resume:
            raise HANError(f"{folder}: holds a training run already; go on with --resume, or choose another folder")
        if config_file.exists() and config_file.read_text(encoding="utf-8") != written:
            raise HANError(f"{folder}: was begun with another configuration ({config_file}); resume with that one")

        photos = dataset.split(config.train_split)
        if not photos.caption_count:
            raise HANError(f"{dataset.source}: its photos have no captions; training needs some to each")
        dev = _dev_photos(config, dataset, store)
        torch.manual_seed(config.seed)
        sentences = [caption for photo in photos.photos for caption in photo.captions]
        vocabulary = Vocabulary.from_sentences(sentences, min_count=config.minimum_count)
        batches = Batches.of(photos, store, vocabulary, config)
        if len(batches.photo_ids) < 2:
            raise HANError(
                f"{store.path}: has regions for {len(batches.photo_ids)} of the {len(photos)} training photos; extract "
                f"the features of {dataset.source} into it"
            )
        shape = HANConfig(
            region_size=store.feature_size,
            vocabulary_size=len(vocabulary),
            detector_fingerprint=store.fingerprint,
            **config.model.model_dump(),
        )
        model = HAN(shape, vocabulary=vocabulary)
        if config.word_vectors is not None:
            _start_from_vectors(model, vocabulary, config.word_vectors)
        run = cls(config, batches, dev, model, folder)
        run.command, run.progress = command, progress
        run.facts = {
            "dataset": str(dataset.source),
            "format": dataset.format,
            "detector": store.fingerprint,
            "photos": len(batches.photo_ids),
            "without_regions": len(photos) - len(batches.photo_ids),
            "captions": batches.caption_count,
        }
        checkpoint = newest_checkpoint(of_run) if resume else None
        if checkpoint is not None:
            if checkpoint.state["facts"] != run.facts:
                raise HANError(
                    f"{folder}: the run was begun on other data ({checkpoint.state['facts']}, now {run.facts}): resume "
                    "with the same dataset and features, or choose another folder"
                )
            run.restore(checkpoint)
        of_run.mkdir(parents=True, exist_ok=True)
        write_whole(config_file, written)
        return run

    def train(self, log: Log) -> None:
        """From the current step to the last."""
        watch = CollapseWatch()
        per_epoch = self.batches.steps_per_epoch
        started = saved = time.monotonic()
        before = self.seconds
        self.model.train()
        with tqdm(total=self.steps, initial=self.step, unit="step", desc="training", disable=not self.progress) as bar:
            for batch in self.batches.steps(self.step, self.steps):
                begun = time.monotonic()
                power = loss_power(self.config, self.step, steps=self.steps)
                rate = learning_rate(self.config, self.step, steps=self.steps)
                loss = self._update(batch, rate=rate, power=power)
                self.step += 1
                now = time.monotonic()
                self.seconds = before + now - started
                pairs = len(batch.words) ** 2 / (now - begun)
                log.step(self.step, loss=loss, rate=rate, power=power, pairs_per_second=pairs)
                bar.set_postfix(loss=f"{loss:.3f}", pairs_s=f"{pairs:,.0f}", refresh=False)
                bar.update()
                warning = watch.see(loss, margin=self.config.margin, power=power, batch_size=len(batch.words))
                if warning:
                    tqdm.write(f"warning: {warning}", file=sys.stderr)
                if self.step % per_epoch == 0:
                    self._end_epoch(self.step // per_epoch, log)
                    self.seconds = before + time.monotonic() - started
                if self.step % per_epoch == 0 or now - saved > 60 * self.config.checkpoint_minutes:
                    log.flush()
                    save_checkpoint(self.folder / "training", self.checkpoint())
                    saved = time.monotonic()

    def _update(self, batch: Any, *, rate: float, power: float) -> float:
        """One optimiser step; the loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        scores = self.model.similarity(batch.regions, batch.region_mask, batch.words, batch.word_mask)
        image_ids = batch.image_ids.to(scores.device)
        loss = soft_max_triplet_loss(scores, margin=self.config.margin, power=power, image_ids=image_ids)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise HANError(
                f"the loss is {value} at step {self.step}: look at the features for values that are not finite, or "
                "lower learning_rate; the last checkpoint stands"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        # The average starts as a plain mean of the first steps: it must not remember the random start for long.
        decay = min(self.config.average, (self.step + 1) / (self.step + 10)) if self.config.average else 0.0
        for name, current in self.model.state_dict().items():
            self.average[name].lerp_(current, 1 - decay)
        return value

    def _end_epoch(self, epoch: int, log: Log) -> None:
        """See how far the averaged weights are, and save them when they are the ones to keep."""
        figures: dict[str, Any] = {}
        rsum: float | None = None
        if self.dev is not None:
            with self._averaged():
                result = evaluate(self.model, self.dev, self.batches.store, progress=False)
            rsum = result.rsum
            figures = {**result.metrics, "rsum": rsum}
            if self.progress:
                tqdm.write(_epoch_line(epoch, result), file=sys.stderr)
        log.epoch(self.step, epoch=epoch, figures=figures)
        best = self.best["rsum"]
        if self.config.keep == "last" or rsum is None or best is None or rsum > best:
            self.best = {"epoch": epoch, "rsum": rsum, "figures": figures}
            self._save()

    def _save(self) -> None:
        card = model_card(self.config, self.model.config, facts=self.facts, best=self.best, command=self.command)
        save_folder(self.folder, self.model.config, self.average, self.model.vocabulary, card=card)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model with the averaged weights for as long as the block lasts."""
        current = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        try:
            yield
        finally:
            self.model.load_state_dict(current)

    def checkpoint(self) -> Checkpoint:
        """The run as it is now."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= optimizer_tensors(self.optimizer)
        return Checkpoint(self.step, tensors, {"best": self.best, "seconds": self.seconds, "facts": self.facts})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint."""

        def part(prefix: str) -> dict[str, Tensor]:
            named = checkpoint.tensors.items()
            return {name.removeprefix(prefix): value for name, value in named if name.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        self.average = part("average.")
        restore_optimizer(self.optimizer, checkpoint.tensors)
        self.step, self.best, self.seconds = checkpoint.step, checkpoint.state["best"], checkpoint.state["seconds"]


def _dev_photos(config: TrainingConfig, dataset: CaptionedPhotos, store: RegionStore) -> CaptionedPhotos | None:
    """The photos to watch: a sample of the dev split that depends on the seed alone; None without a dev split."""
    if not config.dev_split:
        return None
    dev = dataset.split(config.dev_split)
    dev = dev.only(photo.id for photo in dev.photos if photo.id in store)
    if not len(dev):
        raise HANError(f"{store.path}: has no regions of split {config.dev_split!r}; extract it, or set dev_split=''")
    if 0 < config.dev_photos < len(dev):
        chosen = np.random.default_rng(config.seed).choice(len(dev), config.dev_photos, replace=False)
        dev = dev.only(dev.photos[i].id for i in chosen)
    return dev


def _epoch_line(epoch: int, result: Evaluation) -> str:
    recalls = " ".join(
        "/".join(f"{result.metrics[way][f'R@{k}']:.1f}" for k in (1, 5, 10))
        for way in ("image_to_text", "text_to_image")
    )
    return f"epoch {epoch}: dev rSum {result.rsum:.1f} ({recalls}) among {result.counts['images']} photos"


def _start_from_vectors(model: HAN, vocabulary: Vocabulary, source: str) -> None:
    """Put word vectors into the first numbers of the embeddings, scaled to the size that the others start with."""
    vectors, found = word_vectors(vocabulary.words, source=source)
    weight = model.text_encoder.embedding.weight
    if vectors.shape[1] > weight.shape[1]:
        raise HANError(
            f"{source}: its vectors have {vectors.shape[1]} numbers, more than model.word_size = {weight.shape[1]}"
        )
    rows = torch.from_numpy(np.flatnonzero(found))
    start = torch.from_numpy(vectors)[rows]
    with torch.no_grad():
        weight[rows, : start.shape[1]] = start * (weight[4:].std() / start.std())
