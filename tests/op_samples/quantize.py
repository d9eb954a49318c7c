"""Quantising, dequantising, and products of quantised matrices and images."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import DTypeError, ShapeError
from dualgraph_compiler.ops import quantize as qz

from . import OpSamples, Refused, Sample, bfloat16, rand, strided, t

S8, U8 = np.int8, np.uint8


def bytes_of(*shape: int, dtype: Any = U8, seed: int = 0) -> np.ndarray:
    """Bytes over the whole range of a dtype, its ends among them."""
    info = np.iinfo(dtype)
    x = np.random.default_rng([seed, *shape]).integers(info.min, info.max + 1, shape)
    if x.size > 1:
        x.flat[0], x.flat[-1] = info.min, info.max
    return x.astype(dtype)


def _spread(op: Any, s: np.ndarray, x: np.ndarray) -> np.ndarray:
    if s.ndim == 0:
        return s
    if op.block:
        return np.repeat(s, op.block, op.axis).take(range(x.shape[op.axis]), op.axis)
    return s.reshape([-1 if i == op.axis % x.ndim else 1 for i in range(x.ndim)])


def _quantize(op: qz.QuantizeLinear, x: np.ndarray, s: np.ndarray, *zero: np.ndarray) -> Any:
    y = x / _spread(op, s, x)
    z = _spread(op, zero[0], x).astype(np.float64) if zero else 0
    if op.dtype.category == dt.FLOAT:
        top = float(ml_dtypes.finfo(op.dtype.np).max)
        return np.clip(y, -top, top) if op.saturate else y
    info = ml_dtypes.iinfo(op.dtype.np)
    return np.clip(np.round(y) + z, info.min, info.max)


def _dequantize(op: qz.DequantizeLinear, x: np.ndarray, s: np.ndarray, *zero: np.ndarray) -> Any:
    z = _spread(op, zero[0], x).astype(np.float64) if zero else 0
    return (x.astype(np.float64) - z) * _spread(op, s.astype(np.float64), x)


_X = np.array([[-400, -2.5, -1.5, -0.5], [0.5, 1.5, 2.5, 700]], np.float32)
_SCALE, _TWO = np.array(2.0, np.float32), np.array([0.5, 4.0], np.float32)
_BLOCKS = np.array([[0.5, 4.0], [1.0, 2.0]], np.float32)
_DTYPES = (dt.uint8, dt.int8, dt.uint16, dt.int16)
_SMALL = (dt.uint4, dt.int4, dt.uint2, dt.int2)


def _zero(dtype: dt.DType, value: Any = 1) -> np.ndarray:
    return np.asarray(value).astype(dtype.np)


QUANTIZE = OpSamples(
    qz.QuantizeLinear,
    _quantize,
    [
        *(Sample(qz.QuantizeLinear(d), (_X, _SCALE, _zero(d, 3))) for d in _DTYPES),
        *(
            Sample(qz.QuantizeLinear(d), (_X, _SCALE, _zero(d)), onnx="needs a newer opset")
            for d in _SMALL
        ),
        Sample(qz.QuantizeLinear(dt.uint8), (_X, _SCALE), what="no zero point"),
        Sample(qz.QuantizeLinear(dt.int8, 0), (_X, _TWO, _zero(dt.int8, [-3, 100]))),
        Sample(qz.QuantizeLinear(dt.int8, -2), (_X, _TWO), what="axis from the back"),
        Sample(
            qz.QuantizeLinear(dt.uint8, 1, 2),
            (_X, _BLOCKS, _zero(dt.uint8, [[1, 2], [3, 4]])),
            what="in blocks",
        ),
        Sample(
            qz.QuantizeLinear(dt.uint8, 1, 3),
            (_X, _BLOCKS, _zero(dt.uint8, [[1, 2], [3, 4]])),
            what="a block that is not whole",
        ),
        Sample(qz.QuantizeLinear(dt.uint8), (_X.astype(np.float16), _SCALE.astype(np.float16))),
        Sample(qz.QuantizeLinear(dt.int8), (_X.astype(bfloat16), _SCALE.astype(bfloat16))),
        Sample(qz.QuantizeLinear(dt.int8), (strided(_X), _SCALE), what="not contiguous"),
        Sample(qz.QuantizeLinear(dt.int8), (rand(), _SCALE), what="0-d"),
        Sample(qz.QuantizeLinear(dt.int8), (rand(0, 3), _SCALE), what="no elements"),
        *(
            Sample(
                qz.QuantizeLinear(d, saturate=saturate),
                (_X, _SCALE),
                onnx="other saturation of the type",
            )
            for d in (dt.float8_e4m3fn, dt.float8_e5m2, dt.float4_e2m1fn)
            for saturate in ((True,) if d is not dt.float8_e5m2 else (True, False))
        ),
        Sample(
            qz.QuantizeLinear(dt.uint8),
            (np.array([np.inf, -np.inf, 1e30], np.float32), _SCALE, _zero(dt.uint8, 9)),
        ),
    ],
    [
        Refused(qz.QuantizeLinear(dt.int8), (t("i32[2]"), t("f32[]")), DTypeError, "one floating"),
        Refused(
            qz.QuantizeLinear(dt.int8), (t("f32[2]"), t("f32[]"), t("u8[]")), DTypeError, "int8"
        ),
        Refused(qz.QuantizeLinear(dt.int8), (t("f32[2, 3]"), t("f32[2]")), ShapeError, "scale"),
        Refused(
            qz.QuantizeLinear(dt.int8), (t("f32[2]"), t("f32[]"), t("i8[2]")), ShapeError, "zero"
        ),
    ],
)

_Q = np.array([[0, 1, 127, 128], [200, 254, 255, 3]], U8)
DEQUANTIZE = OpSamples(
    qz.DequantizeLinear,
    _dequantize,
    [
        Sample(qz.DequantizeLinear(dt.float32), (_Q, _SCALE, _zero(dt.uint8, 128))),
        Sample(qz.DequantizeLinear(dt.float32), (_Q.view(S8), _SCALE), what="no zero point"),
        Sample(qz.DequantizeLinear(dt.float32, 0), (_Q.view(S8), _TWO, _zero(dt.int8, [-3, 100]))),
        Sample(qz.DequantizeLinear(dt.float32, 1, 2), (_Q, _BLOCKS), what="in blocks"),
        Sample(qz.DequantizeLinear(dt.float32), (_Q.astype(np.int32) * 1000, _SCALE)),
        Sample(qz.DequantizeLinear(dt.float32), (_Q.astype(np.uint16) * 250, _SCALE)),
        Sample(qz.DequantizeLinear(dt.float16), (_Q, _SCALE.astype(np.float16))),
        Sample(qz.DequantizeLinear(dt.bfloat16), (_Q, _SCALE.astype(bfloat16))),
        *(
            Sample(
                qz.DequantizeLinear(dt.float32),
                (np.array([[0, 1, 1]]).astype(d.np), _SCALE),
                onnx="needs a newer opset",
            )
            for d in (*_SMALL, dt.float8_e4m3fn, dt.float8_e5m2, dt.float4_e2m1fn)
        ),
        Sample(
            qz.DequantizeLinear(dt.float32),
            (_Q, np.array(2.0, np.float16)),
            onnx="needs a newer opset",
        ),
        Sample(qz.DequantizeLinear(dt.float32), (strided(_Q), _SCALE), what="not contiguous"),
        Sample(qz.DequantizeLinear(dt.float32), (bytes_of(), _SCALE), what="0-d"),
        Sample(qz.DequantizeLinear(dt.float32), (bytes_of(0, 3), _SCALE), what="no elements"),
    ],
    [
        Refused(qz.DequantizeLinear(dt.float32), (t("u8[2]"), t("i32[]")), DTypeError, "scale"),
        Refused(qz.DequantizeLinear(dt.int8), (t("u8[2]"), t("f32[]")), DTypeError, "float type"),
        Refused(
            qz.DequantizeLinear(dt.float32),
            (t("u8[2]"), t("f32[]"), t("i8[]")),
            DTypeError,
            "uint8",
        ),
        Refused(qz.DequantizeLinear(dt.float32), (t("u8[2, 3]"), t("f32[2]")), ShapeError, "scale"),
    ],
)


def _dynamic(_op: Any, x: np.ndarray) -> Any:
    x = x.astype(np.float32)
    low, high = np.float32(min(x.min(), 0)), np.float32(max(x.max(), 0))
    scale = ((high - low) or np.float32(1)) / np.float32(255)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return np.clip(np.rint(x / scale) + zero, 0, 255), scale, zero


DYNAMIC = OpSamples(
    qz.DynamicQuantizeLinear,
    _dynamic,
    [
        Sample(qz.DynamicQuantizeLinear(), (rand(3, 5),)),
        Sample(qz.DynamicQuantizeLinear(), (rand(4, low=1, high=3),), what="above 0"),
        Sample(qz.DynamicQuantizeLinear(), (rand(4, low=-3, high=-1),), what="below 0"),
        Sample(qz.DynamicQuantizeLinear(), (strided(rand(3, 4)),), what="not contiguous"),
        Sample(qz.DynamicQuantizeLinear(), (rand(),), what="0-d"),
        Sample(
            qz.DynamicQuantizeLinear(),
            (np.zeros(3, np.float32),),
            what="nothing but 0",
            runtime="its scale is 1 there",
        ),
    ],
    [
        Refused(qz.DynamicQuantizeLinear(), (t("f64[2]"),), DTypeError, "float32"),
        Refused(qz.DynamicQuantizeLinear(), (t("f32[0]"),), ShapeError, "elements"),
    ],
)


# -- products -------------------------------------------------------------------------------------


def _matmul(_op: Any, a: np.ndarray, b: np.ndarray, za: np.ndarray, zb: np.ndarray) -> Any:
    wide = [x.astype(np.int64) for x in (a, b, za, zb)]
    return (wide[0] - wide[2]) @ (wide[1] - wide[3])


_SATURATES = "without VNNI it adds pairs of products in 16 bits, which saturates"


def _products() -> list[Sample]:
    op = qz.MatmulInteger()
    found = []
    for left in (U8, S8):
        for right in (U8, S8):
            za, zb = np.array(100, left), np.array(7, right)
            a, b = bytes_of(5, 19, dtype=left), bytes_of(19, 21, dtype=right)
            found.append(Sample(op, (a, b, za, zb)))
            if right is S8:
                found[-1].runtime = _SATURATES
    a, b = bytes_of(7, 33), bytes_of(33, 18, dtype=S8)
    zeros = np.array(0, U8), np.array(0, S8)
    each = bytes_of(7, 1, seed=1), bytes_of(18, dtype=S8, seed=2)
    found.append(Sample(op, (a, b, *each), what="a zero for each row and column"))
    found[-1].runtime = "it takes one zero point of a"
    batch = (bytes_of(3, 6, 5, dtype=S8) >> 1).astype(S8)
    found.append(Sample(op, (bytes_of(2, 3, 4, 6), batch, *zeros), what="a batch"))
    low = (b >> 1).astype(S8)  # whose products ONNX Runtime adds without saturating
    found.append(Sample(op, (a, low, *zeros)))
    found.append(Sample(op, (strided(a), strided(low), *zeros), what="not contiguous"))
    found.append(Sample(op, (bytes_of(33, 7).T, low, *zeros), what="transposed"))
    for rows, columns, weight in ((3, 9, 127), (1, 40, -128)):
        ends = np.full((rows, 700), 255, U8), np.full((700, columns), weight, S8)
        found.append(Sample(op, (*ends, *zeros), what="the largest products", runtime=_SATURATES))
    found.append(Sample(op, (bytes_of(0, 4), bytes_of(4, 3, dtype=S8), *zeros), what="no rows"))
    found.append(Sample(op, (bytes_of(2, 0), bytes_of(0, 3, dtype=S8), *zeros), what="no depth"))
    for sample in found:
        if 0 in sample.inputs[0].shape:
            sample.runtime = "it takes no empty operands"
    return found


MATMUL = OpSamples(
    qz.MatmulInteger,
    _matmul,
    _products(),
    [
        Refused(
            qz.MatmulInteger(),
            (t("i32[2, 3]"), t("i8[3, 2]"), t("i32[]"), t("i8[]")),
            DTypeError,
            "int8 or uint8",
        ),
        Refused(
            qz.MatmulInteger(),
            (t("u8[2, 3]"), t("i8[3, 2]"), t("i8[]"), t("i8[]")),
            DTypeError,
            "zero points",
        ),
        Refused(
            qz.MatmulInteger(),
            (t("u8[2, 3]"), t("i8[2, 3]"), t("u8[]"), t("i8[]")),
            ShapeError,
            "multiplied",
        ),
        Refused(
            qz.MatmulInteger(),
            (t("u8[2, 3]"), t("i8[3, 2]"), t("u8[3]"), t("i8[]")),
            ShapeError,
            "whole rows",
        ),
    ],
)


def _conv(
    op: qz.ConvInteger, x: np.ndarray, w: np.ndarray, zx: np.ndarray, zw: np.ndarray
) -> np.ndarray:
    """One product at a time over the padded image."""
    x, w = x.astype(np.int64) - int(zx), w.astype(np.int64)
    w = w - zw.astype(np.int64).reshape(-1, *(1,) * (w.ndim - 1))
    x = np.pad(x, [(0, 0), (0, 0), *op.padding])
    out = tuple(
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(x.shape[2:], w.shape[2:], op.stride, op.dilation, strict=True)
    )
    y = np.zeros((x.shape[0], w.shape[0], *out), np.int64)
    per = w.shape[0] // op.groups
    for o in range(w.shape[0]):
        first = o // per * w.shape[1]
        image = x[:, first : first + w.shape[1]]
        for tap in np.ndindex(*w.shape[2:]):
            window = tuple(
                slice(i * d, i * d + (p - 1) * s + 1, s)
                for i, d, p, s in zip(tap, op.dilation, out, op.stride, strict=True)
            )
            weight = w[o, :, *tap].reshape(1, -1, *(1,) * len(out))
            y[:, o] += (image[:, :, *window] * weight).sum(1)
    return y


def _convs() -> list[Sample]:
    def image(*shape: int, dtype: Any = U8) -> np.ndarray:
        return bytes_of(*shape, dtype=dtype, seed=3)

    def op(stride: int = 1, pad: int = 0, dilation: int = 1, groups: int = 1, rank: int = 2) -> Any:
        return qz.ConvInteger((stride,) * rank, ((pad, pad),) * rank, (dilation,) * rank, groups)

    found = []
    for left, zero in ((U8, 130), (S8, -7)):
        zx, zw = np.array(zero, left), np.array(0, S8)
        found.append(
            Sample(op(pad=1), (image(2, 3, 7, 9, dtype=left), image(18, 3, 3, 3, dtype=S8), zx, zw))
        )
        found.append(
            Sample(
                op(2, 1), (image(1, 20, 9, 7, dtype=left), image(33, 20, 3, 3, dtype=S8), zx, zw)
            )
        )
    zx, zw = np.array(128, U8), np.array(0, S8)
    found.append(Sample(op(), (image(2, 24, 5, 6), image(40, 24, 1, 1, dtype=S8), zx, zw)))
    found.append(Sample(op(2), (image(1, 16, 6, 6), image(8, 16, 1, 1, dtype=S8), zx, zw)))
    found.append(Sample(op(pad=1), (image(1, 8, 12, 6), image(8, 8, 3, 3), zx, np.array(3, U8))))
    columns = bytes_of(8, dtype=S8, seed=5)
    found.append(Sample(op(pad=1), (image(1, 8, 6, 6), image(8, 8, 3, 3, dtype=S8), zx, columns)))
    found[-1].runtime = "it takes one zero point of w"
    depthwise = image(16, 1, 3, 3, dtype=S8)
    found.append(Sample(op(pad=1, groups=16), (image(1, 16, 9, 9), depthwise, zx, zw)))
    grouped = image(32, 8, 3, 3, dtype=S8)
    found.append(Sample(op(pad=1, groups=4), (image(1, 32, 9, 9), grouped, zx, zw)))
    found.append(Sample(op(1, 2, 2), (image(1, 8, 9, 9), image(16, 8, 3, 3, dtype=S8), zx, zw)))
    found.append(Sample(op(rank=1), (image(2, 8, 12), image(16, 8, 3, dtype=S8), zx, zw)))
    cube = image(16, 3, 2, 2, 2, dtype=S8)
    found.append(Sample(op(rank=3, pad=1), (image(1, 3, 4, 5, 3), cube, zx, zw)))
    ones = np.full((1, 64, 4, 4), 255, U8), np.full((16, 64, 3, 3), -128, S8)
    found.append(Sample(op(pad=1), (*ones, np.array(0, U8), zw), what="the largest products"))
    return found


CONV = OpSamples(
    qz.ConvInteger,
    _conv,
    _convs(),
    [
        Refused(
            qz.ConvInteger((1,), ((0, 0),), (1,)),
            (t("u8[1, 2, 5]"), t("i8[3, 3, 2]"), t("u8[]"), t("i8[]")),
            ShapeError,
            "does not suit",
        ),
        Refused(
            qz.ConvInteger((1,), ((0, 0),), (1,)),
            (t("u8[1, 2, 5]"), t("i8[3, 2, 2]"), t("u8[2]"), t("i8[]")),
            ShapeError,
            "0-d zero point",
        ),
        Refused(
            qz.ConvInteger((1,), ((0, 0),), (1,)),
            (t("u8[1, 2, 5]"), t("i8[3, 2, 2]"), t("u8[]"), t("i8[2]")),
            ShapeError,
            "bias",
        ),
        Refused(
            qz.ConvInteger((1,), ((0, 0),), (1,)),
            (t("u8[1, 5]"), t("i8[3, 2]"), t("u8[]"), t("i8[]")),
            ShapeError,
            "spatial",
        ),
    ],
)

SAMPLES = [QUANTIZE, DEQUANTIZE, DYNAMIC, MATMUL, CONV]
