"""Regions to tokens: o_i = l2norm(W_r x_i + b_r), and what peers have in its place."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ImageEncoder(nn.Module):
    """One fully-connected layer over region features, then unit length (Yu et al., SIGIR 2021).

    Legend: I images, m regions, D numbers a feature, d the joint size.

    Args:
        region_size: D.
        joint_size: d.
        unit: Whether tokens are brought to unit length.
        perceptron: Whether a perceptron of two layers is added to the one, d / 2 wide and normalised over the regions
            of a batch while training, as the code of VSE-infinity has it.
    """

    def __init__(self, region_size: int, joint_size: int, *, unit: bool = True, perceptron: bool = False):
        super().__init__()
        self.projection = nn.Linear(region_size, joint_size)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self.unit = unit
        self.perceptron: nn.Module | None = None
        if perceptron:
            hidden = max(1, joint_size // 2)
            self.perceptron = nn.Sequential(
                nn.Linear(region_size, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, joint_size)
            )

    def forward(self, regions: Tensor, region_mask: Tensor) -> Tensor:
        """(I, m, D) features and (I, m) bool, true where a region is, to (I, m, d) tokens; zero at padding."""
        # Padding is zeroed on both sides: what stands there, NaN included, must reach neither a token nor a gradient.
        regions = torch.where(region_mask.unsqueeze(-1), regions, 0)
        tokens = self.projection(regions)  # (I, m, d)
        if self.perceptron is not None:
            added = torch.zeros_like(tokens)
            added[region_mask] = self.perceptron(regions[region_mask])  # padding is no part of a batch's statistics
            tokens = tokens + added
        if self.unit:
            tokens = F.normalize(tokens, dim=-1)
        return torch.where(region_mask.unsqueeze(-1), tokens, 0)
