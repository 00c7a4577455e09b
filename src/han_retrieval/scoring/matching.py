"""What is scored, and how final tokens become a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

DIRECTIONS = ("words", "regions", "both")
TOKENS_OF = {"images": "regions", "texts": "words"}


class Items(NamedTuple):
    """The tokens whose pairs are scored.

    Attributes:
        image_tokens: (I, m, d).
        region_mask: (I, m) bool, at least one true an image.
        text_tokens: (T, n, d).
        word_mask: (T, n) bool, at least one true a text.
    """

    image_tokens: Tensor
    region_mask: Tensor
    text_tokens: Tensor
    word_mask: Tensor


@dataclass(frozen=True)
class Matching:
    """How final tokens become a score.

    Attributes:
        temperature: lambda.
        direction: "words": each word attends to the regions and is matched with what it attends to; "regions": each
            region attends to the words; "both": the mean of the two scores.
        pool: (..., g) matches and (..., g) mask to (...) scores.
        attention: "cosine", or, without blocks, "clipped" as in SCAN, see ``alignment``, or "max": each word is matched
            with the one region that is most like it, see ``max_similarity``.
    """

    temperature: float
    direction: str
    pool: Callable[[Tensor, Tensor], Tensor]
    attention: str = "cosine"

    @property
    def directions(self) -> tuple[str, ...]:
        """Those whose scores are averaged: "words", "regions" or both of them."""
        return ("words", "regions") if self.direction == "both" else (self.direction,)

    def scores(self, matches: Mapping[str, Tensor], *, region_mask: Tensor, word_mask: Tensor) -> Tensor:
        """Pool the matches of each direction, and average.

        Args:
            matches: By direction, (..., n) of words or (..., m) of regions.
            region_mask: Bool, broadcast to the matches of regions.
            word_mask: Bool, broadcast to those of words.

        Returns:
            (...) scores.
        """
        masks = {"words": word_mask, "regions": region_mask}
        pooled = [self.pool(r, masks[direction].expand_as(r)) for direction, r in matches.items()]
        return torch.stack(pooled).mean(0)
