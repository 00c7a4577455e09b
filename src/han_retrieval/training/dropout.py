"""Dropout that is drawn for each item of the global batch by its place, however ranks share the batch.

torch draws dropout for a whole tensor, so that it would depend on which items are computed together and on their
padding. Here whether an element stays is a function of the step's seed, the number of the call, the item's place and
the element's own indices: a hash, the same on every device.

Legend: k items, ... what a layer has for each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

_BITS = 0xFFFFFFFF
_STRIDES = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1)  # odd; one a dimension behind the first


class PlacedDropout:
    """The dropout of one step.

    Args:
        seed: The step's.
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._calls = seed, 0

    def __call__(self, values: Tensor, share: float, places: Tensor) -> Tensor:
        """Values (k, ...) with ``share`` of them 0 and the others scaled; ``places`` (k,) int64 tell items apart."""
        self._calls += 1
        return values * self._kept(values, share, places).to(values.dtype).div_(1 - share)

    def _kept(self, values: Tensor, share: float, places: Tensor) -> Tensor:
        """(k, ...) bool."""
        key = _mixed_number(self._seed + _STRIDES[0] * self._calls)
        own = _mixed(places.to(values.device) * _STRIDES[1] + key)  # (k,)
        mixed = own.view(-1, *(1 for _ in values.shape[1:]))
        for dimension, size in enumerate(values.shape[1:]):
            along = torch.arange(size, device=values.device) * _STRIDES[dimension % len(_STRIDES)]
            mixed = mixed + along.view(-1, *(1 for _ in values.shape[dimension + 2 :]))
        return _mixed(mixed) >= math.floor(share * (_BITS + 1))

    @contextmanager
    def within(self, places: Tensor) -> Iterator[None]:
        """Draw the dropout of torch's layers in this way, where their tensors have a row for each of the places (k,).

        Others, such as those of a layer that flattens its items, are drawn as torch draws them.
        """
        before = functional.dropout, functional.scaled_dot_product_attention

        def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
            if not training or not 0 < p < 1 or len(input) != len(places):
                return before[0](input, p, training, inplace)
            found = self(input, p, places)
            return input.copy_(found) if inplace else found

        def attention(
            query: Tensor,
            key: Tensor,
            value: Tensor,
            attn_mask: Tensor | None = None,
            dropout_p: float = 0.0,
            is_causal: bool = False,
            scale: float | None = None,
            **options: Any,
        ) -> Tensor:
            if not 0 < dropout_p < 1 or len(query) != len(places) or options.get("enable_gqa"):
                return before[1](query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **options)
            weights = _attention(query, key, attn_mask, is_causal=is_causal, scale=scale)  # (k, ..., L, S)
            return self(weights, dropout_p, places) @ value

        functional.dropout, functional.scaled_dot_product_attention = dropout, cast(Any, attention)
        try:
            yield
        finally:
            functional.dropout, functional.scaled_dot_product_attention = before


def _attention(query: Tensor, key: Tensor, mask: Tensor | None, *, is_causal: bool, scale: float | None) -> Tensor:
    """The weights of ``scaled_dot_product_attention``."""
    logits = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    return logits.softmax(-1)


def _mixed(values: Tensor) -> Tensor:
    """A hash of int64 values to numbers of 32 bits (Ettinger and Wellons, hash-prospector, "lowbias32")."""
    values = values & _BITS
    values = (values ^ (values >> 16)) * 0x7FEB352D & _BITS
    values = (values ^ (values >> 15)) * 0x846CA68B & _BITS
    return values ^ (values >> 16)


def _mixed_number(value: int) -> int:
    return int(_mixed(torch.tensor(value & _BITS)))
