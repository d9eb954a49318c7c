"""Blocked images of com.microsoft.nchwc, as plain ones.

ONNX Runtime keeps the channels of such images in blocks, which only these operators and pointwise
ones see; here they stay where they were. Filters in a file are in blocks, however, of a size that
the processor it was written on had: :mod:`dualgraph_compiler.onnx.nchwc` finds it and leaves it in
the attribute `block`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import OnnxError
from .. import avg_pool, conv, f, pool, reduction
from ..onnx_rules import RULES, Import, from_onnx
from .fused import activated

_SOURCES = (avg_pool, conv, pool, reduction)  # whose rules are read below
_DOMAIN = "com.microsoft.nchwc"


def _block(ctx: Import) -> int:
    block = ctx.attr("block", 0)
    if block not in (8, 16):
        raise OnnxError(
            "the file does not tell the size of its blocks, 8 or 16; write it with the level "
            "ORT_ENABLE_EXTENDED, which has none"
        )
    return int(block)


@from_onnx(f"{_DOMAIN}::ReorderInput")
def _reorder_input(ctx: Import, x: Any) -> Any:
    """Channels first, and as many as fill blocks."""
    if ctx.attr("channels_last", 0):
        x = f.permute(x, (0, x.ndim - 1, *range(1, x.ndim - 1)))
    missing = -ctx.size(x.shape[1], "the number of channels") % _block(ctx)
    return f.pad(x, [(0, 0), (0, missing), *[(0, 0)] * (x.ndim - 2)])


@from_onnx(f"{_DOMAIN}::ReorderOutput")
def _reorder_output(ctx: Import, x: Any) -> Any:
    """The channels there were, first or last."""
    x = f.slice_axis(x, 1, 0, ctx.attr("channels"))
    return f.permute(x, (0, *range(2, x.ndim), 1)) if ctx.attr("channels_last", 0) else x


@from_onnx(f"{_DOMAIN}::Conv")
def _conv(ctx: Import, x: Any, w: Any, b: Any = None, z: Any = None) -> Any:
    filters = ctx.array(w, "the filter of a convolution of blocks")
    plain = ctx.constant(_unblocked(filters, _block(ctx), ctx.attr("group", 1)))
    y = RULES["Conv"](ctx, x, plain, b)
    y = y if z is None else y + z
    return activated(y, ctx.attr("activation"), ctx.attr("activation_params", ()))


def _unblocked(w: np.ndarray[Any, Any], block: int, groups: int) -> np.ndarray[Any, Any]:
    """A filter [O, I, *K] from memory of [O/b, I/b, *K, b, b], or [O/b, I, *K, b] of few inputs."""
    outputs, inputs, *kernel = w.shape
    rank = len(kernel)
    few = inputs < block if groups == 1 else inputs == 1
    if outputs % block or not (few or inputs % block == 0):
        raise OnnxError(f"a filter {list(w.shape)} is not in blocks of {block}")
    if few:
        parts = w.reshape(outputs // block, inputs, *kernel, block)
        return np.ascontiguousarray(np.moveaxis(parts, -1, 1)).reshape(w.shape)
    parts = w.reshape(outputs // block, inputs // block, *kernel, block, block)
    order = (0, rank + 3, 1, rank + 2, *range(2, rank + 2))
    return np.ascontiguousarray(parts.transpose(order)).reshape(w.shape)


for _name in ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"):
    from_onnx(f"{_DOMAIN}::{_name}")(RULES[_name])
