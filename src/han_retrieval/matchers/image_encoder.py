"""Regions to tokens: o_i = l2norm(W_r x_i + b_r)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ImageEncoder(nn.Module):
    """One fully-connected layer over region features, then unit length (Yu et al., SIGIR 2021).

    Legend: I images, m regions, D numbers a feature, d the joint size.
    """

    def __init__(self, region_size: int, joint_size: int):
        super().__init__()
        self.projection = nn.Linear(region_size, joint_size)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, regions: Tensor, region_mask: Tensor) -> Tensor:
        """(I, m, D) features and (I, m) bool, true where a region is, to (I, m, d) tokens; zero at padding."""
        # Padding is zeroed on both sides: what stands there, NaN included, must reach neither a token nor a gradient.
        regions = torch.where(region_mask.unsqueeze(-1), regions, 0)
        tokens = F.normalize(self.projection(regions), dim=-1)  # (I, m, d)
        return torch.where(region_mask.unsqueeze(-1), tokens, 0)
