"""Matchers: HAN and its peers, and how they are saved and loaded."""

from typing import TYPE_CHECKING

from han_retrieval.lazy import lazy

if TYPE_CHECKING:
    from han_retrieval.matchers.aligning import AligningMatcher, AlignmentConfig
    from han_retrieval.matchers.base import Matcher, MatcherConfig, PairAlignment, matcher_class
    from han_retrieval.matchers.han import HAN, HANConfig
    from han_retrieval.matchers.maxsim import MaxSim, MaxSimConfig
    from han_retrieval.matchers.pooled import Pooled, PooledConfig
    from han_retrieval.matchers.registry import (
        AnyMatcherConfig,
        load_aligning_matcher,
        load_matcher,
        make_matcher,
    )
    from han_retrieval.matchers.saving import DEFAULT_MODEL, model_folder
    from han_retrieval.matchers.scan import SCAN, SCANConfig
    from han_retrieval.matchers.vse import VSE, VSEConfig, VSEInfinity, VSEInfinityConfig

__all__ = [
    "DEFAULT_MODEL",
    "HAN",
    "SCAN",
    "VSE",
    "AligningMatcher",
    "AlignmentConfig",
    "AnyMatcherConfig",
    "HANConfig",
    "Matcher",
    "MatcherConfig",
    "MaxSim",
    "MaxSimConfig",
    "PairAlignment",
    "Pooled",
    "PooledConfig",
    "SCANConfig",
    "VSEConfig",
    "VSEInfinity",
    "VSEInfinityConfig",
    "load_aligning_matcher",
    "load_matcher",
    "make_matcher",
    "matcher_class",
    "model_folder",
]

__getattr__ = lazy(
    __name__,
    {
        "AligningMatcher": "aligning",
        "AlignmentConfig": "aligning",
        "AnyMatcherConfig": "registry",
        "DEFAULT_MODEL": "saving",
        "HAN": "han",
        "HANConfig": "han",
        "Matcher": "base",
        "MatcherConfig": "base",
        "MaxSim": "maxsim",
        "MaxSimConfig": "maxsim",
        "PairAlignment": "base",
        "Pooled": "pooled",
        "PooledConfig": "pooled",
        "SCAN": "scan",
        "SCANConfig": "scan",
        "VSE": "vse",
        "VSEConfig": "vse",
        "VSEInfinity": "vse",
        "VSEInfinityConfig": "vse",
        "load_aligning_matcher": "registry",
        "load_matcher": "registry",
        "make_matcher": "registry",
        "matcher_class": "base",
        "model_folder": "saving",
    },
)
