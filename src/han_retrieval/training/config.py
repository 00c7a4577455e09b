"""How a model is trained: one frozen configuration."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from han_retrieval.matchers import AnyMatcherConfig, HANConfig

Share = Annotated[float, Field(ge=0, lt=1)]
# "inf" in TOML is a number; on a command line it arrives as a word.
Power = Annotated[float, BeforeValidator(lambda value: math.inf if value == "inf" else value), Field(ge=1)]


class TrainingConfig(BaseModel):
    """Everything that decides a training run besides its data; unknown fields are refused.

    The paper publishes no hyper-parameters; the defaults are this project's choice (docs/flickr8k.md).

    Attributes:
        seed: Of the weights, the order of captions, and what is dropped.
        train_split, dev_split: The splits to train on and to watch; an empty dev_split trains without watching.
        minimum_count: How often a word must stand in the training captions to enter the vocabulary.
        word_vectors: Start of the word embeddings: "glove-6b-50d", a GloVe text file, or none. Vectors shorter than
            ``model.word_size`` fill its first numbers.
        text_start: A folder that ``han train-text`` wrote: its vocabulary and text encoder are the start, in place of
            the training captions' words and their vectors.
        more_words: How many of the most frequent words of ``word_vectors`` the saved model knows besides: those that no
            training caption has get an embedding by a linear map from their vectors; 0 for none. Dev figures are of the
            model without them.
        epochs: Each caption is seen once an epoch.
        batch_size: Captions a step, each of another image; every other image of the batch is a negative.
        optimizer: "adamw" or "adam".
        learning_rate: The peak, after warm-up.
        attention_rate: Factor on it for the rounds of attention of a HAN.
        weight_decay: Of adamw.
        warm_up_steps: Steps over which the learning rate grows from 0.
        final_rate: What the cosine decay leaves of the learning rate at the last step; 1 keeps it constant.
        gradient_clip: Greatest norm of the gradient.
        margin: mu of the loss.
        power: p of the loss, from 1 (sum of hinges) to inf (hardest negative).
        power_warm_up: Share of the training over which 1 / p falls from 1 to 1 / power: hard negatives, met too early,
            can collapse all scores to one.
        alignment_weight: Weight, beside the triplet loss, of the alignment loss: words of a phrase are to gather from
            the regions that show it. Takes Entities annotations of training photos; 0 for none.
        region_drop: Share of an image's regions left out at each step.
        word_drop: Share of a caption's words left out at each step; one always stays.
        average: Decay of the exponential moving average of the weights, which is what is evaluated and saved; 0 for
            the weights themselves.
        dev_photos: Photos of the dev split that are scored after each epoch; 0 for all.
        keep: Which weights are saved: the "best" by dev rSum or the "last".
        checkpoint_minutes: Time between checkpoints, from which an interrupted run goes on.
        model: Which matcher, and its options; of a HAN where it names none.
    """

    # As JSON, an infinite power is a word; pydantic would write null.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    seed: int = Field(default=0, ge=0)
    train_split: str = "train"
    dev_split: str = "dev"
    minimum_count: int = Field(default=2, ge=1)
    word_vectors: str | None = None
    text_start: str | None = None
    more_words: int = Field(default=0, ge=0)
    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=128, ge=2)
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(default=8e-4, gt=0, allow_inf_nan=False)
    attention_rate: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    warm_up_steps: int = Field(default=100, ge=0)
    final_rate: float = Field(default=0.02, ge=0, le=1)
    gradient_clip: float = Field(default=2.0, gt=0)
    margin: float = Field(default=0.2, gt=0, allow_inf_nan=False)
    power: Power = 4.0
    power_warm_up: Share = 0.0
    alignment_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    region_drop: Share = 0.25
    word_drop: Share = 0.15
    average: Share = 0.998
    dev_photos: int = Field(default=250, ge=0)
    keep: Literal["best", "last"] = "best"
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    model: AnyMatcherConfig = HANConfig()

    @field_validator("more_words")
    @classmethod
    def _have_vectors(cls, count: int, info: ValidationInfo) -> int:
        if count and info.data.get("word_vectors") is None:
            raise ValueError("further words come from word_vectors; name their source there")
        return count
