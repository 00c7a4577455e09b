"""The detector protocol: how a detector from another package is plugged in.

A detector turns photos into ``Regions``. A package offers one by an entry point in its ``pyproject.toml``::

    [project.entry-points."han_retrieval.detectors"]
    mine = "my_package:make_detector"

The entry point is a ``DetectorFactory``. Its name is what users write: ``--detector mine``, or ``--detector mine:TEXT``
where the factory takes an argument, such as a file of weights. This package's own detectors, such as ``bottom-up``
and ``grid``, are registered in the same way.

A fingerprint is ``NAME-VERSION-REGIONS[-DETAILS]`` or ``NAME:MODEL-VERSION-REGIONS[-DETAILS]``, for instance
``grid-1-36-efficientnet-lite2`` or ``torchvision:fasterrcnn_resnet50_fpn-1-36-258fb6c6``; where backbones describe the
boxes, theirs stand behind it (``names.py``). NAME is the registered name, VERSION a number that grows whenever the
detector computes other features from the same photo, REGIONS the most regions a photo gets, MODEL what the factory is
given as its argument, and DETAILS anything else that features depend on, such as the first digits of the weights' hash.
A MODEL may not have two numbers in a row, as "vit-16-224" has. Models, region stores and indexes keep the fingerprint;
``loading.detector_for`` finds the detector again from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from han_retrieval.plugins import installed
from han_retrieval.regions.names import split_fingerprint

if TYPE_CHECKING:
    from PIL import Image

    from han_retrieval.regions.regions import Regions

SizeNeeded = Callable[[int, int], tuple[int, int]]


class Detector(Protocol):
    """Finds the regions of photos and describes each by a feature.

    Plain attributes will do for ``fingerprint`` and ``feature_size``.

    A detector that resizes photos may also have a method ``size_needed(width, height) -> (width, height)``: the pixels
    that it resizes an upright photo of that size to, at most. A file of a much larger photo is then decoded at a
    smaller scale, which is quicker, and the boxes that it gives are scaled to the photo's own pixels
    (``detect_whole``).

    Where a backbone describes the boxes (``BOXES+FEATURES``), features are not asked for: a method ``detect_boxes``
    like ``detect`` may save the time for them. Where they are kept beside the backbone's (``BOXES+own+FEATURES``), a
    method ``detect_own`` may leave out those for which the photo would pass a network again; ``feature_size`` stays.
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
