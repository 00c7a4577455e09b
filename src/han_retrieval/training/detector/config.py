"""How a detector is trained: one frozen configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from han_retrieval.training.config import Share


class DetectorTrainingConfig(BaseModel):
    """Everything that decides the training of a detector besides its data; unknown fields are refused.

    Attributes:
        seed: Of the weights, the order of photos, what is sampled and how photos are changed.
        train_split, dev_split: The splits to train on and to watch; an empty dev_split trains without watching.
        noun_count, most_nouns: How often a noun must be said of the training boxes to be learned, and how many are,
            "thing", which stands for all others, among them.
        attribute_count: The same for attributes.
        epochs: Each photo is seen once an epoch.
        batch_size: Photos a step.
        learning_rate: The peak of AdamW's, after warm-up.
        weight_decay: Of AdamW.
        warm_up_steps: Steps over which the learning rate grows from 0.
        final_rate: What the cosine decay leaves of the learning rate at the last step.
        gradient_clip: Greatest norm of the gradient.
        smallest, largest: Photos are brought to a size squared drawn from these multiples of 32.
        crop: Smallest share of a photo's sides that a crop keeps; 1 crops nothing.
        colour: Greatest change of brightness, contrast and saturation, as a share.
        average: Decay of the moving average of the weights, which is what is kept.
        dev_photos: Photos of the dev split that are looked at after each epoch; 0 for all.
        checkpoint_minutes: Time between checkpoints, from which an interrupted run goes on.
        channels, representation, dropout, size: The detector's shape; see ``BottomUpConfig``.
    """

    # As JSON, infinity is a word; pydantic would write null.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    seed: int = Field(default=0, ge=0)
    train_split: str = "train"
    dev_split: str = "dev"
    noun_count: int = Field(default=15, ge=1)
    most_nouns: int = Field(default=500, ge=2)
    attribute_count: int = Field(default=30, ge=1)
    epochs: int = Field(default=6, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=6e-4, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=1e-2, ge=0, allow_inf_nan=False)
    warm_up_steps: int = Field(default=200, ge=0)
    final_rate: float = Field(default=0.01, ge=0, le=1)
    gradient_clip: float = Field(default=5.0, gt=0)
    smallest: int = Field(default=288, ge=64, multiple_of=32)
    largest: int = Field(default=416, ge=64, multiple_of=32, validate_default=True)
    crop: float = Field(default=0.7, gt=0, le=1)
    colour: float = Field(default=0.25, ge=0, lt=1)
    average: Share = 0.998
    dev_photos: int = Field(default=200, ge=0)
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    channels: int = Field(default=96, ge=1)
    representation: int = Field(default=512, ge=1)
    dropout: Share = 0.3
    size: int = Field(default=416, ge=64, multiple_of=32)

    @field_validator("largest")
    @classmethod
    def _not_below_smallest(cls, largest: int, info: ValidationInfo) -> int:
        if largest < info.data.get("smallest", 0):
            raise ValueError(f"less than smallest, {info.data['smallest']}")
        return largest
