"""Names and fingerprints of detectors that take their boxes and their features from different sources.

``BOXES+FEATURES[+FEATURES...]`` is a source of boxes, any detector, and one or more backbones; a backbone alone
describes patches of its own. The fingerprint is that of the detector of boxes, followed by those of the backbones, with
a plus sign between them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from han_retrieval.plugins import find, installed
from han_retrieval.regions.backbones.backbone import BackboneFingerprint

PATCHES = "patches"


class Sources(NamedTuple):
    """The sources that a name or a fingerprint has; ``backbones`` is empty for a detector with features of its own."""

    boxes: str
    backbones: tuple[str, ...]


def split_name(name: str) -> Sources:
    """The sources in the name of a detector.

    Raises:
        ConfigError: What stands behind a plus sign is no backbone.
    """
    first, *backbones = _split(name, r"(?::|\+|$)")
    kind = first.partition(":")[0]
    if kind in installed("backbones") and not (backbones and kind in installed("detectors")):
        return Sources(PATCHES, (first, *backbones))
    if "+" in kind and kind not in installed("detectors"):
        find("detectors", kind.partition("+")[0])
        find("backbones", kind.partition("+")[2])
    return Sources(first, tuple(backbones))


def split_fingerprint(fingerprint: str) -> Sources:
    """The sources in a fingerprint."""
    boxes, *backbones = _split(fingerprint, r"(?::|-\d+-)")
    return Sources(boxes, tuple(backbones))


def differ_in_places(fingerprint: str, other: str) -> bool:
    """Whether two fingerprints have the same boxes, weights and preparation, and differ in where weights came from."""
    one, two = split_fingerprint(fingerprint), split_fingerprint(other)
    return one.boxes == two.boxes and list(map(_without_place, one.backbones)) == list(
        map(_without_place, two.backbones)
    )


def differ_in_weights(fingerprint: str, other: str) -> bool:
    """Whether two fingerprints name the same backbones with other weights."""
    one, two = split_fingerprint(fingerprint), split_fingerprint(other)
    return one.boxes == two.boxes and [_without_weights(each) for each in one.backbones] == [
        _without_weights(each) for each in two.backbones
    ]


def _split(text: str, behind: str) -> list[str]:
    """Split at each plus sign with the name of a backbone and then ``behind`` after it."""
    names = "|".join(re.escape(name) for name in installed("backbones"))
    return re.split(rf"\+(?=(?:{names}){behind})", text) if names else [text]


def _without_place(fingerprint: str) -> object:
    parts = BackboneFingerprint.parse(fingerprint)
    return parts and parts._replace(model="@proj" if parts.model.endswith("@proj") else "")


def _without_weights(fingerprint: str) -> object:
    parts = BackboneFingerprint.parse(fingerprint)
    return parts and parts._replace(weights="")
