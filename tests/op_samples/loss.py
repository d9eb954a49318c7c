"""Losses against class indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError
from dualgraph_compiler.ops import loss as ls

from . import FLOATS, OpSamples, Refused, Sample, rand, t

CLASSES = 4


def _target(*shape: int, dtype: Any = np.int64, ignore: Sequence[int] = ()) -> np.ndarray[Any, Any]:
    target = np.random.default_rng(7).integers(0, CLASSES, shape).astype(dtype)
    target.reshape(-1)[list(ignore)] = -100
    return np.asarray(target)


def _losses(op: Any, logs: np.ndarray, target: np.ndarray, *weight: np.ndarray) -> Any:
    """One target at a time, as the definition reads."""
    w = weight[0] if weight else np.ones(logs.shape[1 if logs.ndim > 1 else 0])
    losses, weights = np.zeros(target.shape), np.zeros(target.shape)
    for at in np.ndindex(target.shape):
        c = target[at]
        if c != op.ignore_index:
            losses[at] = -w[c] * logs[(*at[:1], c, *at[1:])]
            weights[at] = w[c]
    if op.reduction == "none":
        return losses
    return losses.sum() if op.reduction == "sum" else losses.sum() / weights.sum()


def _cross_entropy(op: Any, x: np.ndarray, target: np.ndarray, *weight: np.ndarray) -> Any:
    axis = 1 if x.ndim > 1 else 0
    e = np.exp(x - x.max(axis, keepdims=True, initial=-1e9))
    return _losses(op, np.log(e / e.sum(axis, keepdims=True)), target, *weight)


def _spread(op: Any, g: np.ndarray, target: np.ndarray, *weight: np.ndarray) -> Any:
    """The slope of the (linear) loss, one score at a time."""
    shape = (*target.shape[:1], op.classes, *target.shape[1:])
    loss = ls.NllLoss(op.reduction, op.ignore_index)
    out = np.zeros(shape)
    for at in np.ndindex(shape):
        unit = np.zeros(shape)
        unit[at] = 1
        out[at] = np.sum(g * _losses(loss, unit, target, *weight))
    return out


def _records(op: Any, reference: Any) -> OpSamples:
    def call(
        dtype: Any, *shape: int, weighted: bool = False, ignore: Sequence[int] = (), **more: Any
    ) -> list[Sample]:
        rest = shape[:1] + shape[2:] if len(shape) > 1 else ()
        x = rand(*shape, dtype=dtype, low=-3, high=-0.1)
        weight = (rand(CLASSES, dtype=dtype, low=0.5, high=2, seed=3),) if weighted else ()
        target = _target(*rest, ignore=ignore)
        return [
            Sample(op(reduction), (x, target, *weight), **more)
            for reduction in ("none", "mean", "sum")
        ]

    f32, f64 = np.float32, np.float64
    ones = np.array([1, 0], np.int32)
    return OpSamples(
        op,
        reference,
        no_grad=(2,),
        samples=[
            *(s for d in FLOATS for s in call(d, 5, CLASSES)),
            *call(f32, 5, CLASSES, weighted=True, ignore=(1, 3)),
            *call(f32, 2, CLASSES, 3, 2, weighted=True, ignore=(0,)),
            *call(f32, CLASSES, what="one sample"),
            Sample(op("mean"), (rand(2, 3), ones), what="int32"),
            Sample(op("mean"), (rand(0, CLASSES), _target(0)), what="empty", runtime="no targets"),
            Sample(op("sum"), (rand(0, CLASSES), _target(0)), what="empty", runtime="no targets"),
            Sample(op("mean"), (rand(2, CLASSES), _target(2, ignore=(0, 1)))),
            Sample(op("mean", 1), (rand(2, 3), ones), what="ignore_index"),
            *call(f64, 5, CLASSES, weighted=True, ignore=(1,), grad=True),
            *call(f64, 2, CLASSES, 3, grad=True),
            *call(f64, CLASSES, grad=True),
        ],
        refused=[
            Refused(op("avg"), (t("f32[2, 3]"), t("i64[2]")), ArgumentError, "reduction"),
            Refused(op(), (t("f32[2, 3]"), t("f32[2]")), DTypeError, "class indices"),
            Refused(op(), (t("i64[2, 3]"), t("i64[2]")), DTypeError, "floating-point scores"),
            Refused(op(), (t("f32[2, 3]"), t("i64[3]")), ShapeError, r"target \[N"),
            Refused(op(), (t("f32[]"), t("i64[]")), ShapeError, r"target \[N"),
            Refused(op(), (t("f32[2, 3]"), t("i64[2]"), t("f32[2]")), ShapeError, "each of the 3"),
            Refused(op(), (t("f32[2, 3]"), t("i64[2]"), t("f64[3]")), DTypeError, "one dtype"),
        ],
    )


def _grads() -> list[Sample]:
    found = []
    for reduction in ("none", "mean", "sum"):
        for shape in ((5,), (2, 3), ()):
            for dtype, weighted in ((np.float32, False), (np.float64, True), (np.float16, False)):
                target = _target(*shape, ignore=(0,) if shape else ())
                g = rand(*(shape if reduction == "none" else ()), dtype=dtype)
                weight = (rand(CLASSES, dtype=dtype, low=0.5, seed=3),) if weighted else ()
                op = ls.NllLossGrad(CLASSES, reduction)
                found.append(Sample(op, (g, target, *weight), grad=dtype is np.float64))
    return found


SAMPLES = [
    _records(ls.NllLoss, _losses),
    _records(ls.CrossEntropy, _cross_entropy),
    OpSamples(
        ls.NllLossGrad,
        _spread,
        samples=_grads(),
        no_grad=(2,),
        refused=[
            Refused(ls.NllLossGrad(3), (t("f32[2]"), t("i64[2]")), ShapeError, "gradient of a loss")
        ],
    ),
]
