"""How close float32 must come to a float64 reference, relative to the numbers that a result is made of.

Rounding leaves an error in proportion to the numbers that are added up, not to their sum. A gradient that is zero in
exact arithmetic, such as that of a key's bias, is the rest of large numbers that cancel. With an absolute tolerance, or
one relative to the gradient itself, a test passes on one processor and fails on another that adds in another order.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def in_float64(model: Model) -> Model:
    """A copy of the model with its weights in float64: what it computes is the reference."""
    return copy.deepcopy(model).double()


def assert_close(got: Tensor, exact: Tensor, tolerance: float) -> None:
    """No number is further from its reference than ``tolerance`` times the largest number of the reference."""
    assert got.shape == exact.shape
    exact = exact.detach().double()
    error = (got.detach().double() - exact).abs().max()
    scale = exact.abs().max()
    assert error <= tolerance * scale, f"off by {float(error / scale):.1e} of the largest number, {float(scale):.3g}"


def assert_gradients_close(
    got: Sequence[Tensor], exact: Sequence[Tensor], tolerance: float, *, names: Sequence[str] | None = None
) -> None:
    """No gradient is further from its reference, by the norm of the difference, than ``tolerance`` times its scale.

    A gradient's scale is its own norm, or a tenth of the largest norm among all of them where that is more.
    """
    names = names or [f"gradient {number}" for number in range(len(exact))]
    norms = [float(x.double().norm()) for x in exact]
    for name, x, wanted, norm in zip(names, got, exact, norms, strict=True):
        assert x.shape == wanted.shape, name
        error = float((x.double() - wanted.double()).norm())
        scale = max(norm, 0.1 * max(norms))
        assert error <= tolerance * scale, f"{name}: off by {error / scale:.1e} of its scale, {scale:.3g}"
