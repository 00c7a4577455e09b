"""SIMD lanes as a Numba type: one number for each of LANES texts, handled as if it were one number.

Code that is written for one pair with these lanes in place of floats runs for LANES pairs at once, with
no remainders and no sums across a register. A *lanes matrix* is a float32 array (rows, columns, LANES).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model
from numpy.typing import NDArray

from han_retrieval.scoring.cpu.compiling import njit

intrinsic: Any = numba.extending.intrinsic
Array = NDArray[np.float32]

TINY = np.float32(1e-24)
"""Squared lengths are held above it, as in ``gram.positive_sqrt``."""
GONE = np.float32(1.5e-24)
"""A squared length of at most this was cut off at ``TINY`` and has no gradient."""

LANES = 16 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 8

CACHE_LINE = 64
"""Bytes, on most processors; the widest vector has as many."""


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """An array of which no vector straddles two cache lines. NumPy's own memory may start anywhere."""
    count = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(count + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + count].view(dtype).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """The same, all zeros."""
    array = empty(shape, dtype)
    array[:] = 0
    return array


_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
INDEX = ir.IntType(64)
VECTOR = ir.VectorType(_FLOAT, LANES)
FUSED = ("contract", "nsz", "reassoc")  # allow fused multiply-add; infinities and NaN keep their meaning


class _LanesType(types.Type):  # type: ignore[misc]
    """The Numba type of one number for each of LANES texts."""


lanes = _LanesType("lanes")


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, frontend_type: Any):
        super().__init__(manager, frontend_type, VECTOR)


def _operator(function: Callable[..., Any], emit: Callable[[Any, Any, Any], Any]) -> None:
    @infer_global(function)
    class _Typing(ConcreteTemplate):  # type: ignore[misc]
        cases = (signature(lanes, lanes, lanes),)

    @lower_builtin(function, lanes, lanes)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *args)


_operator(operator.add, lambda b, x, y: b.fadd(x, y, flags=FUSED))
_operator(operator.sub, lambda b, x, y: b.fsub(x, y, flags=FUSED))
_operator(operator.mul, lambda b, x, y: b.fmul(x, y, flags=FUSED))
_operator(operator.truediv, lambda b, x, y: b.fdiv(x, y))


def _wide(kind: Any) -> Any:
    return ir.VectorType(kind, LANES)


def constant(value: float) -> Any:
    """LLVM's constant with one number in all lanes."""
    return ir.Constant(VECTOR, [value] * LANES)


def _call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    function_type = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def _splat(builder: Any, x: Any) -> Any:
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), x, _INT(0))
    zeros = ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(VECTOR, ir.Undefined), zeros)


class Matrix:
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
        """Where an element is."""
        b, offset = self.builder, INDEX(0)
        for index, stride in zip(indices, self.strides[: len(indices)], strict=True):
            offset = b.add(offset, b.mul(index, stride))
        kind = {types.float32: _FLOAT, types.int8: ir.IntType(8)}.get(self.dtype, ir.IntType(16))
        return cgutils.pointer_add(b, self.data, offset, (_wide(kind) if self.is_lanes else kind).as_pointer())

    def load(self, *indices: Any) -> Any:
        """An element as lanes; of a plain matrix the same number in all."""
        b = self.builder
        value = b.load(self.address(*indices))
        value.align = self.dtype.bitwidth // 8
        if self.dtype == types.uint16:
            return b.fpext(b.bitcast(value, _wide(ir.HalfType())), VECTOR)
        if self.dtype == types.int16:
            shift = ir.Constant(_wide(_INT), [16] * LANES)
            return b.bitcast(b.shl(b.zext(value, _wide(_INT)), shift), VECTOR)
        if self.dtype == types.int8:
            return b.sitofp(value, VECTOR)
        return value if self.is_lanes else _splat(b, value)

    def store(self, value: Any, *indices: Any) -> None:
        """Write an element."""
        self.builder.store(value, self.address(*indices)).align = 4


@intrinsic
def load(typing: Any, array: Any, i: Any, j: Any) -> Any:
    """Element (i, j) of a lanes matrix; of a plain matrix (rows, columns) the same number in all lanes."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return Matrix(context, builder, sig.args[0], args[0]).load(args[1], args[2])

    return lanes(array, types.intp, types.intp), emit


@intrinsic
def store(typing: Any, value: Any, array: Any, i: Any, j: Any) -> Any:
    """Write element (i, j) of a lanes matrix."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        Matrix(context, builder, sig.args[1], args[1]).store(args[0], args[2], args[3])
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
        return sum_of_lanes(builder, args[0])

    return types.float32(lanes), emit


def sum_of_lanes(builder: Any, x: Any) -> Any:
    """LLVM's code for the sum over lanes."""
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
        return b.select(b.fcmp_ordered(">", args[1], args[2]), args[0], constant(0.0))

    return lanes(lanes, lanes, lanes), emit


@intrinsic
def sqrt(typing: Any, x: Any) -> Any:
    """Square roots."""
    return lanes(lanes), lambda context, b, sig, args: _call(b, f"llvm.sqrt.v{LANES}f32", VECTOR, args[0])


@intrinsic
def exp(typing: Any, x: Any) -> Any:
    """e^x for x <= 0, to 2 units in the last place; 0 below -87.

    x = r ln 2 + f with an integer r and |f| <= ln 2 / 2; e^f is a polynomial (that of Cephes' expf), and r goes into
    the exponent. Adding 1.5 * 2^23 rounds x / ln 2 to r: the sum's last bits are r.
    """

    def emit(context: Any, b: Any, sig: Any, args: Any) -> Any:
        integers = ir.VectorType(_INT, LANES)
        (x,) = args

        def multiply_add(x: Any, y: Any, z: Any) -> Any:
            return b.fadd(b.fmul(x, y, flags=("contract",)), z, flags=("contract",))

        shifted = multiply_add(x, constant(1.4426950408889634), constant(12582912.0))
        r = b.fsub(shifted, constant(12582912.0))
        f = multiply_add(r, constant(-0.693359375), x)  # ln 2 in two parts, so that f keeps its last digits
        f = multiply_add(r, constant(2.12194440e-4), f)
        p = constant(1.9875691500e-4)
        for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
            p = multiply_add(p, f, constant(c))
        p = b.fadd(multiply_add(b.fmul(f, f), p, f), constant(1.0))
        exponent = b.shl(b.bitcast(shifted, integers), ir.Constant(integers, [23] * LANES))
        result = b.bitcast(b.add(b.bitcast(p, integers), exponent), VECTOR)
        return b.select(b.fcmp_ordered(">", x, constant(-87.0)), result, constant(0.0))

    return lanes(lanes), emit


@njit
def transposed(matrix: Any) -> Any:
    """The transposed matrix, plain or of lanes, as a view."""
    if matrix.ndim == 2:
        return matrix.T
    return matrix.transpose((1, 0, 2))


@njit
def add_to_row(value: Any, row: Any, i: int) -> None:
    """Add to the i-th number of a row, (1, columns, LANES), or the sum of all lanes to that of a plain row."""
    if row.ndim == 3:
        store(load(row, 0, i) + value, row, 0, i)
    else:
        row[0, i] += lanes_sum(value)
