"""Running sums and products along an axis, and the recurrence that differentiates them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..dtypes import BOOL, bfloat16, float32, int64
from ..errors import DTypeError, ShapeError
from ..kernels import sorting as kernels
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import REGISTRY, Array, Grad, Op, normalize_axis, op, require_same_dtype, shape_text
from .derive import export_formula
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit

if TYPE_CHECKING:
    from ..graph import Value


def _check(name: str, x: TensorType, axis: int) -> TensorType:
    normalize_axis(name, axis, x.ndim)
    if x.dtype.category == BOOL:
        raise DTypeError(f"{name}: cast bool to an integer type first")
    return x


@op
class Cumsum(Op):
    """Running sums along `axis`; x's shape and dtype.

    `reverse` sums from the end; `exclusive` leaves the element itself out, so the first sum is 0.
    Source: ONNX CumSum-14.
    """

    axis: int
    exclusive: bool = False
    reverse: bool = False

    def infer(self, x: TensorType) -> TensorType:
        return _check("cumsum", x, self.axis)

    def eager(self, xp: Any, x: Array) -> Array:
        return kernels.cumsum(xp, x, self.axis, exclusive=self.exclusive, reverse=self.reverse)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (Cumsum(self.axis, self.exclusive, not self.reverse)(g),)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        t = ctx.type(x)
        if t.ndim == 0:
            return ctx.emit("Sub", x, x) if self.exclusive else x
        flags = {"exclusive": int(self.exclusive), "reverse": int(self.reverse)}
        return emit(ctx, t.dtype, "CumSum", x, ctx.constant(self.axis, int64), **flags)


@from_onnx("CumSum")
def _import_cumsum(ctx: Import, x: Any, axis: Any) -> Any:
    (along,) = ctx.ints(axis, "the axis of CumSum")
    along = normalize_axis("CumSum", along, x.ndim)
    return Cumsum(along, bool(ctx.attr("exclusive", 0)), bool(ctx.attr("reverse", 0)))(x)


@op
class Cumprod(Op):
    """Running products along `axis`; x's shape and dtype.

    Source: torch.cumprod; ONNX CumProd-26.
    """

    axis: int

    def infer(self, x: TensorType) -> TensorType:
        return _check("cumprod", x, self.axis)

    def eager(self, xp: Any, x: Array) -> Array:
        return kernels.cumprod(xp, x, self.axis)

    def vjp(self, g: Array, y: Array, x: Array) -> tuple[Grad, ...]:
        if len(x.shape) == 0:
            return (g,)
        # dL/dx_k = (product before k) s_k with s_k = g_k + x_{k+1} s_{k+1}: no division, so zeros
        # among the factors are no special case.
        x, before = f.conj(x), f.conj(shift(y, self.axis, 1, 1))
        later = LinearScan(self.axis, True)(shift(x, self.axis, -1, 0), g)
        return (before * later,)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        t = ctx.type(x)
        if t.ndim == 0:
            return x
        size = t.shape[self.axis]
        if ctx.opset >= 26:
            return emit(ctx, t.dtype, "CumProd", x, ctx.constant(self.axis, int64))
        if not isinstance(size, int):
            return export_formula(ctx, self, x, formula=self._as_scan)
        # Doubling: after step k each element is the product of the 2^(k+1) before and at it.
        axis, reach = ctx.ints(self.axis), 1
        one = ctx.constant(1, t.dtype)
        while reach < size:
            head = ctx.emit("Slice", x, ctx.ints(0), ctx.ints(size - reach), axis)
            pads = [0] * (2 * t.ndim)
            pads[self.axis] = reach
            x = emit(ctx, t.dtype, "Mul", x, ctx.emit("Pad", head, ctx.ints(*pads), one))
            reach *= 2
        return x

    def _as_scan(self, x: Value) -> Array:
        """One product after another, for a size that is not known."""
        dtype = x.dtype
        order = (self.axis, *(i for i in range(x.ndim) if i != self.axis))
        # A loop holds bfloat16 from opset 16 on.
        rows = f.permute(f.cast(x, float32) if dtype is bfloat16 else x, order)
        body = type(x.graph)("cumprod")
        y, row = (body.add_input(rows.type.with_shape(rows.shape[1:])) for _ in "yx")
        y = y * row
        body.set_outputs([y, y], ["y", "ys"])
        scan = REGISTRY["scan"](body, 1, 1, rows.shape[0])
        _, ys = scan(f.full(rows, rows.shape[1:], 1), rows)
        return f.cast(f.permute(ys, tuple(order.index(i) for i in range(x.ndim))), dtype)


@from_onnx("CumProd")
def _import_cumprod(ctx: Import, x: Any, axis: Any) -> Any:
    (along,) = ctx.ints(axis, "the axis of CumProd")
    along = normalize_axis("CumProd", along, x.ndim)
    reverse = bool(ctx.attr("reverse", 0))
    x = f.flip(x, (along,)) if reverse else x
    y = Cumprod(along)(x)
    y = shift(y, along, 1, 1) if ctx.attr("exclusive", 0) else y
    return f.flip(y, (along,)) if reverse else y


def shift(x: Array, axis: int, by: int, fill: float) -> Array:
    """Elements moved `by` (1 or -1) places along `axis`; `fill` enters where one is missing."""
    pads = [(0, 0)] * len(x.shape)
    pads[axis] = (by, -by)
    return f.pad(x, pads, fill) if x.shape[axis] != 0 else x


@op
class LinearScan(Op):
    """The recurrence ``y_t = a_t y_{t-1} + b_t`` along `axis`, from y_{-1} = 0.

    Shapes: a and b of one shape -> the same. `reverse` runs from the end. Closed under
    differentiation: the gradient is the recurrence run the other way.
    """

    axis: int
    reverse: bool = False

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        require_same_dtype("linear_scan", a, b)
        if a.shape != b.shape or a.ndim == 0:
            raise ShapeError(
                "linear_scan: expected two operands of one shape with an axis, got "
                f"{shape_text(a.shape)} and {shape_text(b.shape)}"
            )
        return _check("linear_scan", a, self.axis)

    def eager(self, xp: Any, a: Array, b: Array) -> Array:
        wide = xp.moveaxis(widen(a), self.axis, 0)
        y = xp.moveaxis(xp.array(widen(b)), self.axis, 0)
        steps = range(1, y.shape[0])
        for t in steps:
            at, before = (-1 - t, -t) if self.reverse else (t, t - 1)
            y[at] += wide[at] * y[before]
        return narrow(xp.ascontiguousarray(xp.moveaxis(y, 0, self.axis)), a.dtype)

    def vjp(self, g: Array, y: Array, a: Array, _b: Array) -> tuple[Grad, ...]:
        step = -1 if self.reverse else 1
        back = LinearScan(self.axis, not self.reverse)
        later = back(shift(f.conj(a), self.axis, -step, 0), g)
        return lambda: later * f.conj(shift(y, self.axis, step, 0)), later

    def to_onnx(self, ctx: Export, a: str, b: str) -> Any:
        return export_formula(ctx, self, a, b, formula=self._as_scan)

    def _as_scan(self, a: Value, b: Value) -> Array:
        """The recurrence as a loop over slices."""
        dtype = a.dtype
        if a.size == 0:
            return b
        a, b = (f.cast(x, float32 if dtype.itemsize < 4 else dtype) for x in (a, b))
        order = (self.axis, *(i for i in range(a.ndim) if i != self.axis))
        rows = [f.permute(x, order) for x in (a, b)]
        graph = a.graph
        body = type(graph)("linear_scan")
        y, at, bt = (body.add_input(rows[0].type.with_shape(rows[0].shape[1:])) for _ in "yab")
        y = at * y + bt
        body.set_outputs([y, y], ["y", "ys"])
        start = f.zeros(rows[0], rows[0].shape[1:])
        scan = REGISTRY["scan"](body, 1, 2, rows[0].shape[0], self.reverse)
        _, ys = scan(start, *rows)
        return f.cast(f.permute(ys, tuple(order.index(i) for i in range(a.ndim))), dtype)
