"""Parameters that nothing depends on: their gradient is 0 in the formulas and rounding on a computer.

Adam divides a gradient by its own size, so that such a parameter would wander, on each number of ranks to another
place. The gradient is set to what it is.
"""

from __future__ import annotations

from collections.abc import Callable
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
            _keep(part.key.bias)
        elif isinstance(part, nn.MultiheadAttention):
            if part.bias_k is None and not part.add_zero_attn:  # a key of its own would not have the bias
                _keep(part.in_proj_bias, _without_keys)
        elif isinstance(part, nn.Sequential):
            for one, following in pairwise(part):
                if isinstance(one, nn.Linear) and isinstance(following, _BatchNorm):
                    _keep(one.bias)


def _keep(bias: Tensor | None, gradient: Callable[[Tensor], Tensor] = torch.zeros_like) -> None:
    """Give a bias this gradient, if it is there and learns."""
    if bias is not None and bias.requires_grad:
        bias.register_hook(gradient)


def _without_keys(gradient: Tensor) -> Tensor:
    """Of the biases (3 d,) of queries, keys and values."""
    queries, keys, values = gradient.chunk(3)
    return torch.cat([queries, torch.zeros_like(keys), values])
