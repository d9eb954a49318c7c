"""Ops without operands, and random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Dim
from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError
from dualgraph_compiler.ops import creation as cr
from dualgraph_compiler.ops import random as rn

from . import TOLERANCE, OpSamples, Refused, Sample, t

MOVED = "ONNX makes no such numbers"

FULL = OpSamples(
    cr.Full,
    lambda op: np.array([op.value] * int(np.prod(op.shape))).reshape(op.shape),
    [
        Sample(cr.Full((2, 3), 1.5, dt.float32), ()),
        Sample(cr.Full((), 3, dt.int64), (), "0-d"),
        Sample(cr.Full((0, 2), 3, dt.int64), (), "empty"),
        Sample(cr.Full((2,), float("nan"), dt.float64), (), "NaN"),
        Sample(cr.Full((2,), float("-inf"), dt.float16), (), "infinite"),
        *(
            Sample(cr.Full((2,), 1, d), (), onnx=MOVED if d.is_complex or d.is_narrow else True)
            for d in dt.ALL
        ),
    ],
    [Refused(cr.Full((-1,), 0, dt.float32), (), ShapeError, "negative")],
)


def listed(op: Any) -> Any:
    out, i = [], 0
    while (op.start + i * op.step < op.stop) == (op.step > 0) and op.start + i * op.step != op.stop:
        out.append(op.start + i * op.step)
        i += 1
    return np.array(out).reshape(-1)


ARANGE = OpSamples(
    cr.Arange,
    listed,
    [
        Sample(cr.Arange(0, 5, 1, dt.int64), ()),
        Sample(cr.Arange(2, 11, 3, dt.int32), ()),
        Sample(cr.Arange(5, 0, -2, dt.float32), (), "downwards"),
        Sample(cr.Arange(0.0, 1.0, 0.25, dt.float32), (), "fractions"),
        Sample(cr.Arange(1, 2.1, 0.5, dt.float64), ()),
        Sample(cr.Arange(3, 3, 1, dt.int64), (), "empty"),
        Sample(cr.Arange(3, 0, 1, dt.int64), (), "the wrong way: empty"),
        Sample(cr.Arange(0, 3000, 2, dt.int64), (), "too long to list"),
        Sample(cr.Arange(0.5, 3000.0, 1.5, dt.float32), (), "too long to list"),
        *(
            Sample(cr.Arange(0, 3, 1, d), (), onnx=MOVED if d.is_complex or d.is_narrow else True)
            for d in dt.ALL
            if d is not dt.bool_
        ),
    ],
    [
        Refused(cr.Arange(0, 3, 0, dt.int64), (), ArgumentError, "nonzero"),
        Refused(cr.Arange(0.0, float("inf"), 1, dt.float32), (), ArgumentError, "finite"),
        Refused(cr.Arange(0, Dim("n"), 0.5, dt.float32), (), ArgumentError, "symbolic"),
    ],
)

EYE = OpSamples(
    cr.Eye,
    lambda op: np.array(
        [[float(j - i == op.diagonal) for j in range(op.columns)] for i in range(op.rows)]
    ),
    [
        Sample(cr.Eye(3, 3, dt.float32), ()),
        Sample(cr.Eye(2, 4, dt.float64, 1), ()),
        Sample(cr.Eye(4, 2, dt.int64, -2), ()),
        Sample(cr.Eye(2, 2, dt.bool_), ()),
    ],
    [Refused(cr.Eye(2, -1, dt.float32), (), ShapeError, "negative")],
)

DIM_VALUE = OpSamples(
    cr.DimValue,
    lambda op: np.array(op.dim),
    [Sample(cr.DimValue(7), ()), Sample(cr.DimValue(0), ())],
)

# -- random ----------------------------------------------------------------------------------------

SEEDS = [(0, 0), (2**64 - 1, 2**63), (1234, 5)]
REFUSED_SEEDS = [
    ((t("i64[]"), t("u64[]")), DTypeError, "0-d uint64 seed"),
    ((t("u64[]"), t("u64[1]")), DTypeError, "0-d uint64 offset"),
]


def exports(op: Any) -> bool | str:
    wide = isinstance(op, rn.RandomInt) and op.high - op.low >= 2**32
    return "ONNX divides no unsigned 64-bit numbers" if wide else True


def record(cls: Any, ops: list[Any], check: Any, refused: list[Refused] | None = None) -> OpSamples:
    samples = [
        Sample(op, (np.array(seed, np.uint64), np.array(offset, np.uint64)), onnx=exports(op))
        for op in ops
        for seed, offset in SEEDS
    ]
    more = [Refused(ops[0], *case) for case in REFUSED_SEEDS]
    return OpSamples(
        cls,
        lambda op, *inputs: None,
        samples,
        [*more, *(refused or [])],
        check=check,
    )


def draw(op: Any, inputs: Any, shift: int = 0) -> Any:
    seed, offset = inputs
    with np.errstate(over="ignore"):
        return op.eager(np, seed, offset + np.uint64(shift))


def repeats(op: Any, inputs: Any, y: Any, tol: float = 0.0) -> None:
    """Equal operands give equal numbers; the next draw, and another seed, give others."""
    wide = np.complex128 if tol else y.dtype
    want = draw(op, inputs)
    np.testing.assert_allclose(y.astype(wide), want.astype(wide), rtol=tol, atol=tol)
    if y.size >= 100:
        assert (draw(op, inputs, op.counters) != y).any()
        assert (op.eager(np, inputs[0] ^ np.uint64(1), inputs[1]) != y).any()


def uniform(op: Any, inputs: Any, outputs: Any) -> None:
    (y,) = outputs
    repeats(op, inputs, y)
    y = y.astype(np.float64)
    assert ((y >= 0) & (y < 1)).all()
    if y.size >= 1000:
        assert abs(y.mean() - 0.5) < 0.05
        assert abs(y.var() - 1 / 12) < 0.01


def normal(op: Any, inputs: Any, outputs: Any) -> None:
    """Numbers go through log, sin and cos, whose last bits differ between devices."""
    (y,) = outputs
    repeats(op, inputs, y, TOLERANCE[y.dtype])
    y = y.astype(np.complex128)
    assert np.isfinite(y).all()
    if y.size >= 1000:
        assert abs(y.mean()) < 0.1
        assert abs((abs(y) ** 2).mean() - 1) < 0.1


def bernoulli(op: Any, inputs: Any, outputs: Any) -> None:
    (y,) = outputs
    repeats(op, inputs, y) if 0 < op.p < 1 else None
    assert abs(y.mean() - op.p) < 0.05


def integers(op: Any, inputs: Any, outputs: Any) -> None:
    (y,) = outputs
    repeats(op, inputs, y)
    assert y.size == 0 or (int(y.min()) >= op.low and int(y.max()) < op.high)
    if y.size >= 1000 and op.high - op.low < 10:
        assert len(np.unique(y)) == op.high - op.low


def permutation(op: Any, inputs: Any, outputs: Any) -> None:
    (y,) = outputs
    repeats(op, inputs, y)
    np.testing.assert_array_equal(np.sort(y), np.arange(op.n))


SHAPES: list[tuple[int, ...]] = [(30, 50), (3,), (), (0, 2)]
WIDE = (dt.float32, dt.float64)

SAMPLES = [
    FULL,
    ARANGE,
    EYE,
    DIM_VALUE,
    record(
        rn.RandomUniform,
        [
            *(rn.RandomUniform(s, d) for s in SHAPES for d in WIDE),
            *(rn.RandomUniform((2000,), d) for d in (dt.float16, dt.bfloat16)),
        ],
        uniform,
        [
            Refused(
                rn.RandomUniform((2,), dt.int64), (t("u64[]"), t("u64[]")), DTypeError, "floating"
            ),
            Refused(
                rn.RandomUniform((-2,), dt.float32),
                (t("u64[]"), t("u64[]")),
                ShapeError,
                "negative",
            ),
        ],
    ),
    record(
        rn.RandomNormal,
        [
            *(rn.RandomNormal(s, d) for s in SHAPES for d in (*WIDE, dt.complex64, dt.complex128)),
            *(rn.RandomNormal((2000,), d) for d in (dt.float16, dt.bfloat16)),
        ],
        normal,
    ),
    record(
        rn.RandomBernoulli,
        [rn.RandomBernoulli((2000,), p) for p in (0.0, 0.3, 1.0)],
        bernoulli,
        [
            Refused(
                rn.RandomBernoulli((2,), 1.5),
                (t("u64[]"), t("u64[]")),
                ArgumentError,
                "0 <= p <= 1",
            )
        ],
    ),
    record(
        rn.RandomInt,
        [
            rn.RandomInt(-3, 5, (2000,)),
            rn.RandomInt(0, 200, (1000,), dt.uint8),
            rn.RandomInt(0, 2, (), dt.int8),
            rn.RandomInt(-(2**63), 2**63 - 1, (100,)),
        ],
        integers,
        [
            Refused(
                rn.RandomInt(3, 3, (2,)), (t("u64[]"), t("u64[]")), ArgumentError, "low < high"
            ),
            Refused(
                rn.RandomInt(0, 300, (2,), dt.uint8),
                (t("u64[]"), t("u64[]")),
                ArgumentError,
                "does not fit",
            ),
        ],
    ),
    record(rn.RandomPermutation, [rn.RandomPermutation(n) for n in (0, 1, 2, 1000)], permutation),
]
