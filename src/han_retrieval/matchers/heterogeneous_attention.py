"""Heterogeneous attention: every region and every word attends to both sets.

Legend: B pairs of an image and a text, s = m + n tokens (m regions, then n words), d the joint size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HeterogeneousAttention(nn.Module):
    """One block: h~_i = W_f (sum_j A_ij v_j) + b_f + q_i, with A = softmax_j(beta q_i . k_j) (Yu et al., SIGIR 2021).

    A single head; beta takes the place of 1 / sqrt(d).

    Args:
        joint_size: d.
        temperature: beta.
        residual: What is added to the sum: the "query", or the "token" itself.
        over: What a token attends to: tokens of "both" sets, of its "own", or of the "other".
        start: The weights' start: near the "identity", or as torch starts any linear map, "random".
        value_start: Factor on W_v at the start: how much a token begins with of what it attends to.
    """

    def __init__(
        self,
        joint_size: int,
        *,
        temperature: float,
        residual: str,
        over: str = "both",
        start: str = "identity",
        value_start: float = 1.0,
    ):
        super().__init__()
        self.query = nn.Linear(joint_size, joint_size)
        self.key = nn.Linear(joint_size, joint_size)
        self.value = nn.Linear(joint_size, joint_size)
        self.output = nn.Linear(joint_size, joint_size)
        self.temperature = temperature
        self.residual = residual
        self.over = over
        # Near the identity a block starts as a soft average of like tokens, so that training begins with the cosines
        # of the encoders; from a random start the first epochs go into finding that again.
        if start == "identity":
            for linear in (self.query, self.key, self.value, self.output):
                nn.init.normal_(linear.weight, std=0.1 / joint_size**0.5)
                nn.init.zeros_(linear.bias)
                with torch.no_grad():
                    linear.weight.diagonal().add_(1.0)
        with torch.no_grad():
            self.value.weight.mul_(value_start)

    def forward(self, tokens: Tensor, mask: Tensor, *, regions: int) -> tuple[Tensor, Tensor]:
        """The attended tokens h~ and A, the weights over the valid tokens that a token attends to.

        (B, s, d), (B, s) -> (B, s, d), (B, s, s); the first ``regions`` of s are regions, the others words.
        """
        query = self.query(tokens)
        logits = self.temperature * query @ self.key(tokens).mT
        seen = mask.unsqueeze(1)  # (B, 1, s)
        if self.over != "both":
            is_region = torch.arange(tokens.shape[1], device=tokens.device) < regions
            same_set = is_region.unsqueeze(1) == is_region  # (s, s)
            seen = seen & (same_set if self.over == "own" else ~same_set)
        attention = logits.masked_fill(~seen, -torch.inf).softmax(-1)
        added = query if self.residual == "query" else tokens
        return self.output(attention @ self.value(tokens)) + added, attention
