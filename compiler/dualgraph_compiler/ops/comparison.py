"""Comparison, logic and choice: ops whose result, or whose first operand, is bool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import BOOL, FLOAT, INT, bool_, float32
from ..errors import DTypeError, OnnxError
from ..kernels.select import where
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Onnx, Op, broadcast_shapes, op, require_same_dtype
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import Writer, emit
from .pointwise import Pointwise


class Comparison(Pointwise):
    """Broadcasts operands of one dtype; the result is bool."""

    __slots__ = ()
    takes_narrow = True

    def infer(self, *inputs: Any) -> TensorType:
        return Pointwise.infer(self, *inputs).with_dtype(bool_)


class Ordering(Comparison):
    """A comparison of real operands; false where one is NaN."""

    __slots__ = ()
    categories = (BOOL, INT, FLOAT)


@op
class Greater(Ordering):
    """a > b. Source: ONNX Greater-13."""

    onnx = Onnx("Greater", 9)
    ufunc = "greater"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.greater(a, b)


@op
class GreaterEqual(Ordering):
    """a >= b. Source: ONNX GreaterOrEqual-16."""

    onnx = Onnx("GreaterOrEqual", 12)
    ufunc = "greater_equal"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.greater_equal(a, b)


@op
class Less(Ordering):
    """a < b. Source: ONNX Less-13."""

    onnx = Onnx("Less", 9)
    ufunc = "less"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.less(a, b)


@op
class LessEqual(Ordering):
    """a <= b. Source: ONNX LessOrEqual-16."""

    onnx = Onnx("LessOrEqual", 12)
    ufunc = "less_equal"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.less_equal(a, b)


@op
class Equal(Comparison):
    """a == b; NaN equals nothing. Source: ONNX Equal-19."""

    onnx = Onnx("Equal", 7)
    ufunc = "equal"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.equal(a, b)


@op
class NotEqual(Comparison):
    """a != b. Source: ONNX Equal-19 and Not-1."""

    ufunc = "not_equal"

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.not_equal(a, b)

    def to_onnx(self, ctx: Export, a: str, b: str) -> str:
        w = Writer(ctx, ctx.type(a).dtype)
        return w.logical("Not", w("Equal", a, b))


# -- logic: of any dtype, where every value but zero counts as true ------------------------------


def truth(ctx: Export, x: str) -> str:
    """An operand as ONNX bool."""
    dtype = ctx.type(x).dtype
    if dtype.is_complex:
        raise OnnxError("ONNX has no complex arithmetic")
    return x if dtype is bool_ else ctx.emit("Cast", x, to=bool_)


class Logical(Comparison):
    """A connective; exports through bool."""

    __slots__ = ()

    def to_onnx(self, ctx: Export, *inputs: Any) -> str:
        assert self.onnx is not None
        return ctx.emit(self.onnx.name, *(truth(ctx, x) for x in inputs))  # type: ignore[no-any-return]


@op
class LogicalAnd(Logical):
    """a and b. Source: ONNX And-7."""

    onnx = Onnx("And", 7)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logical_and(_truth(xp, a), _truth(xp, b))


@op
class LogicalOr(Logical):
    """a or b. Source: ONNX Or-7."""

    onnx = Onnx("Or", 7)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logical_or(_truth(xp, a), _truth(xp, b))


@op
class LogicalXor(Logical):
    """Exactly one of a and b. Source: ONNX Xor-7."""

    onnx = Onnx("Xor", 7)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logical_xor(_truth(xp, a), _truth(xp, b))


@op
class LogicalNot(Logical):
    """Not x. Source: ONNX Not-1."""

    onnx = Onnx("Not", 1)

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.logical_not(_truth(xp, x))


def _truth(xp: Any, x: Array) -> Array:
    """`x` as an operand of a connective, which CuPy does not have for complex numbers."""
    return x if xp is np or x.dtype.kind != "c" else x != 0


# -- floating-point classes ----------------------------------------------------------------------


class Classification(Comparison):
    """Asks what kind of number each element is; integers are always finite."""

    __slots__ = ()

    def _writer(self, ctx: Export, x: str) -> tuple[Writer, str]:
        """A writer for floats, which alone ONNX asks this of, and the operand as one."""
        dtype = ctx.type(x).dtype
        if dtype.category < FLOAT:
            return Writer(ctx, float32), ctx.emit("Cast", x, to=float32)
        return Writer(ctx, dtype), x

    def to_onnx(self, ctx: Export, x: str) -> str:
        assert self.onnx is not None
        w, x = self._writer(ctx, x)
        return w(self.onnx.name, x)


@op
class Isnan(Classification):
    """Whether x is not a number. Source: ONNX IsNaN-20."""

    onnx = Onnx("IsNaN", 9)
    ufunc = "isnan"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.isnan(x)


@op
class Isinf(Classification):
    """Whether x is plus or minus infinity. Source: ONNX IsInf-20."""

    onnx = Onnx("IsInf", 10)
    ufunc = "isinf"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.isinf(x)


@from_onnx("IsInf")
def _import_isinf(ctx: Import, x: Any) -> Any:
    found = Isinf()(x)
    if not ctx.attr("detect_negative", 1):
        found = found & f.greater(x, 0)
    return found if ctx.attr("detect_positive", 1) else found & f.less(x, 0)


@op
class Isfinite(Classification):
    """Whether x is neither NaN nor infinite. Source: ONNX IsNaN-20 and IsInf-20."""

    ufunc = "isfinite"

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.isfinite(x)

    def to_onnx(self, ctx: Export, x: str) -> str:
        w, x = self._writer(ctx, x)
        return w.logical("Not", w.logical("Or", w("IsNaN", x), w("IsInf", x)))


# -- choice --------------------------------------------------------------------------------------


@op
class Where(Op):
    """`a` where `cond` holds, else `b`; all three broadcast. Source: ONNX Where-16."""

    kind = Kind.POINTWISE
    onnx = Onnx("Where", 9)

    def infer(self, cond: TensorType, a: TensorType, b: TensorType) -> TensorType:
        if cond.dtype is not bool_:
            raise DTypeError(f"where: expected a bool condition, got {cond.dtype.name}")
        dtype = require_same_dtype("where", a, b)
        return TensorType(dtype, broadcast_shapes("where", cond.shape, a.shape, b.shape))

    def eager(self, xp: Any, cond: Array, a: Array, b: Array) -> Array:
        return where(xp, cond, a, b)

    def eager_into(self, xp: Any, out: Array, cond: Array, a: Array, b: Array) -> None:
        where(xp, cond, a, b, out)

    def reusable(self, output: int, n_inputs: int) -> Sequence[int]:
        return (2,)

    def vjp(self, g: Array, _y: Array, cond: Array, _a: Array, _b: Array) -> tuple[Grad, ...]:
        # A choice and not a product: an infinite or NaN `g` stays out of the branch not taken.
        return (
            None,
            lambda: f.unbroadcast(f.where(cond, g, 0), _a.shape),
            lambda: f.unbroadcast(f.where(cond, 0, g), _b.shape),
        )

    def to_onnx(self, ctx: Export, cond: str, a: str, b: str) -> str:
        return emit(ctx, ctx.type(a).dtype, "Where", cond, a, b)
