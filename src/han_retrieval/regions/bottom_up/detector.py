"""The bottom-up detector: regions with names and features, by a ``BottomUp`` network.

Legend: B photos, k boxes of one photo, K boxes of all photos, m regions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from han_retrieval.files import from_home
from han_retrieval.processor import device_or_best, prefers_bfloat16
from han_retrieval.regions.bottom_up.frozen import FrozenBottomUp
from han_retrieval.regions.bottom_up.network import BottomUp, BoxPredictions, Maps
from han_retrieval.regions.bottom_up.saving import load_network
from han_retrieval.regions.choose import PHOTO, choose, photo_first
from han_retrieval.regions.efficientnet_lite import CHANNELS, mean_in_boxes, pixels, shape_for
from han_retrieval.regions.pooling import LARGE_SHARE
from han_retrieval.regions.regions import Regions
from han_retrieval.regions.workers import map_by_shape
from han_retrieval.stages import stage

SHIPPED = Path(__file__).parents[2] / "pretrained" / "bottom_up"

# Features of large boxes come from a small photo, where the box has about the size of the photos of ImageNet.
_SMALL = 224
_SURE = 0.3  # the least probability of an attribute that is named
# IoU from which boxes of different nouns are one region: captions call the same object man, guy and person.
_COINCIDING = 0.6


class _Found(NamedTuple):
    """What finding the boxes of photos of one shape gives.

    Attributes:
        photos: The photos.
        shape: (w, h) that they were resized to.
        top: (B, 1280, h, w), the backbone's last map of the resized photos.
        boxes: (k, 4) of each photo, in pixels of the resized one.
        representation: (K, r) float32, from which the heads predict.
    """

    photos: Sequence[Image.Image]
    shape: tuple[int, int]
    top: Tensor
    boxes: list[Tensor]
    representation: Tensor

    def means(self) -> Tensor:
        """(K, 1280) float32: means of the map in the boxes."""
        return mean_in_boxes(self.top.float(), self.boxes)


class BottomUpDetector:
    """Boxes, names and features by a ``BottomUp`` network.

    A feature is the mean of the backbone's last map in the box, 1280 numbers, followed by the representation from which
    the network's heads predict nouns and attributes.

    Attributes:
        fingerprint: Names the version, the regions, the weights and the photos' size.
        feature_size: D.
    """

    def __init__(
        self,
        network: BottomUp,
        *,
        weights_hash: str,
        regions: int = 36,
        device: str | torch.device | None = None,
        precision: str = "float32",
    ) -> None:
        """Wrap a network.

        Args:
            network: In evaluation mode; on the CPU, its weights are copied.
            weights_hash: Hash of its weights, for the fingerprint.
            regions: m, the most regions a photo gets; the first is the whole photo.
            device: Where the network runs; a GPU when there is one.
            precision: Of the large products on the CPU, "float32" or "bfloat16".
        """
        self.device = device_or_best(device)
        self.network = network.to(self.device)
        self.regions = regions
        on_cpu = self.device.type == "cpu"
        self._running = FrozenBottomUp(network, dtype=getattr(torch, precision)) if on_cpu else network
        config = network.config
        self.fingerprint = f"bottom-up-1-{regions}-{weights_hash[:8]}-{config.size}"
        self.feature_size = CHANNELS + config.representation

    def size_needed(self, width: int, height: int) -> tuple[int, int]:
        """See ``Detector``."""
        return shape_for(width, height, size=self.network.config.size)

    @torch.inference_mode()
    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """See ``Detector.detect``; photos of one shape pass the network together on a GPU, one a thread on the CPU."""
        return self._grouped(photos, self._features)

    @torch.inference_mode()
    def detect_boxes(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """The same boxes, names and scores without features."""
        return self._grouped(photos, lambda found: found.representation[:, :0])

    @torch.inference_mode()
    def detect_own(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """The same with the features that finding them gives: means of large boxes are of the large photo too.

        The backbone then sees each photo once instead of twice.
        """
        return self._grouped(photos, lambda found: torch.cat([found.means(), found.representation], dim=1))

    def _grouped(self, photos: Sequence[Image.Image], features: Callable[[_Found], Tensor]) -> list[Regions]:
        shapes = [shape_for(*photo.size, size=self.network.config.size) for photo in photos]

        @torch.inference_mode()
        def detect(alike: list[Image.Image], shape: tuple[int, int]) -> list[Regions]:
            with stage("network"):
                return self._detect(alike, shape, features)

        return map_by_shape(detect, photos, shapes, one_a_thread=self._running is not self.network)

    @torch.inference_mode()
    def predict(self, photo: Image.Image, boxes: np.ndarray) -> BoxPredictions:
        """The network's outputs for given boxes (k, 4) in pixels of an upright RGB photo."""
        shape = shape_for(*photo.size, size=self.network.config.size)
        large = pixels([photo], shape, self.device)
        scale = np.array([shape[0] / photo.width, shape[1] / photo.height] * 2, np.float32)
        of_photo = torch.from_numpy(boxes.astype(np.float32) * scale).to(self.device)
        return self._running.predict(self._running.maps(large), [of_photo], large)

    def _detect(
        self, photos: Sequence[Image.Image], shape: tuple[int, int], features: Callable[[_Found], Tensor]
    ) -> list[Regions]:
        """The regions of photos resized to one (w, h)."""
        large = pixels(photos, shape, self.device)
        maps = self._running.maps(large)
        with stage("choose"):
            boxes, scores = self._boxes(large, maps)
        counts = [len(of_photo) for of_photo in boxes]
        predicted = self._running.predict(maps, boxes, large)
        described = features(_Found(photos, shape, maps["top"], boxes, predicted.representation))
        names = iter(self._names(predicted))
        found = []
        for photo, of_photo, in_large, score in zip(photos, described.split(counts), boxes, scores, strict=True):
            _, *labels = (next(names) for _ in in_large)
            scale = np.array([photo.width / shape[0], photo.height / shape[1]] * 2, np.float32)
            found.append(
                Regions(
                    features=of_photo.half().cpu().numpy(),
                    boxes=in_large.cpu().numpy() * scale,
                    width=photo.width,
                    height=photo.height,
                    labels=(PHOTO, *labels),
                    scores=score.cpu().numpy(),
                )
            )
        return found

    def _boxes(self, photos: Tensor, maps: Maps) -> tuple[list[Tensor], list[Tensor]]:
        """Boxes (k, 4) of each photo, and scores (k,): the probability that captions mention what is in the box."""
        proposals = self._running.propose(photos, maps)
        with stage("network"):
            predicted = self._running.predict(maps, proposals, photos)
        counts = [len(of_photo) for of_photo in proposals]
        probability = (1 - predicted.nouns.softmax(1)[:, 0]).split(counts)
        nouns = predicted.nouns[:, 1:].argmax(1).split(counts)
        height, width = photos.shape[-2:]
        kept = []
        for boxes, scores, of_class in zip(
            self._running.refine(predicted, proposals, photos), probability, nouns, strict=True
        ):
            places = choose(
                boxes, scores, of_class, regions=self.regions, width=width, height=height, coinciding=_COINCIDING
            )
            kept.append(photo_first(boxes[places], scores[places], (), width=width, height=height))
        return [boxes for boxes, _, _ in kept], [scores for _, scores, _ in kept]

    def _features(self, found: _Found) -> Tensor:
        """(K, D): means of the map, those of large boxes from the map of a small photo, then the representation."""
        shape = found.shape
        small = shape_for(*shape, size=_SMALL)
        of_small = self._running.backbone(pixels(found.photos, small, self.device)).float()
        scale = torch.tensor([small[0] / shape[0], small[1] / shape[1]] * 2, device=self.device)
        is_large = torch.cat([(b[:, 2:] - b[:, :2]).prod(1) for b in found.boxes]) >= LARGE_SHARE * shape[0] * shape[1]
        in_small = mean_in_boxes(of_small, [b * scale for b in found.boxes])
        means = torch.where(is_large.unsqueeze(1), in_small, found.means())
        return torch.cat([means, found.representation], dim=1)

    def _names(self, predicted: BoxPredictions) -> list[str]:
        """ "red shirt": the likeliest noun, behind the likeliest attribute that goes with it if that is sure enough."""
        names = self.network.config.names
        nouns, attributes = predicted.nouns[:, 1:].argmax(1).tolist(), predicted.attributes.sigmoid().tolist()
        found = []
        for noun, sure in zip(nouns, attributes, strict=True):
            best = max(names.together[noun], key=sure.__getitem__, default=-1)
            attribute = f"{names.attributes[best]} " if best >= 0 and sure[best] > _SURE else ""
            found.append(attribute + names.nouns[noun])
        return found


def make_detector(argument: str, *, regions: int) -> BottomUpDetector:
    """Load the detector of the folder ``argument``, or the one that ships; see ``DetectorFactory``."""
    network, weights_hash = load_network(from_home(argument) if argument else SHIPPED)
    precision = "bfloat16" if prefers_bfloat16() else "float32"
    return BottomUpDetector(network, weights_hash=weights_hash, regions=regions, precision=precision)
