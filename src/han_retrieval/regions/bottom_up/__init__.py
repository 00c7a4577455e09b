"""The bottom-up detector: a Faster R-CNN that learns from captions what regions are called and what they are like."""

from han_retrieval.regions.bottom_up.detector import BottomUpDetector
from han_retrieval.regions.bottom_up.names import Names, said
from han_retrieval.regions.bottom_up.network import BottomUp, BottomUpConfig, Described, Truth
from han_retrieval.regions.bottom_up.saving import load_network, save_detector

__all__ = [
    "BottomUp",
    "BottomUpConfig",
    "BottomUpDetector",
    "Described",
    "Names",
    "Truth",
    "load_network",
    "said",
    "save_detector",
]
