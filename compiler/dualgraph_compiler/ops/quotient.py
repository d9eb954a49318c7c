"""Division that rounds, and its remainders, with PyTorch's rules for signs and zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import FLOAT, INT
from ..errors import ArgumentError
from . import f
from .base import Array, Grad, Onnx, op
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import Writer, emit
from .pointwise import Div, Pointwise


def _refuse_zero(name: str, xp: Any, b: Array) -> None:
    """Integer division by zero is an error on the CPU; a GPU is not asked, as it would wait."""
    if xp is np and b.dtype.kind in "iu" and not np.all(b):
        raise ArgumentError(f"{name}: integer division by zero")


@op
class FloorDiv(Pointwise):
    """floor(a / b), exact also where a / b rounds; integers stay integers, b = 0 is refused.

    The gradient is zero. Source: PyTorch floor_divide; ONNX Div-14 and Floor-13.
    """

    categories = (INT, FLOAT)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        _refuse_zero(self.name, xp, b)
        return xp.floor_divide(a, b)

    def vjp(self, g: Array, _y: Array, _a: Array, _b: Array) -> tuple[Grad, ...]:
        return lambda: f.zeros(g, _a.shape), lambda: f.zeros(g, _b.shape)

    def to_onnx(self, ctx: Export, a: str, b: str) -> str:
        w = Writer(ctx, ctx.type(a).dtype)
        if w.dtype.category == INT and not w.dtype.is_signed:
            return w("Div", a, b)
        if w.dtype.category == INT:
            return w("Div", w("Sub", a, w("Mod", a, b)), b)
        # Round(...) would do, but only Floor says what is meant: a - mod(a, b) is a multiple of b.
        quotient = w("Div", w("Sub", a, _python_mod(w, a, b)), b)
        nearest = w("Round", quotient)
        by_zero = w("Equal", b, w.number(0))
        return w("Where", by_zero, w("Div", a, b), nearest)


@op
class TruncDiv(Pointwise):
    """a / b rounded towards zero; integers stay integers, b = 0 is refused.

    The gradient is zero. Source: PyTorch div(rounding_mode="trunc").
    """

    categories = (INT, FLOAT)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        if a.dtype.kind not in "iu":
            return xp.trunc(xp.true_divide(a, b))
        _refuse_zero(self.name, xp, b)
        return xp.floor_divide(a - xp.fmod(a, b), b)

    def vjp(self, g: Array, _y: Array, _a: Array, _b: Array) -> tuple[Grad, ...]:
        return lambda: f.zeros(g, _a.shape), lambda: f.zeros(g, _b.shape)

    def to_onnx(self, ctx: Export, a: str, b: str) -> str:
        w = Writer(ctx, ctx.type(a).dtype)
        quotient = w("Div", a, b)  # on integers ONNX rounds towards zero
        return quotient if w.dtype.category == INT else emit_trunc(w, quotient)


@op
class Remainder(Pointwise):
    """a - b * floor(a / b): the sign of b, as Python's %. Integers refuse b = 0.

    Source: PyTorch remainder; ONNX Mod-13 on integers.
    """

    categories = (INT, FLOAT)
    onnx = Onnx("Mod", 10)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        _refuse_zero(self.name, xp, b)
        return xp.remainder(a, b)

    def vjp(self, g: Array, _y: Array, a: Array, b: Array) -> tuple[Grad, ...]:
        return (
            lambda: f.unbroadcast(g, a.shape),
            lambda: f.unbroadcast(-g * FloorDiv()(a, b), b.shape),
        )

    def to_onnx(self, ctx: Export, a: str, b: str) -> str:
        w = Writer(ctx, ctx.type(a).dtype)
        return w("Mod", a, b) if w.dtype.category == INT else _python_mod(w, a, b)


@op
class Fmod(Pointwise):
    """a - b * trunc(a / b): the sign of a, as C's fmod. Source: ONNX Mod-13 with fmod=1."""

    categories = (INT, FLOAT)
    onnx = Onnx("Mod", 10)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        _refuse_zero(self.name, xp, b)
        return xp.fmod(a, b)

    def vjp(self, g: Array, _y: Array, a: Array, b: Array) -> tuple[Grad, ...]:
        return (
            lambda: f.unbroadcast(g, a.shape),
            lambda: f.unbroadcast(-g * TruncDiv()(a, b), b.shape),
        )

    def to_onnx(self, ctx: Export, a: str, b: str) -> str:
        return emit(ctx, ctx.type(a).dtype, "Mod", a, b, fmod=1)


@from_onnx("Mod")
def _import_mod(ctx: Import, a: Any, b: Any) -> Any:
    return Fmod()(a, b) if ctx.attr("fmod", 0) else Remainder()(a, b)


@from_onnx("Div")
def _import_div(ctx: Import, a: Any, b: Any) -> Any:
    return Div()(a, b) if a.dtype.is_differentiable else TruncDiv()(a, b)


def _python_mod(w: Writer, a: str, b: str) -> str:
    """Floating-point a % b with the sign of b, from ONNX's fmod."""
    mod = w("Mod", a, b, fmod=1)
    zero = w.number(0)
    opposite = w.logical("Xor", w("Less", mod, zero), w("Less", b, zero))
    moved = w.logical("And", opposite, w.logical("Not", w("Equal", mod, zero)))
    return w("Where", moved, w("Add", mod, b), mod)


def emit_trunc(w: Writer, x: str) -> str:
    """Rounding towards zero: the floor of |x| with the sign of x."""
    return w("Where", w("Less", x, w.number(0)), w("Ceil", x), w("Floor", x))
