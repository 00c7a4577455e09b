"""Training of a matcher together with the image backbone: regions' features come from the network at each step.

Of regions that keep their detector's own features (``BOXES+own+efficientnet-lite2:224``), those stay as stored.

Legend: B photos, m regions, D numbers a feature, o of them the detector's own, h, w pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from han_retrieval.data import CaptionedPhoto, CaptionedPhotos, open_photo
from han_retrieval.errors import ConfigError, DataError
from han_retrieval.files import BACKBONE_FOLDER
from han_retrieval.matchers import Matcher, matcher_class
from han_retrieval.regions import Regions, RegionStore
from han_retrieval.regions.backbones.backbone import BackboneFingerprint, PhotoTokens
from han_retrieval.regions.backbones.efficientnet import (
    LEAST_SIZE,
    MOST_SIZE,
    NAME,
    EfficientNetBackbone,
    save_backbone,
)
from han_retrieval.regions.combined import in_boxes
from han_retrieval.regions.detector import Fingerprint
from han_retrieval.regions.efficientnet_lite import EfficientNetLite2, FrozenEfficientNet, scaled, shape_for
from han_retrieval.regions.grid import LARGE_BOXES
from han_retrieval.regions.names import PATCHES, split_fingerprint
from han_retrieval.regions.rows import RegionRow
from han_retrieval.scoring import prefers_bfloat16
from han_retrieval.training.augment import Change, draw
from han_retrieval.training.batches import Batch, Batches, PhotoGroup, widened
from han_retrieval.training.config import BackboneConfig, TrainingConfig
from han_retrieval.training.loop import StepLoss
from han_retrieval.training.trainer import MatcherTraining

_PREFIX = "backbone."  # of its weights in checkpoints
_AT_ONCE = 32  # photos that are described between commits, for the evaluation
_AT_ONCE_FROZEN = 4  # photos that pass the frozen stages together: their maps fit caches
_READ_AT_ONCE = 512  # photos whose regions are in memory, while their boxes are read
_CARD = """# An image backbone that was trained along

EfficientNet-Lite2, trained together with the model in the folder above on {photos} photos of {dataset}. It began as
`{backbone}`. Features of photos by it: `han extract PHOTOS --detector BOXES+efficientnet-lite2:THIS_FOLDER`.
"""


def backbone_of(store: RegionStore, weights: str = "") -> EfficientNetBackbone:
    """The network that described the regions of a store, with the weights and the sizes that it had.

    Args:
        store: The regions.
        weights: The folder of the weights, if they were trained.

    Raises:
        ConfigError: It is not one that can be trained along, or has other weights, or the regions are patches.
    """
    boxes, backbones, _ = split_fingerprint(store.fingerprint)
    detector = Fingerprint.parse(boxes)
    if detector is not None and detector.name == PATCHES:  # whose features are means of cells, not of boxes
        raise ConfigError(
            f"{store.path}: its features are of patches ({store.fingerprint!r}); a backbone is trained along on boxes: "
            f"extract with --detector grid or BOXES+{NAME}:224"
        )
    if not backbones and not weights and detector is not None and detector.name == "grid":
        return EfficientNetBackbone("224" if detector.regions <= LARGE_BOXES else "")
    if len(backbones) == 1 and (found := BackboneFingerprint.parse(backbones[0])) and found.name == NAME:
        backbone = EfficientNetBackbone(weights or found.model)
        if backbone.fingerprint != backbones[0]:
            raise ConfigError(
                f"{store.path}: its features are of the backbone {backbones[0]!r}, not of {backbone.fingerprint!r}; "
                "name the folder of its weights: --set backbone.weights=MODEL/backbone"
            )
        return backbone
    raise ConfigError(
        f"{store.path}: its features are of {store.fingerprint!r}; {NAME} alone is trained along: extract with "
        f"--detector grid, BOXES+{NAME}:224, or BOXES+own+{NAME}:224, which keeps the features that BOXES gives"
    )


class LearningNetwork(nn.Module):
    """An EfficientNet-Lite2 whose upper stages learn: photos to maps of features.

    Attributes:
        network: The network.
    """

    def __init__(self, network: EfficientNetLite2, config: BackboneConfig) -> None:
        super().__init__()
        self.network, self._config = network, config
        self._frozen: FrozenEfficientNet | None = None
        for stage in self._learning():
            for part in stage.modules():
                if isinstance(part, nn.Conv2d) and part.groups == 1:
                    part.requires_grad_(True)

    def forward(self, photos: Tensor) -> Tensor:
        """(B, 3, h, w) uint8 to (B, D, h / 32, w / 32) float32."""
        device = photos.device
        precision = self._config.precision
        half = precision == "bfloat16" or (precision == "auto" and prefers_bfloat16(device))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            features = self._of_frozen_stages(photos, half=half)
            for stage in self._learning():
                if self._config.checkpointing and torch.is_grad_enabled():
                    features = checkpoint(stage, features, use_reentrant=False)
                else:
                    features = stage(features)
        return features.float()

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """What learns, by stage from the last to the first, each with its share of the learning rate."""
        config = self._config
        return [
            (trained, config.lr_factor * config.lr_decay**depth)
            for depth, stage in enumerate(reversed(self._learning()))
            if (trained := [each for each in stage.parameters() if each.requires_grad])
        ]

    @torch.no_grad()
    def _of_frozen_stages(self, photos: Tensor, *, half: bool) -> Tensor:
        """The maps that the stages which stay as they are give, or the scaled photos where all learn."""
        count = self._config.frozen_stages
        if photos.device.type == "cpu" and count:
            if self._frozen is None:
                self._frozen = FrozenEfficientNet(self.network, dtype=torch.bfloat16 if half else torch.float32)
            return torch.cat([self._frozen.first_stages(some, count) for some in photos.split(_AT_ONCE_FROZEN)])
        features = scaled(photos)
        for stage in self.network.stages[:count]:
            features = stage(features)
        return features

    def _learning(self) -> list[nn.Module]:
        return self.network.stages[self._config.frozen_stages :]


class BoxedPhoto(NamedTuple):
    """A training photo and its boxes.

    Attributes:
        photo: Where its pixels are.
        boxes: (m, 4) float32, in pixels.
        shares: (m, 4) float32, the same in shares of its width and height.
    """

    photo: CaptionedPhoto
    boxes: np.ndarray
    shares: Tensor


@dataclass(frozen=True)
class PhotoBatches(Batches):
    """Batches that hold the photos themselves, from the step on at which the backbone begins to learn.

    Attributes:
        photos: The training photos, by id.
        sizes: At which the backbone sees a photo.
        first_step: The first step with photos.
        own_size: How many numbers of a stored feature stay, o: those that stand before the backbone's.
    """

    photos: Mapping[str, BoxedPhoto] = field(default_factory=dict)
    sizes: Sequence[int] = ()
    first_step: int = 0
    own_size: int = 0

    def _photos(
        self, step: int, ids: Sequence[str], random: torch.Generator
    ) -> tuple[Tensor, Tensor, Sequence[np.ndarray | None], Sequence[PhotoGroup] | None]:
        """This rank's boxes in the changed photos, with what stays of their features behind them (b, m, 4 + o).

        Then the mask (B, m) of all, this rank's stored boxes and its photos.
        """
        if step < self.first_step:
            return super()._photos(step, ids, random)
        most = max(len(self.photos[photo_id].boxes) for photo_id in ids)
        boxes, mask = torch.zeros(len(ids), most, 4), torch.zeros(len(ids), most, dtype=torch.bool)
        places: dict[str, list[int]] = {}
        for place, photo_id in enumerate(ids):
            places.setdefault(photo_id, []).append(place)
        own = self.ranks.rows(len(ids))
        alike: dict[tuple[torch.Size, ...], list[tuple[list[int], list[Tensor]]]] = defaultdict(list)
        for photo_id, of_photo in places.items():  # changes are drawn for all, so that ranks draw the same
            change, changed, seen = self._change(self.photos[photo_id].shares, random)
            boxes[of_photo, : len(changed)], mask[of_photo, : len(seen)] = changed, seen
            rows = [place - own.start for place in of_photo if own.start <= place < own.stop]
            if rows:
                photo = _opened(self.photos[photo_id].photo, size=max(self.sizes))
                pixels = [change.of_pixels(photo, shape_for(*photo.size, size=size)) for size in self.sizes]
                alike[tuple(each.shape for each in pixels)].append((rows, pixels))
        groups = []
        for group in alike.values():
            of_sizes = zip(*(pixels for _, pixels in group), strict=True)
            groups.append(PhotoGroup([rows for rows, _ in group], tuple(torch.stack(each) for each in of_sizes)))
        places_seen = boxes[own]
        if self.own_size:
            rows_of = {photo_id: row for row, photo_id in enumerate(dict.fromkeys(ids[own]))}  # each is read once
            stored = self.store.batch(list(rows_of)).features[..., : self.own_size]
            stored = widened(stored, most)[[rows_of[photo_id] for photo_id in ids[own]]]
            places_seen = torch.cat([places_seen, stored], dim=2)
        return places_seen, mask, [self.photos[photo_id].boxes for photo_id in ids[own]], groups

    def _change(self, boxes: Tensor, random: torch.Generator) -> tuple[Change, Tensor, Tensor]:
        """What is done to a photo, its boxes (m, 4) afterwards, and which of them (m,) are still seen."""
        change = draw(self.config.backbone, random)
        changed, seen = change.of_boxes(boxes)
        if not seen.any():  # small boxes, all of them cut off: the photo is taken whole
            change = change._replace(crop=Change().crop)
            changed, seen = change.of_boxes(boxes)
        return change, changed, seen


class BackboneTraining(MatcherTraining):
    """A matcher and its backbone; the arguments are those of ``train``.

    The first ``backbone.head_epochs`` train the matcher alone, on the stored features.
    """

    def __init__(
        self, config: TrainingConfig, dataset: CaptionedPhotos, store: RegionStore, folder: Path, **others: Any
    ) -> None:
        if others.get("augmentations"):
            raise ConfigError("--augmented has stored features, which --train-backbone computes anew: leave one out")
        if config.backbone.head_epochs >= config.epochs:
            raise ConfigError(
                f"backbone.head_epochs is {config.backbone.head_epochs} and epochs {config.epochs}: the backbone would "
                "never learn; give more epochs, fewer head_epochs, or no --train-backbone"
            )
        if matcher_class(config.model.matcher).image_inputs is not Matcher.image_inputs:
            raise ConfigError(
                f"{config.model.matcher} takes something else of photos than their regions' features, which a backbone "
                "that is trained along gives: leave --train-backbone out"
            )
        backbone = backbone_of(store, config.backbone.weights)
        super().__init__(config, dataset, store, folder, **others)
        self.sizes, self._stored_sizes = _final_sizes(config, backbone), backbone.sizes
        self._own_size = store.feature_size - backbone.feature_size
        self.network = LearningNetwork(backbone.network, config.backbone).to(self.module.device)
        self.facts["backbone"] = backbone.fingerprint
        stored = {each.name: getattr(self.data, each.name) for each in fields(self.data)}
        self.data = PhotoBatches(
            **stored,
            photos=_boxed(dataset, store, self.data.photo_ids),
            sizes=backbone.sizes,
            first_step=config.backbone.head_epochs * self.steps_per_epoch,
            own_size=self._own_size,
        )
        if self.dev is not None:
            _boxed(dataset, store, [photo.id for photo in self.dev.photos])  # refused now, not after an epoch
        learned = self.network.network.net.named_parameters()
        self.weights |= {_PREFIX + name: value.detach() for name, value in learned if value.requires_grad}

    def parameters(self) -> list[tuple[list[nn.Parameter], float]]:
        """The matcher's, and the backbone's stage by stage."""
        return [*super().parameters(), *self.network.groups()]

    def loss(self, batch: Batch, *, step: int, steps: int) -> StepLoss:
        """The loss of the matcher, with features by the backbone as it is now."""
        if batch.photos is not None:
            batch = batch._replace(regions=self._features(batch.regions, batch.photos))
        return super().loss(batch, step=step, steps=steps)

    def _features(self, regions: Tensor, photos: Sequence[PhotoGroup]) -> Tensor:
        """(B, m, D): what stays of features, and the photos' maps in boxes; (B, m, 4 + o) has the boxes, then it."""
        boxes, own = regions[..., :4], regions[..., 4:]
        features: list[Tensor] = [boxes] * len(boxes)
        device = self.module.device
        for group in photos:
            maps = [self.network(pixels.to(device)) for pixels in group.pixels]
            for places, *of_photo in zip(group.places, *maps, strict=True):
                tokens = PhotoTokens(tuple(of_photo), pooled=None)
                for place in places:
                    features[place] = in_boxes(tokens, boxes[place].to(device))
        return torch.cat([own.to(device), torch.stack(features)], dim=2)

    @contextmanager
    def _regions_of(self, dev: CaptionedPhotos, epoch: int) -> Iterator[RegionStore]:
        if epoch <= self.config.backbone.head_epochs and self.sizes == self._stored_sizes:
            yield self.data.store
            return
        with TemporaryDirectory() as folder:
            yield self._described_anew(dev, Path(folder) / "regions")

    @torch.inference_mode()
    def _described_anew(self, dev: CaptionedPhotos, folder: Path) -> RegionStore:
        """A store of photos with the boxes that they have, and features by the backbone as it is now."""
        kept = self.data.store
        with RegionStore.create(folder, fingerprint=kept.fingerprint, feature_size=kept.feature_size) as store:
            for start in range(0, len(dev), _AT_ONCE):
                photos = dev.photos[start : start + _AT_ONCE]
                rows = zip(photos, kept.read([photo.id for photo in photos]), strict=True)
                store.append([RegionRow(photo.id, None, self._described(photo, regions)) for photo, regions in rows])
        return RegionStore.open(folder)

    def _described(self, photo: CaptionedPhoto, regions: Regions) -> Regions:
        image = _opened(photo, size=max(self.sizes))
        pixels = [Change().of_pixels(image, shape_for(*image.size, size=size)).unsqueeze(0) for size in self.sizes]
        own = torch.from_numpy(np.array(regions.features[:, : self._own_size], np.float32))
        known = torch.cat([_shares(regions, photo.id), own], dim=1)
        features = self._features(known.unsqueeze(0), [PhotoGroup([[0]], tuple(pixels))])[0]
        return replace(regions, features=features.half().cpu().numpy(), pooled=None)

    def _save(self, weights: dict[str, Tensor], best: dict[str, Any], *, detector: str | None = None) -> None:
        """Save the backbone, and the matcher with its fingerprint."""
        learned = {name.removeprefix(_PREFIX): value for name, value in weights.items() if name.startswith(_PREFIX)}
        state = {**self.network.network.net.state_dict(), **learned}
        backbone = save_backbone(self.folder / BACKBONE_FOLDER, state, self.sizes, card=_CARD.format(**self.facts))
        detector = split_fingerprint(self.data.store.fingerprint).described_by(backbone)
        others = {name: value for name, value in weights.items() if not name.startswith(_PREFIX)}
        super()._save(others, best, detector=detector)


def _final_sizes(config: TrainingConfig, backbone: EfficientNetBackbone) -> tuple[int, ...]:
    """The sizes at which the trained backbone sees photos."""
    final = config.backbone.final_size
    if not final:
        return backbone.sizes
    if len(backbone.sizes) > 1:
        raise ConfigError(
            f"backbone.final_size is for a backbone that sees photos at one size, such as BOXES+{NAME}:224; this one "
            f"sees them at {' and '.join(map(str, backbone.sizes))}: leave it at 0"
        )
    if not LEAST_SIZE <= final <= MOST_SIZE:
        raise ConfigError(f"backbone.final_size: photos are resized to {LEAST_SIZE} to {MOST_SIZE} pixels, not {final}")
    return (final,)


def _boxed(dataset: CaptionedPhotos, store: RegionStore, ids: Sequence[str]) -> dict[str, BoxedPhoto]:
    """Photos with their boxes, which are read once: each time, their features would be read with them."""
    photos, found = {photo.id: photo for photo in dataset.photos}, {}
    for start in range(0, len(ids), _READ_AT_ONCE):
        some = ids[start : start + _READ_AT_ONCE]
        for photo_id, regions in zip(some, store.read(some), strict=True):
            photo, shares = photos[photo_id], _shares(regions, photo_id)
            if photo.path is None and photo.packed is None:
                raise DataError(
                    f"photo {photo_id!r}: the dataset names no file for it; a backbone learns from the photos"
                )
            found[photo_id] = BoxedPhoto(photo, np.array(regions.boxes), shares)  # a copy, not a view
    return found


def _shares(regions: Regions, photo_id: str) -> Tensor:
    """The boxes (m, 4) of regions in shares of the photo."""
    if regions.boxes is None:
        raise DataError(f"photo {photo_id!r}: its regions have no boxes, which a backbone that learns needs")
    return torch.from_numpy(regions.boxes / np.array([regions.width, regions.height] * 2, np.float32))


def _opened(photo: CaptionedPhoto, *, size: int) -> Image.Image:
    file = photo.path if photo.packed is None else photo.packed.read()
    assert file is not None  # or _boxed had refused it
    return open_photo(file, shrink_to=2 * size)
