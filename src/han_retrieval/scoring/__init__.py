"""All pairs of image tokens and text tokens to scores, in Gram space."""

from han_retrieval.scoring.plan import Matching, score_all_pairs
from han_retrieval.scoring.stored import STORAGES, Collection

__all__ = ["STORAGES", "Collection", "Matching", "score_all_pairs"]
