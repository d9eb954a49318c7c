"""Normalisation behind sums and embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dtypes import int32, int64
from ...errors import OnnxError
from .. import f
from ..indexing import IndexSelect
from ..norm import LayerNorm, RmsNorm, inverse_std, widened
from ..onnx_rules import RULES, Import, from_onnx


def _statistics(x: Any, dims: int, eps: float, centred: bool) -> tuple[Any, Any]:
    """The mean (None unless `centred`) and the inverse deviation over the last `dims` axes."""
    axes, x = tuple(range(x.ndim - dims, x.ndim)), widened(x)
    if not centred:
        return None, inverse_std(f.mean(x * x, axes, True), eps)
    mean = f.mean(x, axes, True)
    return mean, inverse_std(f.mean((x - mean) * (x - mean), axes, True), eps)


from_onnx("com.microsoft::LayerNormalization")(RULES["LayerNormalization"])


@from_onnx("com.microsoft::SimplifiedLayerNormalization")
def _simplified(ctx: Import, x: Any, scale: Any) -> Any:
    """RMS normalisation; the second result is the inverse deviation."""
    axis, eps = ctx.attr("axis", -1), ctx.attr("epsilon", 1e-5)
    dims = -axis if axis < 0 else x.ndim - axis
    weight = f.expand(f.cast(scale, x.dtype), x.shape[x.ndim - dims :])
    return RmsNorm(dims, eps)(x, weight), _statistics(x, dims, eps, False)[1]


@from_onnx("com.microsoft::SkipLayerNormalization")
def _skip(ctx: Import, x: Any, skip: Any, gamma: Any, beta: Any = None, bias: Any = None) -> Any:
    """Layer normalisation of x + skip + bias; the fourth result is that sum."""
    total = x + skip if bias is None else x + skip + bias
    eps = ctx.attr("epsilon", 1e-12)
    parameters = (gamma,) if beta is None else (gamma, beta)
    mean, scale = _statistics(total, 1, eps, True)
    return LayerNorm(1, eps)(total, *parameters), mean, scale, total


@from_onnx("com.microsoft::SkipSimplifiedLayerNormalization")
def _skip_simplified(ctx: Import, x: Any, skip: Any, gamma: Any, bias: Any = None) -> Any:
    """RMS normalisation of x + skip + bias; the fourth result is that sum."""
    total = x + skip if bias is None else x + skip + bias
    eps = ctx.attr("epsilon", 1e-5)
    scale = _statistics(total, 1, eps, False)[1]
    return RmsNorm(1, eps)(total, gamma), scale, scale, total


@from_onnx("com.microsoft::EmbedLayerNormalization")
def _embed(
    ctx: Import,
    words: Any,
    segments: Any,
    word_table: Any,
    position_table: Any,
    segment_table: Any,
    gamma: Any,
    beta: Any,
    mask: Any = None,
    positions: Any = None,
) -> Any:
    """Layer normalisation of the sum of embeddings; the number of keys that the mask leaves."""
    if (segments is None) != (segment_table is None):
        raise OnnxError("EmbedLayerNormalization: segment_ids and their table go together")
    length = words.shape[1]
    total = IndexSelect(0)(word_table, f.cast(words, int64))
    if positions is None:
        total = total + f.slice_axis(position_table, 0, 0, length)
    else:
        total = total + IndexSelect(0)(position_table, f.cast(positions, int64))
    if segments is not None:
        total = total + IndexSelect(0)(segment_table, f.cast(segments, int64))
    y = LayerNorm(1, ctx.attr("epsilon", 1e-12))(total, gamma, beta)
    if mask is None:
        counts = f.expand(ctx.constant(np.zeros((), np.int32)), words.shape[:1])
    else:
        counts = f.sum(f.cast(mask, int32), (1,))
    return y, counts, total
