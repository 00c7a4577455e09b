"""What one chooses about a matcher, and its whole shape: every number that its weights and scores depend on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from han_retrieval.regions.regions import GEOMETRY_SIZE


class MatcherOptions(BaseModel):
    """What one chooses about any matcher, frozen; unknown fields are refused.

    Attributes:
        matcher: Its name.
        word_size: Numbers a word embedding.
        joint_size: d, numbers a token in the space that regions and words share.
        boundary_words: Whether <start> and <end> are words of the sentence.
        box_geometry: Whether the image encoder takes position and size of a region's box besides its feature.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    matcher: str
    word_size: int = Field(default=300, gt=0)
    joint_size: int = Field(default=1024, gt=0)
    boundary_words: bool = False
    box_geometry: bool = False


class AlignmentOptions(MatcherOptions):
    """What one chooses about a matcher that aligns words and regions.

    Attributes:
        alignment_temperature: lambda, the factor on the attention's logits before the soft-max.
        alignment: Who gathers: "words", each its picture of the image, "regions", each its sentence, or "both", whose
            score is the mean of the two.
        pooling: How the matches r_i become one score: their mean, or log-sum-exp at ``lse_temperature``.
        lse_temperature: Factor on r_i inside the log-sum-exp.
    """

    alignment_temperature: float = Field(default=9.0, gt=0, allow_inf_nan=False)
    alignment: Literal["words", "regions", "both"] = "words"
    pooling: Literal["mean", "lse"] = "mean"
    lse_temperature: float = Field(default=6.0, gt=0, allow_inf_nan=False)


class HANOptions(AlignmentOptions):
    """What one chooses about a HAN.

    The paper's formulas fix the structure; it publishes no sizes or temperatures, so the defaults are this project's.

    Attributes:
        blocks: L, how many rounds of heterogeneous attention; 0 leaves alignment and matching alone.
        attention_temperature: beta, the factor on q . k.
        residual: What a block adds to the attended sum: the query (as published) or the token itself.
        attention_over: What a token attends to: tokens of "both" sets (as published), of its "own", or of the "other".
        attention_start: How the maps W_q, W_k, W_v and W_f start: near the "identity", or "random".
        value_start: Factor on W_v at the start: how much a token begins with of what it attends to.
    """

    matcher: Literal["han"] = "han"
    blocks: int = Field(default=1, ge=0)
    attention_temperature: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    residual: Literal["query", "token"] = "query"
    attention_over: Literal["both", "own", "other"] = "both"
    attention_start: Literal["identity", "random"] = "identity"
    value_start: float = Field(default=1.0, ge=0, allow_inf_nan=False)


class SCANOptions(AlignmentOptions):
    """What one chooses about a SCAN; the defaults are the authors' text-to-image AVG."""

    matcher: Literal["scan"] = "scan"


class VSEOptions(MatcherOptions):
    """What one chooses about a VSE++."""

    matcher: Literal["vse++"] = "vse++"


class VSEInfinityOptions(MatcherOptions):
    """What one chooses about a VSE-infinity; the defaults are the authors'.

    Attributes:
        position_size: Numbers that the pooling operators encode a position with, and their GRU's state has.
        pooling_temperature: What the logits of the weights of positions are divided by.
    """

    matcher: Literal["vse-infinity"] = "vse-infinity"
    position_size: int = Field(default=32, gt=0, multiple_of=2)
    pooling_temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)


def _named(options: Any) -> Any:
    """Options that name no matcher are a HAN's."""
    return {"matcher": "han", **options} if isinstance(options, dict) else options


AnyOptions = Annotated[
    HANOptions | SCANOptions | VSEOptions | VSEInfinityOptions, Field(discriminator="matcher"), BeforeValidator(_named)
]


class MatcherConfig(MatcherOptions):
    """What follows from the data of any matcher.

    Attributes:
        region_size: Numbers a region feature, D without the box's geometry.
        vocabulary_size: Word ids, special ones included.
        detector_fingerprint: The detector whose features it was trained on; None when unknown.
    """

    region_size: int = Field(gt=0)
    vocabulary_size: int = Field(gt=0)
    detector_fingerprint: str | None = None

    @property
    def input_size(self) -> int:
        """D, numbers a region that the image encoder takes."""
        return self.region_size + (GEOMETRY_SIZE if self.box_geometry else 0)


class AlignmentConfig(AlignmentOptions, MatcherConfig):
    """Options of an aligning matcher, and what follows from its data."""


class HANConfig(HANOptions, AlignmentConfig):
    """A HAN's options and what follows from its data: every number that its weights and scores depend on."""


class SCANConfig(SCANOptions, AlignmentConfig):
    """A SCAN's options and what follows from its data."""


class VSEConfig(VSEOptions, MatcherConfig):
    """A VSE++'s options and what follows from its data."""


class VSEInfinityConfig(VSEInfinityOptions, MatcherConfig):
    """A VSE-infinity's options and what follows from its data."""
