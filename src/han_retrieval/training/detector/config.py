"""How a detector is trained: one frozen configuration."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from han_retrieval.training.config import Count, CountOrNone, LoopConfig, Positive, Share, Weight


class DetectorTrainingConfig(LoopConfig):
    """Everything that decides how a detector is trained, apart from the data; unknown fields are refused.

    An epoch takes every photo once, and a step ``batch_size`` photos.

    Attributes:
        noun_count: How often a noun must name a training box to be learned.
        most_nouns: How many nouns are learned at most, with "thing", which stands for all others.
        attribute_count: How often an attribute must describe a training box to be learned.
        smallest, largest: Photos are scaled to a side drawn from these multiples of 32.
        crop: The smallest share of a photo's sides that a random crop keeps; 1 does not crop.
        colour: The greatest random change of brightness, contrast and saturation, as a share.
        channels, representation, dropout, size: The detector's shape; see ``BottomUpConfig``.
    """

    epochs: Count = 6
    batch_size: Count = 8
    learning_rate: Positive = 6e-4
    weight_decay: Weight = 1e-2
    warm_up_steps: CountOrNone = 200
    final_rate: float = Field(default=0.01, ge=0, le=1)
    gradient_clip: float = Field(default=5.0, gt=0)
    dev_photos: CountOrNone = 200
    noun_count: Count = 15
    most_nouns: int = Field(default=500, ge=2)
    attribute_count: Count = 30
    smallest: int = Field(default=288, ge=64, multiple_of=32)
    largest: int = Field(default=416, ge=64, multiple_of=32, validate_default=True)
    crop: float = Field(default=0.7, gt=0, le=1)
    colour: Share = 0.25
    channels: Count = 96
    representation: Count = 512
    dropout: Share = 0.3
    size: int = Field(default=416, ge=64, le=8192, multiple_of=32)

    @field_validator("largest")
    @classmethod
    def _not_below_smallest(cls, largest: int, info: ValidationInfo) -> int:
        if largest < info.data.get("smallest", 0):
            raise ValueError(f"less than smallest, {info.data['smallest']}")
        return largest
