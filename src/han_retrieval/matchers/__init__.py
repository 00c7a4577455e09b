"""Encoders and matchers: HAN and its peers, and how they are saved and loaded."""

from han_retrieval.matchers.aligning import AligningMatcher
from han_retrieval.matchers.config import HANConfig, SCANConfig, VSEConfig, VSEInfinityConfig
from han_retrieval.matchers.han import HAN
from han_retrieval.matchers.matcher import Evidence, Matcher
from han_retrieval.matchers.registry import MATCHERS, load_aligning_matcher, load_matcher, make_matcher
from han_retrieval.matchers.saving import DEFAULT_MODEL, model_folder
from han_retrieval.matchers.scan import SCAN
from han_retrieval.matchers.vse import VSE, VSEInfinity

__all__ = [
    "DEFAULT_MODEL",
    "HAN",
    "MATCHERS",
    "SCAN",
    "VSE",
    "AligningMatcher",
    "Evidence",
    "HANConfig",
    "Matcher",
    "SCANConfig",
    "VSEConfig",
    "VSEInfinity",
    "VSEInfinityConfig",
    "load_aligning_matcher",
    "load_matcher",
    "make_matcher",
    "model_folder",
]
