"""Support vector machines."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dtypes import float32
from ...errors import OnnxError
from .. import f
from ..onnx_rules import Import, from_onnx
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
    """Those of the classes, from those of pairs (Wu, Lin and Weng 2004, as in libsvm)."""
    a, b = _floats(ctx, "prob_a"), _floats(ctx, "prob_b")
    pair = f.sigmoid(-(duels * ctx.constant(a) + ctx.constant(b)))
    pair = f.clip(pair, 1e-7, 1 - 1e-7)
    if k == 2:
        return f.concat([pair, f.like(pair, 1) - pair], 1)
    raise OnnxError("SVMClassifier: probabilities of more than two classes")
