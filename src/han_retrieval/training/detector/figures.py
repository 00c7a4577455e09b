"""Metrics of a detector on annotated boxes.

Legend: k annotated boxes of a photo, m regions, N nouns, A attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou

from han_retrieval.data import open_photo
from han_retrieval.regions.bottom_up import BottomUpDetector
from han_retrieval.training.detector.batches import AnnotatedPhoto

IOU = 0.5
_PHOTOS_AT_ONCE = 8
_LEAST_POSITIVES = 5  # an attribute's average precision over fewer is mostly chance


@dataclass(frozen=True, slots=True)
class DetectorFigures:
    """Metrics in percent.

    Attributes:
        coverage: Annotated boxes that one of the regions overlaps at IoU >= 0.5.
        noun_accuracy: Annotated boxes whose most probable noun is one of their labels. The detector gets the annotated
            box; boxes without a noun that it knows do not count. None where there are none.
        attribute_precision: Mean average precision of attributes over annotated boxes; attributes of fewer than five
            boxes do not count. None where there are none.
        attribute_chance: The same for a random order: the mean share of boxes that have the attribute.
        boxes: The number of annotated boxes.
    """

    coverage: float
    noun_accuracy: float | None
    attribute_precision: float | None
    attribute_chance: float | None
    boxes: int


def detector_figures(detector: BottomUpDetector, photos: Sequence[AnnotatedPhoto]) -> DetectorFigures:
    """The metrics on those annotated photos that have a box; at least one must."""
    photos = [photo for photo in photos if len(photo.labels.boxes)]
    covered: list[np.ndarray] = []
    right: list[np.ndarray] = []
    attributes: list[np.ndarray] = []
    for start in range(0, len(photos), _PHOTOS_AT_ONCE):
        some = photos[start : start + _PHOTOS_AT_ONCE]
        opened = [open_photo(photo.path) for photo in some]
        for (_, labels), photo, found in zip(some, opened, detector.detect(opened), strict=True):
            boxes = labels.boxes * np.array(photo.size * 2, np.float32)
            assert found.boxes is not None
            covered.append(are_covered(boxes, found.boxes))
            predicted = detector.predict(photo, boxes)
            known = labels.nouns[:, 0] == 0  # its noun is not "thing"
            said = labels.nouns[np.arange(len(boxes)), predicted.nouns[:, 1:].argmax(1).cpu().numpy()] > 0
            right.append(said[known])
            attributes.append(predicted.attributes.cpu().numpy())
    precision, chance = _average_precision(
        np.concatenate(attributes), np.concatenate([photo.labels.attributes for photo in photos])
    )
    named = np.concatenate(right)
    return DetectorFigures(
        coverage=100 * float(np.concatenate(covered).mean()),
        noun_accuracy=100 * float(named.mean()) if len(named) else None,
        attribute_precision=precision,
        attribute_chance=chance,
        boxes=sum(map(len, covered)),
    )


def are_covered(true_boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """(k,) bool: whether one of the regions (m, 4) overlaps each true box (k, 4) at IoU >= 0.5."""
    overlaps = box_iou(torch.from_numpy(true_boxes), torch.from_numpy(regions))  # (k, m)
    covered: np.ndarray = (overlaps >= IOU).any(1).numpy()
    return covered


def _average_precision(logits: np.ndarray, truth: np.ndarray) -> tuple[float | None, float | None]:
    """The mean over attributes of average precision, and of what chance gives, from (K, A) each."""
    enough = truth.sum(0) >= _LEAST_POSITIVES
    if not enough.any():
        return None, None
    logits, truth = logits[:, enough], truth[:, enough]
    ranked = np.take_along_axis(truth, (-logits).argsort(axis=0, kind="stable"), axis=0)  # best first
    precisions = ranked.cumsum(0) / np.arange(1, len(ranked) + 1)[:, None]
    averages = (precisions * ranked).sum(0) / ranked.sum(0)
    return 100 * float(averages.mean()), 100 * float(truth.mean())
