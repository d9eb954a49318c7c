"""Import of the quantised operators of ONNX Runtime's own domain, com.microsoft.

Its optimiser and its quantiser write them. They are their definitions here: dequantised, computed
in float32, quantised. ONNX Runtime's kernels round some sums in another order, so that where a
result lies between two integers either may come out.
Source: onnxruntime docs/ContribOperators.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dims import product
from ..dtypes import DType, dtype_of, float32, int32, uint8
from ..errors import OnnxError
from . import f
from .activation import LeakyRelu
from .avg_pool import AvgPool
from .bitwise import BitwiseAnd, ShiftRight
from .conv import import_padding
from .onnx_rules import Import, from_onnx
from .quantize import DequantizeLinear, DynamicQuantizeLinear, QuantizeLinear
from .quantize_onnx import columns, integer_product, requantized, rows


def _real(ctx: Import, x: Any, scale: Any, zero: Any) -> Any:
    """The numbers that a quantised operand stands for."""
    if zero is None:
        zero = ctx.constant(np.zeros((), x.dtype.np))
    return DequantizeLinear(float32)(x, columns(scale), columns(zero))


def _quantized(ctx: Import, y: Any, scale: Any, zero: Any, like: Any) -> Any:
    """`y` quantised, to like's dtype where there is no zero point."""
    if zero is None:
        zero = ctx.constant(np.zeros((), like.dtype.np))
    return QuantizeLinear(zero.dtype)(y, columns(scale), columns(zero))


@from_onnx("com.microsoft::QLinearAdd")
def _add(
    ctx: Import, a: Any, sa: Any, za: Any, b: Any, sb: Any, zb: Any, sy: Any, zy: Any = None
) -> Any:
    return _quantized(ctx, _real(ctx, a, sa, za) + _real(ctx, b, sb, zb), sy, zy, a)


@from_onnx("com.microsoft::QLinearMul")
def _mul(
    ctx: Import, a: Any, sa: Any, za: Any, b: Any, sb: Any, zb: Any, sy: Any, zy: Any = None
) -> Any:
    return _quantized(ctx, _real(ctx, a, sa, za) * _real(ctx, b, sb, zb), sy, zy, a)


@from_onnx("com.microsoft::QLinearSigmoid")
def _sigmoid(ctx: Import, x: Any, sx: Any, zx: Any, sy: Any, zy: Any = None) -> Any:
    return _quantized(ctx, f.sigmoid(_real(ctx, x, sx, zx)), sy, zy, x)


@from_onnx("com.microsoft::QLinearLeakyRelu")
def _leaky_relu(ctx: Import, x: Any, sx: Any, zx: Any, sy: Any, zy: Any = None) -> Any:
    y = LeakyRelu(float(ctx.attr("alpha", 0.01)))(_real(ctx, x, sx, zx))
    return _quantized(ctx, y, sy, zy, x)


@from_onnx("com.microsoft::QLinearSoftmax")
def _softmax(ctx: Import, x: Any, sx: Any, zx: Any, sy: Any, zy: Any = None) -> Any:
    axis = int(ctx.attr("axis", -1)) % x.ndim
    y = _real(ctx, x, sx, zx)
    if int(ctx.attr("opset", 13)) < 13:  # over all axes from this one on
        shape = y.shape
        y = f.reshape(y, (*shape[:axis], product(shape[axis:])))
        y = f.reshape(f.softmax(y, axis), shape)
    else:
        y = f.softmax(y, axis)
    return _quantized(ctx, y, sy, zy, x)


@from_onnx("com.microsoft::QLinearConcat")
def _concat(ctx: Import, sy: Any, zy: Any, *operands: Any) -> Any:
    if len(operands) % 3:
        raise OnnxError("QLinearConcat: expected a scale and a zero point for each operand")
    parts = [_real(ctx, *operands[i : i + 3]) for i in range(0, len(operands), 3)]
    axis = int(ctx.attr("axis")) % parts[0].ndim
    return _quantized(ctx, f.concat(parts, axis), sy, zy, operands[0])


def _channels_first(ctx: Import, x: Any) -> Any:
    return f.permute(x, (0, x.ndim - 1, *range(1, x.ndim - 1))) if _is_last(ctx) else x


def _channels_back(ctx: Import, y: Any) -> Any:
    return f.permute(y, (0, *range(2, y.ndim), 1)) if _is_last(ctx) else y


def _is_last(ctx: Import) -> bool:
    return bool(ctx.attr("channels_last", 0))


@from_onnx("com.microsoft::QLinearGlobalAveragePool")
def _global_average_pool(ctx: Import, x: Any, sx: Any, zx: Any, sy: Any, zy: Any) -> Any:
    y = _channels_first(ctx, _real(ctx, x, sx, zx))
    y = f.mean(y, tuple(range(2, y.ndim)), True)
    return _channels_back(ctx, _quantized(ctx, y, sy, zy, x))


@from_onnx("com.microsoft::QLinearAveragePool")
def _average_pool(ctx: Import, x: Any, sx: Any, zx: Any, sy: Any, zy: Any = None) -> Any:
    y = _channels_first(ctx, _real(ctx, x, sx, zx))
    kernel = tuple(ctx.attr("kernel_shape"))
    rank = len(kernel)
    if ctx.attr("ceil_mode", 0):
        raise OnnxError("QLinearAveragePool: ceil_mode is not supported")
    stride = tuple(ctx.attr("strides", (1,) * rank))
    padding = import_padding(ctx, y.shape[2:], kernel, stride, (1,) * rank)
    pool = AvgPool(kernel, stride, padding, False, bool(ctx.attr("count_include_pad", 0)))
    return _channels_back(ctx, _quantized(ctx, pool(y), sy, zy, x))


@from_onnx("com.microsoft::QGemm")
def _gemm(
    ctx: Import,
    a: Any,
    sa: Any,
    za: Any,
    b: Any,
    sb: Any,
    zb: Any,
    bias: Any = None,
    sy: Any = None,
    zy: Any = None,
) -> Any:
    a = f.transpose(a) if ctx.attr("transA", 0) else a
    b = f.transpose(b) if ctx.attr("transB", 0) else b
    total = integer_product(ctx, a, b, za, zb)
    total = total if bias is None else total + f.cast(bias, int32)
    scale = columns(sa) * columns(sb) * f.like(columns(sb), float(ctx.attr("alpha", 1.0)))
    if sy is None:
        return f.cast(total, float32) * scale
    return requantized(total, scale / columns(sy), columns(zy), zy.dtype)


@from_onnx("com.microsoft::MatMulIntegerToFloat")
def _integer_to_float(
    ctx: Import, a: Any, b: Any, sa: Any, sb: Any, za: Any = None, zb: Any = None, bias: Any = None
) -> Any:
    total = f.cast(integer_product(ctx, a, b, za, zb), sa.dtype)
    y = total * (rows(sa, a.ndim) * columns(sb))
    return y if bias is None else y + bias


@from_onnx("com.microsoft::DynamicQuantizeMatMul")
def _dynamic_matmul(ctx: Import, a: Any, b: Any, sb: Any, zb: Any = None, bias: Any = None) -> Any:
    quantized, scale, zero = DynamicQuantizeLinear()(a)
    total = f.cast(integer_product(ctx, quantized, b, zero, zb), float32)
    y = total * (scale * columns(sb))
    return y if bias is None else y + bias


@from_onnx("com.microsoft::MatMulNBits")
def _matmul_bits(
    ctx: Import,
    a: Any,
    b: Any,
    scales: Any,
    zeros: Any = None,
    groups: Any = None,
    bias: Any = None,
) -> Any:
    """A Bᵀ with B [N, K] in blocks of K that have a scale and a zero each, `bits` a number."""
    n, k, bits, block = (int(ctx.attr(name)) for name in ("N", "K", "bits", "block_size"))
    if bits not in (2, 4, 8):
        raise OnnxError(f"MatMulNBits: {bits} bits are not supported")
    if groups is not None:
        raise OnnxError("MatMulNBits: g_idx is not supported")
    operands = [b, scales] if zeros is None else [b, scales, zeros]
    known = [ctx.array(v) for v in operands]
    if all(v is not None for v in known):  # dequantised now, and not in every run
        weight = ctx.constant(_weight(*known, n=n, k=k, bits=bits, block=block, dtype=a.dtype))
    else:
        weight = _weight(*operands, n=n, k=k, bits=bits, block=block, dtype=a.dtype)
    y = f.matmul(a, weight)
    return y if bias is None else y + bias


def _weight(
    b: Any,
    scales: Any,
    zeros: Any = None,
    *,
    n: int,
    k: int,
    bits: int,
    block: int,
    dtype: DType,
) -> Any:
    """The weight [K, N] of a MatMulNBits, of arrays or graph values."""
    count = -(-k // block)
    weight = f.cast(_unpacked(f.reshape(b, (n, count, block * bits // 8)), bits), dtype)
    scale = f.reshape(f.cast(scales, dtype), (n, count, 1))
    if zeros is None:
        zero = f.like(weight, 2 ** (bits - 1))
    elif dtype_of(zeros) is uint8:
        packed = f.reshape(zeros, (n, -(-count * bits // 8)))
        zero = f.slice_axis(_unpacked(packed, bits), 1, 0, count)
        zero = f.reshape(f.cast(zero, dtype), (n, count, 1))
    else:
        zero = f.reshape(f.cast(zeros, dtype), (n, count, 1))
    weight = f.reshape((weight - zero) * scale, (n, count * block))
    return f.transpose(f.slice_axis(weight, 1, 0, k))


def _unpacked(x: Any, bits: int) -> Any:
    """Bytes [.., n] as numbers of `bits` [.., n * 8 // bits], the low ones first."""
    if bits == 8:
        return x
    mask = f.like(x, 2**bits - 1)
    parts = [BitwiseAnd()(ShiftRight()(x, f.like(x, s)), mask) for s in range(0, 8, bits)]
    return f.reshape(f.stack(parts, x.ndim), (*x.shape[:-1], x.shape[-1] * (8 // bits)))
