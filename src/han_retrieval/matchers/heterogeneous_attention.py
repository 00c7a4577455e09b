"""Heterogeneous attention: every region and every word attends to both sets.

Legend: B pairs of an image and a text, s = m + n tokens (m regions, then n words), d the joint size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HeterogeneousAttention(nn.Module):
    """One block: h~_i = W_f (sum_j A_ij v_j) + b_f + q_i, with A = softmax_j(beta q_i . k_j) (Yu et al., SIGIR 2021).

    A single head; beta takes the place of 1 / sqrt(d).
    """

    def __init__(self, joint_size: int, *, temperature: float, residual: str):
        super().__init__()
        self.query = nn.Linear(joint_size, joint_size)
        self.key = nn.Linear(joint_size, joint_size)
        self.value = nn.Linear(joint_size, joint_size)
        self.output = nn.Linear(joint_size, joint_size)
        self.temperature = temperature
        self.residual = residual
        # Near the identity a block starts as a soft average of like tokens, so that training begins with the cosines
        # of the encoders; from a random start the first epochs go into finding that again.
        for linear in (self.query, self.key, self.value, self.output):
            nn.init.normal_(linear.weight, std=0.1 / joint_size**0.5)
            nn.init.zeros_(linear.bias)
            with torch.no_grad():
                linear.weight.diagonal().add_(1.0)

    def attention(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """A, the weights over all valid tokens of both sets: (B, s, d), (B, s) -> (B, s, s)."""
        logits = self.temperature * self.query(tokens) @ self.key(tokens).mT
        return logits.masked_fill(~mask.unsqueeze(1), -torch.inf).softmax(-1)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The attended tokens h~, d-wide: (B, s, d), (B, s) -> (B, s, d)."""
        return self.gather(tokens, self.attention(tokens, mask))

    def gather(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """What the weights gather, and the residual: (B, s, d), A (B, s, s) -> h~ (B, s, d)."""
        added = self.query(tokens) if self.residual == "query" else tokens
        return self.output(attention @ self.value(tokens)) + added
