"""What has been met so far along an axis, besides sums and products (see :mod:`.cumulative`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dtypes import FLOAT, bool_, float32, int32, int64
from ..errors import DTypeError, OnnxError
from ..kernels import running as kernels
from ..types import TensorType
from . import f
from .base import REGISTRY, Array, Grad, Op, normalize_axis, op
from .creation import Arange
from .cumulative import LinearScan, shift
from .derive import export_formula
from .onnx_rules import Export
from .unary import Log1p

if TYPE_CHECKING:
    from ..graph import Value


class _RunningPosition(Op):
    """The int64 index of the extreme element up to each one along `axis`."""

    __slots__ = ()
    axis: int

    def infer(self, x: TensorType) -> TensorType:
        normalize_axis(self.name, self.axis, x.ndim)
        if x.dtype.is_complex or x.dtype.is_narrow:
            raise DTypeError(f"{self.name}: {x.dtype.name} numbers have no order")
        return x.with_dtype(int64)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        return export_formula(ctx, self, x, formula=self._as_scan)

    def _better(self, new: Value, held: Value) -> Array:
        """Whether a new element takes the place of the one held."""
        raise NotImplementedError

    def _as_scan(self, x: Value) -> Array:
        """The search as a loop over slices."""
        graph = x.graph
        if x.ndim == 0:
            return graph.constant(np.zeros((), np.int64))
        if x.size == 0:
            return f.cast(x, int64)
        x = f.cast(x, int32) if x.dtype is bool_ else x
        rows = _rows(x, self.axis)
        size = rows.shape[0]
        places = graph.call(Arange(0, size, 1, int64), ())
        body = type(graph)(self.name)
        held, at, new = (
            body.add_input(TensorType(dtype, rows.shape[1:]), name)
            for name, dtype in (("held", rows.dtype), ("at", int64), ("new", rows.dtype))
        )
        place = body.add_input(TensorType(int64, ()), "place")
        first = f.logical_or(f.less(at, 0), f.not_equal(new, new))
        taken = f.logical_or(first, self._better(new, held))
        held, at = f.where(taken, new, held), f.where(taken, place, at)
        body.set_outputs([held, at, at], ["held", "at", "found"])
        nowhere = f.full(f.cast(rows, int64), rows.shape[1:], -1)
        scan = REGISTRY["scan"](body, 2, 2, size)
        _, _, found = scan(f.zeros(rows, rows.shape[1:]), nowhere, rows, places)
        return f.permute(found, _back(x.ndim, self.axis))


def _rows(x: Array, axis: int) -> Array:
    """`x` with `axis` in front, in a type that loops hold."""
    wide = f.cast(x, float32) if x.dtype.category == FLOAT and x.dtype.itemsize < 4 else x
    return f.permute(wide, (axis, *(i for i in range(x.ndim) if i != axis)))


def _back(ndim: int, axis: int) -> tuple[int, ...]:
    """The permutation that undoes that of `_rows`."""
    order = (axis, *(i for i in range(ndim) if i != axis))
    return tuple(order.index(i) for i in range(ndim))


@op
class RunningArgMax(_RunningPosition):
    """Where the largest element up to each one along `axis` is; the last of equal ones or NaN.

    Shapes: x -> int64 of x's shape. Source: torch.cummax.
    """

    axis: int

    def eager(self, xp: Any, x: Array) -> Array:
        return kernels.argmax(xp, x, self.axis)

    def _better(self, new: Value, held: Value) -> Array:
        return f.greater_equal(new, held)


@op
class RunningArgMin(_RunningPosition):
    """Where the smallest element up to each one along `axis` is; the last of equal ones or NaN.

    Shapes: x -> int64 of x's shape. Source: torch.cummin.
    """

    axis: int

    def eager(self, xp: Any, x: Array) -> Array:
        return kernels.argmax(xp, x, self.axis, smallest=True)

    def _better(self, new: Value, held: Value) -> Array:
        return f.less_equal(new, held)


@op
class LogCumsumExp(Op):
    """log of the running sums of exp(x) along `axis`; x's shape and dtype.

    Source: torch.logcumsumexp.
    """

    axis: int

    def infer(self, x: TensorType) -> TensorType:
        normalize_axis("log_cumsum_exp", self.axis, x.ndim)
        if not x.dtype.is_differentiable:
            raise DTypeError(
                f"log_cumsum_exp: expected a floating-point operand, got {x.dtype.name}"
            )
        return x

    def eager(self, xp: Any, x: Array) -> Array:
        return kernels.logcumsumexp(xp, x, self.axis)

    def vjp(self, g: Array, y: Array, x: Array) -> tuple[Grad, ...]:
        if len(x.shape) == 0:
            return (g,)
        # dL/dx_k = exp(x_k - y_k) s_k with s_k = g_k + exp(y_k - y_{k+1}) s_{k+1}: no factor is
        # above 1.
        x, y = f.conj(x), f.conj(y)
        kept = _ratio(y, shift(y, self.axis, -1, 0))
        later = LinearScan(self.axis, True)(kept, g)
        return (_ratio(x, y) * later,)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        if ctx.type(x).dtype.is_complex:
            raise OnnxError("log_cumsum_exp: ONNX has no arithmetic on complex numbers")
        return export_formula(ctx, self, x, formula=self._as_scan)

    def _as_scan(self, x: Value) -> Array:
        """One sum of two after another."""
        if x.ndim == 0 or x.size == 0:
            return x
        rows = _rows(x, self.axis)
        shape = rows.shape[1:]
        body = type(x.graph)("log_cumsum_exp")
        y, row = (body.add_input(rows.type.with_shape(shape), name) for name in ("y", "row"))
        larger = f.where(f.greater(y, row), y, row)
        gap = f.where(f.equal(y, row), 0, f.abs(y - row))
        y = larger + Log1p()(f.exp(-gap))
        # The sum of nothing and nothing; what is infinite stays; NaN is not larger than anything.
        y = f.where(f.equal(f.abs(larger), math.inf), larger, y)
        body.set_outputs([y, y], ["y", "ys"])
        scan = REGISTRY["scan"](body, 1, 1, rows.shape[0])
        _, ys = scan(f.full(rows, shape, -math.inf), rows)
        return f.cast(f.permute(ys, _back(x.ndim, self.axis)), x.dtype)


def _ratio(a: Array, b: Array) -> Array:
    """exp(a - b), and 0 where a is minus infinity."""
    nothing = f.equal(f.real(a), -math.inf)
    gap = f.where(nothing, 0, a - b)
    return f.where(nothing, 0, f.exp(f.where(f.equal(a, b), 0, gap)))
