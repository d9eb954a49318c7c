"""Linear models."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dtypes import float32, int64
from ...errors import OnnxError
from .. import f
from ..onnx_rules import Import, from_onnx
from .post import best, labels, picked, rows, transformed


def _products(ctx: Import, x: Any, count: int) -> Any:
    """X wᵀ + intercepts as float32, for `count` rows of coefficients."""
    x = f.cast(x, float32)
    weights = np.asarray(ctx.attr("coefficients", ()), np.float32)
    if count < 1 or weights.size % count:
        raise OnnxError(f"expected coefficients of {count} rows, got {weights.size}")
    y = f.matmul(x, ctx.constant(np.ascontiguousarray(weights.reshape(count, -1).T)))
    intercepts = ctx.attr("intercepts")
    if not intercepts:
        return y
    if len(intercepts) not in (1, count):
        raise OnnxError(f"expected {count} intercepts, got {len(intercepts)}")
    return y + ctx.constant(np.asarray(intercepts, np.float32))


@from_onnx("ai.onnx.ml::LinearRegressor")
def _regressor(ctx: Import, x: Any) -> Any:
    y = _products(ctx, rows(x), ctx.attr("targets", 1))
    return transformed(y, ctx.attr("post_transform", "NONE"))


@from_onnx("ai.onnx.ml::LinearClassifier")
def _classifier(ctx: Import, x: Any) -> Any:
    x = rows(x)
    names = ("classlabels_strings", "classlabels_ints")
    classes, transform = labels(ctx, names), ctx.attr("post_transform", "NONE")
    count = len(ctx.attr("intercepts", ())) or (
        len(ctx.attr("coefficients", ())) // ctx.size(x.shape[1], "the number of features")
    )
    scores = _products(ctx, x, count)
    if count > 1:
        return best(ctx, classes, scores), transformed(scores, transform)
    # One score: of the second of two classes, or of one class or none.
    if len(classes) == 2:
        chosen = f.greater(scores, 0)
        if transform == "LOGISTIC":
            both = f.concat([f.sigmoid(-scores), f.sigmoid(scores)], 1)
        elif transform == "PROBIT":
            both = transformed(scores, transform)
        else:
            both = f.concat([f.like(scores, 1) - scores, scores], 1)
    else:
        classes = np.array([0, classes[0]])
        chosen, both = f.greater(scores, 0), transformed(scores, transform)
    at = f.reshape(f.cast(chosen, int64), (scores.shape[0],))
    return picked(ctx, classes, at), both
