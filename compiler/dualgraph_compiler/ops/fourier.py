"""The discrete Fourier transform, on complex numbers kept as pairs of real ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dims import Dim, DimLike
from ..dtypes import DType, int64
from ..errors import DTypeError, IndexOutOfRange, OnnxError, ShapeError
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, Op, normalize_axis, op, shape_text
from .creation import Arange
from .indexing import IndexSelect
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit


def _require_floats(name: str, x: TensorType) -> None:
    if not x.dtype.is_floating_point:
        raise DTypeError(f"{name}: expected floating-point operands, got {x.dtype.name}")


def _require_pairs(name: str, x: TensorType) -> None:
    _require_floats(name, x)
    if x.ndim < 2 or x.shape[-1] != 2:
        raise ShapeError(f"{name}: expected pairs of numbers [.., 2], got {shape_text(x.shape)}")


def _length(name: str, x: TensorType, axis: int, count: int) -> DimLike:
    """The size of an axis, which is to be among the first `count`."""
    if not 0 <= axis < count:
        raise IndexOutOfRange(f"{name}: {shape_text(x.shape)} has no such axis as {axis}")
    if x.shape[axis] == 0:
        raise ShapeError(f"{name}: expected a length above 0, got {shape_text(x.shape)}")
    return x.shape[axis]


def _resized(x: TensorType, axis: int, size: DimLike) -> list[DimLike]:
    return [size if i == axis else d for i, d in enumerate(x.shape)]


def _as_complex(xp: Any, x: Array) -> Array:
    """Pairs of any float as complex numbers."""
    wide = xp.ascontiguousarray(widen(x))
    return wide.view(np.complex64 if wide.dtype == np.float32 else np.complex128)[..., 0]


def _as_pairs(xp: Any, y: Array, dtype: Any) -> Array:
    """Complex numbers, of whatever precision, as pairs of `dtype`."""
    wide = np.float64 if dtype == np.float64 else np.float32
    y = xp.ascontiguousarray(y, np.complex128 if dtype == np.float64 else np.complex64)
    return narrow(y[..., None].view(wide), dtype)


@op
class Dft(Op):
    """The discrete Fourier transform along `axis`, or its inverse (which divides by the length).

    Shapes: x [.., n, .., 2], whose last axis holds real and imaginary parts -> the same.
    Source: ONNX DFT-20, torch.fft.fft.
    """

    axis: int
    inverse: bool = False

    def infer(self, x: TensorType) -> TensorType:
        _require_pairs("dft", x)
        _length("dft", x, self.axis, x.ndim - 1)
        return x

    def eager(self, xp: Any, x: Array) -> Array:
        transform = xp.fft.ifft if self.inverse else xp.fft.fft
        return _as_pairs(xp, transform(_as_complex(xp, x), axis=self.axis), x.dtype)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        # The transpose of a matrix of roots of unity is its inverse, up to the length.
        back = Dft(self.axis, not self.inverse)
        count = f.count(g, (self.axis,))
        return (lambda: back(g) / count if self.inverse else back(g) * count,)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        t = ctx.type(x)
        if ctx.opset >= 17:
            return _emit_dft(ctx, x, t.dtype, self.axis, inverse=int(self.inverse) or None)
        return _as_product(ctx, x, t, Dft(1, self.inverse), self.axis, (2, 2))


@op
class RealDft(Op):
    """The discrete Fourier transform of real numbers along `axis`: the first half of it.

    The other half is its mirror image, conjugated. Shapes: x [.., n, ..] -> real and imaginary
    parts [.., n // 2 + 1, .., 2]. Source: ONNX DFT-20 (onesided), torch.fft.rfft.
    """

    axis: int

    def infer(self, x: TensorType) -> TensorType:
        _require_floats("real_dft", x)
        n = _length("real_dft", x, self.axis, x.ndim)
        return x.with_shape((*_resized(x, self.axis, n // 2 + 1), 2))

    def eager(self, xp: Any, x: Array) -> Array:
        return _as_pairs(xp, xp.fft.rfft(widen(x), axis=self.axis), x.dtype)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        def grad() -> Array:
            # Its transpose: the frequencies that are not there count as zero.
            y = Dft(self.axis, True)(_fitted(g, self.axis, _x.shape[self.axis]))
            return f.select(y, y.ndim - 1, 0) * f.count(y, (self.axis,))

        return (grad,)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        t = ctx.type(x)
        if ctx.opset >= 17:
            ones = ctx.emit("Reshape", x, ctx.shape((*t.shape, 1)))
            return _emit_dft(ctx, ones, t.dtype, self.axis, onesided=1)
        return _as_product(ctx, x, t, RealDft(1), self.axis, (1, 2))


@op
class InverseRealDft(Op):
    """The `n` real numbers along `axis` whose discrete Fourier transform begins with x.

    What cannot be of such a transform, imaginary parts of the first and (for an even `n`) the last
    number, is ignored. Shapes: x [.., n // 2 + 1, .., 2] -> [.., n, ..]. Source: torch.fft.irfft,
    ONNX DFT-20 (inverse, onesided).
    """

    axis: int
    n: DimLike

    def infer(self, x: TensorType) -> TensorType:
        _require_pairs("inverse_real_dft", x)
        if self.n == 0 or _length("inverse_real_dft", x, self.axis, x.ndim - 1) != self.n // 2 + 1:
            raise ShapeError(
                f"inverse_real_dft: expected n // 2 + 1 numbers along axis {self.axis} for n "
                f"{self.n} above 0, got {shape_text(x.shape)}"
            )
        return x.with_shape(_resized(x, self.axis, self.n)[:-1])

    def eager(self, xp: Any, x: Array) -> Array:
        y = xp.fft.irfft(_as_complex(xp, x), n=self.n, axis=self.axis)
        return narrow(y, x.dtype)

    def vjp(self, g: Array, _y: Array, _x: Array) -> tuple[Grad, ...]:
        return (lambda: self._doubled(RealDft(self.axis)(g) / f.count(g, (self.axis,))),)

    def _doubled(self, y: Array) -> Array:
        """Twice the frequencies that have a mirror image."""
        end = (self.n + 1) // 2
        first, twice, last = (
            f.slice_axis(y, self.axis, a, b) for a, b in ((0, 1), (1, end), (end, self.n // 2 + 1))
        )
        return f.concat([first, twice * f.like(twice, 2), last], self.axis)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        t = ctx.type(x)
        if ctx.opset < 20:
            return _as_product(ctx, x, t, InverseRealDft(1, self.n), self.axis, (2, 1))
        y = _emit_dft(ctx, x, t.dtype, self.axis, ctx.dim(self.n), inverse=1, onesided=1)
        return ctx.emit("Reshape", y, ctx.shape(tuple(_resized(t, self.axis, self.n)[:-1])))


def _emit_dft(
    ctx: Export, x: str, dtype: DType, axis: int, length: str = "", **attributes: Any
) -> Any:
    if ctx.opset >= 20:
        return emit(ctx, dtype, "DFT", x, length, ctx.constant(axis, int64), **attributes)
    return emit(ctx, dtype, "DFT", x, axis=axis, **attributes)


def _as_product(
    ctx: Export, x: str, t: TensorType, transform: Op, axis: int, parts: tuple[int, int]
) -> Any:
    """Before there was DFT: a product with a matrix, that of what `transform` does along axis 1.

    `parts` are how many numbers a place holds, before and after.
    """
    n = t.shape[axis]
    if isinstance(n, Dim):
        raise OnnxError(f"{transform.name} of the symbolic length {n} needs a newer opset")
    one = (n, 2) if parts[0] == 2 else (n,)
    matrix = transform.eager(np, np.eye(parts[0] * n).reshape(-1, *one))
    places = matrix.shape[1]
    last = t.ndim - (parts[0] - 1)  # of the axes that are places
    order = [*(i for i in range(last) if i != axis), axis]
    rest = [t.shape[i] for i in order[:-1]]
    rows = ctx.emit("Transpose", x, perm=[*order, *range(last, t.ndim)])
    rows = ctx.emit("Reshape", rows, ctx.shape((*rest, parts[0] * n)))
    product = ctx.constant(matrix.reshape(parts[0] * n, -1), t.dtype)
    y = emit(ctx, t.dtype, "MatMul", rows, product)
    y = ctx.emit("Reshape", y, ctx.shape((*rest, places, 2)[: last - 1 + parts[1]]))
    back = [*(order.index(i) for i in range(last)), last][: last - 1 + parts[1]]
    return ctx.emit("Transpose", y, perm=back)


def _fitted(x: Any, axis: int, size: DimLike) -> Any:
    """`x` cut off, or filled up with zeros, to `size` along an axis."""
    pads: list[tuple[DimLike, DimLike]] = [(0, 0)] * x.ndim
    pads[axis] = (0, size - x.shape[axis])
    return f.pad(x, pads)


def _pairs(x: Any) -> Any:
    """Real numbers [.., 1] as complex ones."""
    return _fitted(x, x.ndim - 1, 2)


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
        y = InverseRealDft(along, n)(_fitted(_pairs(x), along, n // 2 + 1))
        return f.reshape(y, (*y.shape, 1))
    if onesided and x.shape[-1] == 1:
        return RealDft(along)(_fitted(f.select(x, x.ndim - 1, 0), along, n))
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
    onesided = ctx.attr("onesided", 1)
    if onesided and x.shape[-1] == 1:
        return RealDft(2)(f.select(x, 3, 0))
    y = Dft(2)(_pairs(x))
    return f.slice_axis(y, 2, 0, n // 2 + 1) if onesided else y
