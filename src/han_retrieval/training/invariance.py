"""Parameters that nothing depends on: their gradient is 0 in the formulas and rounding on a computer.

Adam divides a gradient by its own size, so that such a parameter would wander, on each number of ranks to another
place. The gradient is set to what it is.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from han_retrieval.matchers.han import HeterogeneousAttention


def hold_still(module: nn.Module) -> None:
    """Keep the biases of a module where they are that no output depends on while it is trained.

    These are the bias of the keys in an attention, which adds the same to all logits of a soft-max, and that of a
    linear map before batch normalisation, which takes the mean away. Those of language models of other packages are
    not known here.
    """
    for part in module.modules():
        if isinstance(part, HeterogeneousAttention):
            part.key.bias.register_hook(torch.zeros_like)
        elif isinstance(part, nn.MultiheadAttention) and part.in_proj_bias is not None:
            if part.in_proj_bias.requires_grad:
                part.in_proj_bias.register_hook(_without_keys)
        elif isinstance(part, nn.Sequential):
            for one, following in pairwise(part):
                if isinstance(one, nn.Linear) and one.bias is not None and isinstance(following, _BatchNorm):
                    one.bias.register_hook(torch.zeros_like)


def _without_keys(gradient: Tensor) -> Tensor:
    """Of the biases (3 d,) of queries, keys and values."""
    queries, keys, values = gradient.chunk(3)
    return torch.cat([queries, torch.zeros_like(keys), values])
