"""How a model is trained: one frozen configuration."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from han_retrieval.matchers import AnyMatcherConfig, HANConfig

Count = Annotated[int, Field(ge=1, le=2**53)]
CountOrNone = Annotated[int, Field(ge=0, le=2**53)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
# "inf" in TOML is a number; on a command line it arrives as a word.
Power = Annotated[float, BeforeValidator(lambda value: math.inf if value == "inf" else value), Field(ge=1)]


class LoopConfig(BaseModel):
    """What the training loop needs to know, whatever is trained; unknown fields are refused.

    Attributes:
        seed: Seeds the initial weights, the order of the data, and everything that is drawn at random.
        train_split: The split to train on.
        dev_split: The split to evaluate on after each epoch; "" trains without evaluation.
        epochs: Passes over the training data.
        batch_size: Items in a step.
        optimizer: The optimiser.
        learning_rate: The peak learning rate, after the warm-up.
        weight_decay: Weight decay of AdamW.
        warm_up_steps: Steps over which the learning rate grows linearly from 0.
        final_rate: The share of the peak that the cosine decay leaves at the last step; 1 keeps the rate constant.
        gradient_clip: The greatest norm of the gradient.
        ema_decay: Decay of the exponential moving average of the weights, which is evaluated and saved; 0 uses the
            weights themselves.
        dev_photos: Photos of the dev split that are evaluated after each epoch; 0 takes all.
        checkpoint_minutes: Time between checkpoints, from which an interrupted run goes on.
        precision: What the large products of a step are computed in: "float32", or "bfloat16", which is faster on GPUs
            that have it. Weights, scores of pairs, losses and the optimiser stay in float32.
    """

    # As JSON, infinity is a word; pydantic would write null.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    # Former names of fields, for the message that refuses them; None for those that are gone.
    renamed: ClassVar[dict[str, str | None]] = {"average": "ema_decay"}

    seed: CountOrNone = 0
    train_split: str = "train"
    dev_split: str = "dev"
    epochs: Count = 10
    batch_size: Count = 128
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: Positive = 8e-4
    weight_decay: Weight = 1e-4
    warm_up_steps: CountOrNone = 100
    final_rate: float = Field(default=0.02, ge=0, le=1)
    gradient_clip: float = Field(default=2.0, gt=0)
    ema_decay: Share = 0.998
    dev_photos: CountOrNone = 250
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"


class BackboneConfig(BaseModel):
    """How an image backbone is trained along; unknown fields are refused.

    The stages of EfficientNet-Lite2 are counted from the photo on: 0 is the first convolution, 1 to 7 are groups of
    blocks, 8 is the last convolution. Of the stages that learn, the 1 x 1 convolutions do, which hold 94 % of their
    weights; depthwise filters and batch norms stay, whose gradients would take longer than all else on a CPU.

    Attributes:
        trained: Train it: regions' features are then computed from the photos at each step, at the regions' boxes.
        weights: The folder of a trained backbone to begin with, by which FEATURES were described; "" for ImageNet's.
        lr_factor: The learning rate of its last stage, as a share of the matcher's.
        lr_decay: The learning rate of each stage below, as a share of that above.
        frozen_stages: How many stages stay as they are, from the photo on.
        head_epochs: Epochs at the start in which the matcher alone learns, from stored features.
        crop: The largest share of a photo's area that is cut off at random.
        flip: Mirror every other photo.
        turn: Turn photos by 0, 90, 180 or 270 degrees, where up has no meaning.
        colour: The largest relative change of brightness, contrast and saturation.
        final_size: The size, in pixels, at which the trained backbone sees photos; 0 for that of the training. As crops
            enlarge what is in a photo, a somewhat larger size suits photos that are not cropped (Touvron et al.,
            "Fixing the train-test resolution discrepancy", NeurIPS 2019).
        precision: Of the convolutions; "auto" takes bfloat16 where the processor is faster in it.
        checkpointing: Compute the stages anew in the backward pass instead of keeping what they gave: less memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trained: bool = False
    weights: str = ""
    lr_factor: Positive = 0.1
    lr_decay: float = Field(default=0.8, gt=0, le=1)
    frozen_stages: int = Field(default=4, ge=0, le=8)
    head_epochs: CountOrNone = 2
    crop: Share = 0.3
    flip: bool = True
    turn: bool = False
    colour: Share = 0.2
    final_size: CountOrNone = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpointing: bool = False


class TrainingConfig(LoopConfig):
    """Everything that decides how a matcher is trained, apart from the data; unknown fields are refused.

    The defaults are this project's choice, not the paper's. An epoch takes every caption once;
    a step takes ``batch_size`` captions, each of another image, and every other image of the batch is a negative.

    Attributes:
        min_count: How often a word must occur in the training captions to enter the vocabulary.
        word_vectors: Pre-trained vectors to start the word embeddings with: "glove-6b-50d", a GloVe text file, or none.
            Vectors shorter than ``model.word_size`` fill its first numbers.
        vocabulary_expansion: Add the most frequent words of ``word_vectors``, so many of them, to the saved model.
            Words that no training caption has get an embedding by a linear map from their vectors; 0 adds none. Dev
            metrics are those of the model without them.
        pretrained_text: A folder that ``han train-text`` wrote. Training starts with its vocabulary and text encoder
            instead of the training captions' words and their vectors.
        margin: mu of the loss.
        power: p of the loss, from 1 (sum of hinges) to inf (hardest negative).
        power_warm_up: Share of the training over which 1 / p falls from 1 to 1 / power. Hard negatives at the very
            start can make the scores collapse to one value.
        alignment_weight: Weight of the alignment loss beside the triplet loss: words of an annotated phrase learn to
            attend to the regions that show it. Needs Entities annotations of the training photos; 0 for none.
        equal_captions: What a caption that several photos have is to each of them: "ignored" by the loss, or a
            "negative" as any other photo's.
        similar_captions: From which share of words in common, of all that two captions have but function words, a
            caption counts as equal to another photo's; 0 if only the same sentence does.
        captions_per_photo: How many captions of a photo stand in one batch, at most: the fewer photos a batch then has
            are its negatives, and a backbone that is trained along sees each of them once.
        region_drop: Share of an image's regions that each step leaves out.
        word_drop: Share of a caption's words that each step leaves out; one always stays.
        text_lr_factor: The learning rate of a language model that is trained along (``model.text_backbone``), as a
            share of the others'.
        keep: Which weights are saved: those of the "best" epoch by dev rSum, or of the "last".
        patience: After how many epochs in a row that were not better than the best one, by dev rSum, the training ends;
            0 for none. Epochs before the backbone learns do not count. A run that ended so does not go on with another
            patience.
        backbone: How the image backbone is trained along; it is frozen unless ``backbone.trained``.
        model: The matcher and its options; a HAN if it names none.
    """

    renamed: ClassVar[dict[str, str | None]] = {
        **LoopConfig.renamed,
        "minimum_count": "min_count",
        "text_start": "pretrained_text",
        "more_words": "vocabulary_expansion",
        "attention_rate": None,
    }

    batch_size: int = Field(default=128, ge=2)
    min_count: Count = 2
    word_vectors: str | None = None
    vocabulary_expansion: CountOrNone = 0
    pretrained_text: str | None = None
    margin: Positive = 0.2
    power: Power = 4.0
    power_warm_up: Share = 0.0
    alignment_weight: Weight = 0.0
    equal_captions: Literal["ignored", "negative"] = "ignored"
    similar_captions: float = Field(default=0.0, ge=0, le=1)
    captions_per_photo: Count = 1
    region_drop: Share = 0.25
    word_drop: Share = 0.15
    text_lr_factor: Positive = 0.05
    keep: Literal["best", "last"] = "best"
    patience: CountOrNone = 0
    backbone: BackboneConfig = BackboneConfig()
    model: AnyMatcherConfig = HANConfig()

    @field_validator("pretrained_text")
    @classmethod
    def _has_a_vocabulary(cls, folder: str | None, info: ValidationInfo) -> str | None:
        vectors, expansion = info.data.get("word_vectors"), info.data.get("vocabulary_expansion")
        if folder is not None and vectors is not None and not expansion:
            raise ValueError("it brings its own vocabulary and vectors; leave word_vectors out")
        return folder

    @field_validator("captions_per_photo")
    @classmethod
    def _leave_negatives(cls, count: int, info: ValidationInfo) -> int:
        if 2 * count > info.data.get("batch_size", 2 * count):
            raise ValueError("a batch needs captions of two photos at least: batch_size is less than twice as many")
        return count

    @field_validator("patience")
    @classmethod
    def _watch_the_best(cls, patience: int, info: ValidationInfo) -> int:
        if patience and (info.data.get("keep") == "last" or not info.data.get("dev_split", "dev")):
            raise ValueError('it needs a dev_split, and keep = "best"')
        return patience

    @field_validator("backbone")
    @classmethod
    def _is_trained(cls, backbone: BackboneConfig) -> BackboneConfig:
        if backbone.model_fields_set and "trained" not in backbone.model_fields_set:
            raise ValueError("the backbone stays frozen, so that this does nothing; set backbone.trained = true")
        return backbone

    @field_validator("similar_captions")
    @classmethod
    def _are_ignored(cls, share: float, info: ValidationInfo) -> float:
        if share and info.data.get("equal_captions") == "negative":
            raise ValueError("similar captions can be ignored only where equal ones are (equal_captions)")
        return share

    @field_validator("vocabulary_expansion")
    @classmethod
    def _need_vectors(cls, count: int, info: ValidationInfo) -> int:
        if count and info.data.get("word_vectors") is None:
            raise ValueError("the further words come from word_vectors: name a source there")
        return count
