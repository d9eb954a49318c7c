"""Scaling, imputing and picking of features."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dtypes import float32, int64
from ...errors import OnnxError
from .. import f
from ..comparison import Isnan
from ..indexing import IndexSelect
from ..onnx_rules import Import, from_onnx


@from_onnx("ai.onnx.ml::ArrayFeatureExtractor")
def _extract(ctx: Import, x: Any, at: Any) -> Any:
    count = at.size
    y = IndexSelect(x.ndim - 1)(x, f.reshape(f.cast(at, int64), (count,)))
    return f.reshape(y, (1, count)) if x.ndim == 1 else y


@from_onnx("ai.onnx.ml::Binarizer")
def _binarize(ctx: Import, x: Any) -> Any:
    threshold = ctx.constant(np.asarray(ctx.attr("threshold", 0.0), np.float32))
    wide = f.cast(x, float32) if not x.dtype.is_floating_point else x
    return f.cast(f.greater(wide, f.cast(threshold, wide.dtype)), x.dtype)


def _row(ctx: Import, name: str, default: float) -> Any:
    return ctx.constant(np.asarray(ctx.attr(name) or (default,), np.float32))


@from_onnx("ai.onnx.ml::Scaler")
def _scale(ctx: Import, x: Any) -> Any:
    return (f.cast(x, float32) - _row(ctx, "offset", 0.0)) * _row(ctx, "scale", 1.0)


@from_onnx("ai.onnx.ml::Imputer")
def _impute(ctx: Import, x: Any) -> Any:
    kind = "float" if x.dtype.is_floating_point else "int64"
    values = ctx.attr(f"imputed_value_{kind}s")
    replaced = ctx.attr(f"replaced_value_{kind}", 0)
    if not values:
        raise OnnxError(f"Imputer: expected imputed_value_{kind}s")
    missing = Isnan()(x) if replaced != replaced else f.equal(x, f.like(x, replaced))
    return f.where(missing, ctx.constant(np.asarray(values).astype(x.dtype.np)), x)


@from_onnx("ai.onnx.ml::Normalizer")
def _normalize(ctx: Import, x: Any) -> Any:
    x, norm = f.cast(x, float32), ctx.attr("norm", "MAX")
    axis = (x.ndim - 1,)
    if norm == "MAX":
        size = f.max(f.abs(x), axis, True)
    elif norm == "L1":
        size = f.sum(f.abs(x), axis, True)
    elif norm == "L2":
        size = f.sqrt(f.sum(x * x, axis, True))
    else:
        raise OnnxError(f"Normalizer: expected MAX, L1 or L2, got {norm!r}")
    return f.where(f.equal(size, 0), x, x / f.where(f.equal(size, 0), 1, size))


@from_onnx("ai.onnx.ml::FeatureVectorizer")
def _vectorize(ctx: Import, *xs: Any) -> Any:
    widths = ctx.attr("inputdimensions", ())
    if len(widths) != len(xs):
        raise OnnxError(f"FeatureVectorizer: expected {len(xs)} inputdimensions, got {widths}")
    parts = []
    for x, width in zip(xs, widths, strict=True):
        flat = f.cast(x, float32)
        flat = f.reshape(flat, (x.shape[0], x.size // x.shape[0])) if x.ndim != 2 else flat
        parts.append(f.pad(flat, [(0, 0), (0, width - flat.shape[1])]))
    return f.concat(parts, 1)
