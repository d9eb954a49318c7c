"""Comparison, logic, bits and choice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError, ShapeError
from dualgraph_compiler.ops import bitwise as bw
from dualgraph_compiler.ops import comparison as cmp

from . import BOOL, COMPLEX, FLOATS, INTS, OpSamples, Refused, Sample, rand, strided, t
from ._elementwise import record

nan, inf = math.nan, math.inf
REAL = (BOOL, *INTS, *FLOATS)


def _ordering(op: Any, reference: Any) -> OpSamples:
    return record(op, reference, 2, dtypes=REAL, refuse=["c64"])


def _logical(op: Any, reference: Any, arity: int = 2) -> OpSamples:
    return record(op, reference, arity, dtypes=REAL, complex=True)


def _bits(op: Any, reference: Any, arity: int = 2) -> OpSamples:
    return record(
        op, reference, arity, dtypes=(BOOL, *INTS), refuse=["f32", "c64"], low=-100, high=100
    )


def _shift(op: Any, reference: Any) -> OpSamples:
    def samples() -> list[Sample]:
        found = []
        for d in INTS:
            bits = 8 * d.itemsize
            a = rand(3, 4, dtype=d, low=-100, high=100)
            b = rand(3, 4, dtype=d, low=0, high=bits - 2, seed=1)
            found.append(Sample(op(), (a, b)))
        a, b = np.array([1, -8, 5, -5]), np.array([70, -1, 64, 63])
        found.append(Sample(op(), (a, b), what="all bits out", onnx="amounts beyond the width"))
        found.append(
            Sample(op(), (rand(dtype=np.int32, high=9), np.array(2, np.int32)), what="0-d")
        )
        wide = strided(rand(3, 4, dtype=np.int64, low=-9, high=9)).T
        found.append(Sample(op(), (wide, np.array([0, 1, 2]))))
        return found

    return OpSamples(
        op,
        lambda _op, a, b: reference(a, b),
        samples(),
        [
            Refused(op(), (t("f32[2]"), t("f32[2]")), DTypeError, "expected an integer operand"),
            Refused(op(), (t("i32[2]"), t("i32[3]")), ShapeError, "do not broadcast"),
        ],
    )


def _shift_left(a: np.ndarray, b: np.ndarray) -> Any:
    bits = 8 * a.dtype.itemsize
    shift = np.vectorize(
        lambda x, n: (int(x) << int(n)) % 2**bits if 0 <= n < bits else 0, otypes=[np.uint64]
    )
    return shift(a, b).astype(f"u{a.dtype.itemsize}")


def _shift_right(a: np.ndarray, b: np.ndarray) -> Any:
    bits = 8 * a.dtype.itemsize
    shift = np.vectorize(
        lambda x, n: int(x) >> (int(n) if 0 <= n < bits else bits), otypes=[np.int64]
    )
    return shift(a, b)


def _nan_free(op: Any, reference: Any) -> OpSamples:
    return record(op, reference, dtypes=REAL, complex=True)


def _pick(_op: Any, cond: np.ndarray, a: np.ndarray, b: np.ndarray) -> Any:
    shape = np.broadcast_shapes(cond.shape, a.shape, b.shape)
    cond, a, b = (np.broadcast_to(x, shape) for x in (cond, a, b))
    out = b.copy()
    out[cond] = a[cond]
    return out


def _where(dtype: Any, *shapes: tuple[int, ...], **more: Any) -> Sample:
    shapes = shapes or ((2, 3),) * 3
    cond, a, b = shapes
    inputs = (rand(*cond, dtype=BOOL), rand(*a, dtype=dtype), rand(*b, dtype=dtype, seed=1))
    return Sample(cmp.Where(), inputs, **more)


WHERE = OpSamples(
    cmp.Where,
    _pick,
    [
        *(_where(d) for d in (*REAL, *COMPLEX)),
        _where(np.float32, (), (), (), what="0-d"),
        _where(np.float32, (0, 3), (3,), (), what="no elements"),
        _where(np.float32, (2, 1, 3), (4, 1), (), what="broadcast"),
        Sample(cmp.Where(), (rand(4, 3, dtype=BOOL).T, strided(rand(3, 4)), rand(4, 3).T)),
        _where(np.float64, (2, 1, 3), (4, 1), (), grad=True),
        _where(np.float64, grad=True),
        _where(np.complex128, grad=True),
        Sample(
            cmp.Where(),
            (np.array([True, False]), np.array([1.0, nan]), np.array([inf, 2.0])),
            what="NaN in the branch not taken",
            expected_grads=(None, [1.0, 0.0], [0.0, 1.0]),
        ),
    ],
    [
        Refused(cmp.Where(), (t("f32[2]"), t("f32[2]"), t("f32[2]")), DTypeError, "bool condition"),
        Refused(cmp.Where(), (t("bool[2]"), t("f32[2]"), t("f64[2]")), DTypeError, "one dtype"),
        Refused(cmp.Where(), (t("bool[2]"), t("f32[3]"), t("f32[3]")), ShapeError, "broadcast"),
    ],
)

SAMPLES = [
    _ordering(cmp.Greater, lambda a, b: a > b),
    _ordering(cmp.GreaterEqual, lambda a, b: a >= b),
    _ordering(cmp.Less, lambda a, b: a < b),
    _ordering(cmp.LessEqual, lambda a, b: a <= b),
    record(cmp.Equal, lambda a, b: a == b, 2, dtypes=REAL, complex=True),
    record(cmp.NotEqual, lambda a, b: a != b, 2, dtypes=REAL, complex=True),
    _logical(cmp.LogicalAnd, lambda a, b: (a != 0) & (b != 0)),
    _logical(cmp.LogicalOr, lambda a, b: (a != 0) | (b != 0)),
    _logical(cmp.LogicalXor, lambda a, b: (a != 0) ^ (b != 0)),
    _logical(cmp.LogicalNot, lambda x: x == 0, 1),
    _nan_free(cmp.Isnan, lambda x: x != x),
    _nan_free(cmp.Isinf, lambda x: np.abs(x) == inf if x.dtype.kind in "fc" else x != x),
    _nan_free(cmp.Isfinite, lambda x: x - x == 0 if x.dtype.kind in "fc" else x == x),
    WHERE,
    _bits(bw.BitwiseAnd, lambda a, b: a & b),
    _bits(bw.BitwiseOr, lambda a, b: a | b),
    _bits(bw.BitwiseXor, lambda a, b: a ^ b),
    _bits(bw.BitwiseNot, lambda x: ~x, 1),
    _shift(bw.ShiftLeft, _shift_left),
    _shift(bw.ShiftRight, _shift_right),
]
