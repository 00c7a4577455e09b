"""The soft-max triplet loss and its two ends."""

from han_retrieval.losses.soft_max_triplet import soft_max_triplet_loss

__all__ = ["soft_max_triplet_loss"]
