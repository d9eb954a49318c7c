"""Pooling."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError, ShapeError
from dualgraph_compiler.ops import adaptive_pool as ap
from dualgraph_compiler.ops import avg_pool as av
from dualgraph_compiler.ops import pool as pl

from . import FLOATS, INTS, OpSamples, Refused, Sample, rand, strided, t

NONE = ((0, 0), (0, 0))
nan = np.nan


def distinct(*shape: int, dtype: Any = np.float64) -> np.ndarray[Any, Any]:
    """Numbers of which no two are equal or close: maxima are differentiable there."""
    n = int(np.prod(shape))
    return np.random.default_rng(n).permutation(n).reshape(shape).astype(dtype)


def f64(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return rand(*shape, dtype=np.float64, seed=seed)


def counts(op: Any, sizes: Any) -> tuple[int, ...]:
    """The number of windows per axis, by walking along it."""
    dilation = getattr(op, "dilation", (1,) * len(op.kernel))
    out = []
    for n, k, s, (lo, hi), d in zip(sizes, op.kernel, op.stride, op.padding, dilation):
        reach, p = d * (k - 1) + 1, 0
        while p * s + reach <= n + lo + hi:
            p += 1
        # A last window that hangs out counts if it starts inside the input or the padding before.
        if op.ceil_mode and (p - 1) * s + reach < n + lo + hi and p * s < n + lo:
            p += 1
        out.append(p)
    return tuple(out)


def windows(op: Any, sizes: Any) -> Any:
    """For each window: its place, the positions inside the input, its size in the padded input."""
    dilation = getattr(op, "dilation", (1,) * len(op.kernel))
    for p in np.ndindex(*counts(op, sizes)):
        axes, padded = [], 1
        for i, k in enumerate(op.kernel):
            start = p[i] * op.stride[i] - op.padding[i][0]
            at = [start + j * dilation[i] for j in range(k)]
            axes.append([a for a in at if 0 <= a < sizes[i]])
            padded *= len([a for a in at if a < sizes[i] + op.padding[i][1]])
        yield p, list(itertools.product(*axes)), padded


def max_pool(op: Any, x: Any) -> Any:
    sizes = x.shape[2:]
    y = np.zeros((*x.shape[:2], *counts(op, sizes)), x.dtype)
    at = np.zeros(y.shape, np.int64)
    for p, places, _ in windows(op, sizes):
        for nc in np.ndindex(*x.shape[:2]):
            best = places[0]
            for q in places:
                v, b = x[(*nc, *q)], x[(*nc, *best)]
                if v > b or v != v:
                    best = q
            y[(*nc, *p)] = x[(*nc, *best)]
            at[(*nc, *p)] = np.ravel_multi_index(best, sizes)
    return y, at


def spread(op: Any, g: Any, at: Any) -> Any:
    out = np.zeros((*g.shape[:2], int(np.prod(op.sizes))), g.dtype)
    for k in np.ndindex(g.shape):
        out[(*k[:2], at[k])] += g[k]
    return out.reshape(*g.shape[:2], *op.sizes)


def pick(op: Any, x: Any, at: Any) -> Any:
    flat = x.reshape(*x.shape[:2], -1)
    out = np.zeros(at.shape, x.dtype)
    for k in np.ndindex(at.shape):
        out[k] = flat[(*k[:2], at[k])]
    return out


# kernel, stride, padding, dilation, ceil_mode; the sizes of x
CALLS: list[tuple[Any, tuple[int, ...]]] = [
    (((2, 2), (2, 2), NONE, (1, 1), False), (2, 3, 4, 5)),
    (((3, 2), (2, 1), ((1, 1), (1, 0)), (1, 2), False), (1, 2, 5, 6)),
    (((2, 3), (2, 2), NONE, (1, 1), True), (1, 2, 5, 6)),
    (((2,), (3,), ((1, 1),), (1,), True), (1, 1, 6)),
    (((2, 1, 2), (1, 1, 2), ((0, 1), (0, 0), (1, 0)), (1, 1, 1), False), (1, 1, 3, 2, 4)),
]
PADDED_NAN = np.array([[[1.0, nan, 0.0, -np.inf, 2.0, 3.0]]], np.float32)


def maximum(cls: Any, reference: Any) -> OpSamples:
    simple = cls((2,), (2,), ((0, 0),), (1,))
    edges = cls((2,), (2,), ((1, 1),), (1,))
    return OpSamples(
        cls,
        reference,
        [
            *(Sample(cls(*c), (distinct(*x),), grad=True) for c, x in CALLS),
            Sample(edges, (PADDED_NAN,), "NaN wins, padding does not", runtime="NaN"),
            Sample(
                edges,
                (np.full((1, 1, 4), -np.inf, np.float32),),
                "all -inf",
                runtime="-1.8e308 for -inf",
            ),
            Sample(
                simple,
                (np.ones((1, 1, 4), np.float32),),
                "ties go to the first",
                expected_grads=([[[1, 0, 1, 0]]],),
            ),
            Sample(simple, (strided(rand(2, 3, 4)),), "not contiguous"),
            Sample(simple, (rand(0, 3, 4),), "no samples"),
            *(
                Sample(simple, (distinct(1, 2, 6, dtype=d),), onnx=exports(d))
                for d in (*FLOATS, *INTS)
            ),
        ],
        [
            Refused(simple, (t("bool[1, 1, 4]"),), DTypeError, "real"),
            Refused(simple, (t("c64[1, 1, 4]"),), DTypeError, "real"),
            Refused(simple, (t("f32[1, 4]"),), ShapeError, "N, C"),
            Refused(simple, (t("f32[1, 1, 1]"),), ShapeError, "larger than the padded"),
            Refused(simple, (t("f32[1, 1, 0]"),), ShapeError, "above 0"),
            Refused(
                cls((2,), (2,), ((2, 0),), (1,)), (t("f32[1, 1, 4]"),), match="within \\[0, 1\\]"
            ),
            Refused(cls((2,), (0,), ((0, 0),), (1,)), (t("f32[1, 1, 4]"),), match="positive"),
            Refused(cls((2,), (1, 1), ((0, 0),), (1,)), (t("f32[1, 1, 4]"),), match="length"),
        ],
    )


def exports(d: Any) -> bool | str:
    wide = d.kind in "iu" and d.itemsize > 1
    return "ONNX pools integers of 8 bits only" if wide else True


INDICES = np.array([[[0, 3, 3]], [[2, 1, 0]]], np.int64)
INDICES_2D = np.array([[[[0, 5], [5, 2]]]], np.int64)

MAX_POOL_GRAD = OpSamples(
    pl.MaxPoolGrad,
    spread,
    [
        Sample(pl.MaxPoolGrad((4,)), (f64(2, 1, 3), INDICES), grad=True),
        Sample(pl.MaxPoolGrad((2, 3)), (f64(1, 1, 2, 2), INDICES_2D), grad=True),
        Sample(pl.MaxPoolGrad((6,), False), (rand(1, 1, 2), np.array([[[1, 4]]]))),
        Sample(pl.MaxPoolGrad((4,)), (rand(0, 1, 3), INDICES[:0]), "empty"),
    ],
    [
        Refused(pl.MaxPoolGrad((4,)), (t("f32[1, 1, 2]"), t("i32[1, 1, 2]")), DTypeError, "int64"),
        Refused(pl.MaxPoolGrad((4,)), (t("f32[1, 1, 2]"), t("i64[1, 1, 3]")), match="of shape"),
    ],
)

MAX_POOL_GATHER = OpSamples(
    pl.MaxPoolGather,
    pick,
    [
        Sample(pl.MaxPoolGather(), (f64(2, 1, 4), INDICES), grad=True),
        Sample(pl.MaxPoolGather(), (f64(1, 1, 2, 3), INDICES_2D), grad=True),
        Sample(pl.MaxPoolGather(), (strided(rand(2, 1, 4)), INDICES), "not contiguous"),
    ],
    [
        Refused(pl.MaxPoolGather(), (t("f32[1, 1, 2]"), t("f32[1, 1, 2]")), DTypeError, "int64"),
        Refused(pl.MaxPoolGather(), (t("f32[1, 1, 2]"), t("i64[2, 1, 2]")), match="share N and C"),
    ],
)

# -- average ---------------------------------------------------------------------------------------


def divisor(op: Any, places: Any, padded: int) -> int:
    if op.divisor is not None:
        return int(op.divisor)
    return padded if op.count_include_pad else len(places)


def avg_pool(op: Any, x: Any) -> Any:
    y = np.zeros((*x.shape[:2], *counts(op, x.shape[2:])))
    for p, places, padded in windows(op, x.shape[2:]):
        for nc in np.ndindex(*x.shape[:2]):
            y[(*nc, *p)] = sum(x[(*nc, *q)] for q in places) / divisor(op, places, padded)
    return np.trunc(y) if x.dtype.kind in "iu" else y


def avg_pool_grad(op: Any, g: Any) -> Any:
    gx = np.zeros((*g.shape[:2], *op.sizes))
    for p, places, padded in windows(op, op.sizes):
        for nc in np.ndindex(*g.shape[:2]):
            for q in places:
                gx[(*nc, *q)] += g[(*nc, *p)] / divisor(op, places, padded)
    return gx


AVG_CALLS = [
    ((*c[:3], c[4], include, over), x)
    for c, x in CALLS
    if set(c[3]) == {1}
    for include, over in ((True, None), (False, None), (True, 3))
]


AVG_POOL = OpSamples(
    av.AvgPool,
    avg_pool,
    [
        *(
            Sample(
                av.AvgPool(*c),
                (f64(*x),),
                grad=True,
            )
            for c, x in AVG_CALLS
        ),
        *(
            Sample(
                av.AvgPool(*c),
                (rand(*x),),
            )
            for c, x in AVG_CALLS
        ),
        Sample(av.AvgPool((2,), (2,), ((0, 0),)), (strided(rand(2, 3, 4)),), "not contiguous"),
        Sample(av.AvgPool((2,), (1,), ((0, 0),)), (np.array([[[1, nan, 0, 1]]], np.float32),)),
        *(Sample(av.AvgPool((2,), (2,), ((0, 0),)), (rand(1, 2, 6, dtype=d),)) for d in FLOATS),
        *(
            Sample(
                av.AvgPool((2,), (2,), ((0, 0),)),
                (rand(1, 2, 6, dtype=d, high=9),),
                onnx="ONNX averages floating-point numbers only",
            )
            for d in INTS
        ),
    ],
    [
        Refused(av.AvgPool((2,), (2,), ((0, 0),)), (t("f32[1, 4]"),), match="N, C"),
        Refused(
            av.AvgPool((2,), (2,), ((0, 0),), divisor=0), (t("f32[1, 1, 4]"),), match="not be zero"
        ),
    ],
)


def pooled(c: Any, x: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return f64(*x[:2], *counts(av.AvgPool(*c), x[2:]))


AVG_POOL_GRAD = OpSamples(
    av.AvgPoolGrad,
    avg_pool_grad,
    [Sample(av.AvgPoolGrad(*c, x[2:]), (pooled(c, x),), grad=True) for c, x in AVG_CALLS]
    + [
        Sample(av.AvgPoolGrad(*c, x[2:]), (pooled(c, x).astype(np.float32),))
        for c, x in AVG_CALLS
        if len(x) < 5
    ],
    [
        Refused(
            av.AvgPoolGrad((2,), (2,), ((0, 0),), False, True, None, (4,)),
            (t("f32[1, 1, 3]"),),
            match="expected a gradient",
        )
    ],
)

# -- adaptive --------------------------------------------------------------------------------------


def bins(sizes: Any, out: Any) -> Any:
    for p in np.ndindex(*out):
        axes = [range(i * n // m, -(-(i + 1) * n // m)) for i, n, m in zip(p, sizes, out)]
        yield p, list(itertools.product(*axes))


def adaptive_avg(op: Any, x: Any) -> Any:
    y = np.zeros((*x.shape[:2], *op.output_size))
    for p, places in bins(x.shape[2:], op.output_size):
        for nc in np.ndindex(*x.shape[:2]):
            y[(*nc, *p)] = sum(x[(*nc, *q)] for q in places) / len(places)
    return y


def adaptive_avg_grad(op: Any, g: Any) -> Any:
    gx = np.zeros((*g.shape[:2], *op.sizes))
    for p, places in bins(op.sizes, g.shape[2:]):
        for nc in np.ndindex(*g.shape[:2]):
            for q in places:
                gx[(*nc, *q)] += g[(*nc, *p)] / len(places)
    return gx


def adaptive_max(op: Any, x: Any) -> Any:
    y = np.zeros((*x.shape[:2], *op.output_size), x.dtype)
    at = np.zeros(y.shape, np.int64)
    for p, places in bins(x.shape[2:], op.output_size):
        for nc in np.ndindex(*x.shape[:2]):
            best = max(places, key=lambda q: x[(*nc, *q)])
            y[(*nc, *p)] = x[(*nc, *best)]
            at[(*nc, *p)] = np.ravel_multi_index(best, x.shape[2:])
    return y, at


BINS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((1, 1), (2, 3, 4, 5)),
    ((2, 3), (1, 2, 4, 6)),
    ((3, 2), (1, 2, 4, 5)),
    ((5,), (1, 1, 3)),
]


def adaptive(cls: Any, reference: Any, values: Any) -> OpSamples:
    return OpSamples(
        cls,
        reference,
        [
            *(Sample(cls(p), (values(*x),), grad=True) for p, x in BINS),
            *(Sample(cls(p), (rand(*x),)) for p, x in BINS),
            Sample(cls((2,)), (strided(rand(1, 2, 4)),), "not contiguous"),
            *(Sample(cls((2,)), (rand(1, 2, 4, dtype=d),)) for d in FLOATS),
        ],
        [
            Refused(cls((2,)), (t("f32[1, 4]"),), match="N, C"),
            Refused(cls((0,)), (t("f32[1, 1, 4]"),), match="positive"),
            Refused(cls((2,)), (t("c64[1, 1, 4]"),), DTypeError, "real"),
        ],
    )


ADAPTIVE_AVG_GRAD = OpSamples(
    ap.AdaptiveAvgPoolGrad,
    adaptive_avg_grad,
    [Sample(ap.AdaptiveAvgPoolGrad(x[2:]), (f64(*x[:2], *p),), grad=True) for p, x in BINS],
    [Refused(ap.AdaptiveAvgPoolGrad((2,)), (t("f32[1, 4]"),), match="N, C")],
)


SAMPLES = [
    maximum(pl.MaxPool, lambda op, x: max_pool(op, x)[0]),
    maximum(pl.MaxPoolIndices, max_pool),
    MAX_POOL_GRAD,
    MAX_POOL_GATHER,
    AVG_POOL,
    AVG_POOL_GRAD,
    adaptive(ap.AdaptiveAvgPool, adaptive_avg, f64),
    ADAPTIVE_AVG_GRAD,
    adaptive(ap.AdaptiveMaxPool, adaptive_max, distinct),
]
