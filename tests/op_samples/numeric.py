"""Divisors, parts of floating-point numbers, folds of bits, and running extremes and log-sums."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError, IndexOutOfRange
from dualgraph_compiler.ops import numeric as nm
from dualgraph_compiler.ops import running as rn

from . import BOOL, FLOATS, INTS, OpSamples, Refused, Sample, rand, strided, t
from ._elementwise import edge, record

nan, inf = math.nan, math.inf
_NONE = "ONNX has no such operator"


def _whole(op: Any, reference: Any) -> OpSamples:
    by_element = np.vectorize(lambda a, b: reference(int(a), int(b)), otypes=[object])

    def whole(a: Any, b: Any) -> Any:
        a, b = np.broadcast_arrays(a, b)
        return by_element(a, b).astype(np.int64) if a.size else np.zeros(a.shape, np.int64)

    return record(
        op, whole, 2, dtypes=INTS, low=-12, high=12, refuse=["f32", "bool"], special=(), onnx=_NONE
    )


NEXTAFTER = record(
    nm.Nextafter,
    lambda a, b: np.nextafter(a, b),
    2,
    dtypes=(np.dtype(np.float64),),
    refuse=["i32", "bool", "c64"],
    special=(),
    onnx=_NONE,
    more=[
        Sample(nm.Nextafter(), (np.float32([1, 1, 0]), np.float32([2, 0, -1])), tol=1e-6),
        Sample(nm.Nextafter(), tuple(np.meshgrid(*[[0.0, -0.0, 1.0, inf, -inf, nan]] * 2))),
        edge(nm.Nextafter(), ([1.0, 1.0], [1.0, 2.0]), [0.0, 1.0], [0.0, 0.0]),
    ],
)


def _frexp(op: Any, x: Any) -> Any:
    parts = [math.frexp(float(v)) for v in x.reshape(-1)]
    mantissa = np.array([m for m, _ in parts]).reshape(x.shape)
    return mantissa, np.array([e for _, e in parts], np.int32).reshape(x.shape)


FREXP = OpSamples(
    nm.Frexp,
    _frexp,
    [
        *(Sample(nm.Frexp(), (rand(2, 3, dtype=d, low=-9, high=9),)) for d in FLOATS),
        Sample(nm.Frexp(), (rand(),), what="0-d"),
        Sample(nm.Frexp(), (rand(0, 3),), what="no elements"),
        Sample(nm.Frexp(), (strided(rand(3, 4)),), what="not contiguous"),
        Sample(nm.Frexp(), (np.array([0.0, -0.0, inf, -inf, nan, 1e-310, 1.0]),), what="special"),
        Sample(
            nm.Frexp(),
            (np.array([0.3, 5.0, -0.7]),),
            expected_grads=([2.0, 0.125, 1.0],),
        ),
    ],
    [Refused(nm.Frexp(), (t("i32[2]"),), DTypeError, "expected a floating-point")],
    onnx=_NONE,
)


def _xor(op: nm.XorReduce, x: Any) -> Any:
    return np.bitwise_xor.reduce(x, op.axes, keepdims=op.keepdims)


_BITS = rand(2, 3, 5, dtype=np.int64, low=-1000, high=1000)
XOR_REDUCE = OpSamples(
    nm.XorReduce,
    _xor,
    [
        Sample(nm.XorReduce((0, 1, 2)), (_BITS,)),
        Sample(nm.XorReduce((1,), True), (_BITS,)),
        Sample(nm.XorReduce((0, 2)), (strided(_BITS),)),
        Sample(nm.XorReduce(()), (_BITS,)),
        Sample(nm.XorReduce(()), (np.array(3, np.int64),), what="0-d"),
        Sample(nm.XorReduce((1,)), (np.zeros((2, 0), np.int64),), what="no elements"),
        Sample(nm.XorReduce((0,)), (rand(7, dtype=np.uint8, high=255),)),
        Sample(nm.XorReduce((0,)), (rand(7, dtype=BOOL),)),
    ],
    [
        Refused(nm.XorReduce((0,)), (t("f32[2]"),), DTypeError, "expected an integer"),
        Refused(nm.XorReduce((1,)), (t("i32[2]"),), IndexOutOfRange, "out of range"),
    ],
    onnx=_NONE,
)


# -- along an axis --------------------------------------------------------------------------------


def _running(op: Any, x: Any, better: Any) -> Any:
    if x.ndim == 0:
        return np.array(0)
    rows = np.moveaxis(x, op.axis, -1)
    out = np.zeros(rows.shape, np.int64)
    for at in np.ndindex(*rows.shape[:-1]):
        best = 0
        for i, v in enumerate(rows[at]):
            held = rows[at][best]
            if v != v or (held == held and better(v, held)):
                best = i
            out[at][i] = best
    return np.moveaxis(out, -1, op.axis)


def _position(op: Any, better: Any) -> OpSamples:
    ties = np.array([[1.0, 3, 2, 3, nan, 5, nan], [nan, 1, 0, 0, 2, 2, inf]])
    return OpSamples(
        op,
        functools.partial(_running, better=better),
        [
            *(
                Sample(op(1), (rand(2, 6, 3, dtype=d, low=-2, high=2),))
                for d in (*FLOATS, *INTS, BOOL)
            ),
            Sample(op(1), (ties,), what="equal elements and NaN"),
            Sample(op(0), (strided(rand(4, 3)),)),
            Sample(op(0), (rand(),), what="0-d"),
            Sample(op(1), (rand(2, 0),), what="no elements"),
        ],
        [
            Refused(op(0), (t("c64[2]"),), DTypeError, "no order"),
            Refused(op(2), (t("f32[2]"),), IndexOutOfRange, "out of range"),
        ],
    )


def _logcumsumexp(op: rn.LogCumsumExp, x: Any) -> Any:
    if x.ndim == 0:
        return x
    with np.errstate(all="ignore"):
        top = np.max(np.where(np.isfinite(x.real), x.real, -1e3), initial=-1e3)
        total = np.cumsum(np.exp(x - top), op.axis)
        return np.where(x.real == inf, x, np.log(total) + top) if x.size else x


LOG_CUMSUM_EXP = OpSamples(
    rn.LogCumsumExp,
    _logcumsumexp,
    [
        *(Sample(rn.LogCumsumExp(1), (rand(2, 5, dtype=d),)) for d in FLOATS),
        Sample(rn.LogCumsumExp(0), (strided(rand(4, 3)),)),
        Sample(rn.LogCumsumExp(0), (rand(),), what="0-d"),
        Sample(rn.LogCumsumExp(1), (rand(2, 0),), what="no elements"),
        Sample(rn.LogCumsumExp(0), (np.array([700.0, 710.0, 705.0]),), what="large"),
        Sample(rn.LogCumsumExp(0), (rand(3, dtype=np.complex128),)),
        Sample(rn.LogCumsumExp(1), (rand(2, 5, dtype=np.float64),), grad=True),
        Sample(rn.LogCumsumExp(0), (rand(3, 2, dtype=np.complex128),), grad=True),
        edge(rn.LogCumsumExp(0), ([-inf, -inf, 0.0],), [0.0, 0.0, 1.0]),
    ],
    [Refused(rn.LogCumsumExp(0), (t("i32[2]"),), DTypeError, "expected a floating-point")],
)


SAMPLES = [
    _whole(nm.Gcd, math.gcd),
    _whole(nm.Lcm, math.lcm),
    NEXTAFTER,
    FREXP,
    XOR_REDUCE,
    _position(rn.RunningArgMax, lambda new, held: new >= held),
    _position(rn.RunningArgMin, lambda new, held: new <= held),
    LOG_CUMSUM_EXP,
]
