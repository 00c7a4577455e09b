"""The soft-max triplet loss and its two ends, and the alignment loss beside it."""

from han_retrieval.losses.alignment import alignment_loss
from han_retrieval.losses.soft_max_triplet import soft_max_triplet_loss

__all__ = ["alignment_loss", "soft_max_triplet_loss"]
