"""All pairs of image tokens and text tokens to scores, in Gram space."""

from han_retrieval.scoring.plan import Matching, score_all_pairs

__all__ = ["Matching", "score_all_pairs"]
