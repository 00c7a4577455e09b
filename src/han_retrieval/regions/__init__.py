"""Regions of photos: detectors, the store that keeps regions, and importers of features that others made.

Nothing large is imported before one of these names is used: ``Regions`` needs NumPy alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from han_retrieval.regions.detector import Detector, DetectorFactory
    from han_retrieval.regions.extraction import ExtractReport, extract
    from han_retrieval.regions.flip import FlippedDetector, same_detector
    from han_retrieval.regions.importers import feature_format, import_features, matching_ids
    from han_retrieval.regions.loading import DEFAULT_DETECTOR, detector_for, load_detector
    from han_retrieval.regions.regions import Regions
    from han_retrieval.regions.rows import RegionBatch, RegionRow, StoredPhoto, StoreSummary
    from han_retrieval.regions.store import RegionStore

_NAMES = {
    "detector": ("Detector", "DetectorFactory"),
    "extraction": ("ExtractReport", "extract"),
    "flip": ("FlippedDetector", "same_detector"),
    "importers": ("feature_format", "import_features", "matching_ids"),
    "loading": ("DEFAULT_DETECTOR", "detector_for", "load_detector"),
    "regions": ("Regions",),
    "rows": ("RegionBatch", "RegionRow", "StoreSummary", "StoredPhoto"),
    "store": ("RegionStore",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "DEFAULT_DETECTOR",
    "Detector",
    "DetectorFactory",
    "ExtractReport",
    "FlippedDetector",
    "RegionBatch",
    "RegionRow",
    "RegionStore",
    "Regions",
    "StoreSummary",
    "StoredPhoto",
    "detector_for",
    "extract",
    "feature_format",
    "import_features",
    "load_detector",
    "matching_ids",
    "same_detector",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value
