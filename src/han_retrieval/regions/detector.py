"""The detector protocol, and detectors by name: how a detector from another package is plugged in.

A detector turns photos into ``Regions``. A package offers one by an entry point in its ``pyproject.toml``::

    [project.entry-points."han_retrieval.detectors"]
    mine = "my_package:make_detector"

The entry point is a ``DetectorFactory``. Its name is what users write: ``--detector mine``, or ``--detector mine:TEXT``
where the factory takes an argument, such as a file of weights. This package's own detectors, ``bottom-up``, ``grid``
and ``torchvision``, are registered in the same way.

A fingerprint is ``NAME-VERSION-REGIONS[-DETAILS]`` or ``NAME:MODEL-VERSION-REGIONS[-DETAILS]``, for instance
``grid-1-36-efficientnet-lite2`` or ``torchvision:fasterrcnn_resnet50_fpn-1-36-258fb6c6``; where backbones describe the
boxes, theirs stand behind it (``names.py``). NAME is the registered name, VERSION a number that grows whenever the
detector computes other features from the same photo, REGIONS the most regions a photo gets, MODEL what the factory is
given as its argument, and DETAILS anything else that features depend on, such as the first digits of the weights' hash.
A MODEL may not have two numbers in a row, as "vit-16-224" has. Models, region stores and indexes keep the fingerprint;
``detector_for`` finds the detector again from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.files import BACKBONE_FOLDER
from han_retrieval.plugins import find, installed, load
from han_retrieval.regions.backbones.backbone import BackboneFingerprint, load_backbone
from han_retrieval.regions.checked import CheckedDetector
from han_retrieval.regions.names import (
    PATCHES,
    differ_in_places,
    differ_in_weights,
    split_fingerprint,
    split_name,
)

if TYPE_CHECKING:
    from PIL import Image

    from han_retrieval.regions.regions import Regions

DEFAULT_DETECTOR = "bottom-up"

SizeNeeded = Callable[[int, int], tuple[int, int]]


class Detector(Protocol):
    """Finds the regions of photos and describes each by a feature.

    Plain attributes will do for ``fingerprint`` and ``feature_size``.

    A detector that resizes photos may also have a method ``size_needed(width, height) -> (width, height)``: the pixels
    that it resizes an upright photo of that size to, at most. A file of a much larger photo is then decoded at a
    smaller scale, which is quicker, and the boxes that it gives are scaled to the photo's own pixels
    (``detect_whole``).
    """

    @property
    def fingerprint(self) -> str:
        """Names everything that the features depend on, in the form above.

        Two detectors that give different features for one photo must have different fingerprints: features are never
        mixed across them.
        """
        ...

    @property
    def feature_size(self) -> int:
        """D, how many numbers a feature has; the same for all photos."""
        ...

    def detect(self, photos: Sequence[Image.Image]) -> Sequence[Regions]:
        """The regions of each photo.

        Args:
            photos: Upright RGB images of any size, at least one pixel each.

        Returns:
            One ``Regions`` a photo, in the order of ``photos``. A photo's regions do not depend on the other photos.
            A photo in which nothing is found may have none; it is then skipped and reported.

        Raises:
            HANError: With one line for the user, for instance when memory is short. Any other exception counts as a
                defect and ends the run with a traceback.
        """
        ...


class DetectorFactory(Protocol):
    """Makes a detector; what an entry point of the group ``han_retrieval.detectors`` refers to.

    A factory may also have a method ``argument_for(fingerprint: str) -> str``. It returns the argument that makes the
    detector of a fingerprint, or raises ``ModelError``; without it, the argument is the fingerprint's MODEL.
    """

    def __call__(self, argument: str, /, *, regions: int) -> Detector:
        """Load the detector.

        Args:
            argument: What stands behind the colon of ``NAME:ARGUMENT``, "" where there is no colon.
            regions: The most regions a photo gets.

        Raises:
            ConfigError: The argument means nothing to this detector, or it cannot give so many regions.
            ModelError: Its weights are missing or damaged.
        """
        ...


def size_needed(detector: Detector) -> SizeNeeded | None:
    """What gives the pixels that a detector needs of a photo, from its upright width and height; None for all."""
    return getattr(detector, "size_needed", None)


def detect_whole(detector: Detector, photos: Sequence[Image.Image]) -> list[Regions]:
    """The regions of photos in pixels of their files, also of photos that ``open_photo`` has made smaller."""
    from han_retrieval.data.photos import full_size

    found = detector.detect(photos)
    return [
        regions if full_size(photo) == photo.size else regions.scaled_to(*full_size(photo))
        for photo, regions in zip(photos, found, strict=True)
    ]


class Fingerprint(NamedTuple):
    """The parts of a fingerprint; ``model`` and ``details`` are "" where it has none."""

    name: str
    model: str
    regions: int
    details: str

    @classmethod
    def parse(cls, fingerprint: str) -> Fingerprint | None:
        """None where it has another form, as that of imported features; backbones do not count.

        A name may have numbers between hyphens too, as "mine-2-3": of several readings, the first counts whose name is
        registered, or else the first.
        """
        fingerprint = split_fingerprint(fingerprint).boxes
        readings = [
            cls(parts[1], parts[2] or "", int(version[1]), version[2] or "")
            for version in re.finditer(r"-\d+(?=-(\d+)(?:-(.*))?$)", fingerprint)
            if (parts := re.fullmatch(r"([^:]+)(?::(.+))?", fingerprint[: version.start()]))
        ]
        registered = [reading for reading in readings if reading.name in installed("detectors")]
        return next(iter(registered or readings), None)


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
    from han_retrieval.regions.combined import CombinedDetector

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
