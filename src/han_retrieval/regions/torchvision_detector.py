"""Any Faster R-CNN of torchvision as a detector, with torchvision's weights or those of a file.

Legend: B photos, n regions of a photo, D numbers a feature, h, w pixels of the resized photo, H, W with its padding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.processor import device_or_best
from han_retrieval.regions.choose import choose, photo_first
from han_retrieval.regions.detector import Fingerprint
from han_retrieval.regions.regions import Regions
from han_retrieval.regions.strips import widened
from han_retrieval.regions.torchvision_weights import load_network, read_weights, weights_name

_LEAST_SCORE = 0.02  # lower than torchvision's 0.05: uncertain detections are worth a region too
_MOST_DETECTIONS = 1000  # of a photo, before ``choose``


class TorchvisionDetector:
    """Boxes, names and scores of a Faster R-CNN, and its box head's representation of the selected boxes.

    Features are pooled again from the final boxes: those that the network computes belong to proposals. Photos pass the
    network together only where they are resized to the same shape, so that no photo's features depend on how another
    was padded.

    Attributes:
        fingerprint: Names the model, the number of regions and the weights by their hash; the same for torchvision's
            own weights by name and from a file.
        feature_size: D, 1024 for all models of torchvision.
        classes: The names of the network's classes; the first is the background.
    """

    def __init__(
        self, name: str, *, regions: int = 36, weights: str | None = None, device: str | torch.device | None = None
    ):
        """Build the network and read its weights.

        Args:
            name: Of a model of ``torchvision.models.detection`` with a box head: one of ``torchvision_weights.MODELS``.
            regions: m, at most; the whole photo comes first.
            weights: The name of weights that torchvision knows for the model (they are downloaded to its cache), or a
                file with a state dict, .pth or .safetensors; the model's default weights where None.
            device: Where the network runs; a GPU when there is one.

        Raises:
            ConfigError: There is no such model.
            ModelError: The weights are not known, not readable, of another model, or cannot be downloaded.
        """
        read = read_weights(name, weights)
        self.regions = regions
        self.device = device_or_best(device)
        self.network = load_network(read).to(self.device)
        heads = self.network.roi_heads
        heads.score_thresh, heads.detections_per_img = _LEAST_SCORE, _MOST_DETECTIONS
        self.classes = read.classes
        self.feature_size: int = heads.box_predictor.cls_score.in_features
        self.fingerprint = f"torchvision:{name}-1-{regions}-{read.sha}"

    @torch.inference_mode()
    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """See ``Detector.detect``; photos of one shape pass the network together."""
        alike: dict[tuple[int, ...], list[tuple[int, ImageList]]] = defaultdict(list)
        for place, photo in enumerate(photos):
            images = self._prepared(photo)
            alike[tuple(images.tensors.shape)].append((place, images))
        found: dict[int, Regions] = {}
        for group in alike.values():
            sizes = [images.image_sizes[0] for _, images in group]
            together = ImageList(torch.cat([images.tensors for _, images in group]), sizes)
            for (place, _), regions in zip(group, self._regions(together, [photos[p] for p, _ in group]), strict=True):
                found[place] = regions
        return [found[place] for place in range(len(photos))]

    def _prepared(self, photo: Image.Image) -> ImageList:
        """The photo after the network's own transform: normalised, resized, padded, (1, 3, H, W).

        The transform interpolates between four pixels. Very large photos are first reduced by a whole factor, which
        takes less memory and loses nothing; very long ones are stretched, as they would have no pixels left across.
        """
        transform = self.network.transform
        photo = widened(photo.reduce(max(1, max(photo.size) // (2 * transform.max_size))))
        pixels = torch.from_numpy(np.array(photo)).to(self.device).permute(2, 0, 1).float() / 255  # (3, h, w)
        return transform([pixels])[0]  # type: ignore[no-any-return]

    def _regions(self, images: ImageList, photos: Sequence[Image.Image]) -> list[Regions]:
        heads = self.network.roi_heads
        maps = self.network.backbone(images.tensors)
        proposals, _ = self.network.rpn(images, maps)
        detections, _ = heads(maps, proposals, images.image_sizes)
        kept = []
        for of_photo, (h, w) in zip(detections, images.image_sizes, strict=True):
            boxes, scores, classes = (of_photo[part] for part in ("boxes", "scores", "labels"))
            places = choose(boxes, scores, classes, regions=self.regions, width=w, height=h)
            names = [self.classes[number] for number in classes[places].tolist()]
            kept.append(photo_first(boxes[places], scores[places], names, width=w, height=h))
        boxes_in_maps = [boxes for boxes, _, _ in kept]
        features: Tensor = heads.box_head(heads.box_roi_pool(maps, boxes_in_maps, images.image_sizes))  # (sum of n, D)
        parts = features.half().cpu().split([len(boxes) for boxes in boxes_in_maps])
        return [
            Regions(
                features=of_photo.numpy(),
                boxes=_in_pixels_of(photo, boxes, size),
                width=photo.width,
                height=photo.height,
                labels=names,
                scores=scores.cpu().numpy(),
            )
            for photo, of_photo, (boxes, scores, names), size in zip(
                photos, parts, kept, images.image_sizes, strict=True
            )
        ]


def _in_pixels_of(photo: Image.Image, boxes: Tensor, size: tuple[int, int]) -> np.ndarray:
    """(n, 4) float32 boxes in pixels of the photo, from boxes in the (h, w) that it was resized to."""
    h, w = size
    edges = np.array([photo.width, photo.height] * 2)
    of_photo: np.ndarray = np.minimum(boxes.double().cpu().numpy() * (edges / [w, h, w, h]), edges)
    return of_photo.astype(np.float32)


class _Factory:
    """Makes a detector from "NAME" or "NAME@WEIGHTS"; see ``DetectorFactory``."""

    def __call__(self, argument: str, /, *, regions: int) -> TorchvisionDetector:
        model, _, weights = argument.partition("@")
        if not model:
            raise ConfigError(
                "torchvision has many detectors; name one, such as --detector torchvision:fasterrcnn_resnet50_fpn"
            )
        return TorchvisionDetector(model, regions=regions, weights=weights or None)

    def argument_for(self, fingerprint: str) -> str:
        """The model with the name of its weights, which the fingerprint has the hash of."""
        parts = Fingerprint.parse(fingerprint)
        weights = None if parts is None else weights_name(parts.model, parts.details)
        if parts is None or weights is None:
            model = parts.model if parts else "NAME"
            raise ModelError(
                f"the features were made by {fingerprint!r}, whose weights are none of torchvision's own; name their "
                f"file: --detector torchvision:{model}@FILE"
            )
        return f"{parts.model}@{weights}"


make_detector = _Factory()
