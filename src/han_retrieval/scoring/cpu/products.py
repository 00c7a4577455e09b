"""Products of lanes matrices, with as many sums in registers as there is room for.

A factor may be a lanes matrix (rows, columns, LANES) or a plain one (rows, columns), the same for all lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from han_retrieval.scoring.cpu.compiling import cached_njit, njit
from han_retrieval.scoring.cpu.lanes import (
    FUSED,
    INDEX,
    LANES,
    VECTOR,
    Matrix,
    constant,
    intrinsic,
    load,
    store,
    sum_of_lanes,
    transposed,
)

MANY, SOME = (9, 4) if LANES == 16 else (4, 2)
"""Rows of a tile. With three columns, many rows' sums and factors fill the 32 registers of AVX-512, or 16."""


def _tile(rows: int, columns: int, *, add: bool) -> Any:
    """out[i + r, j + c] (+)= sum_k left[i + r, k] right[k, j + c], with all rows x columns sums in registers.

    Either factor may be a plain matrix. If out is a plain matrix, the lanes of each sum are summed as well.
    """

    @intrinsic
    def tile(typing: Any, out: Any, left: Any, right: Any, i: Any, j: Any, count: Any) -> Any:
        def emit(context: Any, b: Any, sig: Any, args: Any) -> Any:
            target, first, second = (Matrix(context, b, sig.args[k], args[k]) for k in range(3))
            i, j, count = args[3:]
            at = [[(b.add(i, INDEX(r)), b.add(j, INDEX(c))) for c in range(columns)] for r in range(rows)]
            cells = [(r, c) for r in range(rows) for c in range(columns)]
            in_place = add and target.is_lanes
            start = {(r, c): target.load(*at[r][c]) if in_place else constant(0.0) for r, c in cells}

            before, body, after = b.block, b.append_basic_block("sum"), b.append_basic_block("summed")
            b.cbranch(b.icmp_signed(">", count, INDEX(0)), body, after)
            b.position_at_end(body)
            k = b.phi(INDEX)
            sums = {cell: b.phi(VECTOR) for cell in cells}
            right_row = [second.load(k, at[0][c][1]) for c in range(columns)]
            left_column = [first.load(at[r][0][0], k) for r in range(rows)]
            new = {
                (r, c): b.fadd(b.fmul(left_column[r], right_row[c], flags=FUSED), sums[r, c], flags=FUSED)
                for r, c in cells
            }
            next_k = b.add(k, INDEX(1))
            k.add_incoming(INDEX(0), before)
            k.add_incoming(next_k, body)
            b.cbranch(b.icmp_signed("<", next_k, count), body, after)
            b.position_at_end(after)
            results = {}
            for cell in cells:
                sums[cell].add_incoming(start[cell], before)
                sums[cell].add_incoming(new[cell], body)
                results[cell] = b.phi(VECTOR)
                results[cell].add_incoming(start[cell], before)
                results[cell].add_incoming(new[cell], body)
            for r, c in cells:
                value = results[r, c]
                if not target.is_lanes:
                    value = b.fadd(sum_of_lanes(b, value), b.load(target.address(*at[r][c])))
                target.store(value, *at[r][c])
            return context.get_dummy_value()

        index = types.intp
        return types.void(out, left, right, index, index, index), emit

    return tile


def _strip(columns: int, *, add: bool) -> Any:
    """Some columns of a product, in tiles of as many rows as registers allow, then of fewer."""
    many, some, one = (_tile(rows, columns, add=add) for rows in (MANY, SOME, 1))

    def strip(out: Any, left: Any, right: Any, j: int) -> None:
        rows, count, i = out.shape[0], right.shape[0], 0
        while i + MANY <= rows:
            many(out, left, right, i, j, count)
            i += MANY
        while i + SOME <= rows:
            some(out, left, right, i, j, count)
            i += SOME
        while i < rows:
            one(out, left, right, i, j, count)
            i += 1

    return _named(strip, f"strip_of_{columns}", add=add)


def _product(*, add: bool) -> Any:
    strip_of_3, strip_of_1 = (_strip(columns, add=add) for columns in (3, 1))

    def product(out: Any, left: Any, right: Any) -> None:
        columns = out.shape[1]
        whole = columns - columns % 3
        for j in range(0, whole, 3):
            strip_of_3(out, left, right, j)
        for j in range(whole, columns):
            strip_of_1(out, left, right, j)

    return _named(product, "product", add=add)


def _named(function: Callable[..., None], name: str, *, add: bool) -> Any:
    """Compiled under a name of its own.

    Numba names compiled code after the function and a number that counts functions of this process alone. With one
    name for several, a kernel that one process kept on disk can call another function of a kernel that another kept.
    """
    function.__qualname__ = f"add_{name}" if add else name
    return njit(function)


product = _product(add=False)
"""out = left @ right, out a lanes matrix, each factor a lanes matrix or a plain one."""

add_product = _product(add=True)
"""out += left @ right. If out is a plain matrix, the lanes of each element are summed."""


@cached_njit
def multiply_stored(out: Any, left: Any, right: Any, scale: Any, bias: Any) -> None:
    """out = (left @ right) scale + bias, right in any dtype that a lanes matrix may be stored in.

    Shapes: (rows, columns, LANES) = (rows, count) @ (columns, count, LANES) * (columns, LANES) + (rows, 1).
    """
    product(out, left, transposed(right))
    factors = scale.reshape(1, scale.shape[0], scale.shape[1])
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            store(load(out, i, j) * load(factors, 0, j) + load(bias, i, 0), out, i, j)


@cached_njit
def _try_out(out: Any, left: Any, right: Any) -> None:
    product(out, left, right)


def try_out() -> None:
    """Compile and run one product: what is wrong with Numba or this processor is raised here."""
    ones, lanes_of_ones = np.ones((1, 1), np.float32), np.ones((1, 1, LANES), np.float32)
    out = np.empty_like(lanes_of_ones)
    _try_out(out, ones, lanes_of_ones)
    if not (out == 1).all():
        raise RuntimeError("a product of ones is not one")
