"""The discrete Fourier transform, on complex numbers kept as pairs of real ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dims import Dim, DimLike
from ..dtypes import int64
from ..errors import DTypeError, IndexOutOfRange, OnnxError, ShapeError
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, Op, normalize_axis, op, shape_text
from .creation import Arange
from .indexing import IndexSelect
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit


@op
class Dft(Op):
    """The discrete Fourier transform along `axis`, or its inverse (which divides by the length).

    Shapes: x [.., n, .., 2], whose last axis holds real and imaginary parts -> the same.
    Source: ONNX DFT-20, torch.fft.fft.
    """

    axis: int
    inverse: bool = False

    def infer(self, x: TensorType) -> TensorType:
        if not x.dtype.is_floating_point:
            raise DTypeError(f"dft: expected floating-point operands, got {x.dtype.name}")
        if x.ndim < 2 or x.shape[-1] != 2:
            raise ShapeError(f"dft: expected pairs of numbers [.., 2], got {shape_text(x.shape)}")
        if not 0 <= self.axis < x.ndim - 1:
            raise IndexOutOfRange(f"dft: {shape_text(x.shape)} has no such axis as {self.axis}")
        if x.shape[self.axis] == 0:
            raise ShapeError(f"dft: expected a length above 0, got {shape_text(x.shape)}")
        return x

    def eager(self, xp: Any, x: Array) -> Array:
        wide = xp.ascontiguousarray(widen(x))
        pairs = wide.view(np.complex64 if wide.dtype == np.float32 else np.complex128)[..., 0]
        y = (xp.fft.ifft if self.inverse else xp.fft.fft)(pairs, axis=self.axis)
        y = xp.ascontiguousarray(y.astype(pairs.dtype, copy=False))
        return narrow(y.view(wide.dtype).reshape(x.shape), x.dtype)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        # The transpose of a matrix of roots of unity is its inverse, up to the length.
        back = Dft(self.axis, not self.inverse)
        count = f.count(_x, (self.axis,))
        return (lambda: back(g) / count if self.inverse else back(g) * count,)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        t = ctx.type(x)
        inverse = int(self.inverse) or None
        if ctx.opset >= 20:
            axis = ctx.constant(self.axis, int64)
            return emit(ctx, t.dtype, "DFT", x, "", axis, inverse=inverse)
        if ctx.opset >= 17:
            return emit(ctx, t.dtype, "DFT", x, axis=self.axis, inverse=inverse)
        return self._as_product(ctx, x, t)

    def _as_product(self, ctx: Export, x: str, t: TensorType) -> Any:
        """Before there was DFT: a product with the matrix of the roots of unity."""
        n = t.shape[self.axis]
        if isinstance(n, Dim):
            raise OnnxError(f"dft of the symbolic length {n} needs opset 17")
        eye = np.eye(2 * n).reshape(2 * n, n, 2)
        matrix = Dft(1, self.inverse).eager(np, eye).reshape(2 * n, 2 * n)
        last = t.ndim - 1
        perm = [*(i for i in range(last) if i != self.axis), self.axis, last]
        rest = [t.shape[i] for i in perm[:-2]]
        rows = ctx.emit("Transpose", x, perm=perm)
        rows = ctx.emit("Reshape", rows, ctx.shape((*rest, 2 * n)))
        y = emit(ctx, t.dtype, "MatMul", rows, ctx.constant(matrix, t.dtype))
        y = ctx.emit("Reshape", y, ctx.shape((*rest, n, 2)))
        return ctx.emit("Transpose", y, perm=[perm.index(i) for i in range(t.ndim)])


def _fitted(x: Any, axis: int, size: DimLike) -> Any:
    """`x` cut off, or filled up with zeros, to `size` along an axis."""
    pads: list[tuple[DimLike, DimLike]] = [(0, 0)] * x.ndim
    pads[axis] = (0, size - x.shape[axis])
    return f.pad(x, pads)


def _pairs(x: Any) -> Any:
    """Real numbers [.., 1] as complex ones."""
    return _fitted(x, x.ndim - 1, 2)


def _mirrored(x: Any, axis: int, n: DimLike) -> Any:
    """All `n` frequencies of a real signal from the first n // 2 + 1."""
    x = _pairs(_fitted(x, axis, n // 2 + 1))
    back = f.flip(f.slice_axis(x, axis, 1, (n - 1) // 2 + 1), (axis,))
    last = x.ndim - 1
    real, imaginary = (f.slice_axis(back, last, i, i + 1) for i in (0, 1))
    return f.concat([x, f.concat([real, -imaginary], last)], axis)


@from_onnx("DFT")
def _import_dft(ctx: Import, x: Any, length: Any = None, axis: Any = None) -> Any:
    along = -2 if axis is None else ctx.ints(axis, "the axis of DFT")[0]
    along = normalize_axis("DFT", along, x.ndim)
    inverse, onesided = bool(ctx.attr("inverse", 0)), bool(ctx.attr("onesided", 0))
    n: DimLike = x.shape[along]
    if inverse and onesided:
        n = 2 * (n - 1)
    if length is not None:
        (n,) = ctx.sizes(length, "the length of DFT")
    if inverse and onesided:
        y = Dft(along, True)(_mirrored(x, along, n))
        return f.slice_axis(y, y.ndim - 1, 0, 1)
    y = Dft(along, inverse)(_pairs(_fitted(x, along, n)))
    return f.slice_axis(y, along, 0, n // 2 + 1) if onesided else y


@from_onnx("STFT")
def _import_stft(
    ctx: Import, signal: Any, step: Any, window: Any = None, length: Any = None
) -> Any:
    (hop,) = ctx.ints(step, "the step of STFT")
    if hop < 1:
        raise OnnxError(f"STFT: expected a step above 0, got {hop}")
    if length is not None:
        (n,) = ctx.ints(length, "the frame length of STFT")
    else:
        size = signal.shape[1] if window is None else window.shape[0]
        n = ctx.size(size, "the frame length of STFT")
    signal = f.reshape(signal, (*signal.shape, 1)) if signal.ndim == 2 else signal
    frames = (signal.shape[1] - n) // hop + 1
    first = f.reshape(ctx.graph.call(Arange(0, frames * hop, hop, int64), ()), (frames, 1))
    x = IndexSelect(1)(signal, first + ctx.constant(np.arange(n)))
    if window is not None:
        x = x * f.reshape(_fitted(window, 0, n), (n, 1))
    y = Dft(2)(_pairs(x))
    return f.slice_axis(y, 2, 0, n // 2 + 1) if ctx.attr("onesided", 1) else y
