"""Convolutions of frozen networks, quicker than those of ``nn.Conv2d``: one call with the activation and the sum.

On x86 processors the call is one of oneDNN's, which torch has for its own compiler; elsewhere it is three of torch's.

Legend: B photos, C, O channels, h, w cells.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_LIMITS: dict[str, tuple[float, float | None] | None] = {"none": None, "relu": (0.0, None), "relu6": (0.0, 6.0)}


def has_fused_convolutions(dtype: torch.dtype) -> bool:
    """Whether torch here has convolutions with their activation in one call, and they are measured to be quicker.

    Those in bfloat16 need AVX-512 or newer instructions; torch's own run on every processor.
    """
    on_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return (
        on_x86
        and torch.backends.mkldnn.is_available()
        and all(
            hasattr(torch.ops.mkldnn, name)
            for name in ("_convolution_pointwise", "_linear_pointwise", "_reorder_linear_weight")
        )
        and (dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


class FrozenLinear:
    """A copy of a linear map's weights, in the order that the processor's products read them in.

    Args:
        weight: (O, C).
        bias: (O,), or None.
        dtype: Of the products: float32, or bfloat16 where the processor is faster in it.
        rows: About how many rows it will get at once.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, dtype: torch.dtype, rows: int) -> None:
        self._weight = weight.detach().to(dtype).contiguous()
        self._bias = None if bias is None else bias.detach().to(dtype)
        self._fused = has_fused_convolutions(dtype)
        if self._fused:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, rows)

    def __call__(self, rows: Tensor) -> Tensor:
        """(n, C) of the dtype to (n, O)."""
        if not self._fused:
            return functional.linear(rows, self._weight, self._bias)
        return torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")  # type: ignore[no-any-return]


class FrozenConvolution:
    """A copy of a convolution's weights, with its activation; later changes of the convolution are not seen.

    Args:
        convolution: With a square kernel. One of stride 2 pads as TensorFlow's "same" does for even sides: nothing
            before the first cell of a 3 x 3 kernel, one cell after the last.
        activation: "none", "relu" or "relu6".
        dtype: Of the products: float32, or bfloat16 where the processor is faster in it.
    """

    def __init__(self, convolution: nn.Conv2d, *, activation: str, dtype: torch.dtype) -> None:
        weight = convolution.weight.detach()
        bias = None if convolution.bias is None else convolution.bias.detach().to(dtype)
        size, stride = weight.shape[-1], convolution.stride[0]
        if stride == 2:  # a row and a column of zeros, so that the padding is the same on all sides
            weight = functional.pad(weight, (1, 0, 1, 0))
        self._padding, self._stride, self._groups = [(size - 1) // 2] * 2, [stride] * 2, convolution.groups
        self._limits, self._fused = _LIMITS[activation], has_fused_convolutions(dtype)
        self._activation: tuple[str, list[Any]] = ("none", [])  # by oneDNN's names
        if self._limits is not None:
            self._activation = ("relu", []) if self._limits[1] is None else ("hardtanh", list(self._limits))
        # Not reordered beforehand: an order that fits large maps may take oneDNN 50 times as long for small ones.
        self._weight, self._bias = weight.to(dtype).contiguous(memory_format=torch.channels_last), bias
        self._is_product = size == 1 and stride == 1 and self._groups == 1

    def __call__(self, maps: Tensor, *, plus: Tensor | None = None) -> Tensor:
        """(B, C, h, w), channels last and of the dtype, to (B, O, h, w).

        ``plus``, (B, O, h, w), is added to the result of a convolution without an activation.
        """
        assert plus is None or self._limits is None
        if not self._fused:
            found = functional.conv2d(maps, self._weight, self._bias, self._stride, self._padding, groups=self._groups)
            if plus is not None:
                found += plus
            return found if self._limits is None else found.clamp_(*self._limits)
        if self._is_product:
            cells, weight = maps.permute(0, 2, 3, 1), self._weight.flatten(1)
            if plus is None:
                found = torch.ops.mkldnn._linear_pointwise(cells, weight, self._bias, *self._activation, "")
            else:
                more = plus.permute(0, 2, 3, 1)
                found = torch.ops.mkldnn._linear_pointwise.binary(cells, more, weight, self._bias, "add")
            return found.permute(0, 3, 1, 2)
        where: tuple[Any, ...] = (self._weight, self._bias, self._padding, self._stride, [1, 1], self._groups)
        if plus is None:
            found = torch.ops.mkldnn._convolution_pointwise(maps, *where, *self._activation, "")
        else:
            how: tuple[Any, ...] = ("add", 1.0, None, [], None)
            found = torch.ops.mkldnn._convolution_pointwise.binary(maps, plus, *where, *how)
        return found
