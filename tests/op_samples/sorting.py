"""Order, running sums and products."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError, IndexOutOfRange, ShapeError
from dualgraph_compiler.ops import cumulative as cu
from dualgraph_compiler.ops import sorting as so

from . import BOOL, COMPLEX, FLOATS, INTS, OpSamples, Refused, Sample, rand, strided, t

REAL = (BOOL, *INTS, *FLOATS)
nan, inf = np.nan, np.inf
TIES = np.array([[2, 1, 2, 1, 3], [0, 0, 0, 0, 0]], np.float32)
WITH_NAN = np.array([1, nan, -inf, inf, nan, 0], np.float32)
NAN = "ONNX does not say where NaN goes"


def distinct(*shape: int, dtype: Any = np.float64) -> np.ndarray[Any, Any]:
    n = int(np.prod(shape))
    return np.random.default_rng(n).permutation(n).reshape(shape).astype(dtype)


def order(row: Any, descending: bool) -> list[int]:
    """Stable, NaN last in ascending order."""

    def key(i: int) -> tuple[Any, ...]:
        v = row[i]
        is_nan = bool(v != v)
        return (
            (not is_nan, 0 if is_nan else -float(v))
            if descending
            else (
                is_nan,
                0 if is_nan else float(v),
            )
        )

    return sorted(range(len(row)), key=key)


def along(x: Any, axis: int, function: Any) -> tuple[Any, Any]:
    """Values and indices, `function` giving the indices of a row."""
    if x.ndim == 0:
        return x, np.zeros((), np.int64)
    rows = np.moveaxis(x, axis, -1)
    lead = rows.shape[:-1]
    length = len(function(rows[(0,) * len(lead)])) if 0 not in lead else 1
    at = np.zeros((*lead, length), np.int64)
    for k in np.ndindex(*lead):
        at[k] = function(rows[k])
    values = np.take_along_axis(rows, at, -1)
    return np.moveaxis(values, -1, axis), np.moveaxis(at, -1, axis)


SORT = OpSamples(
    so.Sort,
    lambda op, x: along(x, op.axis, lambda r: order(r, op.descending)),
    [
        Sample(so.Sort(1), (distinct(2, 4, 3),), grad=True),
        Sample(so.Sort(0, True), (distinct(4, 3),), grad=True),
        Sample(so.Sort(1), (TIES,), "stable"),
        Sample(so.Sort(1, True), (TIES,), "stable downwards"),
        Sample(so.Sort(0), (WITH_NAN,), "NaN last", runtime=NAN),
        Sample(so.Sort(0, True), (WITH_NAN,), "NaN first", runtime=NAN),
        Sample(so.Sort(0), (rand(),), "0-d"),
        Sample(so.Sort(1), (rand(2, 0),), "empty"),
        Sample(so.Sort(0), (strided(distinct(4, 3, dtype=np.float32)),), "not contiguous"),
        *(Sample(so.Sort(0), (rand(9, dtype=d),)) for d in REAL),
    ],
    [
        Refused(so.Sort(1), (t("f32[3]"),), IndexOutOfRange, "out of range"),
        Refused(so.Sort(0), (t("c64[3]"),), DTypeError, "no order"),
    ],
)


def topk(op: Any, x: Any) -> tuple[Any, Any]:
    return along(x, op.axis, lambda r: order(r, op.largest)[: op.k])


def unordered(op: Any, inputs: Any, outputs: Any) -> None:
    """Without `sorted` the order is free: compare sorted."""
    (x,), (values, at) = inputs, outputs
    want, _ = topk(op, x)
    if op.sorted:
        np.testing.assert_array_equal(values, want)
    else:
        np.testing.assert_array_equal(np.sort(values, op.axis), np.sort(want, op.axis))
    if x.ndim:
        np.testing.assert_array_equal(values, np.take_along_axis(x, at, op.axis))


TOP_K = OpSamples(
    so.TopK,
    topk,
    [
        Sample(so.TopK(2, 1), (distinct(2, 4, 3),), grad=True),
        Sample(so.TopK(3, 0, False), (distinct(4, 3),), grad=True),
        Sample(so.TopK(2, 1, True, False), (distinct(2, 300),), "unordered"),
        Sample(so.TopK(3, 1), (distinct(2, 300, dtype=np.float32),), "few of many"),
        Sample(so.TopK(3, 1), (TIES,), "the first of equal ones"),
        Sample(so.TopK(2, 0), (WITH_NAN,), "NaN is the largest", runtime=NAN),
        Sample(so.TopK(0, 0), (rand(3),), "none"),
        Sample(so.TopK(1, 0), (rand(),), "0-d"),
        *(Sample(so.TopK(2, 0), (rand(9, dtype=d),)) for d in REAL),
    ],
    [
        Refused(so.TopK(4, 0), (t("f32[3]"),), match="within \\[0, 3\\]"),
        Refused(so.TopK(-1, 0), (t("f32[3]"),), match="within"),
        Refused(so.TopK(1, 0), (t("c64[3]"),), DTypeError, "no order"),
    ],
    check=unordered,
)


def position(op: Any, x: Any) -> Any:
    if x.ndim == 0:
        return np.zeros((), np.int64)
    _, at = along(x, op.axis, lambda r: first(r, op.name == "arg_max"))
    return at if op.keepdims else at.squeeze(op.axis)


def first(row: Any, largest: bool) -> list[int]:
    missing = [i for i, v in enumerate(row) if v != v]
    return missing[:1] or order(row, largest)[:1]


def positions(cls: Any) -> OpSamples:
    return OpSamples(
        cls,
        position,
        [
            Sample(cls(1), (rand(2, 4, 3),)),
            Sample(cls(0, True), (rand(4, 3),)),
            Sample(cls(1), (TIES,), "the first of equal ones"),
            Sample(cls(0), (WITH_NAN,), "NaN before all", runtime=NAN),
            Sample(cls(0), (rand(),), "0-d"),
            Sample(cls(0), (rand(3, 0),), "no rows"),
            Sample(cls(0), (strided(rand(4, 3)),), "not contiguous"),
            *(Sample(cls(0), (rand(9, dtype=d),)) for d in REAL),
        ],
        [
            Refused(cls(0), (t("f32[0, 3]"),), match="above 0"),
            Refused(cls(2), (t("f32[2, 3]"),), IndexOutOfRange, "out of range"),
            Refused(cls(0), (t("c64[3]"),), DTypeError, "no order"),
        ],
    )


# -- running sums and products ---------------------------------------------------------------------


def cumsum(op: Any, x: Any) -> Any:
    if x.ndim == 0:
        return np.zeros_like(x) if op.exclusive else x
    x = np.moveaxis(x, op.axis, 0)
    x = x[::-1] if op.reverse else x
    y, total = np.zeros_like(x), np.zeros(x.shape[1:], x.dtype)
    for i in range(x.shape[0]):
        y[i] = total if op.exclusive else total + x[i]
        total = total + x[i]
    return np.moveaxis(y[::-1] if op.reverse else y, 0, op.axis)


CUMSUM = OpSamples(
    cu.Cumsum,
    cumsum,
    [
        *(
            Sample(
                cu.Cumsum(axis, exclusive, reverse), (rand(2, 4, 3, dtype=np.float64),), grad=True
            )
            for axis, exclusive, reverse in (
                (0, False, False),
                (1, True, False),
                (2, False, True),
                (1, True, True),
            )
        ),
        Sample(cu.Cumsum(0), (rand(),), "0-d"),
        Sample(cu.Cumsum(0, True), (rand(),), "0-d, exclusive"),
        Sample(cu.Cumsum(1), (rand(2, 0),), "empty"),
        Sample(cu.Cumsum(0), (strided(rand(4, 3)),), "not contiguous"),
        Sample(cu.Cumsum(0), (np.array([1, nan, 2], np.float32),), "NaN"),
        *(Sample(cu.Cumsum(0), (rand(5, dtype=d),)) for d in (*INTS, *FLOATS, *COMPLEX)),
    ],
    [
        Refused(cu.Cumsum(0), (t("bool[3]"),), DTypeError, "cast bool"),
        Refused(cu.Cumsum(1), (t("f32[3]"),), IndexOutOfRange, "out of range"),
    ],
)


def cumprod(op: Any, x: Any) -> Any:
    if x.ndim == 0:
        return x
    y = np.moveaxis(x.copy(), op.axis, 0)
    for i in range(1, y.shape[0]):
        y[i] = y[i] * y[i - 1]
    return np.moveaxis(y, 0, op.axis)


ZEROS = np.array([[1.5, 0.0, 2.0, 0.0], [0.0, 1.0, 3.0, 1.0]])

CUMPROD = OpSamples(
    cu.Cumprod,
    cumprod,
    [
        Sample(cu.Cumprod(1), (rand(2, 4, dtype=np.float64),), grad=True),
        Sample(cu.Cumprod(0), (rand(3, 2, dtype=np.complex128),), grad=True),
        Sample(cu.Cumprod(1), (ZEROS,), "zeros", grad=True),
        Sample(cu.Cumprod(0), (rand(),), "0-d"),
        Sample(cu.Cumprod(1), (rand(2, 0),), "empty"),
        *(Sample(cu.Cumprod(0), (rand(5, dtype=d),)) for d in (*INTS, *FLOATS)),
    ],
    [Refused(cu.Cumprod(0), (t("bool[3]"),), DTypeError, "cast bool")],
)


def scan(op: Any, a: Any, b: Any) -> Any:
    a, b = np.moveaxis(a, op.axis, 0), np.moveaxis(b, op.axis, 0)
    y, state = np.zeros_like(b), np.zeros_like(b[0]) if len(b) else None
    for i in reversed(range(len(b))) if op.reverse else range(len(b)):
        state = a[i] * state + b[i]
        y[i] = state
    return np.moveaxis(y, 0, op.axis)


def f64(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return rand(*shape, dtype=np.float64, seed=seed)


LINEAR_SCAN = OpSamples(
    cu.LinearScan,
    scan,
    [
        Sample(cu.LinearScan(0), (f64(4, 3), f64(4, 3, seed=1)), grad=True),
        Sample(cu.LinearScan(1, True), (f64(2, 4), f64(2, 4, seed=1)), grad=True),
        Sample(
            cu.LinearScan(0),
            (rand(3, 2, dtype=np.complex128), rand(3, 2, dtype=np.complex128, seed=1)),
            grad=True,
        ),
        Sample(cu.LinearScan(0), (rand(0, 2), rand(0, 2)), "empty"),
        Sample(cu.LinearScan(0), (strided(rand(4, 3)), rand(4, 3)), "not contiguous"),
        *(Sample(cu.LinearScan(0), (rand(4, dtype=d), rand(4, dtype=d))) for d in FLOATS),
    ],
    [
        Refused(cu.LinearScan(0), (t("f32[3]"), t("f32[2]")), ShapeError, "one shape"),
        Refused(cu.LinearScan(0), (t("f32[]"), t("f32[]")), ShapeError, "with an axis"),
    ],
)

SAMPLES = [
    SORT,
    TOP_K,
    positions(so.ArgMax),
    positions(so.ArgMin),
    CUMSUM,
    CUMPROD,
    LINEAR_SCAN,
]
