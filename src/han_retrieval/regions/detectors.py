"""Detectors by name, and by the fingerprint that a model or a store remembers."""

from __future__ import annotations

from collections.abc import Callable

from han_retrieval.errors import HANError
from han_retrieval.regions.regions import Detector


def _grid(regions: int) -> Detector:
    from han_retrieval.regions.grid import GridDetector

    return GridDetector(regions=regions)


def _scenes(regions: int) -> Detector:
    from han_retrieval.regions.scene_detector import SceneDetector

    return SceneDetector(regions=regions)


# Loaded when asked for: a network takes seconds, and most verbs need none.
DETECTORS: dict[str, Callable[[int], Detector]] = {"grid": _grid, "scenes": _scenes}


def load_detector(name: str, *, regions: int) -> Detector:
    """A detector by name, giving at most ``regions`` regions a photo.

    Raises:
        HANError: No detector has that name, or it cannot give so many regions.
    """
    if name not in DETECTORS:
        raise HANError(f"no detector is called {name!r}; there are: {', '.join(DETECTORS)}")
    return DETECTORS[name](regions)


def detector_for(fingerprint: str) -> Detector:
    """The detector that made features of this fingerprint.

    Raises:
        HANError: The features were imported, or made by a detector or version that is not here.
    """
    name, _, rest = fingerprint.partition("-")
    regions = rest.split("-")[1] if rest.count("-") >= 1 else ""
    if name in DETECTORS and regions.isdigit():
        detector = load_detector(name, regions=int(regions))
        if detector.fingerprint == fingerprint:
            return detector
    raise HANError(
        f"the features are of {fingerprint!r}, which this program cannot run on a photo: imported features and those "
        "of other versions can be read, not made"
    )
