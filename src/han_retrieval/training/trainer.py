"""The training loop: batches, loss, optimiser; the dev split after each epoch; checkpoints that resume exactly."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from han_retrieval.data import CaptionedPhotos, EntitiesPhotos
from han_retrieval.errors import HANError
from han_retrieval.evaluation import Evaluation, evaluate
from han_retrieval.losses import alignment_loss, soft_max_triplet_loss
from han_retrieval.matchers import AligningMatcher, Matcher, make_matcher, matcher_class
from han_retrieval.matchers.saving import save_folder
from han_retrieval.regions import RegionStore, same_detector
from han_retrieval.text import Vocabulary, expand_vocabulary, tokenize
from han_retrieval.training.batches import Batches
from han_retrieval.training.card import model_card
from han_retrieval.training.config import TrainingConfig
from han_retrieval.training.curve import draw_curve
from han_retrieval.training.log import Log, events_writer
from han_retrieval.training.schedule import learning_rate, loss_power
from han_retrieval.training.sitting import Sitting
from han_retrieval.training.state import State, check_folder, claimed_folder, make_optimizer
from han_retrieval.training.text_start import load_text_start, start_from_text
from han_retrieval.training.vectors import start_from_vectors
from han_retrieval.training.watch import CollapseWatch

_EMBEDDING = "text_encoder.embedding.weight"


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run left.

    Attributes:
        folder: The model's folder.
        steps: Optimiser steps in all.
        best_epoch: The epoch whose weights are kept.
        rsum: Their rSum on the watched dev photos, before any ``more_words``; None without a dev split.
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
    truth: EntitiesPhotos | None = None,
    views: Sequence[RegionStore] = (),
    resume: bool = False,
    command: str = "",
    device: str | torch.device = "cpu",
    progress: bool = True,
    tensorboard: bool = False,
) -> TrainingResult:
    """Train a matcher on captioned photos and their regions.

    ``out`` becomes a model folder, usable after the first epoch; ``out/training`` holds the configuration, the
    metrics (a JSON line a record), the checkpoints and the curve. A run that was interrupted, at whatever moment, goes
    on with ``resume`` and ends (on one machine, with the same number of threads) with the weights of a run that never
    stopped.

    Args:
        config: How to train.
        dataset: The photos with their captions and splits.
        store: Their regions.
        out: The folder to make.
        truth: What phrases of the captions speak of, by photo; for ``alignment_weight``.
        views: More stores of the training photos by the same detector, mirrored ones: each time that a photo is seen,
            its regions come from one of its stores, drawn at random. Evaluation sees ``store`` alone.
        resume: Go on from the newest checkpoint in ``out``; without one, begin.
        command: The command line, for the model card.
        device: Where to train.
        progress: Show progress on standard error.
        tensorboard: Write TensorBoard events as well.

    Raises:
        HANError: A split is empty, photos have no regions, a view is another detector's, ``out`` holds a run already,
            one of another configuration or of other data, one that another process is at, or other things, or the loss
            is no longer finite.
    """
    folder = Path(out)
    if tensorboard:
        events_writer()  # refused now, before anything is written
    _check_truth(config, truth)
    run = _Run.begin(
        config,
        dataset,
        store,
        folder,
        truth=truth,
        views=views,
        resume=resume,
        command=command,
        device=device,
        progress=progress,
    )
    state = run.state
    with claimed_folder(folder, config) as of_run:
        if resume:
            state.resume(of_run)
        with Log(of_run, after_step=state.step, tensorboard=tensorboard) as log:
            run.train(log)
        draw_curve(of_run / "metrics.jsonl", of_run / "curve.png")
    return TrainingResult(folder, state.step, state.best["epoch"], state.best["rsum"], state.seconds)


class _Run:
    """A training run between its first and its last step."""

    def __init__(
        self,
        config: TrainingConfig,
        batches: Batches,
        dev: CaptionedPhotos | None,
        model: Matcher,
        folder: Path,
        facts: dict[str, Any],
    ) -> None:
        self.config, self.batches, self.dev, self.model, self.folder = config, batches, dev, model, folder
        self.state = State(model.state_dict(), make_optimizer(config, _parameter_groups(model, config)), facts)
        self.state.best = {"epoch": 0, "rsum": None}
        self.steps = config.epochs * batches.steps_per_epoch
        self.command, self.progress = "", True

    @classmethod
    def begin(
        cls,
        config: TrainingConfig,
        dataset: CaptionedPhotos,
        store: RegionStore,
        folder: Path,
        *,
        truth: EntitiesPhotos | None,
        views: Sequence[RegionStore],
        resume: bool,
        command: str,
        device: str | torch.device,
        progress: bool,
    ) -> _Run:
        """A run at its first step."""
        check_folder(folder, config, resume=resume)
        photos = dataset.split(config.train_split)
        if not photos.caption_count:
            raise HANError(f"{dataset.source}: its photos have no captions; training needs some to each")
        dev = _dev_photos(config, dataset, store)
        torch.manual_seed(config.seed)
        sentences = [caption for photo in photos.photos for caption in photo.captions]
        start = load_text_start(config.text_start) if config.text_start else None
        vocabulary = start.vocabulary if start else Vocabulary.from_sentences(sentences, min_count=config.minimum_count)
        batches = Batches.of(photos, store, vocabulary, config, truth=truth, views=views)
        if len(batches.photo_ids) < 2:
            raise HANError(
                f"{store.path}: has regions for {len(batches.photo_ids)} of the {len(photos)} training photos; extract "
                f"the features of {dataset.source} into it"
            )
        model = make_matcher(
            config.model,
            vocabulary=vocabulary,
            region_size=store.feature_size,
            detector_fingerprint=store.fingerprint,
        )
        if start is not None:
            start_from_text(model.text_encoder, start, str(config.text_start))
        elif config.word_vectors is not None:
            start_from_vectors(model.text_encoder.get_parameter("embedding.weight"), vocabulary, config.word_vectors)
        facts = {
            "dataset": str(dataset.source),
            "format": dataset.format,
            "detector": store.fingerprint,
            "photos": len(batches.photo_ids),
            "without_regions": len(photos) - len(batches.photo_ids),
            "captions": batches.caption_count,
            "content_hash": batches.content_hash(vocabulary, dev),
        }
        if views:
            facts["views"] = _seen_in(views, batches)
        if truth is not None:
            facts["grounded_captions"] = batches.grounded_count
            if not batches.grounded_count:
                raise HANError("no caption of the training photos is annotated: is this their Entities file?")
        run = cls(config, batches, dev, model.to(device), folder, facts)
        run.command, run.progress = command, progress
        return run

    def train(self, log: Log) -> None:
        """From the current step to the last."""
        watch = CollapseWatch()
        per_epoch = self.batches.steps_per_epoch
        state = self.state
        self.model.train()
        with (
            tqdm(total=self.steps, initial=state.step, unit="step", desc="training", disable=not self.progress) as bar,
            Sitting(
                state, log, self.folder / "training", minutes=self.config.checkpoint_minutes, tell=self.progress
            ) as sitting,
        ):
            for batch in self.batches.steps(state.step, self.steps):
                begun = time.monotonic()
                power = loss_power(self.config, state.step, steps=self.steps)
                rate = learning_rate(self.config, state.step, steps=self.steps)
                losses = self._update(batch, rate=rate, power=power)
                loss = losses["loss"]
                state.step += 1
                pairs = len(batch.words) ** 2 / (time.monotonic() - begun)
                log.step(state.step, **losses, rate=rate, power=power, pairs_per_second=pairs)
                bar.set_postfix(loss=f"{loss:.3f}", pairs_s=f"{pairs:,.0f}", refresh=False)
                bar.update()
                warning = watch.see(loss, margin=self.config.margin, power=power, batch_size=len(batch.words))
                if warning:
                    tqdm.write(f"warning: {warning}", file=sys.stderr)
                end_of_epoch = state.step % per_epoch == 0
                if end_of_epoch:
                    self._end_epoch(state.step // per_epoch, log)
                sitting.end_step(end_of_epoch=end_of_epoch)

    def _update(self, batch: Any, *, rate: float, power: float) -> dict[str, float]:
        """One optimiser step; the losses before it."""
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        tokens = (
            self.model.encode_images(batch.regions, batch.region_mask),
            batch.region_mask,
            self.model.encode_texts(batch.words, batch.word_mask),
            batch.word_mask,
        )
        scores = self.model.score(*tokens)
        image_ids = batch.image_ids.to(scores.device)
        loss = soft_max_triplet_loss(scores, margin=self.config.margin, power=power, image_ids=image_ids)
        values = {"loss": float(loss.detach())}
        if batch.shown is not None:
            assert isinstance(self.model, AligningMatcher)  # or _check_truth had refused
            aligned = alignment_loss(self.model.alignment(*tokens), batch.shown.to(scores.device))
            values["alignment"] = float(aligned.detach())
            loss = loss + self.config.alignment_weight * aligned
        if not np.isfinite(sum(values.values())):
            raise HANError(
                f"the loss is {float(loss.detach())} at step {self.state.step}: look at the features for values that "
                "are not finite, or lower learning_rate; the last checkpoint stands"
            )
        self.state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.state.optimizer.step()
        self.state.follow(self.config.average)
        return values

    def _end_epoch(self, epoch: int, log: Log) -> None:
        """See how far the averaged weights are, and save them when they are the ones to keep."""
        figures: dict[str, Any] = {}
        rsum: float | None = None
        if self.dev is not None:
            with self.state.averaged():
                result = evaluate(self.model, self.dev, self.batches.store, progress=False)
            rsum = result.rsum
            figures = {**result.metrics, "rsum": rsum}
            if self.progress:
                tqdm.write(_epoch_line(epoch, result), file=sys.stderr)
        log.epoch(self.state.step, epoch=epoch, figures=figures)
        best = self.state.best["rsum"]
        if self.config.keep == "last" or rsum is None or best is None or rsum > best:
            photos = 0 if self.dev is None else len(self.dev)
            self.state.best = {"epoch": epoch, "rsum": rsum, "figures": figures, "photos": photos}
            self._save()

    def _save(self) -> None:
        state = self.state
        weights, shape, vocabulary = state.average, self.model.config, self.model.vocabulary
        if self.config.more_words and vocabulary is not None:
            vocabulary, embedding = expand_vocabulary(
                vocabulary,
                weights[_EMBEDDING].cpu().numpy(),
                source=str(self.config.word_vectors),
                count=self.config.more_words,
            )
            weights = {**weights, _EMBEDDING: torch.from_numpy(embedding)}
            shape = shape.model_copy(update={"vocabulary_size": len(vocabulary)})
        card = model_card(self.config, shape, facts=state.facts, best=state.best, command=self.command)
        save_folder(self.folder, shape, weights, vocabulary, card=card)


def _parameter_groups(model: Matcher, config: TrainingConfig) -> list[dict[str, Any]]:
    """What is trained, and each part's share of the learning rate."""
    if config.attention_rate == 1:
        return [{"params": list(model.parameters()), "share": 1.0}]
    if not isinstance(model, AligningMatcher) or not len(model.blocks):
        raise HANError(f"attention_rate is {config.attention_rate:g}, and the model has no rounds of attention")
    attention = {id(parameter) for parameter in model.blocks.parameters()}
    return [
        {"params": [p for p in model.parameters() if id(p) not in attention], "share": 1.0},
        {"params": list(model.blocks.parameters()), "share": config.attention_rate},
    ]


def _check_truth(config: TrainingConfig, truth: EntitiesPhotos | None) -> None:
    """See that annotations are there where the configuration takes them, and only there."""
    if (truth is not None) != bool(config.alignment_weight):
        raise HANError(
            f"alignment_weight is {config.alignment_weight:g} and {'no ' if truth is None else ''}Entities annotations "
            "are given; learning where phrases look takes both"
        )
    if truth is not None and not issubclass(matcher_class(config.model.matcher), AligningMatcher):
        raise HANError(f"{config.model.matcher} aligns no words with regions: alignment_weight is not for it")


def _seen_in(views: Sequence[RegionStore], batches: Batches) -> list[list[Any]]:
    """The fingerprint of each view, and how many of the training photos it has."""
    found: list[list[Any]] = []
    for view in views:
        if not same_detector(batches.store.fingerprint, view.fingerprint):
            raise HANError(
                f"{view.path}: its features were made by {view.fingerprint!r}; a view of those of "
                f"{batches.store.fingerprint!r} is made by the same detector: han extract DATASET --mirror --out VIEW"
            )
        count = sum(photo_id in view for photo_id in batches.photo_ids)
        if not count:
            raise HANError(f"{view.path}: has regions of none of the training photos; extract their split into it")
        found.append([view.fingerprint, count])
    return found


def _dev_photos(config: TrainingConfig, dataset: CaptionedPhotos, store: RegionStore) -> CaptionedPhotos | None:
    """The photos to watch: a sample of the dev split that depends on the seed alone; None without a dev split."""
    if not config.dev_split:
        return None
    split = dataset.split(config.dev_split)
    dev = split.only(photo.id for photo in split.photos if photo.id in store)
    if not len(dev):
        raise HANError(f"{store.path}: has no regions of split {config.dev_split!r}; extract it, or set dev_split=''")
    if missing := len(split) - len(dev):
        tqdm.write(
            f"warning: {missing} of the {len(split)} photos of split {config.dev_split!r} have no regions in "
            f"{store.path} and are not watched: fewer photos have higher recalls",
            file=sys.stderr,
        )
    if 0 < config.dev_photos < len(dev):
        chosen = np.random.default_rng(config.seed).choice(len(dev), config.dev_photos, replace=False)
        dev = dev.only(dev.photos[i].id for i in chosen)
    if not any(tokenize(caption) for photo in dev.photos for caption in photo.captions):
        raise HANError(
            f"{dataset.source}: the photos of split {config.dev_split!r} have no captions; watching takes some: set "
            "dev_split='' to train without"
        )
    return dev


def _epoch_line(epoch: int, result: Evaluation) -> str:
    recalls = " ".join(
        "/".join(f"{result.metrics[way][f'R@{k}']:.1f}" for k in (1, 5, 10))
        for way in ("image_to_text", "text_to_image")
    )
    return f"epoch {epoch}: dev rSum {result.rsum:.1f} ({recalls}) among {result.counts['images']} photos"
