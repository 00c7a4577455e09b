"""Losses: the soft-max triplet loss of scores, and the alignment loss of words and regions."""

from han_retrieval.losses.alignment import alignment_loss
from han_retrieval.losses.soft_max_triplet import soft_max_triplet_loss

__all__ = ["alignment_loss", "soft_max_triplet_loss"]
