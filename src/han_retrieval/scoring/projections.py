"""What an item brings to every pair: its tokens through a block's linear maps, computed once an item.

Legend: d the joint size; "..." any leading axes of tokens.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class AttentionBlock(Protocol):
    """The parameters of one block of heterogeneous attention, as scoring needs them."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    temperature: float
    residual: str
    over: str  # what tokens attend to: "both" sets, their "own", the "other"; "one-way": words both, regions their own


def over_of(over: str, of: str) -> str:
    """What tokens of "images" or of "texts" attend to in a block with this ``over``: "both", "own" or "other"."""
    if over == "one-way":
        return "own" if of == "images" else "both"
    return over


class Projections(NamedTuple):
    """Tokens h (..., d) through one block: h~_i = sum_j A_ij u_j + c_i with A = softmax_j(q_i . k_j).

    Attributes:
        q: beta (W_q h + b_q), so that logits need no further factor.
        k: W_k h + b_k.
        u: W_f (W_v h + b_v): rows of A sum to 1, so W_f may act before the sum and its own bias after it.
        c: What is added to the sum: the residual and b_f.
    """

    q: Tensor
    k: Tensor
    u: Tensor
    c: Tensor


class LinearMap(NamedTuple):
    """h W' + b: weight (d, d), or None for the identity; bias (d,)."""

    weight: Tensor | None
    bias: Tensor

    def __call__(self, tokens: Tensor) -> Tensor:
        """(..., d) to (..., d)."""
        return (tokens if self.weight is None else tokens @ self.weight.mT) + self.bias


class Maps(NamedTuple):
    """The linear maps that make the four projections."""

    q: LinearMap
    k: LinearMap
    u: LinearMap
    c: LinearMap


def maps(block: AttentionBlock) -> Maps:
    """The four maps of a block; W_f W_v is multiplied out, d^3 multiply-adds."""
    beta = block.temperature
    if block.residual == "query":
        c = LinearMap(block.query.weight, block.query.bias + block.output.bias)
    else:
        c = LinearMap(None, block.output.bias)
    return Maps(
        q=LinearMap(beta * block.query.weight, beta * block.query.bias),
        k=LinearMap(block.key.weight, block.key.bias),
        u=LinearMap(block.output.weight @ block.value.weight, block.output.weight @ block.value.bias),
        c=c,
    )


def project(block: AttentionBlock, tokens: Tensor, *, with_bias: bool = True) -> Projections:
    """(..., d) tokens to their four projections, (..., d) each.

    Args:
        block: The block's weights.
        tokens: The tokens, or one term of a sum that makes them up.
        with_bias: False for all but one term of such a sum, since a bias is added once.
    """
    weight = torch.cat([block.query.weight, block.key.weight, block.output.weight @ block.value.weight])
    bias = None
    if with_bias:
        bias = torch.cat([block.query.bias, block.key.bias, block.output.weight @ block.value.bias])
    q, k, u = nn.functional.linear(tokens, weight, bias).chunk(3, dim=-1)
    c = q if block.residual == "query" else tokens
    return Projections(block.temperature * q, k, u, c + block.output.bias if with_bias else c)
