"""A dataset of a few photos whose captions say what their regions are, and its region store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from han_retrieval.data import CaptionedPhoto, CaptionedPhotos
from han_retrieval.matchers import HANConfig
from han_retrieval.regions import RegionRow, Regions, RegionStore
from han_retrieval.training import TrainingConfig
from han_retrieval.training.log import Log, read_log

COLOURS = ("red", "blue", "green", "white", "black")
THINGS = ("ball", "dog", "car", "tree", "boat")
EVERY_STEP = 1e-9  # minutes between checkpoints


def make_data(folder: Path, *, photos: int = 40, seed: int = 0) -> tuple[CaptionedPhotos, RegionStore]:
    """Photos of two coloured things each, with a noisy region a thing and one of nothing."""
    random = np.random.default_rng(seed)
    meanings = {word: random.normal(size=12) for word in (*COLOURS, *THINGS)}
    captioned, rows = [], []
    for number in range(photos):
        things = [(random.choice(COLOURS), random.choice(THINGS)) for _ in range(2)]
        named = " and ".join(f"a {colour} {thing}" for colour, thing in things)
        captions = (f"{named}.", f"there is {named}", "")[: 2 + number % 2]
        split = "dev" if number % 4 == 3 else "train"
        captioned.append(CaptionedPhoto(f"photo-{number}", None, captions, split))
        features = [meanings[colour] + meanings[thing] for colour, thing in things] + [np.zeros(12)]
        features = np.array(features) + random.normal(scale=0.1, size=(3, 12))
        regions = Regions(features.astype(np.float16), None, 0, 0)
        rows.append(RegionRow(f"photo-{number}", None, regions))
    with RegionStore.create(folder / "features", fingerprint="made-up-1", feature_size=12) as store:
        store.append(rows)
    return CaptionedPhotos("made-up", folder, tuple(captioned)), store


def augmentation(
    store: RegionStore, folder: Path, *, photos: int, fingerprint: str = "made-up-1-mirrored"
) -> RegionStore:
    """A further store of some of a store's photos, each with one region, ones all over."""
    with RegionStore.create(folder, fingerprint=fingerprint, feature_size=12) as other:
        regions = Regions(np.ones((1, 12), np.float16), None, 0, 0)
        other.append([RegionRow(photo_id, None, regions) for photo_id in store.ids[:photos]])
    return other


def small_config(**changes: object) -> TrainingConfig:
    """A training of some twenty steps."""
    options = HANConfig(word_size=8, joint_size=16)
    fields = {
        "epochs": 3,
        "batch_size": 8,
        "min_count": 1,
        "learning_rate": 3e-3,
        "warm_up_steps": 3,
        "model": options,
    }
    return TrainingConfig.model_validate({**fields, **changes})


def same_run(left: Path, right: Path) -> bool:
    weights = [load_file(folder / "model.safetensors") for folder in (left, right)]
    logs = [
        [
            {k: v for k, v in record.items() if k != "pairs_per_second"}
            for record in read_log(folder / "training/metrics.jsonl")
        ]
        for folder in (left, right)
    ]
    equal = all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    return weights[0].keys() == weights[1].keys() and equal and logs[0] == logs[1]


@contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """A training in this context is interrupted after this step, before the step is logged."""
    log = Log.step

    def interrupt(self: Log, number: int, **values: float) -> None:
        if number == step:
            raise KeyboardInterrupt
        log(self, number, **values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Log, "step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            yield
