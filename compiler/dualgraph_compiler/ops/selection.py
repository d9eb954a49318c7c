"""Ops that find so many things as there are: positions, distinct elements, boxes to keep.

How many there are depends on data. Each op holds that number: a symbol of its own, which takes its
value from the results when the op runs (see `graph.nested`), or an int where it is known.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..dims import Dim, DimLike
from ..dtypes import BOOL, COMPLEX, INT, DType, float32, float64, int64
from ..errors import DTypeError, NeedsValue, OnnxError, ShapeError
from ..kernels import selection as kernels
from ..types import TensorType
from . import f
from .base import Array, Op, normalize_axis, op, require_same_dtype, shape_text
from .creation import Arange
from .indexing import IndexSelect
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit

_LONGEST = 1 << 24  # elements of a range that becomes a constant


class Counted(Op):
    """An op whose results have `size` entries, which a run tells where it is a symbol."""

    __slots__ = ()
    size: DimLike

    @property
    def defines_sizes(self) -> bool:  # type: ignore[override]
        return isinstance(self.size, Dim)

    def symbols(self) -> set[Any]:
        return set()  # its own one is no symbol of the graph around

    def counted(self, y: Array, axis: int = 0) -> Array:
        """`y`, if it has as many entries as were promised."""
        if not isinstance(self.size, Dim) and y.shape[axis] != self.size:
            raise ShapeError(f"{self.name}: expected {self.size} entries, found {y.shape[axis]}")
        return y


def _given(ctx: Import, made: Any, *operands: Any) -> Any:
    """The op that `made` gives for a new size, applied; a constant where the operands are."""
    known = [ctx.array(v) for v in operands]
    if all(a is not None for a in known):
        found = made(Dim("size")).eager(np, *known)
        return tuple(map(ctx.constant, found)) if isinstance(found, tuple) else ctx.constant(found)
    return made(ctx.fresh_size("found"))(*operands)  # type: ignore[attr-defined]


@op
class Positions(Counted):
    """Where x is not zero, in row-major order: int64 [x.ndim, size]; a 0-d x counts as [1].

    Source: ONNX NonZero-13 (torch.nonzero, transposed).
    """

    size: DimLike

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(int64, (max(x.ndim, 1), self.size))

    def eager(self, xp: Any, x: Array) -> Array:
        found = xp.nonzero(xp.reshape(x, (1,)) if x.ndim == 0 else x)
        all_axes = found[0][None] if len(found) == 1 else xp.stack(found)
        return self.counted(all_axes.astype(int64.np, copy=False), 1)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        t = ctx.type(x)
        x = ctx.emit("Reshape", x, ctx.ints(1)) if t.ndim == 0 else x
        return emit(ctx, t.dtype, "NonZero", x)


@from_onnx("NonZero")
def _import_nonzero(ctx: Import, x: Any) -> Any:
    return _given(ctx, Positions, x)


@from_onnx("Compress")
def _import_compress(ctx: Import, x: Any, condition: Any) -> Any:
    axis = ctx.attr("axis")
    if axis is None:
        x, axis = f.reshape(x, (x.size,)), 0
    found = _given(ctx, Positions, condition)
    return IndexSelect(normalize_axis("Compress", axis, x.ndim))(
        x, f.reshape(found, found.shape[1:])
    )


@op
class Unique(Counted):
    """The distinct elements of x, or its distinct slices along `axis`, in order.

    With `sorted` ascending (slices by their first elements first), else as they first occur; NaNs
    are one. Shapes: x -> values [size] or [.., size, ..]; int64 positions of the first occurrence
    [size]; for each element (or slice) which of the values it is; and how often each occurs [size].
    Source: ONNX Unique-11.
    """

    size: DimLike
    axis: int | None = None
    sorted: bool = True
    n_outputs: ClassVar[int] = 4

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        if x.dtype.category == COMPLEX:
            raise DTypeError(f"unique: complex numbers have no order, got {x.dtype.name}")
        if self.axis is None:
            values, length = x.with_shape((self.size,)), x.size
        else:
            axis = normalize_axis("unique", self.axis, x.ndim)
            length = x.shape[axis]
            values = x.with_shape(self.size if i == axis else d for i, d in enumerate(x.shape))
        numbers = TensorType(int64, (self.size,))
        return values, numbers, TensorType(int64, (length,)), numbers

    def eager(self, xp: Any, x: Array) -> tuple[Array, ...]:
        found = kernels.unique(xp, x, self.axis, self.sorted)
        self.counted(found[1])
        return found

    def to_onnx(self, ctx: Export, x: str) -> Any:
        dtype = ctx.type(x).dtype
        stand_in = _orderable(dtype)
        x = x if stand_in is dtype else ctx.emit("Cast", x, to=stand_in)
        values, *rest = ctx.emit("Unique", x, outputs=4, axis=self.axis, sorted=int(self.sorted))
        return (values if stand_in is dtype else ctx.emit("Cast", values, to=dtype)), *rest


def _orderable(dtype: DType) -> DType:
    """A type that ONNX Runtime's Unique takes and that keeps the order of `dtype`'s values."""
    if dtype in (float32, float64, int64) or dtype.name == "int8":
        return dtype
    return int64 if dtype.category <= int64.category else float32


@from_onnx("Unique")
def _import_unique(ctx: Import, x: Any) -> Any:
    axis, ordered = ctx.attr("axis"), bool(ctx.attr("sorted", 1))
    axis = axis if axis is None else normalize_axis("Unique", axis, x.ndim)
    found = _given(ctx, lambda size: Unique(size, axis, ordered), x)
    return found[: ctx.n_outputs] if ctx.n_outputs > 1 else found[0]


@op
class NonMaxSuppression(Counted):
    """The boxes to keep: best first, without those that overlap a better one too much.

    Operands: boxes [N, B, 4], scores [N, classes, B] of the same type, the most boxes to keep for
    each image and class (int64 []), the intersection over union above which a box is left out and
    the score that a box must exceed (both [] of that type). Shapes: -> int64 [size, 3] of image,
    class and box. Boxes are two opposite corners (y, x, y, x), or (x centre, y centre, width,
    height) with `centered`. Of equal scores the first box is better.
    Source: ONNX NonMaxSuppression-11.
    """

    size: DimLike
    centered: bool = False

    def infer(
        self,
        boxes: TensorType,
        scores: TensorType,
        most: TensorType,
        overlap: TensorType,
        least: TensorType,
    ) -> TensorType:
        dtype = require_same_dtype("non_max_suppression", boxes, scores, overlap, least)
        if not dtype.is_floating_point or most.dtype is not int64:
            raise DTypeError(f"non_max_suppression: expected floats and int64, got {boxes}, {most}")
        n, count = boxes.shape[0] if boxes.ndim else 0, boxes.shape[-2] if boxes.ndim > 1 else 0
        fits = boxes.ndim == scores.ndim == 3 and boxes.shape[2] == 4
        if not fits or (scores.shape[0], scores.shape[2]) != (n, count):
            raise ShapeError(
                "non_max_suppression: expected boxes [N, B, 4] and scores [N, classes, B], got "
                f"{shape_text(boxes.shape)} and {shape_text(scores.shape)}"
            )
        for t in (most, overlap, least):
            if t.shape != ():
                raise ShapeError(f"non_max_suppression: expected single numbers, got {t}")
        return TensorType(int64, (self.size, 3))

    def eager(
        self, xp: Any, boxes: Array, scores: Array, most: Array, overlap: Array, least: Array
    ) -> Array:
        limits = int(most), float(overlap), float(least)
        return self.counted(kernels.non_max_suppression(xp, boxes, scores, *limits, self.centered))

    def to_onnx(self, ctx: Export, *operands: str) -> Any:
        ctx.require_opset(10, "non_max_suppression")
        names = list(operands)
        for i in (0, 1, 3, 4):
            if ctx.type(names[i]).dtype is not float32:
                names[i] = ctx.emit("Cast", names[i], to=float32)
        centered = int(self.centered) or None
        return ctx.emit("NonMaxSuppression", *names, center_point_box=centered)


@from_onnx("NonMaxSuppression")
def _import_nms(
    ctx: Import,
    boxes: Any,
    scores: Any,
    most: Any = None,
    overlap: Any = None,
    least: Any = None,
) -> Any:
    def number(given: Any, otherwise: float, dtype: DType) -> Any:
        if given is None:
            return ctx.constant(np.asarray(otherwise, dtype.np))
        return f.cast(f.reshape(given, ()), dtype)

    dtype = boxes.dtype
    limits = (
        number(most, 0, int64),
        number(overlap, 0, dtype),
        number(least, -np.inf, dtype),
    )
    centered = bool(ctx.attr("center_point_box", 0))
    return _given(ctx, lambda n: NonMaxSuppression(n, centered), boxes, scores, *limits)


@op
class Beginning(Counted):
    """The first entries of x along its first axis, as many as `count` says (int64 []).

    Shapes: x [most, ..] -> [size, ..]. Source: ONNX Compress-11.
    """

    size: DimLike
    may_alias: ClassVar[bool] = True

    def infer(self, x: TensorType, count: TensorType) -> TensorType:
        if count.dtype is not int64 or count.shape != ():
            raise DTypeError(f"beginning: expected the count as i64[], got {count}")
        if not x.ndim:
            raise ShapeError("beginning: expected entries along an axis, got a single number")
        return x.with_shape((self.size, *x.shape[1:]))

    def eager(self, xp: Any, x: Array, count: Array) -> Array:
        return self.counted(x[: int(count)])

    def to_onnx(self, ctx: Export, x: str, count: str) -> Any:
        zero, one = (ctx.constant(np.int64(i)) for i in (0, 1))
        most = ctx.emit("Gather", ctx.emit("Shape", x), zero)
        early = ctx.emit("Less", ctx.emit("Range", zero, most, one), count)
        return ctx.emit("Compress", x, early, axis=0)


# -- ranges between computed bounds ---------------------------------------------------------------


@op
class Range(Counted):
    """``start, start + step, ...`` up to but without `stop`, all of them 0-d operands of one type.

    Shapes: -> [max(ceil((stop - start) / step), 0)]. Where the three are known, or are sizes,
    Arange says the same. Source: ONNX Range-11.
    """

    size: DimLike

    def infer(self, start: TensorType, stop: TensorType, step: TensorType) -> TensorType:
        dtype = require_same_dtype("range", start, stop, step)
        if dtype.category in (BOOL, COMPLEX):
            raise DTypeError(f"range: expected real numbers, got {dtype.name}")
        if any(t.shape != () for t in (start, stop, step)):
            raise ShapeError(f"range: expected single numbers, got {start}, {stop} and {step}")
        return start.with_shape((self.size,))

    def eager(self, xp: Any, start: Array, stop: Array, step: Array) -> Array:
        return self.counted(kernels.arange(xp, start, stop, step))

    def to_onnx(self, ctx: Export, *operands: str) -> Any:
        ctx.require_opset(11, "range")
        return emit(ctx, ctx.type(operands[0]).dtype, "Range", *operands)


@from_onnx("Range")
def _import_range(ctx: Import, start: Any, limit: Any, delta: Any) -> Any:
    bounds = tuple(f.reshape(v, ()) for v in (start, limit, delta))
    known = [ctx.array(v) for v in bounds]
    if all(v is not None for v in known):
        count = kernels.range_length(*known)
        if count > _LONGEST:
            raise OnnxError(f"Range: {count} elements from {known[0]} to {known[1]} by {known[2]}")
        return ctx.constant(kernels.arange(np, *known))
    if start.dtype.category == INT:
        try:
            (first,), (last,) = (ctx.sizes(v, "the bounds of Range") for v in bounds[:2])
            (step,) = ctx.ints(bounds[2], "the step of Range")
        except NeedsValue:
            pass
        else:
            return ctx.graph.call(Arange(first, last, step, start.dtype), ())
    return _given(ctx, Range, *bounds)
