"""Quantised numbers: integers and narrow floats that stand for (q - zero) scale.

A scale, and the zero beside it, is one number, or one for each element of an axis, or one for each
block of so many adjacent elements of an axis. Products of quantised matrices and images are exact:
they are summed in int32, which wraps.
"""

from __future__ import annotations

from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from ..dims import DimLike
from ..dtypes import FLOAT, INT, DType, dtype_of, float32, float64, int8, int32, uint8
from ..errors import DTypeError, OnnxError, ShapeError
from ..kernels.conv import conv_forward
from ..kernels.narrow import convert, saturated
from ..types import TensorType
from . import f
from .base import Array, Kind, Onnx, Op, broadcast_shapes, normalize_axis, op, shape_text
from .conv import Convolution, Pairs, check_bias, indivisible, onnx_attributes
from .convert import FLOAT8, Float8Cast
from .extremum import Maximum, Minimum
from .onnx_rules import Export
from .reduction import Max, Min
from .unary import Round


def ends(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest number of an integer dtype."""
    info: Any = ml_dtypes.iinfo(dtype.np)  # type: ignore[no-untyped-call]
    return int(info.min), int(info.max)


class Quantization(Op):
    """Attributes and checks that both ways share: `axis` of the scale, `block` elements of it
    for each; a block of 0 is a scale for each element, and a 0-d scale is one for all."""

    __slots__ = ()
    kind = Kind.COMPOSITE
    dtype: DType
    axis: int
    block: int

    def check(self, x: TensorType, scale: TensorType, zero: tuple[TensorType, ...]) -> None:
        """Raise unless the scale, and the zero if there is one, suit x."""
        if len(zero) > 1 or (zero and zero[0].shape != scale.shape):
            raise ShapeError(
                f"{self.name}: expected a zero point of the scale's shape {shape_text(scale.shape)}"
            )
        if scale.ndim == 0:
            return
        axis = normalize_axis(self.name, self.axis, x.ndim)
        wanted: tuple[DimLike, ...] = (x.shape[axis],)
        if self.block:
            wanted = (*x.shape[:axis], -(-x.shape[axis] // self.block), *x.shape[axis + 1 :])
        if scale.shape != wanted:
            raise ShapeError(
                f"{self.name}: expected a scale {shape_text(wanted)} or a 0-d one for x "
                f"{shape_text(x.shape)}, got {shape_text(scale.shape)}"
            )

    def spread(self, s: Array, x: Array) -> Array:
        """A scale or zero as it broadcasts against x."""
        if s.ndim == 0:
            return s
        axis = normalize_axis(self.name, self.axis, x.ndim)
        if not self.block:
            return f.reshape(s, (*(1,) * axis, x.shape[axis], *(1,) * (x.ndim - axis - 1)))
        shape = list(s.shape)
        shape.insert(axis + 1, self.block)
        wide = f.expand(f.reshape(s, (*s.shape[: axis + 1], 1, *s.shape[axis + 1 :])), shape)
        wide = f.reshape(wide, (*s.shape[:axis], s.shape[axis] * self.block, *s.shape[axis + 1 :]))
        return f.slice_axis(wide, axis, 0, x.shape[axis])

    def attributes_of_onnx(self, ctx: Export, x: str, scale: str, default: int) -> dict[str, Any]:
        """`axis` and `block_size`, where they are not the default."""
        found: dict[str, Any] = {}
        if ctx.type(scale).ndim:
            axis = normalize_axis(self.name, self.axis, ctx.type(x).ndim)
            found["axis"] = None if axis == default else axis
        if self.block:
            ctx.require_opset(21, f"{self.name} in blocks")
            found["block_size"] = self.block
        return found


@op
class QuantizeLinear(Quantization):
    """round(x / scale) + zero, ties to even, limited to what `dtype` holds.

    Shapes: x any, scale [] or [x.shape[axis]] or, with `block`, x's with
    ceil(x.shape[axis] / block) for that axis; zero as scale (may be left out: 0) -> x's. x and
    scale are floating-point numbers of one dtype, in which they are divided. For a floating-point
    `dtype` nothing but that type rounds; `saturate` is for 8-bit floats, as in `Float8Cast`.
    Source: ONNX QuantizeLinear-28.
    """

    dtype: DType
    axis: int = 1
    block: int = 0
    saturate: bool = True

    def infer(self, x: TensorType, scale: TensorType, *zero: TensorType) -> TensorType:
        if x.dtype is not scale.dtype or x.dtype.category != FLOAT or x.dtype.is_narrow:
            raise DTypeError(
                "quantize_linear: expected x and scale of one floating-point dtype, got "
                f"{x.dtype.name} and {scale.dtype.name}"
            )
        if zero and zero[0].dtype is not self.dtype:
            raise DTypeError(
                f"quantize_linear: expected a zero point of {self.dtype.name}, got "
                f"{zero[0].dtype.name}"
            )
        self.check(x, scale, zero)
        return x.with_dtype(self.dtype)

    @np.errstate(all="ignore")
    def eager(self, xp: Any, x: Array, scale: Array, *zero: Array) -> Array:
        y = x / self.spread(scale, x)
        if self.dtype.category == FLOAT:
            if zero and self.dtype not in FLOAT8:
                y = y + self.spread(zero[0], x).astype(y.dtype)
            if self.dtype in FLOAT8 and self.saturate:
                return saturated(xp, y, self.dtype.np)
            return convert(y, self.dtype.np)
        y = xp.rint(y.astype(np.float32) if y.dtype.itemsize < 4 else y)
        low, high = ends(self.dtype)
        if not zero:
            return convert(xp.clip(y, low, high), self.dtype.np)
        offset = self.spread(zero[0], x).astype(y.dtype)
        return convert(xp.clip(y, low - offset, high - offset) + offset, self.dtype.np)

    def decompose(self, x: Array, scale: Array, *zero: Array) -> Array:
        y = x / self.spread(scale, x)
        if self.dtype.category == FLOAT:
            if zero and self.dtype not in FLOAT8:
                y = y + f.cast(self.spread(zero[0], x), dtype_of(y))
            return Float8Cast(self.dtype)(y) if self._saturates() else f.cast(y, self.dtype)
        y = Round()(f.cast(y, float32) if dtype_of(y).itemsize < 4 else y)
        low, high = ends(self.dtype)
        if not zero:
            return f.cast(f.clip(y, low, high), self.dtype)
        offset = f.cast(self.spread(zero[0], x), dtype_of(y))
        low, high = f.like(offset, low) - offset, f.like(offset, high) - offset
        return f.cast(Minimum()(Maximum()(y, low), high) + offset, self.dtype)

    def _saturates(self) -> bool:
        return self.saturate and self.dtype in FLOAT8

    def to_onnx(self, ctx: Export, x: str, scale: str, *zero: str) -> str:
        ctx.require_opset(13, self.name)
        attributes = self.attributes_of_onnx(ctx, x, scale, 1)
        if self.dtype in FLOAT8:
            attributes["saturate"] = int(self.saturate)
        if ctx.type(x).dtype is float64:
            raise OnnxError("quantize_linear: ONNX takes no float64")
        if not zero:
            zero = (ctx.constant(np.zeros(_known(ctx, scale), self.dtype.np), self.dtype),)
        return ctx.emit("QuantizeLinear", x, scale, *zero, **attributes)  # type: ignore[no-any-return]


def _known(ctx: Export, name: str) -> tuple[int, ...]:
    shape = ctx.type(name).shape
    if not all(isinstance(d, int) for d in shape):
        raise OnnxError(f"a zero point of the symbolic shape {shape_text(shape)} must be given")
    return shape  # type: ignore[return-value]


@op
class DequantizeLinear(Quantization):
    """(x - zero) scale, computed in float32 and rounded to `dtype`.

    Shapes: as of `QuantizeLinear`; x and zero are integers or narrow floats of one dtype.
    Source: ONNX DequantizeLinear-28.
    """

    dtype: DType
    axis: int = 1
    block: int = 0

    def infer(self, x: TensorType, scale: TensorType, *zero: TensorType) -> TensorType:
        if x.dtype.category not in (INT, FLOAT) or not scale.dtype.is_floating_point:
            raise DTypeError(
                "dequantize_linear: expected quantised numbers and a floating-point scale, got "
                f"{x.dtype.name} and {scale.dtype.name}"
            )
        if not self.dtype.is_floating_point or self.dtype.is_narrow:
            raise DTypeError(f"dequantize_linear: expected a float type, got {self.dtype.name}")
        if zero and zero[0].dtype is not x.dtype:
            raise DTypeError(
                f"dequantize_linear: expected a zero point of {x.dtype.name}, got "
                f"{zero[0].dtype.name}"
            )
        self.check(x, scale, zero)
        return x.with_dtype(self.dtype)

    @np.errstate(all="ignore")
    def eager(self, xp: Any, x: Array, scale: Array, *zero: Array) -> Array:
        y = x.astype(np.float32)
        if zero:
            y = y - self.spread(zero[0], x).astype(np.float32)
        return xp.asarray(y * self.spread(scale, x).astype(np.float32)).astype(self.dtype.np)

    def decompose(self, x: Array, scale: Array, *zero: Array) -> Array:
        y = f.cast(x, float32)
        if zero:
            y = y - f.cast(self.spread(zero[0], x), float32)
        return f.cast(y * f.cast(self.spread(scale, x), float32), self.dtype)

    def to_onnx(self, ctx: Export, x: str, scale: str, *zero: str) -> str:
        ctx.require_opset(13, self.name)
        attributes = self.attributes_of_onnx(ctx, x, scale, 1)
        if self.dtype is not ctx.type(scale).dtype:
            ctx.require_opset(23, f"dequantize_linear to {self.dtype.name}")
            attributes["output_dtype"] = self.dtype
        return ctx.emit("DequantizeLinear", x, scale, *zero, **attributes)  # type: ignore[no-any-return]


@op
class DynamicQuantizeLinear(Op):
    """x as uint8 over the range of its own elements and 0, the scale and the zero point.

    Shapes: x any, float32, not empty -> x's, [], []. Source: ONNX DynamicQuantizeLinear-11.
    """

    kind: ClassVar[Kind] = Kind.COMPOSITE
    n_outputs: ClassVar[int] = 3
    onnx: ClassVar[Onnx | None] = Onnx("DynamicQuantizeLinear", 11)

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        if x.dtype is not float32:
            raise DTypeError(f"dynamic_quantize_linear: expected float32, got {x.dtype.name}")
        if x.size == 0:
            raise ShapeError("dynamic_quantize_linear: expected elements to find the range of")
        return x.with_dtype(uint8), TensorType(float32, ()), TensorType(uint8, ())

    def eager(self, xp: Any, x: Array) -> tuple[Array, ...]:
        results = self.decompose(xp.asarray(x))
        return tuple(xp.asarray(v) for v in results)

    def decompose(self, x: Array) -> tuple[Array, ...]:
        axes, nothing = tuple(range(x.ndim)), f.like(x, 0)
        low = Minimum()(Min(axes)(x), nothing)
        span = Maximum()(Max(axes)(x), nothing) - low
        scale = f.where(f.equal(span, nothing), 1.0, span) / f.like(x, 255)
        zero = f.cast(Round()(f.clip(-low / scale, 0, 255)), uint8)
        return QuantizeLinear(uint8)(x, scale, zero), scale, zero


# -- products ------------------------------------------------------------------------------------


def _check_bytes(name: str, a: TensorType, b: TensorType, za: TensorType, zb: TensorType) -> None:
    if a.dtype not in (int8, uint8) or b.dtype not in (int8, uint8):
        raise DTypeError(
            f"{name}: expected operands of int8 or uint8, got {a.dtype.name} and {b.dtype.name}"
        )
    if za.dtype is not a.dtype or zb.dtype is not b.dtype:
        raise DTypeError(f"{name}: expected zero points of the operands' dtypes")


def _centred(x: Array, zero: Array) -> Array:
    """X - zero, in which products of fewer than 2^37 terms are exact."""
    return x.astype(np.float64) - zero.astype(np.float64)


def _wrapped(y: Array) -> Array:
    return y.astype(np.int64).astype(np.int32)


@op
class MatmulInteger(Op):
    """(a - za)(b - zb) over the last two axes, the others broadcast, exact in int32.

    Shapes: a (.., n, k), b (.., k, m), za broadcasting with a and 1 along k, zb with b and 1 along
    k -> (.., n, m). a and b are int8 or uint8, each zero point as its operand.
    Source: ONNX MatMulInteger-10.
    """

    kind: ClassVar[Kind] = Kind.CONTRACTION

    def infer(self, a: TensorType, b: TensorType, za: TensorType, zb: TensorType) -> TensorType:
        _check_bytes(self.name, a, b, za, zb)
        if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
            raise ShapeError(
                f"matmul_integer: shapes {shape_text(a.shape)} and {shape_text(b.shape)} cannot be "
                "multiplied"
            )
        if (za.ndim and za.shape[-1] != 1) or (zb.ndim > 1 and zb.shape[-2] != 1):
            raise ShapeError("matmul_integer: a zero point is of whole rows of a or columns of b")
        if broadcast_shapes(self.name, a.shape, za.shape) != a.shape:
            raise ShapeError(f"matmul_integer: za {shape_text(za.shape)} does not suit a")
        if broadcast_shapes(self.name, b.shape, zb.shape) != b.shape:
            raise ShapeError(f"matmul_integer: zb {shape_text(zb.shape)} does not suit b")
        batch = broadcast_shapes(self.name, a.shape[:-2], b.shape[:-2])
        return TensorType(int32, (*batch, a.shape[-2], b.shape[-1]))

    def eager(self, xp: Any, a: Array, b: Array, za: Array, zb: Array) -> Array:
        return _wrapped(xp.asarray(xp.matmul(_centred(a, za), _centred(b, zb))))

    def to_onnx(self, ctx: Export, a: str, b: str, za: str, zb: str) -> str:
        rows = ctx.type(za).shape
        if len(rows) == 2 and ctx.type(a).ndim == 2:
            za = ctx.emit("Reshape", za, ctx.shape((rows[0],)))
        columns = ctx.type(zb).shape
        if len(columns) == 2 and ctx.type(b).ndim == 2:
            zb = ctx.emit("Reshape", zb, ctx.shape((columns[1],)))
        return ctx.emit("MatMulInteger", a, b, za, zb)  # type: ignore[no-any-return]


@op
class ConvInteger(Convolution):
    """Convolution of x - zx, zeros around it, with w - zw, exact in int32.

    Shapes: x [N, C, *S], w [O, C/groups, *K], zx [], zw [] or [O] -> [N, O, *P], as of `Conv`. x
    and w are int8 or uint8, each zero point as its operand. Source: ONNX ConvInteger-10.
    """

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int = 1

    def infer(self, x: TensorType, w: TensorType, zx: TensorType, zw: TensorType) -> TensorType:
        _check_bytes(self.name, x, w, zx, zw)
        if x.ndim < 3 or w.ndim != x.ndim:
            raise ShapeError(
                f"conv_integer: expected an image [N, C, spatial...] and a weight of as many axes, "
                f"got {shape_text(x.shape)} and {shape_text(w.shape)}"
            )
        self.check(x.ndim - 2)
        if x.shape[1] != w.shape[1] * self.groups or indivisible(w.shape[0], self.groups):
            raise ShapeError(
                f"conv_integer: weight {shape_text(w.shape)} with groups={self.groups} does not "
                f"suit the input {shape_text(x.shape)}"
            )
        if zx.ndim:
            raise ShapeError("conv_integer: expected a 0-d zero point of x")
        check_bias(self.name, (zw,) if zw.ndim else (), w.shape[0])
        out = self.output(x.shape[2:], w.shape[2:])
        return TensorType(int32, (x.shape[0], w.shape[0], *out))

    def eager(self, xp: Any, x: Array, w: Array, zx: Array, zw: Array) -> Array:
        zw = zw.reshape(-1, *(1,) * (w.ndim - 1)) if zw.ndim else zw
        return _wrapped(
            conv_forward(xp, _centred(x, zx), _centred(w, zw), *self.geometry()),
        )

    def to_onnx(self, ctx: Export, x: str, w: str, zx: str, zw: str) -> str:
        if any(not isinstance(v, int) or v < 0 for pair in self.padding for v in pair):
            raise OnnxError("conv_integer: ONNX takes padding of known, positive sizes only")
        attributes = onnx_attributes(self, ctx.type(w).shape[2:], self.padding)  # type: ignore[arg-type]
        return ctx.emit("ConvInteger", x, w, zx, zw, **attributes)  # type: ignore[no-any-return]
