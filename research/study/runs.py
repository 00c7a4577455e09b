"""One run of the study: train, evaluate, write its results; and what is known of runs that are done."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from han_retrieval.data import CaptionedPhotos, EntitiesPhotos
from han_retrieval.errors import HANError
from han_retrieval.evaluation import evaluate, ground
from han_retrieval.evaluation.report import results, write_json
from han_retrieval.matchers import Matcher, load_matcher
from han_retrieval.matchers.aligning import AligningMatcher
from han_retrieval.processor import one_thread
from han_retrieval.regions import Regions, RegionStore, extract
from han_retrieval.regions.loading import detector_for
from han_retrieval.regions.rows import RegionBatch
from han_retrieval.training import TrainingConfig, train
from han_retrieval.training.log import METRICS, read_log
from research.study.settings import HELD_OUT, Run


def hold_out(dataset: CaptionedPhotos, *, share: float = 0.1) -> CaptionedPhotos:
    """The dataset with a share of its training photos, chosen by a hash of their ids, in a split of their own."""
    train = dataset.split("train")
    # The same hash divides datasets without splits: there, no training photo is below that share.
    parts = (train.divided(dev_share=limit) for limit in (share, share + (1 - share) * share))
    held = next((part for part in parts if "dev" in part.splits), train)
    chosen = {photo.id for photo in held.split("dev").photos}
    photos = (replace(photo, split=HELD_OUT) if photo.id in chosen else photo for photo in dataset.photos)
    return replace(dataset, photos=tuple(photos))


class FirstRegions(RegionStore):
    """A region store that shows only the first, best regions of each photo."""

    regions = 1

    @classmethod
    def showing(cls, store: RegionStore, regions: int) -> FirstRegions:
        """So many regions a photo of a store."""
        first = cls.open(store.path)
        first.regions = regions
        return first

    def read(self, ids: Sequence[str]) -> list[Regions]:
        """As the store's."""
        return [_first(regions, self.regions) for regions in super().read(ids)]

    def batch(self, ids: Sequence[str]) -> RegionBatch:
        """As the store's."""
        found, m = super().batch(ids), self.regions
        boxes = [None if of_photo is None else of_photo[:m] for of_photo in found.boxes]
        return RegionBatch(features=found.features[:, :m], mask=found.mask[:, :m], boxes=boxes)


def _first(regions: Regions, m: int) -> Regions:
    features, boxes, labels, scores = (
        None if part is None else part[:m] for part in (regions.features, regions.boxes, regions.labels, regions.scores)
    )
    return replace(regions, features=features, boxes=boxes, labels=labels, scores=scores)


def features_for(
    model: Matcher, folder: Path, photos: CaptionedPhotos, store: RegionStore, *, progress: bool = True
) -> RegionStore:
    """The store, or the photos' features by the model's own backbone, if one was trained along.

    Those are made once, beside the training's files in the model's folder.

    Raises:
        HANError: The photos cannot be described, such as where the detector of the boxes is not installed.
    """
    fingerprint = model.config.detector_fingerprint
    if fingerprint is None or fingerprint == store.fingerprint:
        return store
    own = folder / "training" / "features"
    extract(photos, detector_for(fingerprint, model=folder), own, progress=progress)
    return RegionStore.open(own)


@dataclass(frozen=True)
class Study:
    """What all runs have in common.

    Attributes:
        dataset: Photos in splits "train", "held_out" and "dev".
        stores: The region stores by name.
        annotations: Entities annotations, or None to leave grounding out.
        out: Where runs go: OUT/STORE/SETTING/seed-N, a model, and seed-N.json.
        device: Where to train.
    """

    dataset: CaptionedPhotos
    stores: dict[str, RegionStore]
    annotations: EntitiesPhotos | None
    out: Path
    device: torch.device | str = "cpu"

    def perform(self, run: Run, *, progress: bool = True) -> dict[str, Any]:
        """Train, from where it was stopped, then evaluate on dev; the results are written, and returned.

        Raises:
            HANError: As ``train``, ``evaluate`` and ``ground``.
        """
        folder, config = run.folder(self.out), run.setting.config(seed=run.seed)
        store = self.stores[run.store]
        fingerprint = store.fingerprint
        if run.setting.regions is not None:
            store = FirstRegions.showing(store, run.setting.regions)
        if config.alignment_weight and self.annotations is None:
            raise HANError(f"{run.setting.label}: learns from phrases; give their annotations with --entities")
        trained = train(
            config,
            self.dataset,
            store,
            folder,
            annotations=self.annotations if config.alignment_weight else None,
            resume=True,
            device=self.device,
            progress=progress,
        )
        model = load_matcher(folder).to(self.device)
        dev = self.dataset.split("dev")
        own = features_for(model, folder, dev, store, progress=progress)
        if own is not store:
            store = own if run.setting.regions is None else FirstRegions.showing(own, run.setting.regions)
        evaluation = evaluate(model, dev, store, progress=progress)
        grounding = None
        if self.annotations is not None and isinstance(model, AligningMatcher):
            with one_thread():  # many small operations
                ids = [photo.id for photo in dev.photos]
                grounding = ground(model, self.annotations, store, ids=ids, progress=progress)
        found = {
            **results(evaluation, model=str(folder), grounding=grounding),
            "config": json.loads(config.model_dump_json()),
            "detector": fingerprint,
            "parameters": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
            "train_seconds": trained.seconds,
            "steps": trained.steps,
            "step_seconds": _step_seconds(folder, config.batch_size),
            "kept_epoch": trained.best_epoch,
            "held_out_rsum": trained.rsum,
        }
        write_json(_results_file(folder), found)
        for checkpoint in (folder / "training").glob("checkpoint-*"):  # four times the model's size, needed no more
            shutil.rmtree(checkpoint, ignore_errors=True)
        return found


def _step_seconds(folder: Path, batch_size: int) -> float | None:
    """The median time of a training's steps; None where there were none."""
    log = folder / "training" / METRICS
    records = read_log(log) if log.exists() else []
    speeds = [record["pairs_per_second"] for record in records if "pairs_per_second" in record]
    return batch_size**2 / statistics.median(speeds) if speeds else None


def find(run: Run, out: Path, *, detector: str) -> dict[str, Any] | None:
    """The results of a run that is done, else None.

    Raises:
        HANError: What lies there is of another configuration or other features.
    """
    folder = run.folder(out)
    if not _results_file(folder).exists():
        return None
    try:
        found: dict[str, Any] = json.loads(_results_file(folder).read_text(encoding="utf-8"))
        config = TrainingConfig.model_validate(found["config"])
    except (OSError, ValueError, KeyError) as error:
        raise HANError(f"{_results_file(folder)}: not the results of a run ({error}); delete it") from None
    if config != run.setting.config(seed=run.seed) or found["detector"] != detector:
        raise HANError(
            f"{folder}: was run with another configuration or other features than asked for now; delete it and its "
            "results to run it anew, or choose another --out"
        )
    return found


def is_begun(run: Run, out: Path) -> bool:
    """Whether there is something of it to go on from."""
    return any((run.folder(out) / "training").glob("checkpoint-*"))


def _results_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")
