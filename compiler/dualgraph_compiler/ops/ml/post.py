"""What classifiers and regressors do with their scores. Source: ONNX Runtime's ml_common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...dtypes import float32, float64
from ...errors import OnnxError
from .. import f
from ..comparison import LogicalAnd
from ..indexing import IndexSelect
from ..onnx_rules import Import
from ..sorting import ArgMax

_TINY = 1e-7  # scores up to this are 0 to SOFTMAX_ZERO


def rows(x: Any) -> Any:
    """Features [N, F] as floating-point numbers; one row where there is one axis only."""
    x = f.cast(x, x.dtype if x.dtype in (float32, float64) else float32)
    if x.ndim == 1:
        x = f.reshape(x, (1, x.shape[0]))
    if x.ndim != 2:
        raise OnnxError(f"expected features [N, F], got {x.type}")
    return x


def transformed(scores: Any, name: str) -> Any:
    """Scores [N, K] after the post transform `name`."""
    if name == "NONE":
        return scores
    if name == "LOGISTIC":
        return f.sigmoid(scores)
    if name == "SOFTMAX":
        return f.softmax(scores, 1)
    if name == "SOFTMAX_ZERO":
        return _softmax_zero(scores)
    if name == "PROBIT":
        return _probit(scores)
    raise OnnxError(f"unknown post_transform {name!r}")


def _softmax_zero(x: Any) -> Any:
    """A softmax in which scores of 0 stay 0."""
    top = f.max(x, (1,), True)
    zero = LogicalAnd()(f.less_equal(x, _TINY), f.greater_equal(x, -_TINY))
    e = f.where(zero, x * f.exp(f.like(x, 0) - top), f.exp(x - top))
    total = f.sum(e, (1,), True)
    return f.where(f.equal(total, 0), 0.5, e / f.where(f.equal(total, 0), 1, total))


def _probit(p: Any) -> Any:
    """The quantile of the normal distribution, by Winitzki's approximation."""
    x = p * f.like(p, 2) - f.like(p, 1)
    inside = f.log((f.like(x, 1) - x) * (f.like(x, 1) + x))
    v = inside * f.like(x, 0.5) + f.like(x, 2 / (math.pi * 0.147))
    root = f.sqrt(f.sqrt(v * v - inside * f.like(x, 1 / 0.147)) - v)
    return f.where(f.less(x, 0), -root, root) * f.like(x, 1.41421356)


def labels(ctx: Import, names: Sequence[str]) -> np.ndarray[Any, Any]:
    """The classes of a classifier, from the first of the attributes `names` that is given.

    Raises:
        OnnxError: they are strings, which a graph does not hold, or none.
    """
    for name in names:
        found = ctx.attr(name)
        if found:
            if isinstance(found[0], str):
                raise OnnxError("labels that are strings are no numbers of a graph")
            return np.asarray(found, np.int64)
    raise OnnxError(f"expected one of the attributes {', '.join(names)}")


def picked(ctx: Import, classes: np.ndarray[Any, Any], at: Any) -> Any:
    """The label at each place in `at`."""
    return IndexSelect(0)(ctx.constant(classes), at)


def best(ctx: Import, classes: np.ndarray[Any, Any], scores: Any) -> Any:
    """The label of the greatest score of each row, the first of equal ones."""
    return picked(ctx, classes, ArgMax(1, False)(scores))
