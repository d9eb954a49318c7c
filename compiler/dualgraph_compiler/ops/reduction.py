"""Reductions: ops that fold axes.

Axes are non-negative and sorted, the front end sees to that; folding no axes is the identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ..dims import product
from ..dtypes import BOOL, COMPLEX, FLOAT, INT, bool_, dtype_of, int64
from ..errors import DTypeError, IndexOutOfRange, ShapeError
from ..kernels import activations
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Op, normalize_axes, op, shape_text
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import Writer
from .pointwise import CATEGORY_NAMES


def reduced_shape(t: TensorType, axes: tuple[int, ...], keepdims: bool, name: str) -> TensorType:
    """`t` without `axes`, or with size 1 there."""
    if axes and not t.ndim:
        raise IndexOutOfRange(f"{name}: a 0-d operand has no dimension {axes[0]} to reduce")
    axes = normalize_axes(name, axes, t.ndim)
    if keepdims:
        return t.with_shape(1 if i in axes else d for i, d in enumerate(t.shape))
    return t.with_shape(d for i, d in enumerate(t.shape) if i not in axes)


def restore(x: Array, axes: tuple[int, ...], keepdims: bool, ndim: int) -> Array:
    """A reduced `x` that broadcasts against what it was reduced from: its axes back as size 1."""
    if keepdims or not axes or axes[-1] == len(axes) - 1:  # leading axes come back by themselves
        return x
    rest = iter(x.shape)
    return f.reshape(x, tuple(1 if i in axes else next(rest) for i in range(ndim)))


class Reduction(Op):
    """Folds `axes`; the dtype, one of `categories`, stays."""

    __slots__ = ()
    kind = Kind.REDUCTION
    axes: tuple[int, ...]
    keepdims: bool
    categories: ClassVar[tuple[int, ...]] = (INT, FLOAT, COMPLEX)

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype.category not in self.categories:
            wanted = " or ".join(CATEGORY_NAMES[c] for c in self.categories)
            hint = "; cast bool to an integer type first" if x.dtype is bool_ else ""
            raise DTypeError(f"{self.name}: expected {wanted} elements, got {x.dtype.name}{hint}")
        return reduced_shape(x, self.axes, self.keepdims, self.name)

    def _emit(self, ctx: Export, op_type: str, x: str, w: Writer | None = None) -> str:
        """The ONNX reduction `op_type` over our axes of `x`."""
        w = w or Writer(ctx, ctx.type(x).dtype)
        if not self.axes:
            return x
        # ReduceSum takes its axes as an operand since opset 13, the others since 18.
        if ctx.opset >= 18 or op_type == "ReduceSum":
            return w(op_type, x, ctx.ints(*self.axes), keepdims=int(self.keepdims))
        return w(op_type, x, axes=self.axes, keepdims=int(self.keepdims))

    def _spread(self, g: Array, x: Array) -> Array:
        """A gradient of the result, repeated over the axes that were folded."""
        if g.ndim:
            g = restore(g, self.axes, self.keepdims, x.ndim)
        return f.expand(g, x.shape)


@op
class Sum(Reduction):
    """Sum over `axes`; narrow floats are added up in float32.

    Shapes: x (d0..dn) -> x without `axes` (size 1 where `keepdims`); the dtype of x, which is not
    bool. Source: ONNX ReduceSum-13.
    """

    axes: tuple[int, ...]
    keepdims: bool = False

    def eager(self, xp: Any, x: Array) -> Array:
        dtype = x.dtype
        if dtype.itemsize > 2 or dtype.kind in "iub":  # dtype: NumPy would widen small integers
            return xp.add.reduce(x, self.axes, dtype, None, self.keepdims)
        return narrow(xp.add.reduce(widen(x), axis=self.axes, keepdims=self.keepdims), dtype)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (self._spread(g, _x),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        return self._emit(ctx, "ReduceSum", x)


@op
class Mean(Reduction):
    """The mean over `axes`; NaN over no elements. Source: ONNX ReduceMean-18."""

    axes: tuple[int, ...]
    keepdims: bool = False
    categories: ClassVar[tuple[int, ...]] = (FLOAT, COMPLEX)

    def eager(self, xp: Any, x: Array) -> Array:
        wide = widen(x)
        count = math.prod(x.shape[a] for a in self.axes)
        total = xp.add.reduce(wide, axis=self.axes, keepdims=self.keepdims)
        return narrow(xp.true_divide(total, wide.dtype.type(count)), x.dtype)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        spread = self._spread(g, _x)
        return (spread / f.count(spread, self.axes),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        return self._emit(ctx, "ReduceMean", x)


@op
class Prod(Reduction):
    """The product over `axes`; 1 over no elements. Source: ONNX ReduceProd-18."""

    axes: tuple[int, ...]
    keepdims: bool = False

    def eager(self, xp: Any, x: Array) -> Array:
        wide = widen(x)
        out = xp.multiply.reduce(wide, axis=self.axes, dtype=wide.dtype, keepdims=self.keepdims)
        return narrow(out, x.dtype)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: self._spread(g, x) * f.conj(self._others(x)),)

    def _others(self, x: Array) -> Array:
        """For each element, the product of the others that it is multiplied with."""
        kept = [a for a in range(x.ndim) if a not in self.axes]
        order = (*kept, *self.axes)
        moved = f.permute(x, order)
        shape = tuple(moved.shape)
        n = product(shape[len(kept) :])
        others = ProdOthers()(f.reshape(moved, (*shape[: len(kept)], n)))
        back = tuple(order.index(a) for a in range(x.ndim))
        return f.permute(f.reshape(others, shape), back)

    def to_onnx(self, ctx: Export, x: str) -> str:
        return self._emit(ctx, "ReduceProd", x)


@op
class ProdOthers(Op):
    """Along the last axis, for each element the product of all the others; exact at zeros.

    Shapes: x (..., n) -> (..., n). It is the derivative of Prod.
    """

    def infer(self, x: TensorType) -> TensorType:
        if x.ndim == 0:
            raise ShapeError("prod_others: expected at least one dimension")
        return x

    def eager(self, xp: Any, x: Array) -> Array:
        wide = widen(x)
        one = xp.ones((*x.shape[:-1], 1), wide.dtype)
        before = xp.concatenate([one, wide[..., :-1]], -1)[..., : x.shape[-1]]
        after = xp.concatenate([wide[..., 1:], one], -1)[..., : x.shape[-1]]
        left = xp.cumprod(before, -1, dtype=wide.dtype)
        right = xp.cumprod(after[..., ::-1], -1, dtype=wide.dtype)[..., ::-1]
        return narrow(left * right, x.dtype)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        # Row i holds x with element i replaced by 1, so that y[i] is the product of row i; what
        # reaches an element is the sum over the rows it stands in.
        return (lambda: self._grad(g, x),)

    def _grad(self, g: Array, x: Array) -> Array:
        rows, diagonal = self._rows(x)
        grads = f.reshape(g, (*g.shape, 1)) * f.conj(ProdOthers()(rows))
        return f.sum(f.where(diagonal, 0, grads), (x.ndim - 1,))

    def decompose(self, x: Array) -> Array:
        rows, _ = self._rows(x)
        return Prod((x.ndim,))(rows)

    def _rows(self, x: Array) -> tuple[Array, Array]:
        n = x.shape[-1]
        diagonal = f.diagonal_mask(x, n)
        rows = f.expand(f.reshape(x, (*x.shape[:-1], 1, n)), (*x.shape, n))
        return f.where(diagonal, 1, rows), diagonal

    def to_onnx(self, ctx: Export, x: str) -> str:
        t = ctx.type(x)
        w = Writer(ctx, t.dtype)
        n = t.shape[-1]
        eye = ctx.emit("EyeLike", ctx.emit("Expand", ctx.constant(0, int64), ctx.shape((n, n))))
        eye = ctx.emit("Cast", eye, to=bool_)
        rows = ctx.emit("Unsqueeze", x, ctx.ints(t.ndim - 1))
        rows = w("Where", eye, w.number(1), rows)
        return Prod((t.ndim,))._emit(ctx, "ReduceProd", rows, w)


class Peak(Reduction):
    """The largest or smallest element; NaN wins, and ties share the gradient evenly."""

    __slots__ = ()
    categories = (BOOL, INT, FLOAT)

    def infer(self, x: TensorType) -> TensorType:
        if any(x.shape[a] == 0 for a in normalize_axes(self.name, self.axes, x.ndim)):
            raise ShapeError(
                f"{self.name}: expected the reduced dimensions {self.axes} to have non-zero size, "
                f"got shape {shape_text(x.shape)}"
            )
        return Reduction.infer(self, x)

    def _grad(self, g: Array, y: Array, x: Array) -> Array:
        hits = f.equal(x, restore(y, self.axes, self.keepdims, x.ndim))
        hits = f.cast(hits, dtype_of(x))
        ties = f.sum(hits, self.axes, True)
        return hits * (restore(g, self.axes, self.keepdims, x.ndim) / ties)


@op
class Max(Peak):
    """The largest element over `axes`. Source: ONNX ReduceMax-20; PyTorch amax."""

    axes: tuple[int, ...]
    keepdims: bool = False

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.max(x, axis=self.axes, keepdims=self.keepdims)

    def vjp(self, g: Array, y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: self._grad(g, y, x),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        return self._emit(ctx, "ReduceMax", x)


@op
class Min(Peak):
    """The smallest element over `axes`. Source: ONNX ReduceMin-20; PyTorch amin."""

    axes: tuple[int, ...]
    keepdims: bool = False

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.min(x, axis=self.axes, keepdims=self.keepdims)

    def vjp(self, g: Array, y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: self._grad(g, y, x),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        return self._emit(ctx, "ReduceMin", x)


@op
class LogSumExp(Reduction):
    """log(sum(exp(x))) over `axes`, without overflow. Source: ONNX ReduceLogSumExp-18."""

    axes: tuple[int, ...]
    keepdims: bool = False
    categories: ClassVar[tuple[int, ...]] = (FLOAT,)

    def eager(self, xp: Any, x: Array) -> Array:
        if not self.axes:
            return x.copy()
        return activations.logsumexp(xp, x, self.axes, self.keepdims)

    def vjp(self, g: Array, y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: self._grad(g, y, x),)

    def _grad(self, g: Array, y: Array, x: Array) -> Array:
        share = f.exp(x - restore(y, self.axes, self.keepdims, x.ndim))
        return restore(g, self.axes, self.keepdims, x.ndim) * share

    def to_onnx(self, ctx: Export, x: str) -> str:
        return self._emit(ctx, "ReduceLogSumExp", x)


@op
class NumElements(Op):
    """The number of elements along `axes` of x, as a 0-d tensor of x's dtype.

    How a gradient rule divides by a size that is symbolic while tracing.
    """

    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        normalize_axes(self.name, self.axes, x.ndim)
        return x.with_shape(())

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.asarray(math.prod(x.shape[a] for a in self.axes)).astype(x.dtype)

    def to_onnx(self, ctx: Export, x: str) -> str:
        t = ctx.type(x)
        size = ctx.dim(product(tuple(t.shape[a] for a in self.axes)))
        return size if t.dtype is int64 else ctx.emit("Cast", size, to=t.dtype)


# -- import ---------------------------------------------------------------------------------------


def _import_as(build: Callable[[Any, tuple[int, ...], bool], Any]) -> Callable[..., Any]:
    """The rule of an ONNX reduction: axes are an operand, and all of them where it is absent."""

    def rule(ctx: Import, x: Any, axes: Any = None) -> Any:
        given = () if axes is None else ctx.ints(axes, "the axes of a reduction")
        if not given and not ctx.attr("noop_with_empty_axes", 0):
            given = tuple(range(x.ndim))
        return build(x, normalize_axes("reduction", given, x.ndim), bool(ctx.attr("keepdims", 1)))

    return rule


def _fold(cls: Callable[..., Op]) -> Callable[[Any, tuple[int, ...], bool], Any]:
    return lambda x, axes, keepdims: cls(axes, keepdims)(x) if axes else x


def _peak(cls: Callable[..., Op], lowest: bool) -> Callable[[Any, tuple[int, ...], bool], Any]:
    """Over no elements ONNX gives the least (greatest) number of the type; PyTorch refuses."""
    fold = _fold(cls)

    def build(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        if all(x.shape[a] != 0 for a in axes):
            return fold(x, axes, keepdims)
        if x.dtype.category == FLOAT:
            value: float = -math.inf if lowest else math.inf
        elif x.dtype is bool_:
            value = not lowest
        else:
            value = int(np.iinfo(x.dtype.np).min if lowest else np.iinfo(x.dtype.np).max)
        shape = reduced_shape(x.type, axes, keepdims, "peak").shape
        return f.expand(f.like(x, value), shape)

    return build


_sum = _fold(Sum)
_RULES: dict[str, Callable[[Any, tuple[int, ...], bool], Any]] = {
    "ReduceSum": _sum,
    "ReduceMean": _fold(Mean),
    "ReduceProd": _fold(Prod),
    "ReduceMax": _peak(Max, lowest=True),
    "ReduceMin": _peak(Min, lowest=False),
    "ReduceLogSumExp": _fold(LogSumExp),
    "ReduceL1": lambda x, axes, keep: _sum(f.abs(x), axes, keep),
    "ReduceL2": lambda x, axes, keep: f.sqrt(_sum(x * x, axes, keep)),
    "ReduceLogSum": lambda x, axes, keep: f.log(_sum(x, axes, keep)),
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
}
for _name, _build in _RULES.items():
    from_onnx(_name)(_import_as(_build))
