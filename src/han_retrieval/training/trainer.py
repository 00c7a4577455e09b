"""Training of a matcher: photos with captions and their regions to a model folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from han_retrieval.data import CaptionedPhotos, EntitiesPhotos
from han_retrieval.errors import ConfigError, DataError
from han_retrieval.evaluation import Evaluation, evaluate
from han_retrieval.evaluation.protocols import check_lengths
from han_retrieval.losses import alignment_loss, soft_max_triplet_loss
from han_retrieval.matchers import AligningMatcher, Matcher, make_matcher, matcher_class
from han_retrieval.matchers.saving import save_folder
from han_retrieval.objects import local_path
from han_retrieval.ranks import ALONE, Ranks
from han_retrieval.regions import RegionStore, same_detector
from han_retrieval.text import Vocabulary, expand_vocabulary, tokenize
from han_retrieval.training.batches import Batch, Batches
from han_retrieval.training.card import model_card
from han_retrieval.training.config import TrainingConfig
from han_retrieval.training.dropout import PlacedDropout
from han_retrieval.training.invariance import hold_still
from han_retrieval.training.log import events_writer
from han_retrieval.training.loop import EpochReport, StepLoss, TrainingTask, run_training
from han_retrieval.training.norms import SharedNorms
from han_retrieval.training.precision import autocast, check_precision
from han_retrieval.training.run_folder import check_folder, claimed_folder
from han_retrieval.training.schedule import loss_power
from han_retrieval.training.state import RunState
from han_retrieval.training.steps import step_seed
from han_retrieval.training.text_weights import (
    frozen_tokens,
    load_pretrained_text,
    parameter_groups,
    start_from_text,
    start_from_vectors,
    word_embedding,
)
from han_retrieval.training.texts import encode_texts

_EMBEDDING = "text_encoder.embedding.weight"


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run left.

    Attributes:
        folder: The model's folder.
        steps: Optimiser steps in all.
        best_epoch: The epoch whose weights are saved.
        rsum: Their rSum on the dev photos, before any vocabulary expansion; None without a dev split.
        seconds: Time spent on training and evaluation, in all sessions of the run.
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
    annotations: EntitiesPhotos | None = None,
    augmentations: Sequence[RegionStore] = (),
    resume: bool = False,
    command: str = "",
    device: str | torch.device = "cpu",
    progress: bool = True,
    tensorboard: bool = False,
    ranks: Ranks = ALONE,
) -> TrainingResult:
    """Train a matcher on captioned photos and their regions.

    ``out`` becomes a model folder, usable after the first epoch; ``out/training`` holds the configuration, the
    metrics (a JSON line a record) and the checkpoints. A run that was interrupted, at whatever moment, goes
    on with ``resume`` and ends (on one machine, with the same number of threads) with the weights of a run that never
    stopped.

    Args:
        config: How to train.
        dataset: The photos with their captions and splits.
        store: Their regions.
        out: The folder to make.
        annotations: The boxes of the captions' phrases, by photo id; for ``alignment_weight``.
        augmentations: Further stores of the training photos by the same detector, such as of the flipped photos. Each
            time a photo is used, one of its stores is drawn at random. Evaluation uses ``store`` alone.
        resume: Go on from the newest checkpoint in ``out``; without one, begin.
        command: The command line, for the model card.
        device: Where to train.
        progress: Show progress on standard error.
        tensorboard: Write TensorBoard events as well.
        ranks: The processes that train together, each of which calls this: what ``join_ranks`` yields. The weights are
            those of one process. The first rank writes, shows and evaluates.

    Raises:
        DataError: A split is empty, photos have no regions, an augmentation is another detector's, or a checkpoint is
            of other data.
        ConfigError: ``out`` holds a run already or one of another configuration, or annotations and
            ``alignment_weight`` do not fit together.
        HANError: ``out`` holds other things or is another process's, or the loss is not finite.

    Example:
        >>> config = TrainingConfig(epochs=3, model={"joint_size": 256})
        >>> result = train(config, read_dataset("flickr8k"), RegionStore.open("features"), "model")
        >>> HAN.from_pretrained(result.folder)
    """
    folder = local_path(out)
    if tensorboard:
        events_writer()  # refused now, before anything is written
    _check_annotations(config, annotations)
    check_precision(config, torch.device(device))
    if ranks.first:
        check_folder(folder, config, resume=resume)
    task = _task_for(config)(
        config,
        dataset,
        store,
        folder,
        annotations=annotations,
        augmentations=augmentations,
        command=command,
        device=device,
        progress=progress and ranks.first,
        ranks=ranks,
    )
    with claimed_folder(folder, config, ranks, resume=resume) as run_folder:
        if not any(parameter.requires_grad for parameter in task.module.parameters()):
            saved = task.save_untrained(progress=progress) if ranks.first else None
            return cast(TrainingResult, ranks.share(saved))
        state = run_training(
            task, config, run_folder, resume=resume, progress=progress, tensorboard=tensorboard, ranks=ranks
        )
    return TrainingResult(folder, state.step, state.best["epoch"], state.best["rsum"], state.seconds)


def _task_for(config: TrainingConfig) -> type[MatcherTraining]:
    if not config.backbone.trained:
        return MatcherTraining
    from han_retrieval.training.backbone import BackboneTraining  # it loads the network, which others need not

    return BackboneTraining


class MatcherTraining(TrainingTask[Batch]):
    """What the training loop needs to train a matcher; the arguments are those of ``train``."""

    module: Matcher

    def __init__(
        self,
        config: TrainingConfig,
        dataset: CaptionedPhotos,
        store: RegionStore,
        folder: Path,
        *,
        annotations: EntitiesPhotos | None,
        augmentations: Sequence[RegionStore],
        command: str,
        device: str | torch.device,
        progress: bool = True,
        ranks: Ranks = ALONE,
    ) -> None:
        photos = dataset.split(config.train_split)
        if not photos.caption_count:
            raise DataError(f"{dataset.source}: its photos have no captions; training needs some to each")
        dev = _dev_photos(config, dataset, store, warn=ranks.first)
        without = sum(photo.id not in store for photo in photos.photos)
        if without and ranks.first:
            tqdm.write(_said_of_photos_without_regions(without, photos, config.train_split, store), file=sys.stderr)
        model, vocabulary = _new_matcher(config, store, [s for photo in photos.photos for s in photo.captions])
        assert model.tokenizer is not None  # it has a vocabulary
        data = Batches.of(
            photos,
            store,
            model.tokenizer,
            config,
            annotations=annotations,
            augmentations=augmentations,
            inputs=model.image_inputs,
            ranks=ranks,
        )
        if len(data.photo_ids) < 2:
            raise DataError(
                f"{store.path}: has regions for {len(data.photo_ids)} of the {len(photos)} training photos; extract "
                f"the features of {dataset.source} into it"
            )
        model.to(device)
        hold_still(model)
        watched = [] if dev is None else [s for photo in dev.photos for s in photo.captions]
        encoded = [ids for captions in data.captions for ids in captions]
        encoded += [model.tokenizer.encode(s).ids for s in watched if tokenize(s)]
        with ranks.one_a_machine_first():
            tokens = frozen_tokens(model.text_encoder, encoded, device=model.device, progress=progress)
        data = replace(data, tokens=tokens)
        self.ranks, self.norms = ranks, SharedNorms(model, ranks)
        self.config, self.folder, self.command = config, folder, command
        self.data, self.dev, self.module = data, dev, model
        self.weights, self.steps_per_epoch = model.state_dict(), data.steps_per_epoch
        self.facts = {
            "dataset": str(dataset.source),
            "format": dataset.format,
            "detector": store.fingerprint,
            "photos": len(data.photo_ids),
            "without_regions": without,
            "captions": data.caption_count,
            "content_hash": data.content_hash(vocabulary, dev),
        }
        if model.config.text_encoder_fingerprint is not None:
            self.facts["text_encoder"] = model.config.text_encoder_fingerprint
        if data.shared_count:
            self.facts["shared_captions"] = data.shared_count
        if augmentations:
            self.facts["augmentations"] = _checked_augmentations(augmentations, data)
        if annotations is not None:
            self.facts["grounded_captions"] = data.grounded_count
            if not data.grounded_count:
                raise DataError("no caption of the training photos is annotated: is this their Entities file?")
        if progress and (data.having or data.similar is not None):
            tqdm.write(_said_of_equal_captions(data), file=sys.stderr)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Matching pairs."""
        return self.data.steps(start, stop)

    def parameters(self) -> list[tuple[list[nn.Parameter], float]]:
        """All but a language model that is trained along, and that."""
        return parameter_groups(self.module, self.config)

    def loss(self, batch: Batch, *, step: int, steps: int) -> StepLoss:
        """The triplet loss and, with annotations, the alignment loss."""
        config, size = self.config, len(batch.word_mask)
        own, ranks = self.ranks.rows(size), self.ranks.of(size)
        self.norms.ranks = ranks
        region_mask, word_mask = batch.region_mask.to(self.module.device), batch.word_mask.to(self.module.device)
        places, seed = torch.arange(size)[own], step_seed(config.seed, step, 1)
        dropout = PlacedDropout(step_seed(config.seed, step)).within(places)
        with dropout, autocast(config, self.module.device):
            images = self.module.encode_images(batch.regions, region_mask).float()
            texts = encode_texts(self.module, batch.words, word_mask[own], places=places, seed=seed)
        # This rank's images against the texts of all.
        scores = self.module.score(images, region_mask, ranks.gather(texts, size), word_mask)  # (b, B)
        power = loss_power(config, step, steps=steps)
        triplet_loss = partial(
            soft_max_triplet_loss,
            margin=config.margin,
            power=power,
            image_ids=batch.image_ids.to(scores.device),
            matching=None if batch.matching is None else batch.matching.to(scores.device),
            ranks=ranks,
        )
        loss = triplet_loss(scores)
        total, parts = loss, {"loss": loss}
        if batch.shown is not None:
            assert isinstance(self.module, AligningMatcher)  # or _check_annotations had refused
            alignment = self.module.alignment(images, region_mask, texts, word_mask[own])
            parts["alignment"] = alignment_loss(alignment, batch.shown.to(scores.device), ranks=ranks)
            total = loss + config.alignment_weight * parts["alignment"]
        collapsed = triplet_loss(torch.zeros_like(scores))
        return StepLoss(total, parts, notes={"power": power}, collapsed=collapsed, pairs=size**2, ranks=ranks)

    def end_epoch(self, epoch: int, state: RunState) -> EpochReport:
        """Evaluate the model on the dev photos, and save it if its weights are the ones to keep."""
        report, rsum = self._evaluate(epoch)
        best = state.best.get("rsum")
        if self.config.keep == "last" or rsum is None or best is None or rsum > best:
            state.best = self._best(epoch, rsum, report)
            self._save(state.average, state.best)
        return report

    def reason_to_end(self, epochs: int, state: RunState) -> str:
        """That ``patience`` epochs were not better than the best; those before a backbone learns do not count."""
        best, backbone = state.best.get("epoch", epochs), self.config.backbone
        counted_from = max(best, backbone.head_epochs) if backbone.trained else best
        if not self.config.patience or epochs - counted_from < self.config.patience:
            return ""
        return f"dev rSum was greatest after epoch {best} (patience)"

    def save_untrained(self, *, progress: bool) -> TrainingResult:
        """Evaluate the model on the dev photos and save it, where it has no parameters to train."""
        begun = time.monotonic()
        report, rsum = self._evaluate(0)
        if progress:
            tqdm.write(
                f"a {self.config.model.matcher} model of these options has no parameters: nothing was trained"
                + (f"; {report.line}" if report.line else ""),
                file=sys.stderr,
            )
        self._save(self.weights, self._best(0, rsum, report))
        return TrainingResult(self.folder, 0, 0, rsum, time.monotonic() - begun)

    def _evaluate(self, epoch: int) -> tuple[EpochReport, float | None]:
        """What the model reaches on the dev photos, and its rSum; nothing without a dev split."""
        if self.dev is None:
            return EpochReport({}), None
        with self._regions_of(self.dev, epoch) as store:
            result = evaluate(self.module, self.dev, store, progress=False)
        return EpochReport({**result.metrics, "rsum": result.rsum}, _epoch_line(result)), result.rsum

    @contextmanager
    def _regions_of(self, dev: CaptionedPhotos, epoch: int) -> Iterator[RegionStore]:
        """The regions of photos, for an evaluation after an epoch."""
        yield self.data.store

    def _best(self, epoch: int, rsum: float | None, report: EpochReport) -> dict[str, Any]:
        photos = 0 if self.dev is None else len(self.dev)
        return {"epoch": epoch, "rsum": rsum, "figures": report.metrics, "photos": photos}

    def _save(self, weights: dict[str, Tensor], best: dict[str, Any], *, detector: str | None = None) -> None:
        """Save the model, with the fingerprint of its detector where it is no longer the one of the store."""
        shape, vocabulary, expansion = self.module.config, self.module.vocabulary, self.config.vocabulary_expansion
        if expansion and vocabulary is not None:
            vocabulary, embedding = expand_vocabulary(
                vocabulary,
                weights[_EMBEDDING].cpu().numpy(),
                source=str(self.config.word_vectors),
                count=expansion,
            )
            weights = {**weights, _EMBEDDING: torch.from_numpy(embedding)}
            shape = shape.model_copy(update={"vocabulary_size": len(vocabulary)})
        if detector is not None:
            shape = shape.model_copy(update={"detector_fingerprint": detector})
        card = model_card(type(self.module), self.config, shape, facts=self.facts, best=best, command=self.command)
        save_folder(self.folder, shape, weights, vocabulary, card=card)


def _check_annotations(config: TrainingConfig, annotations: EntitiesPhotos | None) -> None:
    """Check that annotations are given if the configuration needs them, and only then."""
    if (annotations is not None) != bool(config.alignment_weight):
        raise ConfigError(
            f"alignment_weight is {config.alignment_weight:g} and {'no ' if annotations is None else ''}Entities "
            "annotations are given; the alignment loss needs both"
        )
    kind = matcher_class(config.model.matcher)
    if annotations is not None and not (issubclass(kind, AligningMatcher) and kind.learns_alignment):
        raise ConfigError(
            f"{config.model.matcher} learns no alignment of words with regions: it cannot learn with alignment_weight"
        )


def _checked_augmentations(stores: Sequence[RegionStore], data: Batches) -> list[list[Any]]:
    """The fingerprint of each augmentation, and how many of the training photos it has."""
    found: list[list[Any]] = []
    for store in stores:
        if not same_detector(data.store.fingerprint, store.fingerprint):
            raise DataError(
                f"{store.path}: its features were made by {store.fingerprint!r}; to augment those of "
                f"{data.store.fingerprint!r}, use the same detector: han extract DATASET --horizontal-flip --out STORE"
            )
        count = sum(photo_id in store for photo_id in data.photo_ids)
        if not count:
            raise DataError(f"{store.path}: has regions of none of the training photos; extract their split into it")
        found.append([store.fingerprint, count])
    return found


def _new_matcher(config: TrainingConfig, store: RegionStore, sentences: Sequence[str]) -> tuple[Matcher, Vocabulary]:
    """A new matcher for the regions of a store, its text encoder as the configuration starts it, and its vocabulary."""
    torch.manual_seed(config.seed)
    start = load_pretrained_text(config.pretrained_text) if config.pretrained_text else None
    vocabulary = start.vocabulary if start else Vocabulary.from_sentences(sentences, min_count=config.min_count)
    model = make_matcher(
        config.model,
        vocabulary=vocabulary,
        region_size=store.feature_size,
        detector_fingerprint=store.fingerprint,
    )
    if config.vocabulary_expansion:
        # Refused now, not at the end of the first epoch.
        wanted = f"vocabulary_expansion = {config.vocabulary_expansion}"
        word_embedding(model.text_encoder, vocabulary, wanted_by=wanted)
    if start is not None:
        start_from_text(model.text_encoder, start, str(config.pretrained_text))
    elif config.word_vectors is not None:
        start_from_vectors(model.text_encoder, vocabulary, config.word_vectors)
    return model, vocabulary


def _said_of_equal_captions(data: Batches) -> str:
    said = f"{data.shared_count:,} of {data.caption_count:,} captions stand under several photos; none of these counts"
    if share := data.config.similar_captions:
        return f"{said}, nor do captions that share {share:.0%} of their words, as a negative (similar_captions)"
    return f"{said} as a negative (equal_captions)"


def _said_of_photos_without_regions(count: int, photos: CaptionedPhotos, split: str, store: RegionStore) -> str:
    where = f"split {split!r} have no regions in {store.path}"
    return f"warning: {count} of the {len(photos)} photos of {where} and are left out"


def _dev_photos(
    config: TrainingConfig, dataset: CaptionedPhotos, store: RegionStore, *, warn: bool
) -> CaptionedPhotos | None:
    """A sample of the dev split that depends on the seed alone; None without a dev split."""
    if not config.dev_split:
        return None
    try:
        split = dataset.split(config.dev_split)
    except DataError as error:
        raise DataError(f"{error}; choose some by a column split, or set dev_split='' to train without") from None
    dev = split.only(photo.id for photo in split.photos if photo.id in store)
    if not len(dev):
        raise DataError(f"{store.path}: has no regions of split {config.dev_split!r}; extract it, or set dev_split=''")
    missing = len(split) - len(dev)
    if missing and warn:
        said = _said_of_photos_without_regions(missing, split, config.dev_split, store)
        tqdm.write(f"{said}: recalls among fewer photos are higher", file=sys.stderr)
    if 0 < config.dev_photos < len(dev):
        chosen = np.random.default_rng(config.seed).choice(len(dev), config.dev_photos, replace=False)
        dev = dev.only(dev.photos[i].id for i in chosen)
    if not any(tokenize(caption) for photo in dev.photos for caption in photo.captions):
        raise DataError(
            f"{dataset.source}: the photos of split {config.dev_split!r} have no captions; set "
            "dev_split='' to train without"
        )
    check_lengths(dev.photos)  # refused now, not after the first epoch
    return dev


def _epoch_line(result: Evaluation) -> str:
    recalls = " ".join(
        "/".join(f"{result.metrics[way][f'R@{k}']:.1f}" for k in (1, 5, 10))
        for way in ("image_to_text", "text_to_image")
    )
    return f"dev rSum {result.rsum:.1f} ({recalls}) among {result.counts['images']} photos"
