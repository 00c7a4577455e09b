"""The bottom-up detector: a Faster R-CNN that learns nouns and attributes of regions from captions."""

from han_retrieval.regions.bottom_up.detector import BottomUpDetector
from han_retrieval.regions.bottom_up.names import Names, parse_phrase
from han_retrieval.regions.bottom_up.network import BottomUp, BottomUpConfig, BoxPredictions, BoxTargets
from han_retrieval.regions.bottom_up.saving import load_network, save_detector

__all__ = [
    "BottomUp",
    "BottomUpConfig",
    "BottomUpDetector",
    "BoxPredictions",
    "BoxTargets",
    "Names",
    "load_network",
    "parse_phrase",
    "save_detector",
]
