"""Encoders and matchers: HAN, and how it is saved and loaded."""

from han_retrieval.matchers.config import HANConfig
from han_retrieval.matchers.han import HAN, Evidence

__all__ = ["HAN", "Evidence", "HANConfig"]
