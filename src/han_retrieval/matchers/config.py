"""The shape of a HAN: every number that its weights and scores depend on."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from han_retrieval.regions.regions import GEOMETRY_SIZE


class HANOptions(BaseModel):
    """What one chooses about a HAN, frozen; unknown fields are refused.

    The paper's formulas fix the structure; it publishes no sizes or temperatures, so the defaults are this project's.

    Attributes:
        word_size: Numbers a word embedding.
        joint_size: d, numbers a token in the space that regions and words share.
        blocks: L, how many rounds of heterogeneous attention; 0 leaves alignment and matching alone.
        attention_temperature: beta, the factor on q . k.
        alignment_temperature: lambda, the factor on the cosines of words and regions before the soft-max.
        residual: What a block adds to the attended sum: the query (as published) or the token itself.
        alignment: Who gathers: each word its picture of the image (the paper), each region its sentence, or the mean
            of both scores.
        pooling: How the matches r_i become one score: their mean, or log-sum-exp at ``lse_temperature``.
        lse_temperature: Factor on r_i inside the log-sum-exp.
        boundary_words: Whether <start> and <end> are words of the sentence.
        box_geometry: Whether the image encoder takes position and size of a region's box besides its feature.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    word_size: int = Field(default=300, gt=0)
    joint_size: int = Field(default=1024, gt=0)
    blocks: int = Field(default=1, ge=0)
    attention_temperature: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    alignment_temperature: float = Field(default=9.0, gt=0, allow_inf_nan=False)
    residual: Literal["query", "token"] = "query"
    alignment: Literal["words", "regions", "both"] = "words"
    pooling: Literal["mean", "lse"] = "mean"
    lse_temperature: float = Field(default=6.0, gt=0, allow_inf_nan=False)
    boundary_words: bool = False
    box_geometry: bool = False


class HANConfig(HANOptions):
    """A HAN's options and what follows from its data: every number that its weights and scores depend on.

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
