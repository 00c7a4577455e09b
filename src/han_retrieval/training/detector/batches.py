"""Batches of annotated photos: a function of the seed and the step, so that a run resumes exactly.

Legend: B photos a batch, b of them this rank's (all, in one process), k boxes of a photo, N nouns, A attributes, h, w
pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from han_retrieval.data import open_photo
from han_retrieval.ranks import ALONE, Ranks
from han_retrieval.regions.bottom_up import BoxTargets
from han_retrieval.regions.efficientnet_lite import shape_for
from han_retrieval.training.detector.config import DetectorTrainingConfig
from han_retrieval.training.detector.labels import BoxLabels
from han_retrieval.training.steps import EpochBatches


class AnnotatedPhoto(NamedTuple):
    """A photo's file, and the labels of its boxes."""

    path: Path
    labels: BoxLabels


class DetectorBatch(NamedTuple):
    """Photos of one size, and the boxes in them.

    Attributes:
        photos: (b, 3, h, w) uint8, h and w multiples of 32.
        targets: Boxes in pixels of these photos, with their labels.
        seed: For everything else that the step draws at random.
        size: B.
    """

    photos: Tensor
    targets: list[BoxTargets]
    seed: int
    size: int


@dataclass(frozen=True)
class DetectorBatches(EpochBatches[np.ndarray, DetectorBatch]):
    """The training photos of a run, in the order of its steps.

    Attributes:
        photos: The photos.
        proportions: Width / height of each.
        config: How to train.
        ranks: Those that share each batch; this one's photos alone are opened.
    """

    photos: Sequence[AnnotatedPhoto]
    proportions: np.ndarray
    config: DetectorTrainingConfig
    ranks: Ranks = ALONE

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.photos) // self.config.batch_size)

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        """An epoch's batches of photos' places: each photo once, and in a batch photos of similar proportions."""
        random = np.random.default_rng([self.config.seed, epoch])
        order = np.argsort(np.log(self.proportions) + random.normal(0, 0.05, len(self.photos)))
        starts = range(0, len(order), self.config.batch_size)
        batches = [order[start : start + self.config.batch_size] for start in starts]
        return [batches[place] for place in random.permutation(len(batches))]

    def _load(self, step: int, part: np.ndarray) -> DetectorBatch:
        random = np.random.default_rng([self.config.seed, step, 1])
        size = int(random.integers(self.config.smallest // 32, self.config.largest // 32 + 1)) * 32
        proportion = float(np.median(self.proportions[part]))
        shape = shape_for(proportion, 1.0, size=size)
        own = self.ranks.rows(len(part))
        annotated = [self.photos[place] for place in part[own]]
        drawn = random.random((len(part), DRAWS))[own]  # drawn for the whole batch
        changed = [
            changed_photo(open_photo(p.path), p.labels, shape, self.config, of_photo)
            for p, of_photo in zip(annotated, drawn, strict=True)
        ]
        photos = torch.from_numpy(np.stack([pixels for pixels, _ in changed])).permute(0, 3, 1, 2)
        seed = int(random.integers(1 << 62))
        return DetectorBatch(photos, [targets for _, targets in changed], seed, len(part))


DRAWS = 7  # random numbers that a photo takes: three for its window, three for its colours, one for its side


def changed_photo(
    photo: Image.Image,
    labels: BoxLabels,
    shape: tuple[int, int],
    config: DetectorTrainingConfig,
    drawn: np.ndarray,
) -> tuple[np.ndarray, BoxTargets]:
    """Crop, flip, colour and scale a photo to (w, h) ``shape``: (h, w, 3) uint8, and its boxes.

    How follows from ``drawn``, (DRAWS,) random numbers from 0 to 1.
    """
    share = config.crop + (1 - config.crop) * drawn[0]
    x, y = (1 - share) * drawn[1:3]
    window = np.array([x, y, x + share, y + share], np.float32)
    size = np.array(photo.size * 2, np.float32)
    photo = photo.resize(shape, Image.Resampling.BICUBIC, box=tuple((window * size).tolist()))
    for enhance, number in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), drawn[3:6], strict=True
    ):
        photo = enhance(photo).enhance(1 + config.colour * (2 * number - 1))
    moved = (labels.boxes - window[[0, 1, 0, 1]]) / share  # in shares of the window
    within = moved.clip(0, 1)
    # A box that is mostly outside no longer shows what its labels say.
    kept = _areas(within) >= 0.5 * _areas(moved).clip(min=1e-9)
    kept &= (within[:, 2:] > within[:, :2] + 0.01).all(1)
    within = within[kept]
    if drawn[6] < 0.5:
        photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        within = np.stack([1 - within[:, 2], within[:, 1], 1 - within[:, 0], within[:, 3]], axis=1)
    boxes = torch.from_numpy(within * np.array(shape * 2, np.float32))
    return np.asarray(photo), BoxTargets(
        boxes, torch.from_numpy(labels.nouns[kept]), torch.from_numpy(labels.attributes[kept])
    )


def _areas(boxes: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return areas
