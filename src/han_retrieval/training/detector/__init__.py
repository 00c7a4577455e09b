"""Training of the bottom-up detector: what captions say of boxes, batches, the loop, figures."""

from han_retrieval.training.detector.config import DetectorTrainingConfig
from han_retrieval.training.detector.trainer import DetectorTrainingResult, train_detector

__all__ = ["DetectorTrainingConfig", "DetectorTrainingResult", "train_detector"]
