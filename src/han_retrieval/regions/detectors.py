"""Detectors by name, and by the fingerprint that a model or a store remembers.

A name is a kind and, after a colon, what the kind is given: ``grid``, ``torchvision:NAME@WEIGHTS``,
``bottom-up:FOLDER``. A fingerprint is who made the features, the version of that, m, and what else they depend on, with
hyphens between: ``grid-1-36-...``, ``torchvision:NAME-1-36-...``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from han_retrieval.errors import HANError
from han_retrieval.regions.regions import Detector

DEFAULT_DETECTOR = "bottom-up"
_SHIPPED = Path(__file__).parents[1] / "pretrained" / "bottom_up"


def _grid(regions: int, _: str) -> Detector:
    from han_retrieval.regions.grid import GridDetector

    return GridDetector(regions=regions)


def _bottom_up(regions: int, given: str) -> Detector:
    from han_retrieval.regions.bottom_up import BottomUpDetector, load_network

    network, weights_hash = load_network(Path(given).expanduser() if given else _SHIPPED)
    return BottomUpDetector(network, weights_hash=weights_hash, regions=regions)


def _torchvision(regions: int, given: str) -> Detector:
    from han_retrieval.regions.torchvision_detector import TorchvisionDetector

    model, _, weights = given.partition("@")
    return TorchvisionDetector(model, regions=regions, weights=weights or None)


# Loaded when asked for: a network takes seconds, and most verbs need none.
_KINDS: dict[str, Callable[[int, str], Detector]] = {
    "grid": _grid,
    "bottom-up": _bottom_up,
    "torchvision": _torchvision,
}
# Kinds that take weights of one's own, and how.
_OWN = {"bottom-up": "bottom-up:FOLDER", "torchvision": "torchvision:NAME@FILE"}
DETECTORS = ("grid", "bottom-up", "bottom-up:FOLDER", "torchvision:NAME", "torchvision:NAME@WEIGHTS")


def load_detector(name: str, *, regions: int) -> Detector:
    """A detector by name, giving at most ``regions`` regions a photo.

    Raises:
        HANError: No detector has that name, its weights are not to be had, or it cannot give so many regions.
    """
    kind, given = _split(name)
    return _KINDS[kind](regions, given)


def detector_for(fingerprint: str, *, name: str | None = None) -> Detector:
    """The detector that made features of this fingerprint, with as many regions.

    Args:
        fingerprint: What a model or a store remembers.
        name: The detector's name, for weights of one's own: a fingerprint has their hash, and not where they are.

    Raises:
        HANError: The features were imported, or made by a detector, weights or version that is not here; or the named
            detector makes others.
    """
    parts = re.fullmatch(r"(.+?)-\d+-(\d+)(?:-(.*))?", fingerprint)
    if parts is None or parts[1].partition(":")[0] not in _KINDS:
        raise HANError(
            f"the features are of {fingerprint!r}, which this program cannot run on a photo: imported features "
            "and those of other programs can be read, not made"
        )
    maker, regions, rest = parts[1], int(parts[2]), parts[3] or ""
    if name is None or name == maker:
        name = _name_for(fingerprint, maker, rest)
    kind, _ = _split(name)
    gives = "others"
    if maker == (name.partition("@")[0] if kind == "torchvision" else kind):
        detector = load_detector(name, regions=regions)
        if detector.fingerprint == fingerprint:
            return detector
        gives = f"{detector.fingerprint!r}"
    own = _OWN.get(maker.partition(":")[0])
    mend = f"; weights of one's own are named so: --detector {own}" if own else ""
    raise HANError(f"the features are of {fingerprint!r}, and {name!r} gives {gives}{mend}")


def _split(name: str) -> tuple[str, str]:
    """The kind of a detector's name, and what stands behind the colon."""
    kind, colon, given = name.partition(":")
    if kind not in _KINDS or (colon and kind not in _OWN) or (kind == "torchvision" and not given):
        raise HANError(f"no detector is called {name!r}; there are: {', '.join(DETECTORS)}")
    return kind, given


def _name_for(fingerprint: str, maker: str, rest: str) -> str:
    """The name of what made a fingerprint, where that can be known."""
    kind, _, model = maker.partition(":")
    if kind != "torchvision":
        return kind
    from han_retrieval.regions.torchvision_weights import weights_name

    weights = weights_name(model, rest)
    if weights is None:
        raise HANError(
            f"the features are of {fingerprint!r}, whose weights are none of torchvision's own; name their file: "
            f"--detector torchvision:{model}@FILE"
        )
    return f"{maker}@{weights}"
