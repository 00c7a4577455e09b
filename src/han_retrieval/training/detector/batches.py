"""Batches of annotated photos: a function of the seed and the step, so that a run resumes exactly.

Legend: B photos a batch, k boxes of a photo, N nouns, A attributes, h, w pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from han_retrieval.data import open_photo
from han_retrieval.regions.bottom_up import Truth
from han_retrieval.regions.efficientnet_lite import shape_for
from han_retrieval.training.detector.config import DetectorTrainingConfig
from han_retrieval.training.detector.truth import BoxTruth


class AnnotatedPhoto(NamedTuple):
    """A photo's file, and what is said of its boxes."""

    path: Path
    truth: BoxTruth


class DetectorBatch(NamedTuple):
    """Attributes:
    photos: (B, 3, h, w) uint8, h and w multiples of 32.
    truths: In pixels of these.
    seed: For all else that the step draws.
    """

    photos: Tensor
    truths: list[Truth]
    seed: int


@dataclass(frozen=True)
class DetectorBatches:
    """The training photos of a run, in the order of its steps."""

    photos: Sequence[AnnotatedPhoto]
    proportions: np.ndarray  # width / height of each photo
    config: DetectorTrainingConfig

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return -(-len(self.photos) // self.config.batch_size)

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        """An epoch's batches of photos' places: each photo once, those of a batch of about the same proportions."""
        random = np.random.default_rng([self.config.seed, epoch])
        order = np.argsort(np.log(self.proportions) + random.normal(0, 0.05, len(self.photos)))
        starts = range(0, len(order), self.config.batch_size)
        batches = [order[start : start + self.config.batch_size] for start in starts]
        return [batches[place] for place in random.permutation(len(batches))]

    def steps(self, start: int, stop: int) -> Iterator[DetectorBatch]:
        """The batches of steps ``start`` to ``stop``, each made while the one before is at work."""
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as reader:
            ahead = None
            for step, places in self._places(start, stop):
                following = reader.submit(self._load, step, places)
                if ahead is not None:
                    yield ahead.result()
                ahead = following
            if ahead is not None:
                yield ahead.result()

    def _places(self, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        per_epoch = self.steps_per_epoch
        for epoch in range(start // per_epoch, -(-stop // per_epoch)):
            for place, places in enumerate(self._epoch(epoch)):
                if start <= epoch * per_epoch + place < stop:
                    yield epoch * per_epoch + place, places

    def _load(self, step: int, places: np.ndarray) -> DetectorBatch:
        random = np.random.default_rng([self.config.seed, step, 1])
        size = int(random.integers(self.config.smallest // 32, self.config.largest // 32 + 1)) * 32
        proportion = float(np.median(self.proportions[places]))
        shape = shape_for(proportion, 1.0, size=size)
        annotated = [self.photos[place] for place in places]
        changed = [changed_photo(open_photo(p.path), p.truth, shape, self.config, random) for p in annotated]
        photos = torch.from_numpy(np.stack([pixels for pixels, _ in changed])).permute(0, 3, 1, 2)
        return DetectorBatch(photos, [truth for _, truth in changed], int(random.integers(1 << 62)))


def changed_photo(
    photo: Image.Image,
    truth: BoxTruth,
    shape: tuple[int, int],
    config: DetectorTrainingConfig,
    random: np.random.Generator,
) -> tuple[np.ndarray, Truth]:
    """A part of the photo, perhaps mirrored, in other colours, at (w, h) ``shape``: (h, w, 3) uint8 and its truth."""
    share = random.uniform(config.crop, 1)
    x, y = random.uniform(0, 1 - share, 2)
    window = np.array([x, y, x + share, y + share], np.float32)
    size = np.array(photo.size * 2, np.float32)
    photo = photo.resize(shape, Image.Resampling.BICUBIC, box=tuple((window * size).tolist()))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        photo = enhance(photo).enhance(random.uniform(1 - config.colour, 1 + config.colour))
    moved = (truth.boxes - window[[0, 1, 0, 1]]) / share  # in shares of the window
    within = moved.clip(0, 1)
    # A box that lies for the most part outside shows no longer what is said of it.
    kept = _areas(within) >= 0.5 * _areas(moved).clip(min=1e-9)
    kept &= (within[:, 2:] > within[:, :2] + 0.01).all(1)
    within = within[kept]
    if random.random() < 0.5:
        photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        within = np.stack([1 - within[:, 2], within[:, 1], 1 - within[:, 0], within[:, 3]], axis=1)
    boxes = torch.from_numpy(within * np.array(shape * 2, np.float32))
    return np.asarray(photo), Truth(
        boxes, torch.from_numpy(truth.nouns[kept]), torch.from_numpy(truth.attributes[kept])
    )


def _areas(boxes: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return areas
