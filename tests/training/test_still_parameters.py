"""Biases that no output depends on have no gradient, frozen or not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from han_retrieval.matchers.han import HeterogeneousAttention
from han_retrieval.training.invariance import hold_still

PARTS = {
    "attention": lambda: HeterogeneousAttention(4, temperature=1.0),
    "torch's attention": lambda: nn.MultiheadAttention(4, 1),
    "its own key": lambda: nn.MultiheadAttention(4, 1, add_bias_kv=True),
    "norm": lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
    "no bias": lambda: nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4)),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_that_are_frozen_are_left_alone(name):
    hold_still(PARTS[name]().requires_grad_(False))


def test_gradients_are_what_the_formulas_say():
    parts = {name: make() for name, make in PARTS.items()}
    for part in parts.values():
        hold_still(part)
    x = torch.randn(3, 4)
    for name in ("torch's attention", "its own key"):
        parts[name](x, x, x)[0].square().sum().backward()
    parts["norm"](x).pow(3).sum().backward()
    parts["attention"](x[None], torch.ones(1, 3, dtype=torch.bool), regions=1)[0].square().sum().backward()
    assert not parts["norm"][0].bias.grad.any()
    assert not parts["attention"].key.bias.grad.any()
    queries, keys, values = parts["torch's attention"].in_proj_bias.grad.chunk(3)
    assert queries.any()
    assert values.any()
    assert not keys.any()
    assert parts["its own key"].in_proj_bias.grad.chunk(3)[1].any()  # the key without the bias tells it apart
