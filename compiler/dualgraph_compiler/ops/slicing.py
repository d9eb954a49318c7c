"""Slices: views of a box of elements, and the two ops that write one."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..dims import DimLike, Shape, maximum, minimum
from ..dtypes import int64
from ..errors import ArgumentError, ShapeError
from ..types import TensorType
from . import f
from .base import REGISTRY, Array, Grad, normalize_axis, op, shape_text
from .movement import Movement
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit

# Bounds at or beyond this mean "to the end" in ONNX models, whatever the axis.
_FAR = 2**31 - 1


@op
class Slice(Movement):
    """Along each axis: `starts[i] : stops[i] : steps[i]`, steps positive, bounds within the axis.

    A full axis is ``0 : d : 1``. Source: ONNX Slice-13.
    """

    starts: Shape
    stops: Shape
    steps: tuple[int, ...]
    is_view: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        if not len(self.starts) == len(self.stops) == len(self.steps) == x.ndim:
            raise ShapeError(
                f"slice: expected bounds for each of the {x.ndim} axes of {shape_text(x.shape)}, "
                f"got {len(self.starts)}"
            )
        out = []
        for start, stop, step, size in zip(
            self.starts, self.stops, self.steps, x.shape, strict=True
        ):
            if step < 1:
                raise ShapeError(f"slice: steps must be positive, got {step}")
            if all(isinstance(v, int) for v in (start, stop, size)) and not (
                0 <= start <= stop <= size or (start == stop)
            ):
                raise ShapeError(f"slice: {start}:{stop} is not within an axis of size {size}")
            out.append(-((start - stop) // step))
        return x.with_shape(out)

    def region(self) -> tuple[slice, ...]:
        """The NumPy index of the elements shown."""
        return tuple(map(slice, self.starts, self.stops, self.steps))

    def eager(self, xp: Any, x: Array) -> Array:
        return x[self.region()]

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (SliceGrad(self.starts, self.stops, self.steps, _x.shape)(g),)

    def unview(self, base: Array, v: Array) -> Array:
        return SliceUpdate(self.starts, self.stops, self.steps)(base, v)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        ctx.require_opset(10, "slice")
        full = zip(self.starts, self.stops, self.steps, ctx.type(x).shape, strict=True)
        axes = [i for i, bounds in enumerate(full) if bounds[:3] != (0, bounds[3], 1)]
        if not axes:
            return ctx.emit("Identity", x)
        sizes = ctx.type(x).shape
        stops = tuple(2**63 - 1 if self.stops[i] == sizes[i] else self.stops[i] for i in axes)
        return ctx.emit(
            "Slice",
            x,
            ctx.shape(tuple(self.starts[i] for i in axes)),
            ctx.shape(stops),
            ctx.ints(*axes),
            ctx.ints(*(self.steps[i] for i in axes)),
        )


@op
class SliceGrad(Movement):
    """Zeros of `shape` with x written at ``starts : stops : steps``: the transpose of Slice."""

    starts: Shape
    stops: Shape
    steps: tuple[int, ...]
    shape: Shape

    def infer(self, x: TensorType) -> TensorType:
        shown = Slice(self.starts, self.stops, self.steps).infer(x.with_shape(self.shape))
        if shown.shape != x.shape:
            raise ShapeError(
                f"slice_grad: expected {shape_text(shown.shape)}, got {shape_text(x.shape)}"
            )
        return x.with_shape(self.shape)

    def eager(self, xp: Any, x: Array) -> Array:
        out = xp.zeros(self.shape, x.dtype)
        out[tuple(map(slice, self.starts, self.stops, self.steps))] = x
        return out

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (Slice(self.starts, self.stops, self.steps)(g),)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        return _emit_spread(ctx, x, ctx.type(x).shape, self)


@op
class SliceUpdate(Movement):
    """`base` with ``starts : stops : steps`` replaced by `v`. Source: ONNX ScatterND-18."""

    starts: Shape
    stops: Shape
    steps: tuple[int, ...]

    def infer(self, base: TensorType, v: TensorType) -> TensorType:
        shown = Slice(self.starts, self.stops, self.steps).infer(base)
        if shown != v:
            raise ShapeError(f"slice_update: expected {shown} to write, got {v}")
        return base

    def eager(self, xp: Any, base: Array, v: Array) -> Array:
        out = xp.array(base)
        out[tuple(map(slice, self.starts, self.stops, self.steps))] = v
        return out

    def vjp(self, g: Array, _y: Array, _base: Array, _v: Array) -> tuple[Grad, ...]:
        return (
            lambda: self(g, f.zeros_like(Slice(self.starts, self.stops, self.steps)(g))),
            lambda: Slice(self.starts, self.stops, self.steps)(g),
        )

    def to_onnx(self, ctx: Export, base: str, v: str) -> Any:
        shape = ctx.type(base).shape
        spread = SliceGrad(self.starts, self.stops, self.steps, shape)
        written = _emit_spread(ctx, v, ctx.type(v).shape, spread)
        mask = ""
        for axis, size in enumerate(shape):
            bounds = self.starts[axis], self.stops[axis], self.steps[axis]
            if bounds != (0, size, 1):
                one = _emit_mask(ctx, bounds, size, len(shape) - 1 - axis)
                mask = ctx.emit("And", mask, one) if mask else one
        return emit(ctx, ctx.type(base).dtype, "Where", mask, written, base) if mask else written


def _emit_spread(ctx: Export, x: str, sizes: Shape, op: SliceGrad) -> Any:
    """ONNX nodes for SliceGrad on `x` of shape `sizes`."""
    if not sizes:
        return x
    ctx.require_opset(11, "the gradient of a slice")
    if any(s > 1 for s in op.steps):
        # Space the elements out: [.., n, ..] -> [.., n, 1, ..] -> [.., n, step, ..], merged.
        x = ctx.emit("Reshape", x, ctx.shape(tuple(v for d in sizes for v in (d, 1))))
        gaps = [v for s in op.steps for v in (0, s - 1)]
        x = ctx.emit("Pad", x, ctx.ints(*(0,) * len(gaps), *gaps))
        sizes = tuple(d * s for d, s in zip(sizes, op.steps, strict=True))
        x = ctx.emit("Reshape", x, ctx.shape(sizes))
    after = (d - (a + n) for d, a, n in zip(op.shape, op.starts, sizes, strict=True))
    return ctx.emit("Pad", x, ctx.shape((*op.starts, *after)))


def _emit_mask(
    ctx: Export, bounds: tuple[DimLike, DimLike, int], size: DimLike, trailing: int
) -> Any:
    """ONNX nodes for a bool [size, 1, ..., 1] that is true at start : stop : step."""
    start, stop, step = bounds
    at = ctx.emit("Range", ctx.constant(0, int64), ctx.dim(size), ctx.constant(1, int64))
    inside = ctx.emit(
        "And", ctx.emit("GreaterOrEqual", at, ctx.dim(start)), ctx.emit("Less", at, ctx.dim(stop))
    )
    if step > 1:
        offset = ctx.emit("Mod", ctx.emit("Sub", at, ctx.dim(start)), ctx.constant(step, int64))
        inside = ctx.emit("And", inside, ctx.emit("Equal", offset, ctx.constant(0, int64)))
    return ctx.emit("Reshape", inside, ctx.ints(-1, *(1,) * trailing))


def full_bounds(shape: Shape) -> tuple[list[DimLike], list[DimLike], list[int]]:
    """The starts, stops and steps that show everything, to be edited along some axes."""
    return [0] * len(shape), list(shape), [1] * len(shape)


# -- import ----------------------------------------------------------------------------------------


@from_onnx("Slice")
def _import_slice(
    ctx: Import, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None
) -> Any:
    window = _moving_window(ctx, x, starts, ends, axes, steps)
    if window is not None:
        return window
    first = ctx.sizes(starts, "the starts of Slice")
    last = ctx.sizes(ends, "the ends of Slice")
    along = range(len(first)) if axes is None else ctx.ints(axes, "the axes of Slice")
    by = (1,) * len(first) if steps is None else ctx.ints(steps, "the steps of Slice")
    flips = []
    new_starts, new_stops, new_steps = full_bounds(x.shape)
    for start, stop, axis, step in zip(first, last, along, by, strict=True):
        axis = normalize_axis("Slice", axis, x.ndim)
        size = x.shape[axis]
        if step < 0:
            # x[a:b:-s] is the same walk over the flipped axis, from n-1-a to n-1-b.
            flips.append(axis)
            start, stop = _from_front(start, size), _from_front(stop, size)
            start, stop, step = size - 1 - start, size - 1 - stop, -step
            start, stop = (maximum(0, minimum(v, size)) for v in (start, stop))
        else:
            start, stop = (maximum(0, minimum(_from_front(v, size), size)) for v in (start, stop))
        if isinstance(start, int) and isinstance(stop, int):
            stop = max(start, stop)
        new_starts[axis], new_stops[axis], new_steps[axis] = start, stop, step
    x = f.flip(x, tuple(sorted(flips))) if flips else x
    if (new_starts, new_stops, new_steps) == full_bounds(x.shape):
        return x
    return Slice(tuple(new_starts), tuple(new_stops), tuple(new_steps))(x)


def _moving_window(
    ctx: Import, x: Any, starts: Any, ends: Any, axes: Any, steps: Any
) -> Any | None:
    """``x[i + a : i + b]`` for the number i of a loop's step; None where that is not what is meant.

    ONNX would cut such a slice off at the end of the axis; here it has b - a elements or raises
    IndexOutOfRange.
    """
    first, last = ctx.counted(starts), ctx.counted(ends)
    if first is None or last is None or first[0] is not last[0]:
        return None
    (number, a), (_, b) = first, last
    by = 1 if steps is None else ctx.ints(steps, "the steps of Slice")[0]
    if by != 1 or not 0 <= a < b:
        return None
    axis = 0 if axes is None else ctx.ints(axes, "the axes of Slice")[0]
    at = f.reshape(number, (1,)) + ctx.constant(np.arange(a, b))
    return REGISTRY["index_select"](axis=normalize_axis("Slice", axis, x.ndim))(x, at)


def _from_front(bound: DimLike, size: DimLike) -> DimLike:
    """A slice bound as a count from the front, not yet clamped; far ends become the axis' end."""
    if isinstance(bound, int):
        if bound >= _FAR:
            return size
        return -1 if bound <= -_FAR else bound + size if bound < 0 else bound
    return bound


_MAX_PARTS = 1 << 16


@from_onnx("Split")
def _import_split(ctx: Import, x: Any, split: Any = None) -> tuple[Any, ...]:
    axis = normalize_axis("Split", ctx.attr("axis", 0), x.ndim)
    if split is None:
        count = ctx.attr("num_outputs", ctx.n_outputs)
        if not ctx.n_outputs <= count <= max(ctx.n_outputs, _MAX_PARTS):
            raise ArgumentError(f"Split: num_outputs is {count}, with {ctx.n_outputs} results")
        chunk = -(-x.shape[axis] // count)
        sizes: tuple[DimLike, ...] = (chunk,) * (count - 1)
        sizes = (*sizes, x.shape[axis] - chunk * (count - 1))
    else:
        sizes = ctx.sizes(split, "the sizes of Split")
    out = []
    start: DimLike = 0
    for size in sizes:
        out.append(f.slice_axis(x, axis, start, start + size))
        start = start + size
    return tuple(out) if len(out) > 1 else out[0]
