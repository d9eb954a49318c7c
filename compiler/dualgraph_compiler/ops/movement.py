"""Movement: every output element is some input element; views where memory allows."""

from __future__ import annotations

from typing import Any, ClassVar

from ..dims import Dim, Shape, product
from ..errors import ShapeError
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Onnx, Op, op, shape_text


class Movement(Op):
    """Moves elements; the dtype stays."""

    __slots__ = ()
    kind = Kind.MOVEMENT

    def unview(self, base: Array, v: Array) -> Array:
        """`base` with the elements this op shows replaced by `v` (view ops only)."""
        raise NotImplementedError(type(self).__name__)


@op
class Reshape(Movement):
    """x with another shape of as many elements, in row-major order. Source: ONNX Reshape-25."""

    shape: Shape
    is_view: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        if x.size != product(self.shape):
            raise ShapeError(
                f"reshape: shape {shape_text(self.shape)} is invalid for input of size {x.size} "
                f"(shape {shape_text(x.shape)})"
            )
        return x.with_shape(self.shape)

    def eager(self, xp: Any, x: Array) -> Array:
        return x.reshape(self.shape)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (f.reshape(g, _x.shape),)

    def unview(self, base: Array, v: Array) -> Array:
        return f.reshape(v, base.shape)


@op
class Expand(Movement):
    """x broadcast to `shape`, which has at least as many axes. Source: ONNX Expand-13."""

    shape: Shape
    is_view: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        lead = len(self.shape) - x.ndim
        for i, d in enumerate(x.shape):
            if lead < 0 or (d != 1 and d != self.shape[i + lead]):
                raise ShapeError(
                    f"expand: shape {shape_text(x.shape)} does not expand to "
                    f"{shape_text(self.shape)}; sizes must match or be 1 in the input"
                )
        if lead < 0:
            raise ShapeError(
                f"expand: the target {shape_text(self.shape)} has fewer axes than the input "
                f"{shape_text(x.shape)}"
            )
        return x.with_shape(self.shape)

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.broadcast_to(x, self.shape)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (f.unbroadcast(g, _x.shape),)


@op
class Permute(Movement):
    """Axes reordered: out axis i is x's axis `axes[i]`. Source: ONNX Transpose-25."""

    axes: tuple[int, ...]
    is_view: ClassVar[bool] = True
    onnx = Onnx("Transpose", 1, (("axes", "perm"),))

    def infer(self, x: TensorType) -> TensorType:
        if sorted(self.axes) != list(range(x.ndim)):
            raise ShapeError(
                f"permute: expected a permutation of the {x.ndim} axes of shape "
                f"{shape_text(x.shape)}, got {self.axes}"
            )
        return x.with_shape(x.shape[a] for a in self.axes)

    def eager(self, xp: Any, x: Array) -> Array:
        return x.transpose(self.axes)

    def inverse(self) -> Permute:
        """The permutation that undoes this one."""
        return Permute(tuple(self.axes.index(i) for i in range(len(self.axes))))

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (self.inverse()(g),)

    def unview(self, base: Array, v: Array) -> Array:
        return self.inverse()(v)


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
        out = base.copy()
        out[tuple(map(slice, self.starts, self.stops, self.steps))] = v
        return out

    def vjp(self, g: Array, _y: Array, _base: Array, _v: Array) -> tuple[Grad, ...]:
        return (
            lambda: self(g, f.zeros_like(Slice(self.starts, self.stops, self.steps)(g))),
            lambda: Slice(self.starts, self.stops, self.steps)(g),
        )


def full_slice(shape: Shape) -> tuple[Shape, Shape, tuple[int, ...]]:
    """The bounds that show everything, to be edited along some axes."""
    return (0,) * len(shape), shape, (1,) * len(shape)


def is_symbolic(shape: Shape) -> bool:
    """Whether some dimension is symbolic."""
    return any(isinstance(d, Dim) for d in shape)
