"""Detectors of other packages, checked against their contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from han_retrieval.errors import ModelError
from han_retrieval.regions.regions import Regions

if TYPE_CHECKING:
    from PIL import Image

    from han_retrieval.regions.detector import Detector


class CheckedDetector:
    """A detector whose regions are refused where they are not as ``Detector`` and ``Regions`` say.

    Args:
        detector: What finds the regions.
        name: What it is asked for by.

    Attributes:
        fingerprint, feature_size, size_needed: The detector's; so are the methods ``detect_boxes`` and ``detect_own``
            where it has them.

    Raises:
        ModelError: It has no fingerprint or no feature size.
    """

    def __init__(self, detector: Detector, name: str) -> None:
        self._detector, self._name = detector, name
        try:
            self.fingerprint, self.feature_size = str(detector.fingerprint), int(detector.feature_size)
            self.size_needed = getattr(detector, "size_needed", None)
        except (AttributeError, TypeError) as error:
            raise ModelError(f"the detector {name!r} is not as han_retrieval.regions.Detector says: {error}") from None
        for method, sizes in (("detect_boxes", (0, self.feature_size)), ("detect_own", (self.feature_size,))):
            if find := getattr(detector, method, None):
                setattr(self, method, partial(self._checked, find, sizes))

    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """See ``Detector.detect``.

        Raises:
            ModelError: The regions are not as they must be.
        """
        return self._checked(self._detector.detect, (self.feature_size,), photos)

    def _checked(
        self,
        find: Callable[[Sequence[Image.Image]], Sequence[Regions]],
        sizes: tuple[int, ...],
        photos: Sequence[Image.Image],
    ) -> list[Regions]:
        found = list(find(photos))
        faults = [f"{len(found)} results for {len(photos)} photos"] if len(found) != len(photos) else []
        faults += [fault for regions in found if (fault := self._fault(regions, sizes))]
        if faults:
            raise ModelError(
                f"the detector {self._name!r} gives {faults[0]}; see han_retrieval.regions.Detector and tell its "
                "authors"
            )
        return found

    @staticmethod
    def _fault(regions: object, sizes: tuple[int, ...]) -> str | None:
        if not isinstance(regions, Regions):
            return f"a {type(regions).__name__} in place of Regions"
        for name, widths in (("features", sizes), ("boxes", (4,))):
            array = getattr(regions, name)
            if array is None and name == "boxes":
                continue
            if not isinstance(array, np.ndarray):
                return f"{name} that are a {type(array).__name__}, not a NumPy array"
            if array.ndim != 2 or len(array) != len(regions.features) or array.shape[1] not in widths:
                return f"{name} of the shape {array.shape}, not {(len(regions.features), widths[0])}"
        if regions.boxes is not None and not np.isfinite(regions.boxes).all():
            return "boxes that are not finite"
        if regions.labels is not None and not all(isinstance(label, str) for label in regions.labels):
            return "labels that are not text"
        pooled = regions.pooled
        if pooled is not None and (np.ndim(pooled) != 1 or getattr(pooled, "dtype", None) != np.float16):
            return f"a pooled vector that is a {type(pooled).__name__} {np.shape(pooled)}, not float16 (P,)"
        if regions.features.dtype != np.float16:
            return f"features that are {regions.features.dtype}, not float16"
        for name in ("labels", "scores"):
            values = getattr(regions, name)
            if values is not None and len(values) != len(regions.features):
                return f"{len(values)} {name} for {len(regions.features)} regions"
        return None
