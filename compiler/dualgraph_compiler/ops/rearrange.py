"""Joining, flipping, diagonals and triangles."""

from __future__ import annotations

from typing import Any, ClassVar

from ..dims import DimLike, Shape, maximum, minimum
from ..dtypes import int64
from ..errors import ShapeError
from ..types import TensorType
from . import f
from .base import (
    Array,
    Grad,
    Onnx,
    normalize_axes,
    normalize_axis,
    op,
    require_same_dtype,
    shape_text,
)
from .creation import Arange
from .movement import Movement
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit


def _first_difference(a: Shape, b: Shape, axis: int) -> tuple[DimLike, DimLike] | None:
    """The first sizes that differ, those of `axis` left out."""
    pairs = [(m, n) for i, (m, n) in enumerate(zip(a, b)) if i != axis and m != n]
    return pairs[0] if pairs else None


@op
class Concat(Movement):
    """Operands joined along `axis`, which is non-negative; other sizes agree.

    Shapes: any number of [.., d_i, ..] -> [.., sum d_i, ..]. Source: ONNX Concat-13.
    """

    axis: int
    onnx = Onnx("Concat", 4)

    def infer(self, *xs: TensorType) -> TensorType:
        if not xs:
            raise ShapeError("concat: expected at least one operand")
        require_same_dtype("concat", *xs)
        first = xs[0]
        if first.ndim == 0:
            raise ShapeError("concat: zero-dimensional tensors cannot be joined; use stack")
        axis = normalize_axis("concat", self.axis, first.ndim)
        total: DimLike = 0
        for i, x in enumerate(xs):
            rest = [d for j, d in enumerate(x.shape) if j != axis]
            if x.ndim != first.ndim or rest != [d for j, d in enumerate(first.shape) if j != axis]:
                raise ShapeError(
                    f"concat: expected sizes to agree except in dimension {axis}, got "
                    f"{shape_text(first.shape)} and {shape_text(x.shape)} (operand {i})",
                    sizes=_first_difference(first.shape, x.shape, axis),
                )
            total = total + x.shape[axis]
        return first.with_shape(total if j == axis else d for j, d in enumerate(first.shape))

    def eager(self, xp: Any, *xs: Array) -> Array:
        y = xp.concatenate(xs, axis=self.axis)
        # NumPy takes over the layout of the operands; PyTorch code expects rows.
        return y if y.flags.c_contiguous else xp.ascontiguousarray(y)

    def eager_into(self, xp: Any, out: Array, *xs: Array) -> None:
        xp.concatenate(xs, axis=self.axis, out=out)

    def vjp(self, g: Array, _y: Array, *_xs: Array) -> tuple[Grad, ...]:
        grads: list[Grad] = []
        start: DimLike = 0
        for x in _xs:
            stop = start + x.shape[self.axis]
            grads.append(lambda a=start, b=stop: f.slice_axis(g, self.axis, a, b))
            start = stop
        return tuple(grads)


@from_onnx("Concat")
def _import_concat(ctx: Import, *xs: Any) -> Any:
    return f.concat(xs, normalize_axis("Concat", ctx.attr("axis"), xs[0].ndim))


@from_onnx("Tile")
def _import_tile(ctx: Import, x: Any, repeats: Any) -> Any:
    return f.tile(x, ctx.sizes(repeats, "the repeats of Tile"))


# -- order ----------------------------------------------------------------------------------------


@op
class Flip(Movement):
    """x with the order of elements reversed along `axes`. A copy, as in PyTorch."""

    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        normalize_axes("flip", self.axes, x.ndim)
        return x

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.flip(x, self.axes).copy() if x.ndim else x.copy()

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (self(g),)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        n = len(self.axes)
        if n == 0 or ctx.type(x).ndim == 0:
            return x
        ctx.require_opset(10, "flip")
        return ctx.emit(
            "Slice",
            x,
            ctx.ints(*(-1,) * n),
            ctx.ints(*(-(2**63 - 1),) * n),
            ctx.ints(*self.axes),
            ctx.ints(*(-1,) * n),
        )


# -- diagonals and triangles ----------------------------------------------------------------------


def _diagonal_length(rows: DimLike, columns: DimLike, offset: int) -> DimLike:
    rows, columns = (rows, columns - offset) if offset >= 0 else (rows + offset, columns)
    return maximum(0, minimum(rows, columns))


def _without(shape: Shape, *axes: int) -> Shape:
    return tuple(d for i, d in enumerate(shape) if i not in axes)


@op
class Diagonal(Movement):
    """The diagonal of the matrices in `axis1` and `axis2`, as a new last axis.

    Shapes: [.., n, .., m, ..] -> [.., min(n, m - offset)] (offset >= 0). Source: numpy.diagonal.
    """

    offset: int
    axis1: int
    axis2: int
    is_view: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        if x.ndim < 2:
            raise ShapeError(f"diagonal: expected two axes or more, got {shape_text(x.shape)}")
        normalize_axes("diagonal", (self.axis1, self.axis2), x.ndim)
        length = _diagonal_length(x.shape[self.axis1], x.shape[self.axis2], self.offset)
        return x.with_shape((*_without(x.shape, self.axis1, self.axis2), length))

    def eager(self, xp: Any, x: Array) -> Array:
        rows, columns = max(-self.offset, 0), max(self.offset, 0)
        length = _diagonal_length(x.shape[self.axis1], x.shape[self.axis2], self.offset)
        s1, s2 = x.strides[self.axis1], x.strides[self.axis2]
        index: list[Any] = [slice(None)] * x.ndim
        index[self.axis1], index[self.axis2] = slice(rows, None), slice(columns, None)
        # numpy.diagonal gives a read-only array; a view that writes through is wanted.
        return xp.lib.stride_tricks.as_strided(
            x[tuple(index)],
            (*_without(x.shape, self.axis1, self.axis2), length),
            (*_without(x.strides, self.axis1, self.axis2), s1 + s2),
        )

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        shape = tuple(_x.shape)
        return (self.write(f.zeros(g, shape), g),)

    def write(self, base: Array, v: Array) -> Array:
        """`base` with this diagonal replaced by `v`."""
        return DiagonalUpdate(self.offset, self.axis1, self.axis2)(base, v)

    def unview(self, base: Array, v: Array) -> Array:
        return self.write(base, v)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        shape = ctx.type(x).shape
        rest = [i for i in range(len(shape)) if i not in (self.axis1, self.axis2)]
        x = ctx.emit("Transpose", x, perm=(self.axis1, self.axis2, *rest))
        out = ctx.emit("GatherND", x, _diagonal_index(ctx, self, shape))
        if rest:
            out = ctx.emit("Transpose", out, perm=(*range(1, len(rest) + 1), 0))
        return out


def _diagonal_index(ctx: Export, op: Diagonal | DiagonalUpdate, shape: Shape) -> Any:
    """int64 [length, 2]: row and column of each element of the diagonal."""
    length = _diagonal_length(shape[op.axis1], shape[op.axis2], op.offset)
    at = ctx.emit("Range", ctx.constant(0, int64), ctx.dim(length), ctx.constant(1, int64))
    at = ctx.emit("Reshape", at, ctx.ints(-1, 1))
    first = ctx.constant([[max(-op.offset, 0), max(op.offset, 0)]], int64)
    return ctx.emit("Add", at, first)


@op
class DiagonalUpdate(Movement):
    """`base` with a diagonal replaced by `v`, which is shaped as Diagonal shows it."""

    offset: int
    axis1: int
    axis2: int

    def infer(self, base: TensorType, v: TensorType) -> TensorType:
        shown = Diagonal(self.offset, self.axis1, self.axis2).infer(base)
        if shown != v:
            raise ShapeError(f"diagonal_update: expected {shown} to write, got {v}")
        return base

    def eager(self, xp: Any, base: Array, v: Array) -> Array:
        out = base.copy()
        Diagonal(self.offset, self.axis1, self.axis2).eager(xp, out)[...] = v
        return out

    def vjp(self, g: Array, _y: Array, _base: Array, _v: Array) -> tuple[Grad, ...]:
        return (
            lambda: self(g, f.zeros(g, tuple(_v.shape))),
            lambda: Diagonal(self.offset, self.axis1, self.axis2)(g),
        )

    def to_onnx(self, ctx: Export, base: str, v: str) -> Any:
        ctx.require_opset(11, "diagonal_update")
        shape = ctx.type(base).shape
        n = len(shape)
        rest = [i for i in range(n) if i not in (self.axis1, self.axis2)]
        front = (self.axis1, self.axis2, *rest)
        moved = ctx.emit("Transpose", base, perm=front)
        v = ctx.emit("Transpose", v, perm=(n - 2, *range(n - 2))) if n > 2 else v
        out = ctx.emit("ScatterND", moved, _diagonal_index(ctx, self, shape), v)
        back = tuple(front.index(i) for i in range(n))
        return ctx.emit("Transpose", out, perm=back)


class _Triangle(Movement):
    """Zeros on one side of a diagonal of the last two axes."""

    __slots__ = ()
    diagonal: int
    upper: ClassVar[bool]

    def infer(self, x: TensorType) -> TensorType:
        if x.ndim < 2:
            raise ShapeError(f"{self.name}: expected two axes or more, got {shape_text(x.shape)}")
        return x

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (self(g),)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        if ctx.opset < 14:
            return self._masked(ctx, x)
        k = ctx.constant(self.diagonal, int64)
        return ctx.emit("Trilu", x, k, upper=int(self.upper))

    def _masked(self, ctx: Export, x: str) -> Any:
        """Before ONNX had Trilu: zeros where the column lies beyond the row's diagonal."""
        t = ctx.type(x)
        zero, one = ctx.constant(0, int64), ctx.constant(1, int64)
        rows, columns = (ctx.emit("Range", zero, ctx.dim(d), one) for d in t.shape[-2:])
        on = ctx.emit("Add", rows, ctx.constant(self.diagonal, int64))
        ends = ctx.emit("Unsqueeze", on, ctx.ints(1))
        kept = ctx.emit("GreaterOrEqual" if self.upper else "LessOrEqual", columns, ends)
        return emit(ctx, t.dtype, "Where", kept, x, ctx.constant(0, t.dtype))


@op
class Tril(_Triangle):
    """Each matrix of the last two axes with zeros above `diagonal`. Source: ONNX Trilu-14."""

    diagonal: int = 0
    upper: ClassVar[bool] = False

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.tril(x, self.diagonal)


@op
class Triu(_Triangle):
    """Each matrix of the last two axes with zeros below `diagonal`. Source: ONNX Trilu-14."""

    diagonal: int = 0
    upper: ClassVar[bool] = True

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.triu(x, self.diagonal)


@from_onnx("Trilu")
def _import_trilu(ctx: Import, x: Any, k: Any = None) -> Any:
    upper = bool(ctx.attr("upper", 1))
    if k is None or ctx.array(k) is not None:
        (diagonal,) = ctx.ints(k, "the diagonal of Trilu") if k is not None else (0,)
        return (Triu if upper else Tril)(diagonal)(x)
    rows, columns = (ctx.graph.call(Arange(0, n, 1, int64), ()) for n in x.shape[-2:])
    place = columns - f.reshape(rows, (x.shape[-2], 1))  # the diagonal that each element is on
    k = f.reshape(k, ())
    return f.where(f.greater_equal(place, k) if upper else f.less_equal(place, k), x, 0)
