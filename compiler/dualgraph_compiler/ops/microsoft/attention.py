"""Attention, MultiHeadAttention and RotaryEmbedding of com.microsoft."""

from __future__ import annotations

import itertools
from typing import Any

from ...dims import DimLike
from ...dtypes import int64
from ...errors import OnnxError
from .. import f
from ..attention import (
    attend,
    before,
    default_scale,
    join_heads,
    numbers,
    positions,
    rotated,
    split_heads,
    window,
)
from ..comparison import LogicalAnd
from ..indexing import IndexSelect
from ..onnx_rules import Import, from_onnx


def _scale(ctx: Import, depth: DimLike) -> float:
    """The attribute `scale`, of which 0 stands for the default."""
    return ctx.attr("scale", 0.0) or default_scale(ctx, depth)


def _weighed(ctx: Import, seen: Any, like: Any) -> Any:
    """A mask that lowers what is not seen by the attribute `mask_filter_value`."""
    low = ctx.attr("mask_filter_value", -10000.0)
    return f.where(seen, f.like(like, 0), f.like(like, low))


def _padding_mask(ctx: Import, mask: Any, batch: DimLike, keys: DimLike, like: Any) -> Any:
    """The additive mask of `mask_index` or `key_padding_mask`, whose form its shape tells.

    [B]: how many keys a sample has; [2 B]: where its keys end, then where they start; [B, S],
    [B, L, S] or [B, 1, L', S'], not 0 where a key is seen.
    """
    if mask.ndim == 1:
        sizes = mask.shape[0]
        if sizes == batch:
            return _weighed(ctx, before(ctx, mask, keys), like)
        if sizes == 2 * batch:
            ends, starts = (
                f.cast(f.slice_axis(mask, 0, k * batch, (k + 1) * batch), int64) for k in (0, 1)
            )
            shape = (batch, 1, 1, 1)
            at = numbers(ctx, 0, keys)
            seen = LogicalAnd()(
                f.less(at, f.reshape(ends, shape)), f.greater_equal(at, f.reshape(starts, shape))
            )
            return _weighed(ctx, seen, like)
        raise OnnxError(f"expected a mask of {batch} or twice as many numbers, got {mask.type}")
    if mask.ndim == 2:
        mask = f.reshape(mask, (mask.shape[0], 1, 1, mask.shape[1]))
    elif mask.ndim == 3:
        mask = f.reshape(mask, (mask.shape[0], 1, *mask.shape[1:]))
    return _weighed(ctx, f.not_equal(mask, 0), like)


def _causal(ctx: Import, length: DimLike, keys: DimLike) -> Any:
    """True where a key is not behind a query; the last query is at the last key."""
    return window(ctx, positions(ctx, keys - length, length), keys, None, 0)


# -- Attention ------------------------------------------------------------------------------------


@from_onnx("com.microsoft::Attention")
def _attention(
    ctx: Import,
    x: Any,
    weights: Any,
    bias: Any = None,
    mask: Any = None,
    past: Any = None,
    added: Any = None,
    past_length: Any = None,
) -> Any:
    if ctx.attr("do_rotary", 0) or ctx.attr("past_present_share_buffer", 0):
        raise OnnxError("Attention: do_rotary and past_present_share_buffer are not supported")
    heads, width = ctx.attr("num_heads"), weights.shape[1]
    sizes = tuple(ctx.attr("qkv_hidden_sizes", ())) or (width // 3,) * 3
    projected = f.matmul(x, weights)
    projected = projected if bias is None else projected + bias
    ends = (0, sizes[0], sizes[0] + sizes[1], sizes[0] + sizes[1] + sizes[2])
    q, k, v = (
        split_heads(f.slice_axis(projected, 2, a, b), heads) for a, b in itertools.pairwise(ends)
    )
    if past is not None:
        k, v = (f.concat([f.select(past, 0, i), new], 2) for i, new in ((0, k), (1, v)))
    batch, length, keys = q.shape[0], q.shape[2], k.shape[2]
    masks = [] if added is None else [added]
    if mask is not None:
        if mask.ndim == 4:  # of all positions there may be: those before the last query's end
            mask = f.slice_axis(f.slice_axis(mask, 2, keys - length, keys), 3, 0, keys)
        masks.append(_padding_mask(ctx, mask, batch, keys, q))
    if ctx.attr("unidirectional", 0):
        masks.append(_causal(ctx, length, keys))
    found = attend(q, k, v, masks, scale=_scale(ctx, q.shape[3]), guard=False)
    present = f.stack([k, v], 0) if ctx.n_outputs > 1 else found.y
    return join_heads(found.y), present


# -- MultiHeadAttention ---------------------------------------------------------------------------


@from_onnx("com.microsoft::MultiHeadAttention")
def _multi_head_attention(
    ctx: Import,
    q: Any,
    k: Any = None,
    v: Any = None,
    bias: Any = None,
    mask: Any = None,
    added: Any = None,
    past_key: Any = None,
    past_value: Any = None,
    past_length: Any = None,
    indirection: Any = None,
) -> Any:
    if past_length is not None or indirection is not None:
        raise OnnxError("MultiHeadAttention: caches of a fixed size are not supported")
    q, k, v = _projections(ctx.attr("num_heads"), q, k, v, bias)
    if past_key is not None:
        k, v = f.concat([past_key, k], 2), f.concat([past_value, v], 2)
    batch, length, keys = q.shape[0], q.shape[2], k.shape[2]
    masks = [] if added is None else [added]
    if mask is not None:
        masks.append(_padding_mask(ctx, mask, batch, keys, q))
    if ctx.attr("unidirectional", 0):
        masks.append(_causal(ctx, length, keys))
    found = attend(q, k, v, masks, scale=_scale(ctx, q.shape[3]), guard=False)
    return join_heads(found.y), k, v, f.clip(found.masked, -3.4028234663852886e38, None)


def _projections(heads: int, q: Any, k: Any, v: Any, bias: Any) -> tuple[Any, Any, Any]:
    """Queries, keys and values [B, H, L, D] of the forms that MultiHeadAttention takes."""
    if q.ndim == 5:  # [B, L, H, 3, D]
        q, k, v = (f.permute(f.select(q, 3, i), (0, 2, 1, 3)) for i in (0, 1, 2))
    else:
        q = split_heads(q, heads)
        if k.ndim == 5:  # [B, S, H, 2, D]
            k, v = (f.permute(f.select(k, 3, i), (0, 2, 1, 3)) for i in (0, 1))
        elif k.ndim == 3:
            k, v = split_heads(k, heads), split_heads(v, heads)
    if bias is None:
        return q, k, v
    parts, start = [], 0
    for x in (q, k, v):
        size = heads * x.shape[3]
        part = f.slice_axis(bias, 0, start, start + size)
        parts.append(x + f.reshape(part, (heads, 1, x.shape[3])))
        start += size
    return parts[0], parts[1], parts[2]


# -- rotary positions -----------------------------------------------------------------------------


@from_onnx("com.microsoft::RotaryEmbedding")
def _rotary(ctx: Import, x: Any, at: Any, cos: Any, sin: Any) -> Any:
    if ctx.attr("is_packed_batching", 0):
        raise OnnxError("RotaryEmbedding: packed batches are not supported")
    packed, whole, half = x.ndim == 3, x.shape, cos.shape[1]
    if packed:  # [B, L, H D]
        heads = ctx.attr("num_heads", 0) or whole[2] // (2 * half)
        x = f.reshape(x, (*whole[:2], heads, whole[2] // heads))
    length = x.shape[1] if packed else x.shape[2]
    at = f.cast(at, int64)
    if at.ndim == 1 or (at.shape == (1, 1) and length != 1):  # the first position
        at = f.reshape(at, (1, 1)) + f.reshape(numbers(ctx, 0, length), (1, length))
    shape = (at.shape[0], length, 1, half) if packed else (at.shape[0], 1, length, half)
    cos, sin = (f.reshape(IndexSelect(0)(t, at), shape) for t in (cos, sin))
    return f.reshape(rotated(x, cos, sin, bool(ctx.attr("interleaved", 0))), whole)
