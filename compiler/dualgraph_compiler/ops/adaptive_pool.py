"""Adaptive pooling: the output's size is given, the windows follow from it.

Bin i of P over S elements is [floor(i S / P), ceil((i + 1) S / P)), as in PyTorch: bins differ by
at most one element and may overlap. A size of 1 is global pooling.
"""

from __future__ import annotations

import itertools
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..dims import Dim, Shape, product
from ..dtypes import int64
from ..errors import OnnxError, ShapeError
from ..kernels.pool import adaptive_avg_pool, adaptive_avg_pool_backward, adaptive_max_pool
from ..kernels.sizes import adaptive_bounds
from ..types import TensorType
from . import f
from .base import REGISTRY, Array, Grad, Kind, Op, op, shape_text
from .derive import export_formula
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit
from .pool import MaxPoolGrad, check_input, emit_max_pool

if TYPE_CHECKING:
    from ..graph import Value


class _Adaptive(Op):
    """Pools the spatial axes to `output_size`."""

    __slots__ = ()
    kind = Kind.LIBRARY
    output_size: Shape

    def output(self, x: TensorType) -> TensorType:
        """The type of the pooled x."""
        check_input(self.name, x, len(self.output_size))
        if any(isinstance(p, int) and p < 1 for p in self.output_size):
            raise ShapeError(f"{self.name}: sizes must be positive, got {self.output_size}")
        return x.with_shape((*x.shape[:2], *self.output_size))

    @property
    def is_global(self) -> bool:
        """Whether each image pools to one element."""
        return all(p == 1 for p in self.output_size)

    def even_kernel(self, sizes: Shape) -> tuple[int, ...] | None:
        """The window, if all bins are equal and do not overlap."""
        pairs = list(zip(sizes, self.output_size, strict=True))
        if any(isinstance(n, Dim) or isinstance(p, Dim) or n % p for n, p in pairs):
            return None
        return tuple(n // p for n, p in pairs)  # type: ignore[misc]


@op
class AdaptiveAvgPool(_Adaptive):
    """The average of each bin: x [N, C, *S] -> [N, C, *output_size].

    Source: PyTorch AdaptiveAvgPool2d; ONNX GlobalAveragePool-22 where all sizes are 1.
    """

    output_size: Shape

    def infer(self, x: TensorType) -> TensorType:
        return self.output(x)

    def eager(self, xp: Any, x: Array) -> Array:
        return adaptive_avg_pool(xp, x, self.output_size)  # type: ignore[arg-type]

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (AdaptiveAvgPoolGrad(tuple(_x.shape[2:]))(g),)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        if self.is_global:
            return emit(ctx, ctx.type(x).dtype, "GlobalAveragePool", x)
        sizes = ctx.type(x).shape[2:]
        kernel = self.even_kernel(sizes)
        if kernel is not None:
            attributes = {"kernel_shape": kernel, "strides": kernel}
            return emit(ctx, ctx.type(x).dtype, "AveragePool", x, **attributes)
        return _multiply_axes(ctx, x, ctx.type(x), _averages(sizes, self.output_size))


@op
class AdaptiveAvgPoolGrad(Op):
    """The transpose of AdaptiveAvgPool: g [N, C, *P] -> [N, C, *sizes]."""

    sizes: Shape

    def infer(self, g: TensorType) -> TensorType:
        x = g.with_shape((*g.shape[:2], *self.sizes))
        check_input("adaptive_avg_pool_grad", g, len(self.sizes))
        return x

    def eager(self, xp: Any, g: Array) -> Array:
        shape = (*g.shape[:2], *self.sizes)
        return adaptive_avg_pool_backward(xp, g, shape)

    def vjp(self, g: Array, _y: Array, _g: Array) -> tuple[Grad, ...]:
        return (AdaptiveAvgPool(tuple(_g.shape[2:]))(g),)

    def to_onnx(self, ctx: Export, g: str) -> Any:
        (n, c, *out), dtype = ctx.type(g).shape, ctx.type(g).dtype
        if all(p == 1 for p in out):
            count = ctx.emit("Cast", ctx.dim(product(self.sizes)), to=dtype)
            return ctx.emit("Expand", ctx.emit("Div", g, count), ctx.shape((n, c, *self.sizes)))
        matrices = [m.T for m in _averages(self.sizes, tuple(out))]
        return _multiply_axes(ctx, g, ctx.type(g), matrices)


def _averages(sizes: Shape, out: Shape) -> list[np.ndarray[Any, Any]]:
    """Per axis, the [S, P] matrix that averages its bins."""
    matrices = []
    for n, p in zip(sizes, out, strict=True):
        if not (isinstance(n, int) and isinstance(p, int)):
            raise OnnxError(f"adaptive pooling of the symbolic size {n} to {p} has no ONNX form")
        matrix = np.zeros((n, p))
        for i, (start, end) in enumerate(adaptive_bounds(n, p)):
            matrix[start:end, i] = 1 / (end - start)
        matrices.append(matrix)
    return matrices


def _multiply_axes(ctx: Export, x: str, t: TensorType, matrices: list[np.ndarray[Any, Any]]) -> Any:
    """ONNX nodes that multiply every spatial axis by its matrix."""
    for axis, matrix in enumerate(matrices, start=2):
        swap = [*range(t.ndim)]
        swap[axis], swap[-1] = swap[-1], swap[axis]
        last = axis == t.ndim - 1
        x = x if last else ctx.emit("Transpose", x, perm=swap)
        x = ctx.emit("MatMul", x, ctx.constant(matrix, t.dtype))
        x = x if last else ctx.emit("Transpose", x, perm=swap)
    return x


@op
class AdaptiveMaxPool(_Adaptive):
    """The maximum of each bin, and the winners' int64 positions within one image.

    Shapes: x [N, C, *S] -> values and indices [N, C, *output_size]. Source: PyTorch
    AdaptiveMaxPool2d; ONNX GlobalMaxPool-22 where all sizes are 1.
    """

    output_size: Shape
    n_outputs: ClassVar[int] = 2

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        y = self.output(x)
        return y, y.with_dtype(int64)

    def eager(self, xp: Any, x: Array) -> tuple[Array, Array]:
        return adaptive_max_pool(xp, x, self.output_size)  # type: ignore[arg-type]

    def vjp(self, g: tuple[Array, ...], y: tuple[Array, ...], _x: Array) -> tuple[Grad, ...]:
        if g[0] is None:
            return (None,)
        sizes = tuple(_x.shape[2:])
        return (MaxPoolGrad(sizes, self.even_kernel(sizes) is None)(g[0], y[1]),)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        (n, c, *sizes) = ctx.type(x).shape
        kernel = self.even_kernel(tuple(sizes))
        if kernel is not None:
            return emit_max_pool(ctx, x, kernel_shape=kernel, strides=kernel)
        if not self.is_global:
            return export_formula(ctx, self, x, formula=self._bin_by_bin)
        flat = ctx.emit("Reshape", x, ctx.shape((n, c, product(tuple(sizes)))))
        dtype = ctx.type(x).dtype
        at = emit(ctx, dtype, "ArgMax", flat, axis=2, keepdims=1)
        at = ctx.emit("Reshape", at, ctx.shape((n, c, *self.output_size)))
        return emit(ctx, dtype, "GlobalMaxPool", x), at

    def _bin_by_bin(self, x: Value) -> tuple[Value, Value]:
        """Bins of several sizes, which ONNX's windows cannot be, cut out one by one."""
        n, c, *sizes = x.shape
        if any(isinstance(d, Dim) for d in (*sizes, *self.output_size)):
            raise OnnxError(
                f"adaptive_max_pool from {shape_text(tuple(sizes))} to {self.output_size} has no "
                "ONNX form: both sizes must be known"
            )
        places = np.arange(prod(map(int, sizes))).reshape(tuple(map(int, sizes)))
        bounds = [adaptive_bounds(n, p) for n, p in zip(sizes, self.output_size, strict=True)]  # type: ignore[arg-type]
        values, indices = [], []
        for window in itertools.product(*bounds):
            cut = x
            for axis, (start, stop) in enumerate(window, start=2):
                cut = f.slice_axis(cut, axis, start, stop)
            own = places[tuple(slice(*w) for w in window)].reshape(-1)
            flat = f.reshape(cut, (n, c, own.size))
            at = REGISTRY["arg_max"](2, True)(flat)
            values.append(f.max(flat, (2,), True))
            indices.append(REGISTRY["index_select"](0)(x.graph.constant(own), at))
        y, at = (f.reshape(f.concat(v, 2), (n, c, *self.output_size)) for v in (values, indices))
        return y, at


@from_onnx("GlobalAveragePool")
def _import_global_average(ctx: Import, x: Any) -> Any:
    return AdaptiveAvgPool((1,) * (x.ndim - 2))(x)


@from_onnx("GlobalMaxPool")
def _import_global_max(ctx: Import, x: Any) -> Any:
    return AdaptiveMaxPool((1,) * (x.ndim - 2))(x)[0]
