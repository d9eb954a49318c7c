"""Activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dualgraph_compiler.errors import ArgumentError, DTypeError, IndexOutOfRange
from dualgraph_compiler.ops import activation as ac
from dualgraph_compiler.ops import composite as co

from . import FLOATS, INTS, OpSamples, Refused, Sample, rand, strided, t
from ._elementwise import NEAR, edge, elementwise, record

nan, inf = math.nan, math.inf


def _sigmoid(x: np.ndarray) -> Any:
    return 1 / (1 + np.exp(-x))


def _softplus(x: np.ndarray) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _elu(x: np.ndarray, alpha: float) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _phi(x: np.ndarray) -> Any:
    return np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)), otypes=[np.float64])(x)


def _gelu(x: np.ndarray) -> Any:
    return x * _phi(x) if x.size else x


def _gelu_tanh(x: np.ndarray) -> Any:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + np.tanh(inner))


def _hard_sigmoid(x: np.ndarray, alpha: float, beta: float) -> Any:
    return np.minimum(np.maximum(alpha * x + beta, 0), 1)


def _act(op: Any, reference: Any, **options: Any) -> OpSamples:
    """The record of an activation of real floats."""
    options.setdefault("high", 4.0)
    options.setdefault("low", -4.0)
    return record(op, reference, refuse=["i32", "bool", "c64"], **options)


def _more(op: Any, reference: Any, *others: Any, **options: Any) -> OpSamples:
    """As `_act`, with other parameter values too; ``reference(x, op)``."""
    samples = _act(op, lambda x: x, **options)
    for other in others:
        samples.samples = [*samples.samples, *elementwise(other, special=())]
    samples.reference = lambda o, x: reference(x, o)
    return samples


GELU = _more(
    co.Gelu(),
    lambda x, o: _gelu(x) if o.approximate == "none" else _gelu_tanh(x),
    co.Gelu("tanh"),
    special=NEAR,
    more=[edge(co.Gelu(), ([0.0],), [0.5])],
    more_refused=[Refused(co.Gelu("erf"), (t("f32[2]"),), ArgumentError, "'none' or 'tanh'")],
)

PRELU = record(
    ac.Prelu,
    lambda x, slope: np.where(x > 0, x, x * slope),
    2,
    special=NEAR,
    special_runtime="0 * inf in PRelu",
    refuse=["i32", "bool", "c64"],
    more=[
        Sample(ac.Prelu(), (rand(2, 3, 4), rand(3, 1, seed=1))),
        edge(ac.Prelu(), ([0.0, -1.0], [0.25, 0.25]), [0.25, 0.25], [0.0, -1.0]),
    ],
)


# -- softmax -------------------------------------------------------------------------------------


def _softmax(op: Any, x: np.ndarray) -> Any:
    e = np.exp(x - np.max(x, op.axis, keepdims=True)) if x.size and x.ndim else np.exp(x - x)
    return e / np.sum(e, op.axis, keepdims=True) if x.ndim else e


def _log_softmax(op: Any, x: np.ndarray) -> Any:
    return np.log(_softmax(op, x))


def _along(op: Any, reference: Any) -> OpSamples:
    steep = np.array([[1000.0, 0.0, -1000.0], [-1000.0, 0.0, 0.0]], np.float32)
    closed = np.array([[-inf, 1.0, 2.0], [-inf, -inf, 0.0], [nan, 0.0, 1.0]], np.float32)
    return OpSamples(
        op,
        reference,
        [
            *(Sample(op(1), (rand(2, 5, dtype=d),)) for d in FLOATS),
            *(Sample(op(a), (rand(2, 3, 4),)) for a in range(3)),
            Sample(op(0), (rand(),), what="0-d"),
            Sample(op(1), (rand(0, 3),), what="no elements"),
            Sample(op(1), (rand(3, 0),), what="no elements along the axis"),
            Sample(op(1), (strided(rand(4, 3)).T,), what="not contiguous"),
            Sample(op(1), (steep if op is co.Softmax else steep / 10,), what="steep"),
            Sample(op(1), (closed,), what="-inf, NaN"),
            *(Sample(op(a), (rand(2, 3, 2, dtype=np.float64),), grad=True) for a in range(3)),
        ],
        [
            Refused(op(2), (t("f32[2, 3]"),), IndexOutOfRange, "out of range"),
            Refused(op(0), (t("i32[2]"),), DTypeError, "floating-point"),
            Refused(op(0), (t("c64[2]"),), DTypeError, "floating-point"),
        ],
    )


SAMPLES = [
    record(
        ac.Relu,
        lambda x: np.maximum(x, 0),
        dtypes=(*INTS, *FLOATS),
        refuse=["bool", "c64"],
        more=[edge(ac.Relu(), ([0.0, -0.0, nan, 2.0, -2.0],), [0.0, 0.0, 1.0, 1.0, 0.0])],
    ),
    _more(
        ac.Hardtanh(),
        lambda x, o: np.minimum(np.maximum(x, o.min), o.max),
        ac.Hardtanh(0.0, 1.5),
        more=[
            edge(ac.Hardtanh(), ([-1.0, 1.0, 0.0, nan],), [0.0, 0.0, 1.0, 1.0]),
            Sample(ac.Hardtanh(0.0, 6.0), (rand(2, 3, dtype=np.int32, high=9),)),
        ],
    ),
    _more(
        ac.LeakyRelu(),
        lambda x, o: np.where(x > 0, x, o.alpha * x),
        ac.LeakyRelu(0.3),
        more=[edge(ac.LeakyRelu(0.25), ([0.0, nan, 1.0],), [0.25, 0.25, 1.0])],
    ),
    PRELU,
    record(ac.Sigmoid, _sigmoid, complex=True, refuse=["i32", "bool"], low=-4, high=4),
    _act(
        ac.LogSigmoid,
        lambda x: -_softplus(-x),
        more=[edge(ac.LogSigmoid(), ([0.0, -100.0],), [0.5, 1.0])],
    ),
    _more(
        ac.Softplus(),
        lambda x, o: np.where(o.beta * x > o.threshold, x, _softplus(o.beta * x) / o.beta),
        ac.Softplus(2.0),
        ac.Softplus(0.5, 0.25),
        more=[edge(ac.Softplus(), ([0.0, 100.0],), [0.5, 1.0])],
    ),
    _more(
        ac.Elu(),
        lambda x, o: _elu(x, o.alpha),
        ac.Elu(0.5),
        more=[edge(ac.Elu(), ([0.0, 1000.0],), [1.0, 1.0])],
    ),
    _more(
        ac.Celu(),
        lambda x, o: np.where(x > 0, x, o.alpha * np.expm1(np.minimum(x, 0) / o.alpha)),
        ac.Celu(0.5),
        more=[edge(ac.Celu(), ([0.0, 1000.0],), [1.0, 1.0])],
    ),
    _more(
        ac.Selu(),
        lambda x, o: o.gamma * _elu(x, o.alpha),
        more=[edge(ac.Selu(), ([0.0],), [1.7580993408473766])],
    ),
    _more(
        ac.HardSigmoid(),
        lambda x, o: _hard_sigmoid(x, o.alpha, o.beta),
        ac.HardSigmoid(0.2, 0.5),
        more=[edge(ac.HardSigmoid(), ([-3.0, 3.0, 0.0],), [0.0, 0.0, 1 / 6])],
    ),
    _act(co.Silu, lambda x: x * _sigmoid(x), more=[edge(co.Silu(), ([0.0],), [0.5])]),
    GELU,
    _act(co.Mish, lambda x: x * np.tanh(_softplus(x)), special=NEAR),
    _act(
        co.HardSwish,
        lambda x: x * _hard_sigmoid(x, 1 / 6, 0.5),
        more=[edge(co.HardSwish(), ([-3.0, 3.0, 0.0, 4.0],), [0.0, 1.0, 0.5, 1.0])],
    ),
    _act(
        co.Softsign,
        lambda x: x / (1 + np.abs(x)),
        more=[edge(co.Softsign(), ([0.0],), [1.0])],
    ),
    _along(co.Softmax, _softmax),
    _along(co.LogSoftmax, _log_softmax),
]
SAMPLES[1].refused = [r for r in SAMPLES[1].refused if r.inputs[0].dtype.name != "int32"]
