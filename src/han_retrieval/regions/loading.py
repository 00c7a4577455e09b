"""Detectors by name and by the fingerprint of features that they made.

A package offers a detector by an entry point of the group ``han_retrieval.detectors``, see ``DetectorFactory``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.files import BACKBONE_FOLDER
from han_retrieval.plugins import find, installed, load
from han_retrieval.regions.backbones.backbone import BackboneFingerprint, load_backbone
from han_retrieval.regions.checked import CheckedDetector
from han_retrieval.regions.detector import Detector, DetectorFactory, Fingerprint, SizeNeeded, size_needed
from han_retrieval.regions.names import PATCHES, differ_in_places, differ_in_weights, split_fingerprint, split_name

if TYPE_CHECKING:
    from PIL import Image

    from han_retrieval.regions.regions import Regions

DEFAULT_DETECTOR = "bottom-up"


def load_detector(name: str, *, regions: int) -> Detector:
    """Load a detector by name.

    Args:
        name: ``NAME`` or ``NAME:ARGUMENT``, such as "grid" or "torchvision:fasterrcnn_resnet50_fpn"; with backbones
            that describe the boxes, ``BOXES[+own]+FEATURES[+FEATURES...]``, such as "bottom-up+timm:resnet50.a1_in1k",
            where "own" keeps the detector's features before theirs; or a backbone alone, for patches of its own.
        regions: The most regions a photo gets.

    Raises:
        ConfigError: No detector or backbone has that name, its package cannot be imported, or it takes no such
            argument or number of regions.
        ModelError: Its weights are missing or damaged, or a library is not installed.
    """
    sources = split_name(name)
    if not sources.backbones:
        detector = _load(name, regions=regions)
        if not detector.feature_size:
            raise ConfigError(
                f"{name!r} gives boxes and no features; name what describes them, such as {name}+timm:NAME or "
                f"{name}+efficientnet-lite2"
            )
        return detector
    from han_retrieval.regions.combined import CombinedDetector  # it loads torch

    boxes = None if sources.boxes == PATCHES else _load(sources.boxes, regions=regions)
    backbones = [load_backbone(each) for each in sources.backbones]
    return CombinedDetector(boxes, backbones, regions=regions, keeps_own=sources.keeps_own)


def _load(name: str, *, regions: int) -> Detector:
    kind, _, argument = name.partition(":")
    factory: DetectorFactory = load("detectors", kind)
    detector = factory(argument, regions=regions)
    return detector if find("detectors", kind).is_ours else CheckedDetector(detector, kind)


def detector_for(fingerprint: str, *, name: str | None = None, model: str | Path | None = None) -> Detector:
    """Load the detector that made features of this fingerprint, with as many regions.

    Args:
        fingerprint: Of a model, a region store or an index.
        name: The detector's name with its argument, where the fingerprint does not say it, or where weights lie
            elsewhere now: it has the hash of a user's own weights, but not their file.
        model: The folder of the model that is used, which holds the backbone that was trained with it, if one was.

    Raises:
        ModelError: The features were imported, the detector is not installed, or the one that is there makes other
            features.
        ConfigError: No detector is called ``name``.
    """
    parts, sources = Fingerprint.parse(fingerprint), split_fingerprint(fingerprint)
    backbones = [BackboneFingerprint.parse(each) for each in sources.backbones]
    if parts is None or parts.name not in installed("detectors") or None in backbones:
        raise ModelError(
            f"the features were made by {fingerprint!r}, which cannot run on a photo here: no such detector is "
            "installed, or they were imported from another program"
        )
    describing = [each.asked_for_by for each in backbones if each]
    if model is not None and len(backbones) == 1 and (folder := Path(model) / BACKBONE_FOLDER).is_dir():
        describing = [f"{describing[0]}:{folder.absolute()}"]
    if name is None or name == sources._replace(boxes=_asked_for_by(parts.name, parts.model)).described_by(*describing):
        find_argument = getattr(load("detectors", parts.name), "argument_for", None)
        argument = find_argument(sources.boxes) if find_argument else parts.model
        name = sources._replace(boxes=_asked_for_by(parts.name, argument)).described_by(*describing)
    gives = "others"
    boxes = split_name(name).boxes
    if find("detectors", boxes.partition(":")[0]).name == parts.name:
        try:
            detector = load_detector(name, regions=parts.regions)
        except ConfigError as error:
            raise ModelError(f"the features were made by {fingerprint!r}: {error}") from None
        except ModelError as error:
            if not backbones:
                raise
            raise ModelError(f"{error}; if the weights lie elsewhere now, say where: --detector {name}") from None
        if detector.fingerprint == fingerprint:
            return detector
        if backbones and differ_in_places(detector.fingerprint, fingerprint):
            return Renamed(detector, fingerprint)
        if backbones and differ_in_weights(detector.fingerprint, fingerprint):
            raise ModelError(
                f"the features were made by {fingerprint!r}, and {name!r} is {detector.fingerprint!r} now: the "
                "backbone's weights have changed since; name the revision that made the features with --detector "
                "(hf:NAME@REVISION, or the folder of weights that were trained), or extract them again"
            )
        gives = f"{detector.fingerprint!r}"
    raise ModelError(
        f"the features were made by {fingerprint!r}, and {name!r} gives {gives}; a detector with weights of your own "
        f"is named with its argument: --detector {parts.name}:ARGUMENT"
    )


def _asked_for_by(name: str, argument: str) -> str:
    return f"{name}:{argument}" if argument else name


class Renamed:
    """A detector whose weights lie elsewhere than those that made some features, and are the same.

    Attributes:
        fingerprint: Of those features.
        feature_size: The detector's.
    """

    def __init__(self, detector: Detector, fingerprint: str) -> None:
        self._detector, self.fingerprint = detector, fingerprint
        self.feature_size = detector.feature_size

    @property
    def size_needed(self) -> SizeNeeded | None:
        """See ``size_needed``."""
        return size_needed(self._detector)

    def detect(self, photos: Sequence[Image.Image]) -> Sequence[Regions]:
        """See ``Detector.detect``."""
        return self._detector.detect(photos)
