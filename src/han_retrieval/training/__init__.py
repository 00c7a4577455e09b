"""Training: configuration, batches, the loop, checkpoints."""

from han_retrieval.training.config import TrainingConfig
from han_retrieval.training.trainer import TrainingResult, train

__all__ = ["TrainingConfig", "TrainingResult", "train"]
