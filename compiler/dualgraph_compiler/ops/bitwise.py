"""Operations on the bits of integers; on bool they are the logical ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import BOOL, INT, DType, int64
from .base import Array, Onnx, op
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import Writer, emit
from .pointwise import Pointwise


class Bitwise(Pointwise):
    """Integer or bool operands of one dtype."""

    __slots__ = ()
    categories = (BOOL, INT)

    def to_onnx(self, ctx: Export, *inputs: Any) -> str:
        assert self.onnx is not None
        dtype = ctx.type(inputs[0]).dtype
        logical = dtype.category == BOOL
        name = self.onnx.name.removeprefix("Bitwise") if logical else self.onnx.name
        if not logical and ctx.opset < self.onnx.since:
            return self._in_arithmetic(ctx, dtype, *inputs)
        return emit(ctx, dtype, name, *inputs)

    def _in_arithmetic(self, ctx: Export, dtype: DType, a: str, b: str = "") -> str:
        """The op by sums: ``a + b = (a ^ b) + 2 (a & b) = (a | b) + (a & b)``."""
        w = Writer(ctx, int64)
        a, b = (x and (x if dtype is int64 else ctx.emit("Cast", x, to=int64)) for x in (a, b))
        if not b:
            limit = -1 if dtype.is_signed else 2 ** (8 * dtype.itemsize) - 1
            y = w("Sub", w.number(limit if dtype.itemsize < 8 else -1), a)
        else:
            y = _common_bits(w, a, b)
            if self.name != "bitwise_and":
                twice = self.name == "bitwise_xor"
                y = w("Sub", w("Add", a, b), w("Add", y, y) if twice else y)
        return y if dtype is int64 else ctx.emit("Cast", y, to=dtype)


def _common_bits(w: Writer, a: str, b: str) -> str:
    """The bits that two int64 operands share, in halves of 32: those are no signed numbers."""
    half = w.number(2**32)
    powers = w.ctx.constant(2 ** np.arange(32, dtype=np.int64))
    two, last = w.number(2), w.ctx.ints(-1)

    def split(x: str) -> tuple[str, str]:
        low = w("Mod", x, half)
        return w("Mod", w("Div", w("Sub", x, low), half), half), low

    def bits(x: str) -> str:
        return w("Mod", w("Div", w("Unsqueeze", x, last), powers), two)

    (high, low) = (
        w("MatMul", w("Mul", bits(p), bits(q)), powers)
        for p, q in zip(split(a), split(b), strict=True)
    )
    # The highest bit counts -2^31 in a signed half.
    sign = w("Mul", w("Div", high, w.number(2**31)), half)
    return w("Add", w("Mul", w("Sub", high, sign), half), low)


@op
class BitwiseAnd(Bitwise):
    """Bits set in both. Source: ONNX BitwiseAnd-18."""

    onnx = Onnx("BitwiseAnd", 18)
    ufunc = "bitwise_and"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.bitwise_and(a, b)


@op
class BitwiseOr(Bitwise):
    """Bits set in either. Source: ONNX BitwiseOr-18."""

    onnx = Onnx("BitwiseOr", 18)
    ufunc = "bitwise_or"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.bitwise_or(a, b)


@op
class BitwiseXor(Bitwise):
    """Bits set in one of the two. Source: ONNX BitwiseXor-18."""

    onnx = Onnx("BitwiseXor", 18)
    ufunc = "bitwise_xor"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.bitwise_xor(a, b)


@op
class BitwiseNot(Bitwise):
    """Every bit turned over. Source: ONNX BitwiseNot-18."""

    onnx = Onnx("BitwiseNot", 18)
    ufunc = "invert"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.invert(x)


class Shift(Pointwise):
    """Moves the bits of integers. An amount that is negative or too large moves them all out."""

    __slots__ = ()
    categories = (INT,)

    def _amount(self, xp: Any, a: Array, b: Array) -> tuple[Array, Array]:
        """The amount, made safe, and whether it is within the width."""
        bits = a.dtype.itemsize * 8
        fits = (b >= 0) & (b < bits) if a.dtype.kind == "i" else b < bits
        return xp.where(fits, b, b.dtype.type(0)), fits


@op
class ShiftLeft(Shift):
    """a * 2**b, wrapping. Source: ONNX BitShift-11 (unsigned only there); PyTorch `<<`."""

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        amount, fits = self._amount(xp, a, b)
        return xp.where(fits, xp.left_shift(a, amount), a.dtype.type(0))

    def to_onnx(self, ctx: Export, a: str, b: str) -> str:
        dtype = ctx.type(a).dtype
        if not dtype.is_signed:
            return emit(ctx, dtype, "BitShift", a, b, direction="LEFT")
        return _by_powers(ctx, a, b, "Mul")


@op
class ShiftRight(Shift):
    """floor(a / 2**b). Source: ONNX BitShift-11 (unsigned only there); PyTorch `>>`."""

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        amount, fits = self._amount(xp, a, b)
        empty = xp.where(a < 0, ~a.dtype.type(0), a.dtype.type(0))
        return xp.where(fits, xp.right_shift(a, amount), empty)

    def to_onnx(self, ctx: Export, a: str, b: str) -> str:
        dtype = ctx.type(a).dtype
        if not dtype.is_signed:
            return emit(ctx, dtype, "BitShift", a, b, direction="RIGHT")
        return _by_powers(ctx, a, b, "Div")


def _by_powers(ctx: Export, a: str, b: str, op_type: str) -> str:
    """A shift of signed integers, which ONNX lacks, through int64 products with powers of two."""
    dtype = ctx.type(a).dtype
    w = Writer(ctx, int64)
    wide, amount = (x if dtype is int64 else ctx.emit("Cast", x, to=int64) for x in (a, b))
    power = w("Pow", w.number(2), amount)
    if op_type == "Div":  # of what is divisible, so that rounding towards zero does not matter
        wide = w("Sub", wide, w("Mod", wide, power))
    result = w(op_type, wide, power)
    return result if dtype is int64 else ctx.emit("Cast", result, to=dtype)


@from_onnx("BitShift")
def _import_shift(ctx: Import, a: Any, b: Any) -> Any:
    return (ShiftLeft() if ctx.attr("direction") == "LEFT" else ShiftRight())(a, b)
