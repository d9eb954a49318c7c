"""Connectionist temporal classification against sums over all paths, one by one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError
from dualgraph_compiler.ops.ctc import CtcLoss, CtcLossGrad

from . import FLOATS, OpSamples, Refused, Sample, rand, strided, t

NO_ONNX = "ONNX has no such operator"


def _paths(op: Any, logs: Any, labels: list[int]) -> list[tuple[tuple[int, ...], float]]:
    """Every path through the steps of one sequence that spells `labels`, and its probability."""
    steps, classes = logs.shape
    found = []
    for path in itertools.product(range(classes), repeat=steps):
        spelt = [c for c, _ in itertools.groupby(path) if c != op.blank]
        if spelt == labels:
            found.append((path, float(np.exp(sum(logs[i, c] for i, c in enumerate(path))))))
    return found


def _loss(op: Any, logs: Any, targets: Any, lengths: Any, counts: Any) -> Any:
    out = np.zeros(logs.shape[1])
    for n, (length, count) in enumerate(zip(lengths, counts)):
        total = sum(p for _, p in _paths(op, logs[:length, n], list(targets[n, :count])))
        out[n] = -np.log(total) if total else 0 if op.zero_infinity else np.inf
    return out


def _grad(op: Any, logs: Any, targets: Any, lengths: Any, counts: Any, g: Any) -> Any:
    out = np.zeros(logs.shape)
    for n, (length, count) in enumerate(zip(lengths, counts)):
        paths = _paths(op, logs[:length, n], list(targets[n, :count]))
        total = sum(p for _, p in paths)
        if total == 0:
            out[:length, n] = 0 if op.zero_infinity else np.nan
            continue
        out[:length, n] = np.exp(logs[:length, n])
        for path, p in paths:
            for step, c in enumerate(path):
                out[step, n, c] -= p / total
    return out * g[:, None]


def _operands(dtype: Any, steps: int, n: int, classes: int, size: int) -> tuple[Any, ...]:
    x = rand(steps, n, classes, dtype=np.float64)
    logs = (x - np.log(np.exp(x).sum(2, keepdims=True))).astype(dtype)
    rng = np.random.default_rng(steps)
    targets = rng.integers(1, classes, (n, size))
    lengths = np.minimum(np.arange(n) + 2, steps)
    return logs, targets, lengths, np.minimum(np.arange(n), size)


def _tolerance(dtype: Any) -> dict[str, Any]:
    return {"tol": 2e-2} if np.dtype(dtype).itemsize == 2 else {}


REPEATED = (
    _operands(np.float64, 5, 2, 3, 1)[0],
    np.array([[1, 1, 2], [2, 2, 2]]),
    np.array([5, 4]),
    np.array([3, 3]),  # the second has no path: two blanks are needed between
)
NO_STEPS = (rand(0, 2, 3), np.array([[1], [1]]), np.array([0, 0]), np.array([0, 1]))
NO_LABELS = (*_operands(np.float32, 3, 2, 3, 1)[:1], np.zeros((2, 0), np.int64))
NO_LABELS = (*NO_LABELS, np.array([3, 1]), np.array([0, 0]))


def _losses() -> list[Sample]:
    usual = _operands(np.float64, 4, 3, 3, 2)
    edge = (usual[0], usual[1], usual[2], usual[3])
    exact = _grad(CtcLoss(), *edge, np.ones(3))
    calls = [Sample(CtcLoss(), _operands(d, 4, 3, 3, 2), **_tolerance(d)) for d in FLOATS]
    return [
        *calls,
        Sample(CtcLoss(), edge, "gradients", expected_grads=(exact,)),
        Sample(CtcLoss(2), (usual[0], usual[1] - 1, *usual[2:]), "another blank"),
        Sample(CtcLoss(), (strided(usual[0]), *usual[1:]), "strided"),
        Sample(CtcLoss(), REPEATED, "repeated labels, one sequence without a path"),
        Sample(CtcLoss(0, True), REPEATED, "zero_infinity"),
        Sample(CtcLoss(), NO_STEPS, "no steps"),
        Sample(CtcLoss(), NO_LABELS, "no labels"),
    ]


def _slopes() -> list[Sample]:
    found = []
    for op in (CtcLossGrad(), CtcLossGrad(0, True)):
        for operands in (_operands(np.float64, 4, 3, 3, 2), REPEATED, NO_STEPS, NO_LABELS):
            g = rand(operands[0].shape[1], dtype=operands[0].dtype)
            found.append(Sample(op, (*operands, g)))
    return found


LENGTHS = (t("i64[2]"), t("i64[2]"))

SAMPLES = [
    OpSamples(
        CtcLoss,
        _loss,
        _losses(),
        onnx=NO_ONNX,
        refused=[
            Refused(CtcLoss(), (t("f32[4, 2, 3]"), t("f32[2, 2]"), *LENGTHS), DTypeError, "int64"),
            Refused(CtcLoss(), (t("f32[4, 2]"), t("i64[2, 2]"), *LENGTHS), ShapeError, "T, N, C"),
            Refused(
                CtcLoss(), (t("f32[4, 3, 3]"), t("i64[2, 2]"), *LENGTHS), ShapeError, "expected"
            ),
            Refused(
                CtcLoss(3), (t("f32[4, 2, 3]"), t("i64[2, 2]"), *LENGTHS), ArgumentError, "blank"
            ),
        ],
    ),
    OpSamples(
        CtcLossGrad,
        _grad,
        _slopes(),
        onnx=NO_ONNX,
        refused=[
            Refused(
                CtcLossGrad(),
                (t("f32[4, 2, 3]"), t("i64[2, 2]"), *LENGTHS, t("f32[3]")),
                ShapeError,
                "gradient of",
            )
        ],
    ),
]
