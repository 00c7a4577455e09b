"""Boxes of one source described by the features of others: ``--detector BOXES[+own]+FEATURES``.

Legend: m regions, D numbers a feature, h, w cells of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from han_retrieval.errors import ConfigError
from han_retrieval.regions.backbones.backbone import Backbone, PhotoTokens
from han_retrieval.regions.detector import Detector, SizeNeeded
from han_retrieval.regions.names import OWN, PATCHES, Sources
from han_retrieval.regions.pooling import LARGE_SHARE, mean_in_boxes, mean_of_cells
from han_retrieval.regions.regions import Regions


class CombinedDetector:
    """Boxes of a detector, described by one or more backbones.

    A feature is the mean of a backbone's map in the box, as RoI align computes it; those of several backbones stand one
    after the other. Names and scores are the detector's. The pooled vector is the first backbone's.

    Attributes:
        fingerprint: The detector's and the backbones', with a plus sign between them.
        feature_size: D, of all backbones together, and of the detector where its own features are kept.
        size_needed: The largest size that a part needs of a photo, see ``Detector``; None where a part does not say.
    """

    def __init__(
        self, boxes: Detector | None, backbones: Sequence[Backbone], *, regions: int, keeps_own: bool = False
    ) -> None:
        """Combine them.

        Args:
            boxes: The source of boxes; None for patches: the whole photo and, row by row, cells of the first backbone's
                map, which is pooled to at most ``regions`` - 1 of about square shape.
            backbones: The sources of features.
            regions: m, at most.
            keeps_own: Put the detector's own features before those of the backbones.

        Raises:
            ConfigError: The detector has no features that could be kept.
        """
        own_size = boxes.feature_size if keeps_own and boxes is not None else 0
        if keeps_own and not own_size:
            raise ConfigError(f"this source of boxes has no features of its own; leave +{OWN} out")
        self._boxes, self._backbones, self._regions, self._keeps_own = boxes, backbones, regions, keeps_own
        of_boxes = Sources(f"{PATCHES}-1-{regions}" if boxes is None else boxes.fingerprint, (), keeps_own)
        self.fingerprint = of_boxes.described_by(*(backbone.fingerprint for backbone in backbones))
        self.feature_size = own_size + sum(backbone.feature_size for backbone in backbones)
        parts = [*([] if boxes is None else [boxes]), *backbones]
        self.size_needed = _largest([getattr(part, "size_needed", None) for part in parts])

    @torch.inference_mode()
    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """See ``Detector.detect``."""
        encoded = [backbone.encode(photos) for backbone in self._backbones]
        tokens = list(zip(*encoded, strict=True))  # of each photo
        if self._boxes is None:
            return [self._patches(photo, of_photo) for photo, of_photo in zip(photos, tokens, strict=True)]
        # A detector may leave out features, which saves it the time for them.
        cheaper = "detect_own" if self._keeps_own else "detect_boxes"
        find = getattr(self._boxes, cheaper, self._boxes.detect)
        found = zip(find(photos), tokens, strict=True)
        return [described(regions, of_photo, keeps_own=self._keeps_own) for regions, of_photo in found]

    def _patches(self, photo: Image.Image, tokens: Sequence[PhotoTokens]) -> Regions:
        height, width = tokens[0].maps[-1].shape[-2:]
        columns, rows = cells_for(width, height, most=self._regions - 1)
        features = []
        for each in tokens:
            whole = mean_of_cells(each.maps[0], columns=1, rows=1)
            cells = mean_of_cells(each.maps[-1], columns=columns, rows=rows) if columns else whole[:0]
            features.append(torch.cat([whole, cells]))
        boxes = [(0, 0, photo.width, photo.height)] + [
            (
                photo.width * x / columns,
                photo.height * y / rows,
                photo.width * (x + 1) / columns,
                photo.height * (y + 1) / rows,
            )
            for y in range(rows)
            for x in range(columns)
        ]
        return Regions(
            _half(torch.cat(features, dim=1)),
            np.array(boxes, dtype=np.float32),
            photo.width,
            photo.height,
            pooled=_pooled(tokens),
        )


def _largest(needed: Sequence[SizeNeeded | None]) -> SizeNeeded | None:
    said = [each for each in needed if each is not None]
    if len(said) < len(needed):
        return None

    def largest(width: int, height: int) -> tuple[int, int]:
        widths, heights = zip(*(each(width, height) for each in said), strict=True)
        return max(widths), max(heights)

    return largest


def described(regions: Regions, tokens: Sequence[PhotoTokens], *, keeps_own: bool = False) -> Regions:
    """The regions with the backbones' features behind their own, or in place of them."""
    if regions.boxes is None:
        raise ConfigError("this detector gives no boxes that a backbone could describe; leave the backbone out")
    shares = torch.from_numpy(regions.boxes / np.array([regions.width, regions.height] * 2, np.float32))
    features = [in_boxes(each, shares.to(each.maps[0].device)).cpu() for each in tokens]
    of_backbones = _half(torch.cat(features, dim=1))
    every = np.concatenate([regions.features, of_backbones], axis=1) if keeps_own else of_backbones
    return replace(regions, features=every, pooled=_pooled(tokens))


def in_boxes(tokens: PhotoTokens, shares: Tensor) -> Tensor:
    """(m, D): the means of one backbone's maps in boxes (m, 4), in shares of the photo."""
    means = []
    for each in tokens.maps:
        h, w = each.shape[-2:]
        # Of one map, a point for each second cell at least, so that every cell counts for the whole photo.
        samples = 8 if len(tokens.maps) > 1 else max(8, -(-max(h, w) // 2))
        means.append(mean_in_boxes(each, shares * shares.new_tensor([w, h, w, h]), samples=samples))
    is_large = (shares[:, 2:] - shares[:, :2]).prod(1) >= LARGE_SHARE
    return torch.where(is_large.unsqueeze(1), means[0], means[-1])


def cells_for(width: int, height: int, *, most: int) -> tuple[int, int]:
    """How many columns and rows a map of (width, height) cells is pooled to: at most ``most`` cells in all.

    All cells where there are so few, otherwise many new ones of about square shape; 0 and 0 where ``most`` is 0.
    """
    best, best_value = (0, 0), 0.0
    for columns in range(1, min(width, most) + 1):
        rows = min(height, most // columns)
        shape = (width / columns) / (height / rows)
        value = columns * rows * min(shape, 1 / shape) ** 0.5
        if value > best_value:
            best, best_value = (columns, rows), value
    return best


def _half(features: Tensor) -> np.ndarray:
    return features.half().cpu().numpy()  # type: ignore[no-any-return]


def _pooled(tokens: Sequence[PhotoTokens]) -> np.ndarray | None:
    pooled = tokens[0].pooled
    return None if pooled is None else _half(pooled)


def make_patches(argument: str, *, regions: int) -> Detector:  # noqa: ARG001
    """What ``--detector patches`` alone comes to; with a backbone, ``CombinedDetector`` makes the patches.

    Raises:
        ConfigError: In any case.
    """
    raise ConfigError(
        "patches are those of a backbone; name it: --detector timm:NAME, open_clip:NAME/PRETRAINED or hf:NAME, or "
        f"--detector {PATCHES}+NAME"
    )
