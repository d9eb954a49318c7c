"""Average pooling over sliding windows, and its gradient."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dims import Dim, DimLike, Shape, maximum
from ..errors import OnnxError, ShapeError
from ..kernels.pool import avg_pool, avg_pool_backward
from ..kernels.sizes import conv_transpose_output_size
from ..types import TensorType
from . import f
from .base import Array, Grad, op, shape_text
from .conv import Conv, Pairs, known_padding
from .derive import export_formula
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit
from .pool import Pooling, import_windows, window_count

if TYPE_CHECKING:
    from ..graph import Value


class _AvgPool(Pooling):
    __slots__ = ()
    count_include_pad: bool
    divisor: int | None

    def geometry(self) -> tuple[Any, Any, Any, Any, Any, Any]:
        """The attributes, as kernels and sibling ops take them."""
        return (
            self.kernel,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor,
        )


@op
class AvgPool(_AvgPool):
    """The average of each window.

    A window's divisor is its number of elements within the padded input, or within the input
    without `count_include_pad`, or `divisor` where that is given. Shapes as MaxPool's; integers
    truncate. Source: ONNX AveragePool-22, PyTorch AvgPool2d.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int | None = None

    def infer(self, x: TensorType) -> TensorType:
        if self.divisor == 0:
            raise ShapeError("avg_pool: divisor must not be zero")
        return self.output(x)

    def eager(self, xp: Any, x: Array) -> Array:
        return avg_pool(xp, x, *self.geometry())

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (AvgPoolGrad(*self.geometry(), tuple(_x.shape[2:]))(g),)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        ctx.require_opset(10, "avg_pool")
        include = self.count_include_pad or self.divisor is not None
        attributes = {**self.window_attributes(), "count_include_pad": int(include)}
        y = emit(ctx, ctx.type(x).dtype, "AveragePool", x, **attributes)
        if self.divisor is None:
            return y
        if self.ceil_mode:  # which ONNX leaves no divisor of one's own
            return export_formula(ctx, self, x, formula=self._padded_out)
        factor = prod(self.kernel) / self.divisor
        return ctx.emit("Mul", y, ctx.constant(factor, ctx.type(x).dtype))

    def _padded_out(self, x: Value) -> Array:
        """The pooling with its padding, and the last windows' overhang, written out as zeros."""
        out = self.output(x.type).shape[2:]
        pads: list[tuple[DimLike, DimLike]] = [(0, 0), (0, 0)]
        rows = zip(x.shape[2:], out, self.kernel, self.stride, self.padding, strict=True)
        for size, p, k, s, (lo, hi) in rows:
            hanging = (p - 1) * s + k - size - lo
            if not isinstance(hanging, int):
                raise OnnxError(f"avg_pool with ceil_mode and a divisor needs {size} to be known")
            pads.append((lo, maximum(hanging, hi)))
        none = tuple((0, 0) for _ in self.kernel)
        pool = AvgPool(self.kernel, self.stride, none, divisor=self.divisor)
        return pool(f.pad(x, pads))


@op
class AvgPoolGrad(_AvgPool):
    """The transpose of AvgPool: g [N, C, *P] -> [N, C, *sizes]."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Pairs
    ceil_mode: bool
    count_include_pad: bool
    divisor: int | None
    sizes: Shape

    def infer(self, g: TensorType) -> TensorType:
        x = g.with_shape((*g.shape[:2], *self.sizes))
        if self.output(x) != g:
            raise ShapeError(
                f"avg_pool_grad: expected a gradient {self.output(x)}, got {shape_text(g.shape)}"
            )
        return x

    def eager(self, xp: Any, g: Array) -> Array:
        shape = (*g.shape[:2], *self.sizes)
        return avg_pool_backward(xp, g, shape, *self.geometry())

    def vjp(self, g: Array, _y: Array, _g: Array) -> tuple[Grad, ...]:
        return (AvgPool(*self.geometry())(g),)

    def to_onnx(self, ctx: Export, g: str) -> Any:
        # Each g over its window's divisor, spread by a transposed convolution with ones.
        (n, c, *out), dtype = ctx.type(g).shape, ctx.type(g).dtype
        pads = known_padding(self.padding)
        g = ctx.emit("Div", g, ctx.constant(self._divisors(), dtype))
        g = ctx.emit("Reshape", g, ctx.shape((n * c, 1, *out)))
        grown = []  # output elements that a rounded division left over, or windows hanging out
        for size, p, k, s, (lo, hi) in zip(
            self.sizes, out, self.kernel, self.stride, pads, strict=True
        ):
            extra = size - conv_transpose_output_size(p, k, s, lo, hi)
            if not isinstance(extra, int):
                raise OnnxError(f"avg_pool_grad: ONNX needs {size} to be known (stride {s})")
            grown.append(extra)
        y = emit(
            ctx,
            dtype,
            "ConvTranspose",
            g,
            ctx.constant(np.ones((1, 1, *self.kernel)), dtype),
            kernel_shape=self.kernel,
            strides=self.stride,
            pads=(*(lo for lo, _ in pads), *(hi for _, hi in pads)),
        )
        if any(grown):
            y = ctx.emit("Pad", y, ctx.ints(*(0,) * (len(out) + 4), *grown))
        return ctx.emit("Reshape", y, ctx.shape((n, c, *self.sizes)))

    def _divisors(self) -> Any:
        """Elements per window: a number, or an array [*P]."""
        if self.divisor is not None:
            return self.divisor
        if self.count_include_pad and not self.ceil_mode:
            return prod(self.kernel)
        if any(isinstance(d, Dim) for d in self.sizes):
            raise OnnxError("avg_pool_grad: ONNX needs spatial sizes to be known")
        padding = known_padding(self.padding)
        ones = np.ones((1, 1, *map(int, self.sizes)))
        if self.count_include_pad:
            ones = np.pad(ones, ((0, 0), (0, 0), *padding), constant_values=1)
            padding = ((0, 0),) * len(padding)
        sums = avg_pool(np, ones, self.kernel, self.stride, padding, self.ceil_mode, True, 1)
        return sums[0, 0]


def window_sums(
    x: Array,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pairs,
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> Array:
    """The sum of each window of x [N, C, *S], which padding adds nothing to.

    Shapes: -> [N, C, *P] as MaxPool's.
    """
    if all(d == 1 for d in dilation):
        return AvgPool(kernel, stride, padding, ceil_mode, divisor=1)(x)
    pads = _reached(x.shape[2:], kernel, stride, padding, dilation, ceil_mode)
    return _convolved(x, kernel, stride, pads, dilation)


def _reached(
    sizes: Shape,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pairs,
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> Pairs:
    """The padding that the windows reach, which those that hang out take further."""
    pads = []
    for size, k, s, (lo, hi), d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        reach = d * (k - 1) + 1
        count = window_count(size, s, lo, hi, reach, ceil_mode)
        pads.append((lo, (count - 1) * s + reach - size - lo))
    return tuple(pads)


def _convolved(
    x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], pads: Pairs, dilation: Any
) -> Array:
    """The sum of each window of x [N, C, *S], by a convolution with ones."""
    n, c, *sizes = x.shape
    if isinstance(c, int):
        return Conv(stride, pads, dilation, c)(x, f.full(x, (c, 1, *kernel), 1))
    images = f.reshape(x, (n * c, 1, *sizes))
    y = Conv(stride, pads, dilation)(images, f.full(x, (1, 1, *kernel), 1))
    return f.reshape(y, (n, c, *y.shape[2:]))


@from_onnx("AveragePool")
def _import_avg_pool(ctx: Import, x: Any) -> Any:
    kernel, stride, padding, dilation = import_windows(ctx, x)
    include, ceil = bool(ctx.attr("count_include_pad", 0)), bool(ctx.attr("ceil_mode", 0))
    if all(d == 1 for d in dilation):
        return AvgPool(kernel, stride, padding, ceil, include)(x)
    pads = _reached(x.shape[2:], kernel, stride, padding, dilation, ceil)
    total = _convolved(x, kernel, stride, pads, dilation)
    ones = f.full(x, (1, 1, *x.shape[2:]), 1)
    if include:
        ones = f.pad(ones, ((0, 0), (0, 0), *padding), 1)
        pads = tuple((0, after - hi) for (_, after), (_, hi) in zip(pads, padding, strict=True))
    return total / _convolved(ones, kernel, stride, pads, dilation)
