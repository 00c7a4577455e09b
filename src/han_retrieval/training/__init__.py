"""Training: configuration, batches, the loop that all trainings share, checkpoints."""

from han_retrieval.training.config import TrainingConfig
from han_retrieval.training.loop import EpochReport, StepLoss, TrainingTask, run_training
from han_retrieval.training.trainer import TrainingResult, train

__all__ = ["EpochReport", "StepLoss", "TrainingConfig", "TrainingResult", "TrainingTask", "run_training", "train"]
