"""Gathers, scatters, embedding, advanced indexing and masks."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, DTypeError, IndexOutOfRange
from dualgraph_compiler.ops import advanced_indexing as ad
from dualgraph_compiler.ops import embedding as em
from dualgraph_compiler.ops import indexing as ix

from . import BOOL, COMPLEX, FLOATS, INTS, OpSamples, Refused, Sample, rand, strided, t

MOVED = (BOOL, *INTS, *FLOATS, *COMPLEX)
SUMMED = (np.dtype(np.int64), np.dtype(np.int32), *FLOATS, *COMPLEX)


def adds(d: Any) -> bool | str:
    """Whether ONNX Runtime scatters with addition in this type."""
    return "it lacks addition in float16" if d == np.float16 else True


def f64(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return rand(*shape, dtype=np.float64, seed=seed)


def ints(*values: Any) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def index(high: int, *shape: int, low: int = 0, seed: int = 0) -> np.ndarray[Any, Any]:
    return rand(*shape, dtype=np.int64, low=low, high=high - 1, seed=seed)


# -- one index for each element --------------------------------------------------------------------


def gather(op: Any, x: Any, at: Any) -> Any:
    out = np.empty(at.shape, x.dtype)
    for k in np.ndindex(at.shape):
        source = list(k)
        if k:
            source[op.axis] = at[k]
        out[k] = x[tuple(source)]
    return out


AT = index(3, 2, 4, low=-3)

GATHER = OpSamples(
    ix.Gather,
    gather,
    [
        Sample(ix.Gather(0), (f64(3, 4), AT), grad=True),
        Sample(ix.Gather(1), (f64(3, 4), index(4, 3, 6)), "more than there are", grad=True),
        Sample(ix.Gather(2), (f64(2, 3, 4), index(4, 1, 2, 3)), "a corner", grad=True),
        Sample(ix.Gather(0), (f64(), np.array(0)), "0-d", grad=True),
        Sample(ix.Gather(0), (rand(3, 2), index(3, 0, 2)), "empty"),
        Sample(ix.Gather(0), (strided(rand(3, 4)), AT), "not contiguous"),
        *(Sample(ix.Gather(0), (rand(3, 4, dtype=d), AT)) for d in MOVED),
    ],
    [
        Refused(ix.Gather(0), (t("f32[3]"), t("i32[2]")), DTypeError, "int64 index"),
        Refused(ix.Gather(0), (t("f32[3, 2]"), t("i64[2]")), match="as many axes"),
        Refused(ix.Gather(0), (t("f32[3, 2]"), t("i64[3, 3]")), match="exceeds"),
        Refused(ix.Gather(2), (t("f32[3, 2]"), t("i64[3, 2]")), IndexOutOfRange, "out of range"),
    ],
)


def scatter(op: Any, x: Any, at: Any, src: Any) -> Any:
    out = x.copy()
    for k in np.ndindex(at.shape):
        to = list(k)
        if k:
            to[op.axis] = at[k]
        if op.name == "scatter_add":
            out[tuple(to)] += src[k]
        else:
            out[tuple(to)] = src[k]
    return out


def scatters(cls: Any, dtypes: Any, first: Any, second: Any) -> OpSamples:
    return OpSamples(
        cls,
        scatter,
        [
            Sample(cls(0), (f64(3, 4), first, f64(2, 4, seed=1)), grad=True),
            Sample(cls(1), (f64(3, 4), second, f64(3, 3, seed=1)), grad=True),
            Sample(cls(0), (f64(), np.array(0), f64(seed=1)), "0-d", grad=True),
            Sample(cls(0), (rand(3, 2), index(3, 0, 2), rand(0, 2)), "nothing written"),
            Sample(cls(0), (strided(rand(3, 4)), first, strided(rand(2, 4))), "not contiguous"),
            *(
                Sample(
                    cls(0),
                    (rand(3, 4, dtype=d), first, rand(2, 4, dtype=d, seed=1)),
                    runtime=adds(d) if cls is ix.ScatterAdd else True,
                )
                for d in dtypes
            ),
        ],
        [
            Refused(cls(0), (t("f32[3]"), t("i64[2]"), t("f32[3]")), match="index's shape"),
            Refused(cls(0), (t("f32[3]"), t("i64[2]"), t("f64[2]")), DTypeError, "one dtype"),
            Refused(cls(0), (t("f32[3]"), t("f32[2]"), t("f32[2]")), DTypeError, "int64"),
        ],
    )


FOLDS = {"mul": np.multiply, "max": np.maximum, "min": np.minimum}


def scatter_reduced(op: Any, x: Any, at: Any, src: Any) -> Any:
    out = x.copy()
    for k in np.ndindex(at.shape):
        to = list(k)
        if k:
            to[op.axis] = at[k]
        out[tuple(to)] = FOLDS[op.reduction](out[tuple(to)], src[k])
    return out


def scatter_reduce() -> OpSamples:
    first, second = index(3, 2, 4), index(4, 3, 3)
    zeros = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 4.0]])
    once = ints([0, 0, 0])
    samples = []
    for how in FOLDS:
        cls: Any = functools.partial(ix.ScatterReduce, reduction=how)
        samples += [
            Sample(cls(0), (f64(3, 4), first, f64(2, 4, seed=1)), how, grad=True),
            Sample(cls(1), (f64(3, 4), second, f64(3, 3, seed=1)), grad=True),
            Sample(cls(0), (f64(), np.array(0), f64(seed=1)), "0-d", grad=True),
            Sample(cls(0), (rand(3, 2), index(3, 0, 2), rand(0, 2)), "nothing written"),
            Sample(cls(0), (strided(rand(3, 4)), first, strided(rand(2, 4))), "not contiguous"),
            Sample(
                cls(0),
                (np.array([1, np.nan, 2.0]), np.array([0, 1, 0]), rand(3, dtype=float)),
                "NaN",
                runtime="ONNX Runtime's extremes drop NaN",
            ),
            *(
                Sample(
                    cls(0),
                    (rand(3, 4, dtype=d), first, rand(2, 4, dtype=d, seed=1)),
                    runtime=adds(d) or f"ONNX Runtime folds no {d}",
                )
                for d in (*FLOATS, *INTS)
            ),
        ]
    x = np.array([[5.0, 6.0, 7.0]])
    grads = (np.array([[0.0, 0.0, 12.0]]), None, np.array([[0.0, 0.0, 28.0], [10.0, 0.0, 21.0]]))
    by_zeros = Sample(
        ix.ScatterReduce(0, "mul"),
        (x, np.concatenate([once, once]), zeros),
        "gradients where factors are zero",
        expected_grads=grads,
    )
    tie = Sample(
        ix.ScatterReduce(0, "max"),
        (np.array([2.0, 5.0]), np.array([0, 0, 1]), np.array([2.0, 1.0, 3.0])),
        "a tie",
        expected_grads=(np.array([0.5, 1.0]), None, np.array([0.5, 0.0, 0.0])),
    )
    name: Any = functools.partial(ix.ScatterReduce, 0)
    return OpSamples(
        ix.ScatterReduce,
        scatter_reduced,
        [*samples, by_zeros, tie],
        [
            Refused(name("max"), (t("f32[3]"), t("i64[2]"), t("f32[3]")), match="index's shape"),
            Refused(name("max"), (t("bool[3]"), t("i64[2]"), t("bool[2]")), DTypeError, "real"),
            Refused(name("or"), (t("f32[3]"), t("i64[2]"), t("f32[2]")), ArgumentError, "unknown"),
        ],
    )


UNIQUE = ints([2, 0, 1, -1], [0, 1, 2, 0])  # no position twice in a column
UNIQUE_ROWS = ints([0, 3, 2], [1, 0, -1], [2, 1, 0])

# -- slices by index -------------------------------------------------------------------------------


def select(op: Any, x: Any, at: Any) -> Any:
    rows = np.moveaxis(x, op.axis, 0)
    out = np.empty((*at.shape, *rows.shape[1:]), x.dtype)
    for k in np.ndindex(at.shape):
        out[k] = rows[at[k]]
    return np.moveaxis(out, range(at.ndim), range(op.axis, op.axis + at.ndim))


INDEX_SELECT = OpSamples(
    ix.IndexSelect,
    select,
    [
        Sample(ix.IndexSelect(0), (f64(3, 4), index(3, 5, low=-3)), grad=True),
        Sample(ix.IndexSelect(1), (f64(3, 4), index(4, 2, 3)), "2-d index", grad=True),
        Sample(ix.IndexSelect(2), (f64(2, 3, 4), np.array(1)), "0-d index", grad=True),
        Sample(ix.IndexSelect(0), (rand(3, 2), ints()), "nothing selected"),
        Sample(ix.IndexSelect(1), (strided(rand(3, 4)), ints(3, 0)), "not contiguous"),
        *(Sample(ix.IndexSelect(0), (rand(3, 2, dtype=d), ints(2, 0, 2))) for d in MOVED),
    ],
    [
        Refused(ix.IndexSelect(0), (t("f32[]"), t("i64[2]")), match="an axis"),
        Refused(ix.IndexSelect(0), (t("f32[3]"), t("i32[2]")), DTypeError, "int64 index"),
        Refused(ix.IndexSelect(1), (t("f32[3]"), t("i64[2]")), IndexOutOfRange, "out of range"),
    ],
)


def select_grad(op: Any, g: Any, at: Any) -> Any:
    front = np.moveaxis(g, range(op.axis, op.axis + at.ndim), range(at.ndim))
    out = np.zeros((op.size, *front.shape[at.ndim :]), g.dtype)
    for k in np.ndindex(at.shape):
        out[at[k]] += front[k]
    return np.moveaxis(out, 0, op.axis)


INDEX_SELECT_GRAD = OpSamples(
    ix.IndexSelectGrad,
    select_grad,
    [
        Sample(ix.IndexSelectGrad(0, 3), (f64(5, 2), index(3, 5, low=-3)), grad=True),
        Sample(ix.IndexSelectGrad(1, 4), (f64(3, 2, 3, 2), index(4, 2, 3)), grad=True),
        Sample(ix.IndexSelectGrad(1, 4), (f64(3, 2), np.array(1)), "0-d index", grad=True),
        Sample(ix.IndexSelectGrad(0, 3), (rand(0, 2), ints()), "nothing added"),
        Sample(ix.IndexSelectGrad(0, 2), (rand(40, 3), index(2, 40)), "many per row"),
        *(
            Sample(ix.IndexSelectGrad(0, 3), (rand(3, 2, dtype=d), ints(2, 0, 2)), runtime=adds(d))
            for d in SUMMED
        ),
    ],
    [Refused(ix.IndexSelectGrad(0, 3), (t("f32[2]"), t("i64[3]")), match="expected \\[3\\]")],
)


def index_add(op: Any, x: Any, at: Any, src: Any) -> Any:
    out, src = np.moveaxis(x.copy(), op.axis, 0), np.moveaxis(src, op.axis, 0)
    for k, i in enumerate(at):
        out[i] += src[k]
    return np.moveaxis(out, 0, op.axis)


INDEX_ADD = OpSamples(
    ix.IndexAdd,
    index_add,
    [
        Sample(ix.IndexAdd(0), (f64(3, 2), ints(2, 0, 2), f64(3, 2, seed=1)), grad=True),
        Sample(ix.IndexAdd(1), (f64(2, 3, 2), ints(2, -1), f64(2, 2, 2, seed=1)), grad=True),
        Sample(ix.IndexAdd(0), (rand(3, 2), ints(), rand(0, 2)), "nothing added"),
        *(
            Sample(
                ix.IndexAdd(0),
                (rand(3, dtype=d), ints(2, 2), rand(2, dtype=d, seed=1)),
                runtime=adds(d),
            )
            for d in SUMMED
        ),
    ],
    [
        Refused(ix.IndexAdd(0), (t("f32[3]"), t("i64[2]"), t("f32[3]")), match="source"),
        Refused(ix.IndexAdd(0), (t("f32[3]"), t("i64[2]"), t("f64[2]")), DTypeError, "one dtype"),
    ],
)

# -- embedding -------------------------------------------------------------------------------------

EMBEDDING = OpSamples(
    em.Embedding,
    lambda op, w, at: w[at],
    [
        Sample(em.Embedding(), (f64(4, 3), index(4, 2, 3)), grad=True),
        Sample(
            em.Embedding(1),
            (f64(3, 2), ints(1, 2, 2)),
            "padding",
            expected_grads=([[0, 0], [0, 0], [2, 2]], None),
        ),
        Sample(
            em.Embedding(None, True),
            (f64(3, 2), ints(1, 2, 2)),
            "scale_grad_by_freq",
            expected_grads=([[0, 0], [1, 1], [1, 1]], None),
        ),
        Sample(em.Embedding(), (rand(3, 2), np.array(1)), "0-d index"),
        Sample(em.Embedding(), (rand(3, 2), ints()), "nothing looked up"),
    ],
    [
        Refused(em.Embedding(), (t("f32[3, 2]"), t("f32[2]")), DTypeError, "int64 index"),
        Refused(em.Embedding(), (t("f32[]"), t("i64[2]")), match="weight"),
    ],
)


def embedding_grad(op: Any, g: Any, at: Any) -> Any:
    out = np.zeros((op.rows, *g.shape[at.ndim :]))
    for k in np.ndindex(at.shape):
        if at[k] != op.padding_idx:
            out[at[k]] += g[k]
    return out


EMBEDDING_GRAD = OpSamples(
    em.EmbeddingGrad,
    embedding_grad,
    [
        Sample(em.EmbeddingGrad(4), (f64(2, 3, 2), index(4, 2, 3)), grad=True),
        Sample(em.EmbeddingGrad(4, 2), (f64(3, 2), ints(2, 1, 2)), "padding", grad=True),
        Sample(em.EmbeddingGrad(3), (rand(40, 2), index(3, 40)), "many per row"),
        Sample(em.EmbeddingGrad(3), (rand(0, 2), ints()), "nothing added"),
    ],
    [Refused(em.EmbeddingGrad(3), (t("f32[2, 3]"), t("i64[3]")), match="expected")],
)

ONE_HOT = OpSamples(
    em.OneHot,
    lambda op, at: np.eye(op.depth)[at],
    [
        Sample(em.OneHot(4), (index(4, 2, 3),)),
        Sample(em.OneHot(3), (np.array(2),), "0-d"),
        Sample(em.OneHot(3), (ints(),), "empty"),
        *(Sample(em.OneHot(3, d), (ints(2, 0),)) for d in (dt.float32, dt.int32, dt.bool_)),
    ],
    [Refused(em.OneHot(3), (t("f32[2]"),), DTypeError, "int64 index")],
)

# -- several indices -------------------------------------------------------------------------------


def key(op: Any, x: Any, at: Any) -> Any:
    full: list[Any] = [slice(None)] * x.ndim
    for axis, i in zip(op.axes, at):
        full[axis] = i
    return tuple(full)


def put(op: Any, x: Any, values: Any, *at: Any) -> Any:
    out = x.copy()
    if op.accumulate:
        np.add.at(out, key(op, x, at), values)
    else:
        out[key(op, x, at)] = values
    return out


SHAPE = (2, 3, 2, 3)
CALLS: list[tuple[tuple[int, ...], tuple[Any, ...]]] = [
    ((1,), (index(3, 2, 2, low=-3),)),
    ((0, 1), (index(2, 4), index(3, 4, low=-3, seed=1))),
    ((1, 2), (index(3, 2, 1), index(2, 3))),
    ((0, 2), (index(2, 2), index(2, 2, seed=1))),
    ((1, 3), (index(3, 2, 1), index(3, 2, seed=1))),
    ((0, 1, 2, 3), (np.array(1), index(3, 2), index(2, 2), index(3, 2, seed=1))),
]


def shown(op: Any, at: Any, seed: int = 0) -> np.ndarray[Any, Any]:
    x = f64(*SHAPE)
    return f64(*x[key(op, x, at)].shape, seed=seed)


INDEX = OpSamples(
    ad.Index,
    lambda op, x, *at: x[key(op, x, at)],
    [
        *(Sample(ad.Index(axes), (f64(*SHAPE), *at), grad=True) for axes, at in CALLS),
        Sample(ad.Index((0,)), (rand(3, 2), ints()), "nothing selected"),
        Sample(ad.Index((0, 1)), (strided(rand(3, 2)), ints(2, 0), ints(1)), "not contiguous"),
        *(Sample(ad.Index((0, 1)), (rand(3, 2, dtype=d), ints(2, 0), ints(1, 0))) for d in MOVED),
    ],
    [
        Refused(ad.Index((0,)), (t("f32[3]"), t("bool[3]")), DTypeError, "int64 index"),
        Refused(ad.Index((0, 1)), (t("f32[3]"), t("i64[3]")), IndexOutOfRange, "out of range"),
        Refused(ad.Index((0, 1)), (t("f32[3, 3]"), t("i64[3]")), match="index for each"),
        Refused(ad.Index((1, 0)), (t("f32[3, 3]"), t("i64[3]"), t("i64[3]")), match="ascending"),
        Refused(ad.Index((0, 1)), (t("f32[3, 3]"), t("i64[3]"), t("i64[2]")), match="broadcast"),
    ],
)

INDEX_PUT = OpSamples(
    ad.IndexPut,
    put,
    [
        *(
            Sample(op, (f64(*SHAPE, seed=1), shown(op, at), *at), grad=True)
            for op, at in ((ad.IndexPut(axes, True), at) for axes, at in CALLS)
        ),
        Sample(ad.IndexPut((1,)), (f64(2, 3), f64(2, 2, seed=1), ints(2, 0)), grad=True),
        Sample(
            ad.IndexPut((0, 2)), (f64(2, 2, 3), f64(2, 2, seed=1), ints(0, 1), ints(2)), grad=True
        ),
        Sample(ad.IndexPut((0,)), (rand(3, 2), rand(0, 2), ints()), "nothing written"),
        *(
            Sample(ad.IndexPut((0,)), (rand(3, dtype=d), rand(2, dtype=d, seed=1), ints(2, -3)))
            for d in MOVED
        ),
    ],
    [
        Refused(ad.IndexPut((0,)), (t("f32[3]"), t("f32[3]"), t("i64[2]")), match="values"),
        Refused(ad.IndexPut((0,)), (t("f32[3]"), t("f64[2]"), t("i64[2]")), DTypeError, "dtype"),
    ],
)

# -- masks -----------------------------------------------------------------------------------------

MASK = np.array([[True, False, True], [False, True, True]])


def masked_scatter(op: Any, x: Any, mask: Any, source: Any) -> Any:
    out = x.copy()
    values = iter(source)
    for k in np.ndindex(x.shape):
        if mask[k]:
            out[k] = next(values)
    return out


MASKED_SCATTER = OpSamples(
    ad.MaskedScatter,
    masked_scatter,
    [
        Sample(ad.MaskedScatter(), (f64(2, 3), MASK, f64(6, seed=1)), grad=True),
        Sample(ad.MaskedScatter(), (f64(2, 3), MASK, f64(4, seed=1)), "exactly enough", grad=True),
        Sample(ad.MaskedScatter(), (rand(), np.array(True), rand(1)), "0-d"),
        Sample(ad.MaskedScatter(), (rand(0), np.zeros(0, bool), rand(0)), "empty"),
        *(Sample(ad.MaskedScatter(), (rand(2, 3, dtype=d), MASK, rand(5, dtype=d))) for d in MOVED),
    ],
    [
        Refused(ad.MaskedScatter(), (t("f32[2]"), t("i64[2]"), t("f32[2]")), DTypeError, "bool"),
        Refused(ad.MaskedScatter(), (t("f32[2]"), t("bool[3]"), t("f32[2]")), match="a mask"),
        Refused(ad.MaskedScatter(), (t("f32[2]"), t("bool[2]"), t("f32[2, 1]")), match="1-d"),
    ],
)


def masked_gather(op: Any, x: Any, mask: Any) -> Any:
    out = np.zeros(op.size, x.dtype)
    found = [x[k] for k in np.ndindex(x.shape) if mask[k]][: op.size]
    out[: len(found)] = found
    return out


MASKED_GATHER = OpSamples(
    ad.MaskedGather,
    masked_gather,
    [
        Sample(ad.MaskedGather(6), (f64(2, 3), MASK), grad=True),
        Sample(ad.MaskedGather(4), (rand(2, 3), MASK)),
        Sample(ad.MaskedGather(1), (rand(), np.array(False)), "0-d"),
    ],
    [Refused(ad.MaskedGather(3), (t("f32[2]"), t("f32[2]")), DTypeError, "bool mask")],
)

SAMPLES = [
    GATHER,
    scatters(ix.ScatterAdd, SUMMED, index(3, 2, 4), index(4, 3, 3)),
    scatters(ix.Scatter, MOVED, UNIQUE, UNIQUE_ROWS),
    scatter_reduce(),
    INDEX_SELECT,
    INDEX_SELECT_GRAD,
    INDEX_ADD,
    EMBEDDING,
    EMBEDDING_GRAD,
    ONE_HOT,
    INDEX,
    INDEX_PUT,
    MASKED_SCATTER,
    MASKED_GATHER,
]
