"""One vector an item, so that a matrix product finds the photos worth scoring.

Legend: N items of t tokens each, d numbers a token, e numbers a pooled vector.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torch.nn import functional

from han_retrieval.errors import HANError


class Pooling(Protocol):
    """Tokens to vectors whose dot products order photos nearly as the model's scores do.

    Attributes:
        name: What an index remembers of it.
        size: e.
    """

    name: str
    size: int

    def images(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, t, d), (N, t) bool to (N, e) of unit length."""
        ...

    def texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, t, d), (N, t) bool to (N, e) of unit length."""
        ...


class MeanPooling:
    """The mean of the tokens that are there, of unit length; e = d, and nothing is learned."""

    name = "mean"

    def __init__(self, joint_size: int) -> None:
        self.size = joint_size

    def images(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, t, d), (N, t) bool to (N, d)."""
        return functional.normalize((tokens * mask.unsqueeze(2)).sum(1), dim=1)

    def texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, t, d), (N, t) bool to (N, d)."""
        return self.images(tokens, mask)


def pooling_for(name: str, *, joint_size: int) -> Pooling:
    """The pooling that an index remembers by name.

    Raises:
        HANError: There is none of that name here.
    """
    if name != MeanPooling.name:
        raise HANError(f"its vectors are pooled by {name!r}, which this version does not have: upgrade it")
    return MeanPooling(joint_size)
