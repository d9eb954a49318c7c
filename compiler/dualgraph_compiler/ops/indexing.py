"""Reading and writing along one axis by an index tensor: gathers and scatters.

Indices are int64 and may be negative (counted from the end); one out of range is an
IndexOutOfRange when the op runs. See :mod:`.advanced_indexing` for several index tensors at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..dims import DimLike, Shape
from ..dtypes import BOOL, COMPLEX, dtype_of, int64
from ..errors import ArgumentError, DTypeError, IndexOutOfRange, OnnxError, ShapeError
from ..kernels import indexing as kernels
from ..types import TensorType
from . import f
from .base import REGISTRY, Array, Grad, Op, normalize_axis, op, require_same_dtype, shape_text
from .creation import Arange, DimValue
from .derive import export_formula
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit
from .quotient import Remainder

if TYPE_CHECKING:
    from ..graph import Value


def checked(name: str, kernel: Callable[..., Array], *args: Any, **options: Any) -> Array:
    """The kernel's result, its IndexError raised as IndexOutOfRange naming the op."""
    try:
        return kernel(*args, **options)
    except IndexError as error:
        raise IndexOutOfRange(f"{name}: {error}") from None


def require_index(name: str, *indices: TensorType) -> None:
    """Raise DTypeError unless all are int64."""
    for t in indices:
        if t.dtype is not int64:
            raise DTypeError(f"{name}: expected an int64 index, got {t.dtype.name}")


class _Along(Op):
    """Works along `axis` with an index of as many axes as x."""

    __slots__ = ()
    axis: int

    def check(self, x: TensorType, index: TensorType) -> None:
        """Raise unless `index` selects from x along the axis."""
        require_index(self.name, index)
        normalize_axis(self.name, self.axis, x.ndim)
        if index.ndim != x.ndim:
            raise ShapeError(
                f"{self.name}: expected an index with as many axes as {shape_text(x.shape)}, got "
                f"{shape_text(index.shape)}"
            )
        for i, (n, d) in enumerate(zip(index.shape, x.shape, strict=True)):
            if i != self.axis and isinstance(n, int) and isinstance(d, int) and n > d:
                raise ShapeError(
                    f"{self.name}: index {shape_text(index.shape)} exceeds "
                    f"{shape_text(x.shape)} in dimension {i}; it may do so in {self.axis} only"
                )


@op
class Gather(_Along):
    """``y[i][j] = x[index[i][j]][j]`` (for axis 0).

    Shapes: x [d0..dn], index of as many axes, no larger except along `axis` -> index's shape.
    Source: ONNX GatherElements-13, torch.gather.
    """

    axis: int

    def infer(self, x: TensorType, index: TensorType) -> TensorType:
        self.check(x, index)
        return x.with_shape(index.shape)

    def eager(self, xp: Any, x: Array, index: Array) -> Array:
        return checked("gather", kernels.gather, xp, x, self.axis, index, negative=True)

    def vjp(self, g: Array, _y: Array, _x: Array, index: Array) -> tuple[Grad, ...]:
        return ScatterAdd(self.axis)(f.zeros(g, tuple(_x.shape)), index, g), None

    def to_onnx(self, ctx: Export, x: str, index: str) -> Any:
        if ctx.type(x).ndim == 0:
            return ctx.emit("Identity", x)
        return ctx.emit("GatherElements", x, index, axis=self.axis)


@from_onnx("GatherElements")
def _import_gather(ctx: Import, x: Any, index: Any) -> Any:
    axis = normalize_axis("GatherElements", ctx.attr("axis", 0), x.ndim)
    return Gather(axis)(x, f.cast(index, int64))


class _Scattering(_Along):
    """Writes `src`, of index's shape, into a copy of x."""

    __slots__ = ()

    def infer(self, x: TensorType, index: TensorType, src: TensorType) -> TensorType:
        require_same_dtype(self.name, x, src)
        self.check(x, index)
        if src.shape != index.shape:
            raise ShapeError(
                f"{self.name}: expected a source of the index's shape "
                f"{shape_text(index.shape)}, got {shape_text(src.shape)}"
            )
        return x


@op
class ScatterAdd(_Scattering):
    """A copy of x with ``y[index[i][j]][j] += src[i][j]`` (for axis 0).

    Shapes as Scatter's. Source: ONNX ScatterElements-18 with reduction "add", torch.scatter_add.
    """

    axis: int

    def eager(self, xp: Any, x: Array, index: Array, src: Array) -> Array:
        return checked(
            "scatter_add",
            kernels.scatter_add,
            xp,
            xp.asarray(x),
            self.axis,
            index,
            src,
            negative=True,
        )

    def vjp(self, g: Array, _y: Array, _x: Array, index: Array, _src: Array) -> tuple[Grad, ...]:
        return g, None, lambda: Gather(self.axis)(g, index)

    def to_onnx(self, ctx: Export, x: str, index: str, src: str) -> Any:
        if ctx.type(x).ndim == 0:
            return ctx.emit("Add", x, src)
        if ctx.opset < 16:
            return export_formula(ctx, self, x, index, src, formula=self._in_turn)
        return ctx.emit("ScatterElements", x, index, src, axis=self.axis, reduction="add")

    def _in_turn(self, x: Value, index: Value, src: Value) -> Array:
        """The sums by positions in all axes, for which there is a form without `reduction`."""
        columns = []
        for axis, size in enumerate(index.shape):
            own = (*(1,) * axis, size, *(1,) * (index.ndim - axis - 1))
            place = x.graph.call(REGISTRY["arange"](0, size, 1, int64), ())
            spread = f.expand(f.reshape(place, own), index.shape)
            columns.append(index if axis == self.axis else spread)
        return REGISTRY["index_put"](tuple(range(x.ndim)), True)(x, src, *columns)


@op
class Scatter(_Scattering):
    """A copy of x with ``y[index[i][j]][j] = src[i][j]`` (for axis 0).

    Shapes: x [d0..dn]; index and src of one shape, no larger than x's except along `axis`. Where
    an index repeats, one of its sources is written; the gradient is then not defined.
    Source: ONNX ScatterElements-18, torch.scatter.
    """

    axis: int

    def eager(self, xp: Any, x: Array, index: Array, src: Array) -> Array:
        x = xp.asarray(x)  # a 0-d result may be a NumPy scalar, which cannot be written to
        return checked("scatter", kernels.scatter, xp, x, self.axis, index, src, negative=True)

    def vjp(self, g: Array, _y: Array, _x: Array, index: Array, _src: Array) -> tuple[Grad, ...]:
        return (
            lambda: self(g, index, f.zeros(g, tuple(_src.shape))),
            None,
            lambda: Gather(self.axis)(g, index),
        )

    def to_onnx(self, ctx: Export, x: str, index: str, src: str) -> Any:
        if ctx.type(x).ndim == 0:
            return ctx.emit("Identity", src)
        ctx.require_opset(11, "scatter")
        return ctx.emit("ScatterElements", x, index, src, axis=self.axis)


@op
class ScatterReduce(_Scattering):
    """A copy of x with y[index[i][j]][j] folded with src[i][j] (for axis 0), in any order.

    `reduction` is "mul", "max" or "min"; NaN wins the last two, and ties share the gradient evenly.
    Shapes as Scatter's. Source: ONNX ScatterElements-18, torch.scatter_reduce.
    """

    axis: int
    reduction: str

    def infer(self, x: TensorType, index: TensorType, src: TensorType) -> TensorType:
        if self.reduction not in ("mul", "max", "min"):
            raise ArgumentError(f"scatter_reduce: unknown reduction {self.reduction!r}")
        if x.dtype.category == BOOL or x.dtype.category == COMPLEX:
            raise DTypeError(f"scatter_reduce: expected real numbers, got {x.dtype.name}")
        return _Scattering.infer(self, x, index, src)

    def eager(self, xp: Any, x: Array, index: Array, src: Array) -> Array:
        return checked(
            "scatter_reduce",
            kernels.scatter_reduce,
            xp,
            xp.asarray(x),
            self.axis,
            index,
            src,
            self.reduction,
            negative=True,
        )

    def vjp(self, g: Array, y: Array, x: Array, index: Array, src: Array) -> tuple[Grad, ...]:
        pick = Gather(self.axis)
        if self.reduction == "mul":
            return (
                lambda: g * self(f.full(x, tuple(x.shape), 1), index, src),
                None,
                lambda: self._factor_grad(g, y, x, index, src),
            )
        own, hits = f.equal(x, y), f.equal(src, pick(y, index))
        own, hits = f.cast(own, dtype_of(x)), f.cast(hits, dtype_of(x))
        share = g / ScatterAdd(self.axis)(own, index, hits)
        return lambda: own * share, None, lambda: hits * pick(share, index)

    def _factor_grad(self, g: Array, y: Array, x: Array, index: Array, src: Array) -> Array:
        """The gradient of sources that are multiplied: g times the product of all others."""
        pick = Gather(self.axis)
        zero = f.equal(src, 0)
        zeros = ScatterAdd(self.axis)(f.zeros_like(x), index, f.cast(zero, dtype_of(x)))
        # Where a zero is the only one among the sources, the others' product is not zero.
        alone = zero & f.equal(pick(zeros, index), 1)
        others = self(x, index, f.where(alone, 1, src))
        return f.where(alone, pick(g * others, index), pick(g * y, index) / f.where(zero, 1, src))

    def to_onnx(self, ctx: Export, x: str, index: str, src: str) -> Any:
        t = ctx.type(x)
        if t.ndim == 0:
            return emit(
                ctx, t.dtype, {"mul": "Mul"}.get(self.reduction, self.reduction.title()), x, src
            )
        ctx.require_opset(16 if self.reduction == "mul" else 18, "scatter_reduce")
        attributes: dict[str, Any] = {"axis": self.axis, "reduction": self.reduction}
        return ctx.emit("ScatterElements", x, index, src, **attributes)


def scatter_with(reduction: str, axis: int, x: Any, index: Any, src: Any) -> Any:
    """The op that ONNX's `reduction` names, applied."""
    if reduction == "none":
        return Scatter(axis)(x, index, src)
    if reduction == "add":
        return ScatterAdd(axis)(x, index, src)
    return ScatterReduce(axis, reduction)(x, index, src)


@from_onnx("ScatterElements", "Scatter")
def _import_scatter(ctx: Import, x: Any, index: Any, src: Any) -> Any:
    axis = normalize_axis("ScatterElements", ctx.attr("axis", 0), x.ndim)
    return scatter_with(ctx.attr("reduction", "none"), axis, x, f.cast(index, int64), src)


@from_onnx("TensorScatter")
def _import_tensor_scatter(ctx: Import, cache: Any, update: Any, start: Any = None) -> Any:
    axis = normalize_axis("TensorScatter", ctx.attr("axis", -2), cache.ndim)
    steps, size = update.shape[axis], cache.shape[axis]
    at = ctx.graph.call(Arange(0, steps, 1, int64), ())
    at = f.reshape(at, (steps, *(1,) * (cache.ndim - 1 - axis)))
    if start is not None:
        at = at + f.reshape(f.cast(start, int64), (cache.shape[0], *(1,) * (cache.ndim - 1)))
    if ctx.attr("mode", "linear") == "circular":
        at = Remainder()(at, ctx.graph.call(DimValue(size), ()))
    return Scatter(axis)(cache, f.expand(at, update.shape), update)


# -- whole slices ---------------------------------------------------------------------------------


def _selected(x: Shape, axis: int, index: Shape) -> Shape:
    return (*x[:axis], *index, *x[axis + 1 :])


@op
class IndexSelect(Op):
    """``x[:, index]`` (for axis 1): slices of x, `axis` replaced by the index's axes.

    Shapes: x [.., d, ..], index of any shape -> [.., *index, ..]. Source: ONNX Gather-13,
    torch.index_select.
    """

    axis: int

    def infer(self, x: TensorType, index: TensorType) -> TensorType:
        require_index("index_select", index)
        if x.ndim == 0:
            raise ShapeError("index_select: expected an operand with an axis to select from")
        axis = normalize_axis("index_select", self.axis, x.ndim)
        return x.with_shape(_selected(x.shape, axis, index.shape))

    def eager(self, xp: Any, x: Array, index: Array) -> Array:
        return checked("index_select", kernels.take, xp, x, index, self.axis, negative=True)

    def vjp(self, g: Array, _y: Array, _x: Array, index: Array) -> tuple[Grad, ...]:
        return IndexSelectGrad(self.axis, _x.shape[self.axis])(g, index), None

    def to_onnx(self, ctx: Export, x: str, index: str) -> Any:
        return ctx.emit("Gather", x, index, axis=self.axis)


@from_onnx("Gather")
def _import_index_select(ctx: Import, x: Any, index: Any) -> Any:
    axis = normalize_axis("Gather", ctx.attr("axis", 0), x.ndim)
    at = ctx.array(index)
    size = x.shape[axis]
    if at is not None and at.ndim == 0 and (at >= 0 or isinstance(size, int)):
        start = int(at) if at >= 0 else int(at) + size
        if isinstance(size, int) and not 0 <= start < size:
            raise OnnxError(f"Gather: index {int(at)} is out of bounds for size {size}")
        return f.select(x, axis, start)
    return IndexSelect(axis)(x, f.cast(index, int64))


@op
class IndexSelectGrad(Op):
    """Zeros with g's slices added at `index` along `axis`, whose size is `size`.

    Shapes: g [.., *index, ..] -> [.., size, ..]: the transpose of IndexSelect.
    """

    axis: int
    size: DimLike

    def infer(self, g: TensorType, index: TensorType) -> TensorType:
        require_index("index_select_grad", index)
        stop = self.axis + index.ndim
        if g.shape[self.axis : stop] != index.shape:
            raise ShapeError(
                f"index_select_grad: expected {shape_text(index.shape)} from axis {self.axis} on, "
                f"got {shape_text(g.shape)}"
            )
        return g.with_shape((*g.shape[: self.axis], self.size, *g.shape[stop:]))

    def eager(self, xp: Any, g: Array, index: Array) -> Array:
        axis, n = self.axis, index.ndim
        moved = xp.moveaxis(g, range(axis, axis + n), range(n)) if axis else g
        y = checked(
            "index_select_grad", kernels.add_rows, xp, self.size, index, moved, negative=True
        )
        return xp.moveaxis(y, 0, axis) if axis else y

    def vjp(self, g: Array, _y: Array, _g: Array, index: Array) -> tuple[Grad, ...]:
        return IndexSelect(self.axis)(g, index), None

    def to_onnx(self, ctx: Export, g: str, index: str) -> Any:
        return add_slices(ctx, g, index, self.axis, self.size)


def add_slices(ctx: Export, g: str, index: str, axis: int, size: DimLike, base: str = "") -> Any:
    """ONNX nodes that add g's slices at `index` along `axis` of `base` (zeros where not given)."""
    t, n = ctx.type(g), ctx.type(index).ndim
    after = t.ndim - axis - n
    rest = (*t.shape[:axis], *t.shape[axis + n :])
    if ctx.opset < 16:  # no sums in ScatterND
        return _add_in_turn(ctx, g, index, axis, size, base)
    if not base:
        zero = ctx.constant(0, t.dtype)
        base = ctx.emit("Expand", zero, ctx.shape((size, *rest)))
    elif axis:
        base = ctx.emit(
            "Transpose", base, perm=(axis, *range(axis), *range(axis + 1, len(rest) + 1))
        )
    if axis:
        front = range(axis, axis + n)
        g = ctx.emit("Transpose", g, perm=(*front, *range(axis), *range(axis + n, t.ndim)))
    at = ctx.emit("Unsqueeze", index, ctx.ints(n))
    y = ctx.emit("ScatterND", base, at, g, reduction="add")
    if axis:
        y = ctx.emit(
            "Transpose", y, perm=(*range(1, axis + 1), 0, *range(axis + 1, axis + 1 + after))
        )
    return y


def _add_in_turn(ctx: Export, g: str, index: str, axis: int, size: DimLike, base: str) -> Any:
    put: Any = REGISTRY["index_put"]((axis,), True)

    def formula(g: Value, index: Value, *base: Value) -> Value:
        shape = (*g.shape[:axis], size, *g.shape[axis + index.ndim :])
        return put(base[0] if base else f.zeros(g, shape), g, index)  # type: ignore[no-any-return]

    return export_formula(ctx, put, g, index, *([base] if base else []), formula=formula)


@op
class IndexAdd(Op):
    """A copy of x with the slices of `src` added at `index` along `axis`.

    Shapes: x [.., d, ..], index [k], src [.., k, ..] -> x's shape. Source: torch.index_add.
    """

    axis: int

    def infer(self, x: TensorType, index: TensorType, src: TensorType) -> TensorType:
        require_index("index_add", index)
        require_same_dtype("index_add", x, src)
        axis = normalize_axis("index_add", self.axis, x.ndim)
        wanted = _selected(x.shape, axis, index.shape)
        if x.ndim == 0 or src.shape != wanted:
            raise ShapeError(
                f"index_add: expected a source {shape_text(wanted)} for {shape_text(x.shape)} and "
                f"an index {shape_text(index.shape)}, got {shape_text(src.shape)}"
            )
        return x

    def eager(self, xp: Any, x: Array, index: Array, src: Array) -> Array:
        grad = IndexSelectGrad(self.axis, x.shape[self.axis])
        return xp.add(x, grad.eager(xp, src, index), dtype=x.dtype)

    def vjp(self, g: Array, _y: Array, _x: Array, index: Array, _src: Array) -> tuple[Grad, ...]:
        return g, None, lambda: IndexSelect(self.axis)(g, index)

    def to_onnx(self, ctx: Export, x: str, index: str, src: str) -> Any:
        return add_slices(ctx, src, index, self.axis, ctx.type(x).shape[self.axis], x)
