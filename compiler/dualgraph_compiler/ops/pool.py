"""Maximum pooling over sliding windows, and its gradients.

x is [N, C, *S]. Kernel, stride and dilation have one entry per spatial axis, padding one (before,
after) pair. Maximum pooling differentiates through the positions of the winners: MaxPoolGrad adds
to them, MaxPoolGather reads from them, and each is the other's gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..dims import DimLike, Shape, minimum, product
from ..dtypes import BOOL, COMPLEX, int64
from ..errors import DTypeError, ShapeError
from ..kernels.pool import (
    gather_at_indices,
    max_pool,
    max_pool_backward,
    max_pool_values,
)
from ..types import TensorType
from . import f
from .base import REGISTRY, Array, Grad, Kind, Op, op, shape_text
from .conv import Pairs, import_padding, known_padding
from .creation import Arange, DimValue
from .derive import export_formula
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import carrier, emit
from .quotient import Remainder, TruncDiv

if TYPE_CHECKING:
    from ..graph import Value


def check_input(name: str, x: TensorType, rank: int) -> None:
    """Raise unless x is real, [N, C, *S] with `rank` spatial axes, each of a size above 0."""
    if x.dtype.category in (BOOL, COMPLEX):
        raise DTypeError(f"{name}: expected a real operand, got {x.dtype.name}")
    if x.ndim != rank + 2 or rank < 1:
        raise ShapeError(
            f"{name}: expected an input [N, C, spatial...] with {rank} spatial axes, got "
            f"{shape_text(x.shape)}"
        )
    if any(isinstance(d, int) and d == 0 for d in x.shape[2:]):
        raise ShapeError(f"{name}: expected spatial sizes above 0, got {shape_text(x.shape)}")


class Pooling(Op):
    """Sliding windows: the attributes that every pooling op shares."""

    __slots__ = ()
    kind = Kind.LIBRARY
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs
    ceil_mode: bool

    def spread(self) -> tuple[int, ...]:
        """The dilation."""
        return (1,) * len(self.kernel)

    def output(self, x: TensorType) -> TensorType:
        """The type of the pooled x; raises ShapeError for windows that do not suit it."""
        check_input(self.name, x, len(self.kernel))
        dilation = self.spread()
        if not len(self.kernel) == len(self.stride) == len(self.padding) == len(dilation):
            raise ShapeError(f"{self.name}: kernel, stride, padding and dilation differ in length")
        if min((*self.kernel, *self.stride, *dilation)) < 1:
            raise ShapeError(
                f"{self.name}: kernel, stride and dilation must be positive, got {self.kernel}, "
                f"{self.stride} and {dilation}"
            )
        out = []
        for n, k, s, (lo, hi), d in zip(
            x.shape[2:], self.kernel, self.stride, self.padding, dilation, strict=True
        ):
            reach = d * (k - 1) + 1
            if any(isinstance(v, int) and (v < 0 or v >= reach) for v in (lo, hi)):
                raise ShapeError(
                    f"{self.name}: padding must be within [0, {reach - 1}] for a window of "
                    f"{reach}, got {(lo, hi)}"
                )
            out.append(window_count(n, s, lo, hi, reach, self.ceil_mode))
        if any(isinstance(p, int) and p < 1 for p in out):
            raise ShapeError(
                f"{self.name}: a window of {shape_text(self.kernel)} is larger than the padded "
                f"input of size {shape_text(x.shape[2:])} + {self.padding}"
            )
        return x.with_shape((*x.shape[:2], *out))

    def window_attributes(self) -> dict[str, Any]:
        """The attributes of ONNX MaxPool and AveragePool."""
        pads = known_padding(self.padding)
        return {
            "kernel_shape": self.kernel,
            "strides": self.stride,
            "pads": (*(lo for lo, _ in pads), *(hi for _, hi in pads)),
            "ceil_mode": int(self.ceil_mode) or None,
        }


def window_count(
    n: DimLike, stride: int, lo: DimLike, hi: DimLike, reach: int, ceil: bool
) -> DimLike:
    """The number of windows of extent `reach`; with `ceil` a last, partial one counts too.

    A partial window counts only if it starts inside the input or the padding before it.
    """
    room = n + lo + hi - reach
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    if isinstance(hi, int) and hi + stride <= reach:
        return count  # no window can start in the padding after the input
    return minimum(count, -(-(n + lo) // stride))


# -- maximum --------------------------------------------------------------------------------------


class _MaxPool(Pooling):
    __slots__ = ()
    dilation: tuple[int, ...]

    def spread(self) -> tuple[int, ...]:
        return self.dilation

    def overlapping(self) -> bool:
        """Whether an element can be in several windows."""
        return any(
            s < d * (k - 1) + 1
            for k, s, d in zip(self.kernel, self.stride, self.dilation, strict=True)
        )

    def geometry(self) -> tuple[Any, Any, Any, Any, Any]:
        """The attributes, as kernels and sibling ops take them."""
        return self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode


@op
class MaxPool(_MaxPool):
    """The maximum of each window; padding never wins, NaN does.

    Shapes: x [N, C, *S] -> [N, C, *P] with
    P = (S + before + after - dilation (K - 1) - 1) // stride + 1, rounded up with `ceil_mode`.
    Source: ONNX MaxPool-22, PyTorch MaxPool2d.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    ceil_mode: bool = False

    def infer(self, x: TensorType) -> TensorType:
        return self.output(x)

    def eager(self, xp: Any, x: Array) -> Array:
        return max_pool_values(xp, x, *self.geometry())

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        _, indices = MaxPoolIndices(*self.geometry())(x)
        return (MaxPoolGrad(tuple(x.shape[2:]), self.overlapping())(g, indices),)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        ctx.require_opset(10, "max_pool")
        attributes = {**self.window_attributes(), "dilations": self.dilation}
        return emit(ctx, ctx.type(x).dtype, "MaxPool", x, **attributes)


@op
class MaxPoolIndices(_MaxPool):
    """MaxPool, and the winners' int64 positions in row-major order within one image's S.

    Shapes: x [N, C, *S] -> values and indices [N, C, *P]. Source: ONNX MaxPool-22 with Indices
    (which count from the start of the whole tensor).
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    ceil_mode: bool = False
    n_outputs: ClassVar[int] = 2

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        y = self.output(x)
        return y, y.with_dtype(int64)

    def eager(self, xp: Any, x: Array) -> tuple[Array, Array]:
        return max_pool(xp, x, *self.geometry())

    def vjp(self, g: tuple[Array, ...], y: tuple[Array, ...], _x: Array) -> tuple[Grad, ...]:
        if g[0] is None:
            return (None,)
        return (MaxPoolGrad(tuple(_x.shape[2:]), self.overlapping())(g[0], y[1]),)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        ctx.require_opset(10, "max_pool_indices")
        attributes = {**self.window_attributes(), "dilations": self.dilation}
        return emit_max_pool(ctx, x, **attributes)


def emit_max_pool(ctx: Export, x: str, **attributes: Any) -> tuple[str, str]:
    """ONNX MaxPool: values, and positions counted within each image."""
    t = ctx.type(x)
    wide = carrier(ctx, t.dtype, "MaxPool")
    x = x if wide is t.dtype else ctx.emit("Cast", x, to=wide)
    y, at = ctx.emit("MaxPool", x, outputs=2, **attributes)
    y = y if wide is t.dtype else ctx.emit("Cast", y, to=t.dtype)
    return y, ctx.emit("Mod", at, ctx.dim(product(t.shape[2:])))


@op
class MaxPoolGrad(Op):
    """g added to `indices` in zeros: the transpose of MaxPoolGather.

    Shapes: g and int64 indices [N, C, *P] -> [N, C, *sizes]. `overlapping` may be False where no
    index occurs twice in an image.
    """

    sizes: Shape
    overlapping: bool = True

    def infer(self, g: TensorType, indices: TensorType) -> TensorType:
        _check_indices("max_pool_grad", g, indices)
        if g.shape != indices.shape:
            raise ShapeError(
                f"max_pool_grad: expected indices of shape {shape_text(g.shape)}, got "
                f"{shape_text(indices.shape)}"
            )
        return g.with_shape((*g.shape[:2], *self.sizes))

    def eager(self, xp: Any, g: Array, indices: Array) -> Array:
        shape = (*g.shape[:2], *self.sizes)
        return max_pool_backward(xp, g, indices, shape, self.overlapping)

    def vjp(self, g: Array, _y: Array, _g: Array, indices: Array) -> tuple[Grad, ...]:
        return MaxPoolGather()(g, indices), None

    def to_onnx(self, ctx: Export, g: str, indices: str) -> Any:
        if ctx.opset < 16:
            return export_formula(ctx, self, g, indices, formula=self._in_turn)
        shape = ctx.type(g).shape
        rows = ctx.shape((*shape[:2], product(shape[2:])))
        zero = ctx.constant(0, ctx.type(g).dtype)
        g, indices = ctx.emit("Reshape", g, rows), ctx.emit("Reshape", indices, rows)
        zeros = ctx.emit("Expand", zero, ctx.shape((*shape[:2], product(self.sizes))))
        y = ctx.emit("ScatterElements", zeros, indices, g, axis=2, reduction="add")
        return ctx.emit("Reshape", y, ctx.shape((*shape[:2], *self.sizes)))

    def _in_turn(self, g: Value, indices: Value) -> Array:
        n, c, *out = g.shape
        rows = (n, c, product(tuple(out)))
        zeros = f.zeros(g, (n, c, product(self.sizes)))
        y = REGISTRY["scatter_add"](2)(zeros, f.reshape(indices, rows), f.reshape(g, rows))
        return f.reshape(y, (n, c, *self.sizes))


@op
class MaxPoolGather(Op):
    """x [N, C, *S] at int64 positions [N, C, *P] within each image -> [N, C, *P]."""

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        _check_indices("max_pool_gather", x, indices)
        return x.with_shape(indices.shape)

    def eager(self, xp: Any, x: Array, indices: Array) -> Array:
        return gather_at_indices(xp, x, indices)

    def vjp(self, g: Array, _y: Array, _x: Array, indices: Array) -> tuple[Grad, ...]:
        return MaxPoolGrad(tuple(_x.shape[2:]))(g, indices), None

    def to_onnx(self, ctx: Export, x: str, indices: str) -> Any:
        (n, c, *sizes), (_, _, *out) = ctx.type(x).shape, ctx.type(indices).shape
        flat = ctx.emit("Reshape", x, ctx.shape((n, c, product(tuple(sizes)))))
        at = ctx.emit("Reshape", indices, ctx.shape((n, c, product(tuple(out)))))
        y = ctx.emit("GatherElements", flat, at, axis=2)
        return ctx.emit("Reshape", y, ctx.shape((n, c, *out)))


def _check_indices(name: str, x: TensorType, indices: TensorType) -> None:
    if indices.dtype is not int64:
        raise DTypeError(f"{name}: expected int64 indices, got {indices.dtype.name}")
    if x.ndim < 3 or x.shape[:2] != indices.shape[:2] or x.ndim != indices.ndim:
        raise ShapeError(
            f"{name}: expected [N, C, spatial...] operands that share N and C, got "
            f"{shape_text(x.shape)} and {shape_text(indices.shape)}"
        )


# -- import ---------------------------------------------------------------------------------------


def import_windows(ctx: Import, x: Any) -> tuple[Any, ...]:
    """kernel, stride, padding and dilation of a pooling operator."""
    kernel = tuple(ctx.attr("kernel_shape"))
    stride = tuple(ctx.attr("strides", (1,) * len(kernel)))
    dilation = tuple(ctx.attr("dilations", (1,) * len(kernel)))
    return kernel, stride, import_padding(ctx, x.shape[2:], kernel, stride, dilation), dilation


@from_onnx("MaxPool")
def _import_max_pool(ctx: Import, x: Any) -> Any:
    geometry = (*import_windows(ctx, x), bool(ctx.attr("ceil_mode", 0)))
    if ctx.n_outputs == 1:
        return MaxPool(*geometry)(x)
    y, at = MaxPoolIndices(*geometry)(x)
    # ONNX counts from the start of the tensor.
    n, c, *sizes = x.shape
    if ctx.attr("storage_order", 0):
        at = _column_major(ctx, at, sizes)
    image = Arange(0, n * c, 1, int64)
    first = f.reshape(ctx.graph.call(image, ()), (n, c, *(1,) * len(sizes)))
    return y, at + first * ctx.graph.call(DimValue(product(tuple(sizes))), ())


def _column_major(ctx: Import, at: Any, sizes: Sequence[DimLike]) -> Any:
    """Row-major positions within an image of `sizes` as column-major ones."""
    weight: DimLike = product(tuple(sizes))
    found = None
    for size in reversed(sizes):  # the last axis varies fastest in one, slowest in the other
        weight = weight // size
        length = ctx.graph.call(DimValue(size), ())
        along = Remainder()(at, length) * ctx.graph.call(DimValue(weight), ())
        found = along if found is None else found + along
        at = TruncDiv()(at, length)
    return found
