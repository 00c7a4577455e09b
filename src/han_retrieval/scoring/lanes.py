"""SIMD lanes as a Numba type: one number for each of eight texts, handled as if it were one number.

Code that is written for one pair with these lanes in place of floats runs for eight pairs at once, with no
remainders and no sums across a register. A *lanes matrix* is a float32 array (rows, columns, LANES).

``product``, ``add_product`` and ``add_product_sums`` are the register-tiled matrix products that a pair needs.
"""

from __future__ import annotations

import functools
import logging
import operator
import threading
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

njit: Any = numba.njit(nogil=True)  # without Numba's own annotations, which change from release to release
intrinsic: Any = numba.extending.intrinsic

LANES = 16 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 8

_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_INDEX = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_FUSED = ("contract", "nsz", "reassoc")  # allow fused multiply-add; infinities and NaN keep their meaning


class _LanesType(types.Type):  # type: ignore[misc]
    """The Numba type of one number for each of LANES texts."""


lanes = _LanesType("lanes")


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, frontend_type: Any):
        super().__init__(manager, frontend_type, _VECTOR)


def _operator(function: Callable[..., Any], emit: Callable[[Any, Any, Any], Any]) -> None:
    @infer_global(function)
    class _Typing(ConcreteTemplate):  # type: ignore[misc]
        cases = (signature(lanes, lanes, lanes),)

    @lower_builtin(function, lanes, lanes)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *args)


_operator(operator.add, lambda b, x, y: b.fadd(x, y, flags=_FUSED))
_operator(operator.sub, lambda b, x, y: b.fsub(x, y, flags=_FUSED))
_operator(operator.mul, lambda b, x, y: b.fmul(x, y, flags=_FUSED))
_operator(operator.truediv, lambda b, x, y: b.fdiv(x, y))


def _wide(kind: Any) -> Any:
    return ir.VectorType(kind, LANES)


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [value] * LANES)


def _call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    function_type = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def _splat(builder: Any, x: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), x, _INT(0))
    zeros = ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), zeros)


class _Matrix:
    """Addresses in an array argument, by its strides, and its numbers as float32.

    A lanes matrix may be stored in less: uint16 holds float16 bits, int16 bfloat16 bits, int8 integers.
    """

    def __init__(self, context: Any, builder: Any, array_type: Any, array: Any):
        struct = context.make_array(array_type)(context, builder, array)
        self.builder = builder
        self.data = struct.data
        self.is_lanes = array_type.ndim == 3
        self.dtype = array_type.dtype
        self.strides = cgutils.unpack_tuple(builder, struct.strides, array_type.ndim)

    def address(self, *indices: Any) -> Any:
        b, offset = self.builder, _INDEX(0)
        for index, stride in zip(indices, self.strides[: len(indices)], strict=True):
            offset = b.add(offset, b.mul(index, stride))
        kind = {types.float32: _FLOAT, types.int8: ir.IntType(8)}.get(self.dtype, ir.IntType(16))
        return cgutils.pointer_add(b, self.data, offset, (_wide(kind) if self.is_lanes else kind).as_pointer())

    def load(self, *indices: Any) -> Any:
        b = self.builder
        value = b.load(self.address(*indices))
        value.align = self.dtype.bitwidth // 8
        if self.dtype == types.uint16:
            return b.fpext(b.bitcast(value, _wide(ir.HalfType())), _VECTOR)
        if self.dtype == types.int16:
            shift = ir.Constant(_wide(_INT), [16] * LANES)
            return b.bitcast(b.shl(b.zext(value, _wide(_INT)), shift), _VECTOR)
        if self.dtype == types.int8:
            return b.sitofp(value, _VECTOR)
        return value if self.is_lanes else _splat(b, value)

    def store(self, value: Any, *indices: Any) -> None:
        self.builder.store(value, self.address(*indices)).align = 4


@intrinsic
def load(typing: Any, array: Any, i: Any, j: Any) -> Any:
    """Element (i, j) of a lanes matrix; of a plain matrix (rows, columns) the same number in all lanes."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _Matrix(context, builder, sig.args[0], args[0]).load(args[1], args[2])

    return lanes(array, types.intp, types.intp), emit


@intrinsic
def store(typing: Any, value: Any, array: Any, i: Any, j: Any) -> Any:
    """Write element (i, j) of a lanes matrix."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _Matrix(context, builder, sig.args[1], args[1]).store(args[0], args[2], args[3])
        return context.get_dummy_value()

    return types.void(lanes, array, types.intp, types.intp), emit


@intrinsic
def splat(typing: Any, x: Any) -> Any:
    """One float32 in all lanes."""
    return lanes(types.float32), lambda context, builder, sig, args: _splat(builder, args[0])


@intrinsic
def lanes_sum(typing: Any, x: Any) -> Any:
    """The sum over lanes, a float32."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _sum(builder, args[0])

    return types.float32(lanes), emit


def _sum(builder: Any, x: Any) -> Any:
    call = _call(builder, f"llvm.vector.reduce.fadd.v{LANES}f32", _FLOAT, _FLOAT(0.0), x)
    call.fastmath.add("reassoc")
    return call


@intrinsic
def maximum(typing: Any, x: Any, y: Any) -> Any:
    """The greater number, lane by lane."""

    def emit(context: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.select(b.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return lanes(lanes, lanes), emit


@intrinsic
def keep_if_greater(typing: Any, value: Any, x: Any, y: Any) -> Any:
    """The value where x > y, else 0, lane by lane."""

    def emit(context: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.select(b.fcmp_ordered(">", args[1], args[2]), args[0], _constant(0.0))

    return lanes(lanes, lanes, lanes), emit


@intrinsic
def sqrt(typing: Any, x: Any) -> Any:
    """Square roots."""
    return lanes(lanes), lambda context, b, sig, args: _call(b, f"llvm.sqrt.v{LANES}f32", _VECTOR, args[0])


@intrinsic
def exp(typing: Any, x: Any) -> Any:
    """e^x for x <= 0, to 2 units in the last place; 0 below -87.

    x = r ln 2 + f with an integer r and |f| <= ln 2 / 2; e^f is a polynomial (that of Cephes' expf), and r goes into
    the exponent.
    """

    def emit(context: Any, b: Any, sig: Any, args: Any) -> Any:
        integers = ir.VectorType(_INT, LANES)
        x = b.select(b.fcmp_ordered(">", args[0], _constant(-87.0)), args[0], _constant(-87.0))
        r = _call(b, f"llvm.rint.v{LANES}f32", _VECTOR, b.fmul(x, _constant(1.4426950408889634)))

        def multiply_add(x: Any, y: Any, z: Any) -> Any:
            return b.fadd(b.fmul(x, y, flags=("contract",)), z, flags=("contract",))

        f = multiply_add(r, _constant(-0.693359375), x)  # ln 2 in two parts, so that f keeps its last digits
        f = multiply_add(r, _constant(2.12194440e-4), f)
        p = _constant(1.9875691500e-4)
        for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
            p = multiply_add(p, f, _constant(c))
        p = b.fadd(multiply_add(b.fmul(f, f), p, f), _constant(1.0))
        exponent = b.shl(b.fptosi(r, integers), ir.Constant(integers, [23] * LANES))
        result = b.bitcast(b.add(b.bitcast(p, integers), exponent), _VECTOR)
        return b.select(b.fcmp_ordered(">", args[0], _constant(-87.0)), result, _constant(0.0))

    return lanes(lanes), emit


def _tile(rows: int, columns: int, *, add: bool) -> Any:
    """out[i + r, j + c] (+)= sum_k left[i + r, k] right[k, j + c], with all rows x columns sums in registers.

    Either factor may be a plain matrix. If out is a plain matrix, the lanes of each sum are summed as well.
    """

    @intrinsic
    def tile(typing: Any, out: Any, left: Any, right: Any, i: Any, j: Any, count: Any) -> Any:
        def emit(context: Any, b: Any, sig: Any, args: Any) -> Any:
            target, first, second = (_Matrix(context, b, sig.args[k], args[k]) for k in range(3))
            i, j, count = args[3:]
            at = [[(b.add(i, _INDEX(r)), b.add(j, _INDEX(c))) for c in range(columns)] for r in range(rows)]
            cells = [(r, c) for r in range(rows) for c in range(columns)]
            in_place = add and target.is_lanes
            start = {(r, c): target.load(*at[r][c]) if in_place else _constant(0.0) for r, c in cells}

            before, body, after = b.block, b.append_basic_block("sum"), b.append_basic_block("summed")
            b.cbranch(b.icmp_signed(">", count, _INDEX(0)), body, after)
            b.position_at_end(body)
            k = b.phi(_INDEX)
            sums = {cell: b.phi(_VECTOR) for cell in cells}
            right_row = [second.load(k, at[0][c][1]) for c in range(columns)]
            left_column = [first.load(at[r][0][0], k) for r in range(rows)]
            new = {
                (r, c): b.fadd(b.fmul(left_column[r], right_row[c], flags=_FUSED), sums[r, c], flags=_FUSED)
                for r, c in cells
            }
            next_k = b.add(k, _INDEX(1))
            k.add_incoming(_INDEX(0), before)
            k.add_incoming(next_k, body)
            b.cbranch(b.icmp_signed("<", next_k, count), body, after)
            b.position_at_end(after)
            results = {}
            for cell in cells:
                sums[cell].add_incoming(start[cell], before)
                sums[cell].add_incoming(new[cell], body)
                results[cell] = b.phi(_VECTOR)
                results[cell].add_incoming(start[cell], before)
                results[cell].add_incoming(new[cell], body)
            for r, c in cells:
                value = results[r, c]
                if not target.is_lanes:
                    value = b.fadd(_sum(b, value), b.load(target.address(*at[r][c])))
                target.store(value, *at[r][c])
            return context.get_dummy_value()

        index = types.intp
        return types.void(out, left, right, index, index, index), emit

    return tile


def _product(*, add: bool) -> Any:
    """A matrix product cut into tiles of 4 x 3 sums, the most that 16 registers hold beside their factors."""
    tile_4_3, tile_4_2, tile_4_1 = (_tile(4, columns, add=add) for columns in (3, 2, 1))
    tile_1_3, tile_1_1 = (_tile(1, columns, add=add) for columns in (3, 1))

    @njit
    def product(out: Any, left: Any, right: Any) -> None:
        rows, columns, count = out.shape[0], out.shape[1], right.shape[0]
        whole_rows, whole_columns = rows - rows % 4, columns - columns % 3
        for j in range(0, whole_columns, 3):
            for i in range(0, whole_rows, 4):
                tile_4_3(out, left, right, i, j, count)
            for i in range(whole_rows, rows):
                tile_1_3(out, left, right, i, j, count)
        if columns - whole_columns == 2:
            for i in range(0, whole_rows, 4):
                tile_4_2(out, left, right, i, whole_columns, count)
            for i in range(whole_rows, rows):
                tile_1_1(out, left, right, i, whole_columns, count)
                tile_1_1(out, left, right, i, whole_columns + 1, count)
        elif columns > whole_columns:
            for i in range(0, whole_rows, 4):
                tile_4_1(out, left, right, i, whole_columns, count)
            for i in range(whole_rows, rows):
                tile_1_1(out, left, right, i, whole_columns, count)

    return product


product = _product(add=False)
"""out = left @ right, out a lanes matrix, each factor a lanes matrix or a plain one."""

add_product = _product(add=True)
"""out += left @ right. If out is a plain matrix, the lanes of each element are summed."""


def cached_njit(function: Callable[..., Any]) -> Any:
    """A function to call from Python: compiled at its first call on a machine, which the log says, and kept on disk."""
    try:
        compiled = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder to keep it in
        compiled = numba.njit(nogil=True)(function)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        if compiled.signatures:
            return compiled(*args)
        note = threading.Timer(2, _say_that_it_compiles)
        note.start()
        try:
            return compiled(*args)
        finally:
            note.cancel()

    return call


@functools.cache
def _say_that_it_compiles() -> None:
    logging.getLogger(__name__).warning("compiling the scoring kernels for this processor: once, under a minute")


@cached_njit
def multiply_all(out: Any, left: Any, right: Any) -> None:
    """out[z] = left[z] @ right for every z: (z, rows, columns, LANES), (z, rows, count), (columns, count, LANES).

    As fast as MKL on one core or faster, since right is already in the order in which it is read.
    """
    turned = right.transpose((1, 0, 2))
    for z in range(len(out)):
        product(out[z], left[z], turned)


@cached_njit
def multiply_stored(out: Any, left: Any, right: Any, scale: Any, bias: Any) -> None:
    """out = (left @ right) scale + bias, right in any dtype that a lanes matrix may be stored in.

    Shapes: (rows, columns, LANES) = (rows, count) @ (columns, count, LANES) * (columns, LANES) + (rows, 1).
    """
    product(out, left, right.transpose((1, 0, 2)))
    factors = scale.reshape(1, scale.shape[0], scale.shape[1])
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            store(load(out, i, j) * load(factors, 0, j) + load(bias, i, 0), out, i, j)
