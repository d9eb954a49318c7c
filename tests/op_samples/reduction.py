"""Reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError, IndexOutOfRange, ShapeError
from dualgraph_compiler.ops import quantifier as qn
from dualgraph_compiler.ops import reduction as rd

from . import BOOL, COMPLEX, FLOATS, INTS, OpSamples, Refused, Sample, rand, strided, t

nan, inf = math.nan, math.inf
# Over a 2-d or 3-d operand: the axes, and whether they stay as size 1.
CALLS: Sequence[tuple[tuple[int, ...], bool]] = (
    ((0,), False),
    ((1,), True),
    ((0, 2), False),
    ((1, 2), True),
    ((0, 1, 2), False),
    ((), False),
)


def reduction(
    op: Any,
    reference: Any,
    dtypes: Sequence[Any],
    *,
    refuse: Sequence[str] = (),
    empty: bool = True,
    low: float = -2.0,
    high: float = 2.0,
    grad: bool = True,
    more: Sequence[Sample] = (),
    tol: float | None = None,
) -> OpSamples:
    """The record of a reduction; ``reference(x, axes, keepdims)``."""

    def x(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
        return rand(*shape, dtype=dtype, low=low, high=high)

    samples = [Sample(op(axes, keep), (x(2, 3, 4),), tol=tol) for axes, keep in CALLS]
    samples += [Sample(op((1,)), (x(2, 5, dtype=d),)) for d in dtypes]
    samples += [
        Sample(op(()), (x(),), what="0-d"),
        Sample(op((1,)), (strided(x(4, 3)).T,), what="not contiguous", tol=tol),
        Sample(op((1,)), (x(0, 3),), what="no elements left"),
        Sample(
            op((0,)),
            (np.array([1.0, nan, inf], np.float32),),
            what="NaN",
            runtime="NaN" if op in (rd.Max, rd.Min, rd.LogSumExp) else True,
        ),
    ]
    if empty:
        runtime = "0 / 0 in ReduceMean" if op is rd.Mean else True
        samples.append(Sample(op((0,)), (x(0, 3),), what="over no elements", runtime=runtime))
    if grad and op.differentiable:
        wide = [d for d in (np.dtype(np.float64), np.dtype(np.complex128)) if d in dtypes]
        for d in wide:
            samples += [Sample(op(a, k), (x(2, 3, 2, dtype=d),), grad=True) for a, k in CALLS]
    samples += more
    refused = [
        Refused(op((2,)), (t("f32[2, 3]"),), IndexOutOfRange, "dimension out of range"),
        Refused(op((0, 0)), (t("f32[2, 3]"),), ShapeError, "more than once"),
        *(Refused(op((0,)), (t(f"{d}[2]"),), DTypeError, "got") for d in refuse),
    ]
    if not empty:
        refused.append(Refused(op((0,)), (t("f32[0, 3]"),), ShapeError, "non-zero size"))

    def by_axes(o: Any, a: np.ndarray[Any, Any]) -> Any:
        return reference(a, o.axes, o.keepdims) if o.axes else _identity(op, a)

    return OpSamples(op, by_axes, samples, refused)


def _identity(op: Any, x: np.ndarray[Any, Any]) -> Any:
    return x != 0 if op in (qn.Any, qn.All) else x


def _logsumexp(x: np.ndarray[Any, Any], axes: tuple[int, ...], keepdims: bool) -> Any:
    return np.log(np.sum(np.exp(x), axes, keepdims=keepdims))


def _others(_op: Any, x: np.ndarray[Any, Any]) -> Any:
    out = np.empty_like(x)
    for i in range(x.shape[-1]):
        out[..., i] = np.prod(np.delete(x, i, -1), -1)
    return out


def _zeros(*positions: int) -> np.ndarray[Any, Any]:
    x = rand(2, 4, dtype=np.float64)
    x[0, list(positions)] = 0
    return x


def _tied(op: Any, values: list[float], grads: list[float]) -> Sample:
    runtime = True if np.isfinite(values).all() else "NaN and infinity"
    x = np.array(values)
    return Sample(op((0,)), (x,), what="ties", expected_grads=(grads,), runtime=runtime)


PROD_OTHERS = OpSamples(
    rd.ProdOthers,
    _others,
    [
        *(Sample(rd.ProdOthers(), (rand(2, 4, dtype=d),)) for d in (*INTS, *FLOATS, *COMPLEX)),
        Sample(rd.ProdOthers(), (_zeros(1),), grad=True),
        Sample(rd.ProdOthers(), (_zeros(1, 2),), grad=True),
        Sample(rd.ProdOthers(), (rand(3, dtype=np.complex128),), grad=True),
        Sample(rd.ProdOthers(), (rand(3, 1),)),
        Sample(rd.ProdOthers(), (rand(3, 0),), what="no elements"),
    ],
    [Refused(rd.ProdOthers(), (t("f32[]"),), ShapeError, "at least one dimension")],
)

NUM_ELEMENTS = OpSamples(
    rd.NumElements,
    lambda op, x: np.prod([x.shape[a] for a in op.axes]),
    [
        Sample(rd.NumElements((0, 2)), (rand(2, 3, 4),)),
        Sample(rd.NumElements(()), (rand(2, 3, dtype=np.float16),)),
        Sample(rd.NumElements((1,)), (rand(2, 0, dtype=np.int64),)),
    ],
    [Refused(rd.NumElements((1,)), (t("f32[2]"),), IndexOutOfRange, "out of range")],
)

SAMPLES = [
    reduction(
        rd.Sum,
        lambda x, a, k: np.sum(x, a, keepdims=k),
        (*INTS, *FLOATS, *COMPLEX),
        refuse=["bool"],
        more=[
            Sample(rd.Sum((0,)), (np.full(3000, 1, np.float16),), what="accumulates wide"),
            Sample(rd.Sum((0,)), (np.full((3, 100), 100, np.int8),), what="integers wrap"),
        ],
    ),
    reduction(
        rd.Mean,
        lambda x, a, k: np.sum(x, a, keepdims=k) / math.prod(x.shape[i] for i in a),
        (*FLOATS, *COMPLEX),
        refuse=["bool", "i32"],
        more=[Sample(rd.Mean((0,)), (np.full(3000, 60000, np.float16),), what="no overflow")],
    ),
    reduction(
        rd.Prod,
        lambda x, a, k: np.prod(x, a, keepdims=k),
        (*INTS, *FLOATS, *COMPLEX),
        refuse=["bool"],
        more=[
            Sample(rd.Prod((1,)), (_zeros(1),), grad=True, what="a zero"),
            Sample(rd.Prod((0, 1)), (_zeros(1, 2),), grad=True, what="two zeros"),
        ],
    ),
    reduction(
        rd.Max,
        lambda x, a, k: np.max(x, a, keepdims=k),
        (BOOL, *INTS, *FLOATS),
        refuse=["c64"],
        empty=False,
        more=[
            _tied(rd.Max, [1.0, 2.0, 2.0], [0.0, 0.5, 0.5]),
            _tied(rd.Max, [1.0, nan, nan], [nan, nan, nan]),
        ],
    ),
    reduction(
        rd.Min,
        lambda x, a, k: np.min(x, a, keepdims=k),
        (BOOL, *INTS, *FLOATS),
        refuse=["c64"],
        empty=False,
        more=[_tied(rd.Min, [3.0, 2.0, 2.0], [0.0, 0.5, 0.5])],
    ),
    reduction(
        rd.LogSumExp,
        _logsumexp,
        FLOATS,
        refuse=["bool", "i32", "c64"],
        more=[
            Sample(rd.LogSumExp((1,)), (np.array([[-inf, 1.0], [-inf, -inf]]),)),
            _tied(rd.LogSumExp, [-inf, 1.0], [0.0, 1.0]),
        ],
    ),
    reduction(
        qn.Any,
        lambda x, a, k: np.any(x != 0, a, keepdims=k),
        (BOOL, *INTS, *FLOATS, *COMPLEX),
    ),
    reduction(
        qn.All,
        lambda x, a, k: np.all(x != 0, a, keepdims=k),
        (BOOL, *INTS, *FLOATS, *COMPLEX),
    ),
    PROD_OTHERS,
    NUM_ELEMENTS,
]
