"""How final tokens become a score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Matching:
    """How final tokens become a score.

    Attributes:
        temperature: lambda.
        gatherers: "words", "regions", or "both": the mean of the two scores.
        pool: (..., g) matches and (..., g) mask to (...) scores.
        attention: "cosine", or "clipped" as in SCAN, without blocks only; see ``alignment``.
    """

    temperature: float
    gatherers: str
    pool: Callable[[Tensor, Tensor], Tensor]
    attention: str = "cosine"

    @property
    def each_gatherers(self) -> tuple[str, ...]:
        """Those whose scores are averaged."""
        return ("words", "regions") if self.gatherers == "both" else (self.gatherers,)
