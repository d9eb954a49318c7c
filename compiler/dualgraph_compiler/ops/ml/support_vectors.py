"""Support vector machines."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import graph as _graph  # which imports ops in turn: for use in functions only
from ...dtypes import float32
from ...errors import OnnxError
from ...types import TensorType
from .. import f
from ..onnx_rules import Import, from_onnx
from ..scan import Scan
from .post import best, labels, rows, transformed


def _floats(ctx: Import, name: str) -> np.ndarray[Any, Any]:
    return np.asarray(ctx.attr(name, ()), np.float32)


def _kernel(ctx: Import, x: Any, vectors: np.ndarray[Any, Any], kind: str) -> Any:
    """The kernel of each row with each support vector: [N, V]."""
    gamma, shift, degree = (*ctx.attr("kernel_params", ()), 0.0, 0.0, 0.0)[:3]
    if kind == "RBF":
        across = f.reshape(x, (x.shape[0], 1, x.shape[1])) - ctx.constant(vectors[None])
        return f.exp(f.sum(across * across, (2,)) * f.like(x, -gamma))
    y = f.matmul(x, ctx.constant(np.ascontiguousarray(vectors.T)))
    if kind == "LINEAR":
        return y
    y = y * f.like(y, gamma) + f.like(y, shift)
    if kind == "POLY":
        return y ** f.like(y, degree)
    if kind == "SIGMOID":
        return f.tanh(y)
    raise OnnxError(f"unknown kernel_type {kind!r}")


@from_onnx("ai.onnx.ml::SVMRegressor")
def _regressor(ctx: Import, x: Any) -> Any:
    x, count = f.cast(rows(x), float32), ctx.attr("n_supports", 0)
    coefficients, rho = _floats(ctx, "coefficients"), _floats(ctx, "rho")
    if count > 0:
        vectors = _floats(ctx, "support_vectors").reshape(count, -1)
        x = _kernel(ctx, x, vectors, ctx.attr("kernel_type", "LINEAR"))
    y = f.matmul(x, ctx.constant(coefficients.reshape(-1, 1))) + f.like(x, float(rho[0]))
    if ctx.attr("one_class", 0):
        return f.where(f.greater(y, 0), f.like(y, 1), f.like(y, -1))
    return transformed(y, ctx.attr("post_transform", "NONE"))


@from_onnx("ai.onnx.ml::SVMClassifier")
def _classifier(ctx: Import, x: Any) -> Any:
    x = f.cast(rows(x), float32)
    classes = labels(ctx, ("classlabels_strings", "classlabels_ints"))
    transform, rho = ctx.attr("post_transform", "NONE"), _floats(ctx, "rho")
    per_class = [int(v) for v in ctx.attr("vectors_per_class", ())]
    if not sum(per_class):
        weights = _floats(ctx, "coefficients").reshape(len(classes), -1)
        scores = _kernel(ctx, x, weights, "LINEAR") + f.like(x, float(rho[0]))
        return best(ctx, classes, scores), transformed(scores, transform)
    duels, votes = _duels(ctx, x, per_class, rho)
    if ctx.attr("prob_a"):
        scores = _probabilities(ctx, duels, len(per_class))
        at_best = best(ctx, classes, votes)
        return at_best, transformed(scores, transform)
    if len(rho) == 1 and len(classes) == 2:
        return _two_classes(ctx, duels, votes, classes, transform)
    return best(ctx, classes, votes), transformed(duels, transform)


def _duels(ctx: Import, x: Any, per_class: list[int], rho: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """The score of each pair of classes [N, P], and how many duels each class wins [N, K]."""
    total, k = sum(per_class), len(per_class)
    vectors = _floats(ctx, "support_vectors").reshape(total, -1)
    alphas = _floats(ctx, "coefficients").reshape(k - 1, total)
    starts = np.cumsum([0, *per_class])
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    weights = np.zeros((total, len(pairs)), np.float32)
    wins, losses = (np.zeros((len(pairs), k), np.float32) for _ in range(2))
    for p, (i, j) in enumerate(pairs):
        first, second = (slice(starts[c], starts[c + 1]) for c in (i, j))
        weights[first, p], weights[second, p] = alphas[j - 1, first], alphas[i, second]
        wins[p, i] = losses[p, j] = 1
    kernel = _kernel(ctx, x, vectors, ctx.attr("kernel_type", "LINEAR"))
    duels = f.matmul(kernel, ctx.constant(weights)) + ctx.constant(rho)
    won = f.cast(f.greater(duels, 0), float32)
    votes = f.matmul(won, ctx.constant(wins))
    return duels, votes + f.matmul(f.like(won, 1) - won, ctx.constant(losses))


def _two_classes(
    ctx: Import, duels: Any, votes: Any, classes: np.ndarray[Any, Any], transform: str
) -> Any:
    both = f.concat([-duels, duels], 1)
    if transform == "LOGISTIC":
        both = f.sigmoid(both)
    elif transform == "PROBIT":
        both = transformed(duels, transform)
    else:
        both = transformed(both, transform)
    return best(ctx, classes, votes), both


def _probabilities(ctx: Import, duels: Any, k: int) -> Any:
    """Those of the classes [N, K], from those of pairs.

    They minimise the sum over pairs of ``(r_ji p_i - r_ij p_j)^2`` (Wu, Lin and Weng 2004), found
    by the steps that libsvm takes, for each row until they are small enough.
    """
    a, b = _floats(ctx, "prob_a"), _floats(ctx, "prob_b")
    pair = f.sigmoid(-(duels * ctx.constant(a) + ctx.constant(b)))
    pair = f.clip(pair, 1e-7, 1 - 1e-7)
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    first, second = (np.zeros((len(pairs), k * k), np.float32) for _ in range(2))
    for p, (i, j) in enumerate(pairs):
        first[p, i * k + j] = second[p, j * k + i] = 1
    rows_ = duels.shape[0]
    flat = f.matmul(pair, ctx.constant(first))
    flat = flat + f.matmul(f.like(pair, 1) - pair, ctx.constant(second))
    r = f.reshape(flat, (rows_, k, k))
    own = ctx.constant(np.eye(k, dtype=np.float32))
    squares = f.reshape(f.sum(r * r, (1,)), (rows_, 1, k))
    q = own * squares - r * f.transpose(r)
    body = _graph.Graph("step")
    before = body.add_input(TensorType(float32, (rows_, k)))
    after = _coupled(body, before, body.add_input(q.type), k)
    body.set_outputs([after])
    start = f.full(duels, (rows_, k), 1 / k)
    return Scan(body, 1, 0, max(100, k))(start, q)


def _coupled(body: Any, p: Any, q: Any, k: int) -> Any:
    """Probabilities after a step, or as they are where they are good enough."""
    rows_ = p.shape[0]
    slopes = f.reshape(f.matmul(q, f.reshape(p, (rows_, k, 1))), (rows_, k))
    total = f.sum(p * slopes, (1,), True)
    done = f.less(f.max(f.abs(slopes - total), (1,), True), 0.005 / k)
    one, new = f.like(p, 1), p
    for t in range(k):
        row = f.select(q, 1, t)
        diagonal, slope = (f.slice_axis(v, 1, t, t + 1) for v in (row, slopes))
        change = (total - slope) / diagonal
        grown = one + change
        unit = body.constant(np.eye(k, dtype=np.float32)[t : t + 1])
        new = (new + change * unit) / grown
        total = total + change * (change * diagonal + f.like(p, 2) * slope)
        total = total / (grown * grown)
        slopes = (slopes + change * row) / grown
    return f.where(done, p, new)
