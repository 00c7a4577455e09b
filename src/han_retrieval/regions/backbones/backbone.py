"""The backbone protocol, and backbones by name.

A backbone is a frozen network that turns a photo into a map of features, from which the regions of any detector are
described: ``--detector bottom-up+timm:NAME``. A package offers one by an entry point in its ``pyproject.toml``::

    [project.entry-points."han_retrieval.backbones"]
    mine = "my_package:make_backbone"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from han_retrieval.plugins import load

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


class PhotoTokens(NamedTuple):
    """What a backbone gives for one photo.

    Attributes:
        maps: Maps (D, h, w) of features over the whole photo, float32. Of several, the first describes large boxes and
            the last small ones.
        pooled: (P,) the network's own vector of the whole photo, in the space that it shares with its text tower where
            it has one; None where there is no such vector.
    """

    maps: tuple[Tensor, ...]
    pooled: Tensor | None


class Backbone(Protocol):
    """Turns photos into maps of features. Plain attributes will do for ``fingerprint`` and ``feature_size``.

    As a ``Detector``, it may also have a method ``size_needed(width, height) -> (width, height)``.
    """

    @property
    def fingerprint(self) -> str:
        """``NAME[:MODEL]-VERSION-HASH-DETAILS``: names everything that the features depend on.

        VERSION is a number that grows whenever other features are computed from the same photo, HASH the first eight
        hexadecimal digits of a hash of the weights, and DETAILS has neither a hyphen nor a plus sign.
        """
        ...

    @property
    def feature_size(self) -> int:
        """D, how many numbers a feature has; the same for all photos."""
        ...

    def encode(self, photos: Sequence[Image.Image]) -> Sequence[PhotoTokens]:
        """The tokens of upright RGB photos of any size, one each, in order; they depend on that photo alone."""
        ...


class BackboneFactory(Protocol):
    """Makes a backbone; what an entry point of the group ``han_retrieval.backbones`` refers to."""

    def __call__(self, argument: str, /) -> Backbone:
        """Load the backbone; ``argument`` is what stands behind the colon of ``NAME:ARGUMENT``.

        Raises:
            ConfigError: The argument means nothing to this backbone.
            ModelError: Its weights are missing or damaged, or a library is not installed.
        """
        ...


class BackboneFingerprint(NamedTuple):
    """The parts of a backbone's fingerprint; ``model`` is "" where it has none."""

    name: str
    model: str
    version: str
    weights: str
    details: str

    @classmethod
    def parse(cls, fingerprint: str) -> BackboneFingerprint | None:
        """None where it has another form."""
        found = re.fullmatch(r"([^:]+?)(?::(.+))?-(\d+)-([0-9a-f]{8})-([^-+]+)", fingerprint)
        return found and cls(found[1], found[2] or "", *found.group(3, 4, 5))

    @property
    def asked_for_by(self) -> str:
        """``NAME`` or ``NAME:MODEL``."""
        return f"{self.name}:{self.model}" if self.model else self.name


def load_backbone(name: str) -> Backbone:
    """Load a backbone by name.

    Args:
        name: ``NAME`` or ``NAME:ARGUMENT``, such as "timm:vit_base_patch16_dinov3.lvd1689m".

    Raises:
        ConfigError: No backbone has that name, its package cannot be imported, or it takes no such argument.
        ModelError: Its weights are missing or damaged, or a library is not installed.
    """
    kind, _, argument = name.partition(":")
    factory: BackboneFactory = load("backbones", kind)
    return factory(argument)
