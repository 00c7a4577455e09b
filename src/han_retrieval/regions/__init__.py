"""Regions of photos: detectors, the store that keeps regions, and importers of features that others made.

Nothing large is imported before one of these names is used: ``Regions`` needs NumPy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from han_retrieval.lazy import lazy

if TYPE_CHECKING:
    from han_retrieval.regions.detector import Detector, DetectorFactory
    from han_retrieval.regions.extraction import ExtractReport, extract
    from han_retrieval.regions.flip import FlippedDetector, same_detector
    from han_retrieval.regions.importers import feature_format, import_features, matching_ids
    from han_retrieval.regions.loading import DEFAULT_DETECTOR, detector_for, load_detector
    from han_retrieval.regions.regions import Regions
    from han_retrieval.regions.rows import RegionBatch, RegionRow, StoredPhoto, StoreSummary
    from han_retrieval.regions.store import RegionStore

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

__getattr__ = lazy(
    __name__,
    {
        "DEFAULT_DETECTOR": "loading",
        "Detector": "detector",
        "DetectorFactory": "detector",
        "ExtractReport": "extraction",
        "FlippedDetector": "flip",
        "RegionBatch": "rows",
        "RegionRow": "rows",
        "RegionStore": "store",
        "Regions": "regions",
        "StoreSummary": "rows",
        "StoredPhoto": "rows",
        "detector_for": "loading",
        "extract": "extraction",
        "feature_format": "importers",
        "import_features": "importers",
        "load_detector": "loading",
        "matching_ids": "importers",
        "same_detector": "flip",
    },
)
