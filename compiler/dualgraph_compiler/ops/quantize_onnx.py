"""Import of ONNX's quantised operators: what computes on integers, then scales and rounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import BY_ONNX, FLOAT, DType, float32, int32, uint8
from ..errors import OnnxError
from . import f
from .conv import import_padding
from .extremum import Maximum, Minimum
from .onnx_rules import Import, from_onnx
from .quantize import ConvInteger, DequantizeLinear, MatmulInteger, QuantizeLinear, ends
from .unary import Round


@from_onnx("QuantizeLinear", "com.microsoft::QuantizeLinear")
def _import_quantize(ctx: Import, x: Any, scale: Any, zero: Any = None) -> Any:
    stated = int(ctx.attr("output_dtype", 0))
    dtype = zero.dtype if zero is not None else BY_ONNX[stated] if stated else uint8
    if stated and dtype is not BY_ONNX[stated]:
        raise OnnxError(f"output_dtype is {BY_ONNX[stated].name}, the zero point {dtype.name}")
    precision = int(ctx.attr("precision", 0))
    wide = BY_ONNX[precision] if precision else _computed(x.dtype, scale.dtype)
    op = QuantizeLinear(dtype, *_granularity(ctx, x, scale), bool(ctx.attr("saturate", 1)))
    x, scale = f.cast(x, wide), _as_scalar(ctx, f.cast(scale, wide))
    return op(x, scale) if zero is None else op(x, scale, _as_scalar(ctx, zero))


def _computed(x: DType, scale: DType) -> DType:
    """The dtype that x is divided by its scale in: the scale's, if one computes in it."""
    for dtype in (scale, x):
        if dtype.category == FLOAT and not dtype.is_narrow:
            return dtype
    return float32


def _granularity(ctx: Import, x: Any, scale: Any) -> tuple[int, int]:
    """`axis` and `block`; a scale along the only axis, or of one element, is one for all."""
    axis = int(ctx.attr("axis", 1))
    if scale.ndim == 0 or _is_single(scale):
        return 1, 0
    if not -x.ndim <= axis < x.ndim:
        raise OnnxError(f"axis {axis} is out of range for an operand of {x.ndim} axes")
    return axis % x.ndim, int(ctx.attr("block_size", 0))


def _is_single(scale: Any) -> bool:
    return bool(scale.ndim == 1 and scale.shape[0] == 1)


def _as_scalar(ctx: Import, v: Any) -> Any:
    """A scale or zero of one element as a 0-d one."""
    return f.reshape(v, ()) if _is_single(v) else v


@from_onnx("DequantizeLinear", "com.microsoft::DequantizeLinear")
def _import_dequantize(ctx: Import, x: Any, scale: Any, zero: Any = None) -> Any:
    stated = int(ctx.attr("output_dtype", 0))
    dtype = BY_ONNX[stated] if stated else scale.dtype
    op = DequantizeLinear(dtype, *_granularity(ctx, x, scale))
    scale = _as_scalar(ctx, scale)
    return op(x, scale) if zero is None else op(x, scale, _as_scalar(ctx, zero))


# -- integer products -----------------------------------------------------------------------------


def _zero(ctx: Import, like: Any, zero: Any) -> Any:
    """A zero point, 0 where it is absent."""
    return ctx.constant(np.zeros((), like.dtype.np)) if zero is None else zero


def rows(v: Any, ndim: int) -> Any:
    """A scale or zero of a left operand, one for all or one a row, as it broadcasts."""
    if v.ndim == 0 or _is_single(v):
        return f.reshape(v, ())
    return f.reshape(v, (*v.shape, 1)) if v.ndim == 1 and ndim > 1 else v


def columns(v: Any) -> Any:
    """A scale or zero of a right operand, one for all or one a column, as it broadcasts."""
    return f.reshape(v, ()) if _is_single(v) else v


def integer_product(ctx: Import, a: Any, b: Any, za: Any, zb: Any) -> Any:
    """The product of integer matrices with ONNX's rule for vectors."""
    left, right = a.ndim == 1, b.ndim == 1
    a = f.reshape(a, (1, *a.shape)) if left else a
    b = f.reshape(b, (*b.shape, 1)) if right else b
    y = MatmulInteger()(a, b, rows(_zero(ctx, a, za), a.ndim), columns(_zero(ctx, b, zb)))
    shape = [d for i, d in enumerate(y.shape) if not (right and i == y.ndim - 1)]
    if left:
        del shape[-1 if right else -2]
    return f.reshape(y, tuple(shape))


@from_onnx("MatMulInteger")
def _import_matmul_integer(ctx: Import, a: Any, b: Any, za: Any = None, zb: Any = None) -> Any:
    return integer_product(ctx, a, b, za, zb)


def requantized(total: Any, scale: Any, zero: Any, dtype: DType) -> Any:
    """round(total scale) + zero in `dtype`, of int32 sums and a float32 scale."""
    low, high = ends(dtype)
    y = Round()(f.cast(total, float32) * scale)
    offset = f.cast(zero, float32)
    bottom, top = f.like(offset, low) - offset, f.like(offset, high) - offset
    return f.cast(Minimum()(Maximum()(y, bottom), top) + offset, dtype)


@from_onnx("QLinearMatMul")
def _import_qlinear_matmul(
    ctx: Import, a: Any, sa: Any, za: Any, b: Any, sb: Any, zb: Any, sy: Any, zy: Any
) -> Any:
    total = integer_product(ctx, a, b, za, zb)
    sa, sb, sy = (f.cast(s, float32) for s in (sa, sb, sy))
    scale = rows(sa, a.ndim) * columns(sb) / rows(sy, a.ndim)
    return requantized(total, scale, rows(zy, a.ndim), zy.dtype)


def integer_conv(ctx: Import, x: Any, w: Any, zx: Any, zw: Any) -> Any:
    """The integer convolution that the attributes of a node describe."""
    rank = x.ndim - 2
    stride = tuple(ctx.attr("strides", (1,) * rank))
    dilation = tuple(ctx.attr("dilations", (1,) * rank))
    padding = import_padding(ctx, x.shape[2:], w.shape[2:], stride, dilation)
    op = ConvInteger(stride, padding, dilation, ctx.attr("group", 1))
    return op(x, w, f.reshape(_zero(ctx, x, zx), ()), columns(_zero(ctx, w, zw)))


@from_onnx("ConvInteger")
def _import_conv_integer(ctx: Import, x: Any, w: Any, zx: Any = None, zw: Any = None) -> Any:
    return integer_conv(ctx, x, w, zx, zw)


def _by_channel(v: Any, rank: int) -> Any:
    """A number for all or one a channel, as it broadcasts against an image."""
    v = columns(v)
    return f.reshape(v, (*v.shape, *(1,) * rank)) if v.ndim else v


@from_onnx("QLinearConv")
def _import_qlinear_conv(
    ctx: Import,
    x: Any,
    sx: Any,
    zx: Any,
    w: Any,
    sw: Any,
    zw: Any,
    sy: Any,
    zy: Any,
    bias: Any = None,
) -> Any:
    total = integer_conv(ctx, x, w, zx, zw)
    rank = x.ndim - 2
    if bias is not None:
        total = total + _by_channel(f.cast(bias, int32), rank)
    scale = _by_channel(columns(sx) * columns(sw) / columns(sy), rank)
    return requantized(total, scale, columns(zy), zy.dtype)
