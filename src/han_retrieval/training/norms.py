"""Batch normalisation over the items of all ranks, as one process that has them all computes it.

torch's SyncBatchNorm does the same on GPUs alone, and takes the ranks of the process group for those of every batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from han_retrieval.ranks import Ranks


class SharedNorms:
    """Makes the batch normalisation of a module one over the ranks that share a batch.

    Attributes:
        ranks: Those that share the batch at hand; to be set for each.
    """

    def __init__(self, module: nn.Module, ranks: Ranks) -> None:
        self.ranks = ranks
        for part in module.modules():
            if ranks.count > 1 and isinstance(part, _BatchNorm) and not isinstance(part, nn.SyncBatchNorm):
                part.forward = partial(self._forward, part, part.forward)  # type: ignore[method-assign]

    def _forward(self, norm: _BatchNorm, alone: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        if not norm.training or self.ranks.count == 1:
            return alone(values)
        return _normalised(norm, values, self.ranks)


def _normalised(norm: _BatchNorm, values: Tensor, ranks: Ranks) -> Tensor:
    """Values (k, C, ...) less their mean, over the square root of their variance; updates the running ones."""
    exact = values.to(torch.promote_types(values.dtype, torch.float32))
    over = [dimension for dimension in range(values.ndim) if dimension != 1]
    shape = [-1 if dimension == 1 else 1 for dimension in range(values.ndim)]
    count = ranks.total(torch.tensor(float(values.numel() // values.shape[1]), device=values.device))
    mean = ranks.sum(exact.sum(over)) / count  # (C,)
    centred = exact - mean.view(shape)
    variance = ranks.sum(centred.square().sum(over)) / count
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        with torch.no_grad():
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.add_(1)
            share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
            norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var.dtype), share)
    found = centred * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        found = found * norm.weight.view(shape) + norm.bias.view(shape)
    return found.to(values.dtype)
