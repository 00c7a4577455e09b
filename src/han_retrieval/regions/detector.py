"""The detector protocol, and detectors by name: how a detector from another package is plugged in.

A detector turns photos into ``Regions``. A package offers one by an entry point in its ``pyproject.toml``::

    [project.entry-points."han_retrieval.detectors"]
    mine = "my_package:make_detector"

The entry point is a ``DetectorFactory``. Its name is what users write: ``--detector mine``, or ``--detector mine:TEXT``
where the factory takes an argument, such as a file of weights. This package's own detectors, ``bottom-up``, ``grid``
and ``torchvision``, are registered in the same way.

A fingerprint is ``NAME-VERSION-REGIONS[-DETAILS]`` or ``NAME:MODEL-VERSION-REGIONS[-DETAILS]``, for instance
``grid-1-36-efficientnet-lite2`` or ``torchvision:fasterrcnn_resnet50_fpn-1-36-258fb6c6``. NAME is the registered name,
VERSION a number that grows whenever the detector computes other features from the same photo, REGIONS the most regions
a photo gets, MODEL what the factory is given as its argument, and DETAILS anything else that features depend on, such
as the first digits of the weights' hash. A MODEL may not have two numbers in a row, as "vit-16-224" has. Models, region
stores and indexes keep the fingerprint; ``detector_for`` finds the detector again from it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.plugins import find, installed, load
from han_retrieval.regions.checked import CheckedDetector

if TYPE_CHECKING:
    from PIL import Image

    from han_retrieval.regions.regions import Regions

DEFAULT_DETECTOR = "bottom-up"


class Detector(Protocol):
    """Finds the regions of photos and describes each by a feature.

    Plain attributes will do for ``fingerprint`` and ``feature_size``.
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


class Fingerprint(NamedTuple):
    """The parts of a fingerprint; ``model`` and ``details`` are "" where it has none."""

    name: str
    model: str
    regions: int
    details: str

    @classmethod
    def parse(cls, fingerprint: str) -> Fingerprint | None:
        """None where it has another form, as that of imported features.

        A name may have numbers between hyphens too, as "mine-2-3": of several readings, the first counts whose name is
        registered, or else the first.
        """
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
        name: ``NAME`` or ``NAME:ARGUMENT``, such as "grid" or "torchvision:fasterrcnn_resnet50_fpn".
        regions: The most regions a photo gets.

    Raises:
        ConfigError: No detector has that name, its package cannot be imported, or it takes no such argument or number
            of regions.
        ModelError: Its weights are missing or damaged.
    """
    kind, _, argument = name.partition(":")
    factory: DetectorFactory = load("detectors", kind)
    detector = factory(argument, regions=regions)
    return detector if find("detectors", kind).is_ours else CheckedDetector(detector, kind)


def detector_for(fingerprint: str, *, name: str | None = None) -> Detector:
    """Load the detector that made features of this fingerprint, with as many regions.

    Args:
        fingerprint: Of a model, a region store or an index.
        name: The detector's name with its argument, where the fingerprint does not say it: it has the hash of a
            user's own weights, but not their file.

    Raises:
        ModelError: The features were imported, the detector is not installed, or the one that is there makes other
            features.
        ConfigError: No detector is called ``name``.
    """
    parts = Fingerprint.parse(fingerprint)
    if parts is None or parts.name not in installed("detectors"):
        raise ModelError(
            f"the features were made by {fingerprint!r}, which cannot run on a photo here: no such detector is "
            "installed, or they were imported from another program"
        )
    own = f"{parts.name}:{parts.model}" if parts.model else parts.name
    if name is None or name == own:
        find_argument = getattr(load("detectors", parts.name), "argument_for", None)
        argument = find_argument(fingerprint) if find_argument else parts.model
        name = f"{parts.name}:{argument}" if argument else parts.name
    gives = "others"
    if find("detectors", name.partition(":")[0]).name == parts.name:
        try:
            detector = load_detector(name, regions=parts.regions)
        except ConfigError as error:
            raise ModelError(f"the features were made by {fingerprint!r}: {error}") from None
        if detector.fingerprint == fingerprint:
            return detector
        gives = f"{detector.fingerprint!r}"
    raise ModelError(
        f"the features were made by {fingerprint!r}, and {name!r} gives {gives}; a detector with weights of your own "
        f"is named with its argument: --detector {parts.name}:ARGUMENT"
    )
