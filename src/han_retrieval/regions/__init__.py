"""Regions of photos: what finds them, and the store that keeps them."""

from han_retrieval.regions.detectors import DEFAULT_DETECTOR, detector_for, load_detector
from han_retrieval.regions.extract import ExtractReport, extract
from han_retrieval.regions.importers import feature_format, import_features, matching_ids
from han_retrieval.regions.mirror import MirroredDetector, same_detector
from han_retrieval.regions.regions import Detector, Regions
from han_retrieval.regions.rows import RegionBatch, RegionRow, StoredPhoto, StoreSummary
from han_retrieval.regions.store import RegionStore

__all__ = [
    "DEFAULT_DETECTOR",
    "Detector",
    "ExtractReport",
    "MirroredDetector",
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
