"""All pairs of image tokens and text tokens to scores, in Gram space."""

from han_retrieval.scoring.matching import Matching
from han_retrieval.scoring.plan import PRECISIONS, has_bfloat16, score_all_pairs
from han_retrieval.scoring.stored import STORAGES, Collection, Tokens

__all__ = ["PRECISIONS", "STORAGES", "Collection", "Matching", "Tokens", "has_bfloat16", "score_all_pairs"]
