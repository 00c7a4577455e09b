"""Names and fingerprints of detectors that take their boxes and their features from different sources.

``BOXES[+own]+FEATURES[+FEATURES...]`` is a source of boxes, any detector, and one or more backbones; with ``own``, the
detector's own features stand before theirs. A backbone alone describes patches of its own. The fingerprint is that of
the detector of boxes, followed by ``own`` and those of the backbones, with a plus sign between them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from han_retrieval.errors import ConfigError
from han_retrieval.plugins import find, installed
from han_retrieval.regions.backbones.backbone import BackboneFingerprint

PATCHES = "patches"
OWN = "own"


class Sources(NamedTuple):
    """The sources that a name or a fingerprint has.

    Attributes:
        boxes: The detector.
        backbones: What describes its boxes; empty where the detector does that alone.
        keeps_own: Whether the detector's own features stand before those of the backbones.
    """

    boxes: str
    backbones: tuple[str, ...]
    keeps_own: bool = False

    def described_by(self, *backbones: str) -> str:
        """The name, or the fingerprint, with these backbones in place of those that it has."""
        return "+".join([self.boxes, *([OWN] if self.keeps_own else []), *backbones])


def split_name(name: str) -> Sources:
    """The sources in the name of a detector.

    Raises:
        ConfigError: What stands behind a plus sign is no backbone, or "own" stands elsewhere than behind the boxes.
    """
    first, *backbones = _split(name, r"(?::|\+|$)")
    if keeps_own := backbones[:1] == [OWN]:
        del backbones[0]
    if OWN in backbones:
        raise ConfigError(
            f"{name!r}: own keeps the detector's own features before those of backbones: BOXES+{OWN}+FEATURES"
        )
    kind = first.partition(":")[0]
    if kind in installed("backbones") and not (backbones and kind in installed("detectors")):
        if keeps_own:
            raise ConfigError(f"{name!r}: patches have no features of their own; leave +{OWN} out")
        return Sources(PATCHES, (first, *backbones))
    if "+" in kind and kind not in installed("detectors"):
        find("detectors", kind.partition("+")[0])
        find("backbones", kind.partition("+")[2])
    return Sources(first, tuple(backbones), keeps_own)


def split_fingerprint(fingerprint: str) -> Sources:
    """The sources in a fingerprint."""
    boxes, *backbones = _split(fingerprint, r"(?::|-\d+-)")
    keeps_own = backbones[:1] == [OWN]
    return Sources(boxes, tuple(backbones[1:] if keeps_own else backbones), keeps_own)


def differ_in_places(fingerprint: str, other: str) -> bool:
    """Whether two fingerprints have the same boxes, weights and preparation, and differ in where weights came from."""
    return _are_alike(fingerprint, other, but_for=_without_place)


def differ_in_weights(fingerprint: str, other: str) -> bool:
    """Whether two fingerprints name the same backbones with other weights."""
    return _are_alike(fingerprint, other, but_for=_without_weights)


def _are_alike(fingerprint: str, other: str, *, but_for: Callable[[str], object]) -> bool:
    one, two = split_fingerprint(fingerprint), split_fingerprint(other)
    same_boxes = (one.boxes, one.keeps_own) == (two.boxes, two.keeps_own)
    return same_boxes and list(map(but_for, one.backbones)) == list(map(but_for, two.backbones))


def _split(text: str, behind: str) -> list[str]:
    """Split at each plus sign with a backbone's name and then ``behind`` after it, or with "own" and such a sign."""
    names = "|".join(re.escape(name) for name in installed("backbones"))
    return re.split(rf"\+(?=(?:{OWN}\+)?(?:{names}){behind})", text) if names else [text]


def _without_place(fingerprint: str) -> object:
    parts = BackboneFingerprint.parse(fingerprint)
    return parts and parts._replace(model="@proj" if parts.model.endswith("@proj") else "")


def _without_weights(fingerprint: str) -> object:
    parts = BackboneFingerprint.parse(fingerprint)
    return parts and parts._replace(weights="")
