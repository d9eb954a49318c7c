"""GroupQueryAttention of com.microsoft, with its cache."""

from __future__ import annotations

from typing import Any

from ...dims import DimLike, maximum
from ...dtypes import int64
from ...errors import OnnxError
from .. import f
from ..attention import attend, default_scale, join_heads, numbers, rotated, split_heads, window
from ..comparison import LogicalAnd
from ..extremum import Maximum
from ..indexing import IndexSelect
from ..norm import RmsNorm
from ..onnx_rules import Import, from_onnx


@from_onnx("com.microsoft::GroupQueryAttention")
def _group_query_attention(
    ctx: Import,
    q: Any,
    k: Any,
    v: Any,
    past_key: Any,
    past_value: Any,
    last: Any,
    total: Any,
    cos: Any = None,
    sin: Any = None,
    at: Any = None,
    added: Any = None,
    sink: Any = None,
    k_scale: Any = None,
    v_scale: Any = None,
    q_weight: Any = None,
    k_weight: Any = None,
) -> Any:
    _refuse(ctx, k_scale, v_scale)
    heads, kv = ctx.attr("num_heads"), ctx.attr("kv_num_heads")
    q, k, v = _split(q, k, v, heads, kv)
    if q_weight is not None:
        eps = ctx.attr("qk_norm_epsilon", 1e-6)
        q, k = RmsNorm(1, eps)(q, q_weight), RmsNorm(1, eps)(k, k_weight)
    batch, length = q.shape[0], q.shape[2]
    # Position of each sample's first new token: of a prompt, which may be padded, 0.
    ends = f.reshape(f.cast(last, int64), (batch,))
    first = Maximum()(ends + f.like(ends, 1) - _size(ctx, length), f.zeros_like(ends))
    where = f.reshape(first, (batch, 1)) + f.reshape(numbers(ctx, 0, length), (1, length))
    if ctx.attr("do_rotary", 0):
        turned = bool(ctx.attr("rotary_interleaved", 0))
        angles = where if at is None else f.cast(at, int64)
        shape = (angles.shape[0], 1, length, cos.shape[1])
        cos, sin = (f.reshape(IndexSelect(0)(t, angles), shape) for t in (cos, sin))
        q, k = rotated(q, cos, sin, turned), rotated(k, cos, sin, turned)
    (whole,) = ctx.sizes(total, "the total length of GroupQueryAttention")
    k, v = (_cached(ctx, p, x, first, whole) for p, x in ((past_key, k), (past_value, v)))
    masks = _masks(ctx, where, k.shape[2])
    if added is not None:
        masks.append(f.pad(added, [(0, 0)] * 3 + [(0, k.shape[2] - added.shape[3])]))
    keys, values = k, v
    if sink is not None or ctx.attr("smooth_softmax", 0) > 0:
        keys, values, masks = _with_sink(k, v, masks, sink, heads)
    found = attend(
        q,
        keys,
        values,
        masks,
        scale=ctx.attr("scale", 0.0) or default_scale(ctx, q.shape[3]),
        softcap=ctx.attr("softcap", 0.0),
        guard=False,
    )
    return join_heads(found.y), k, v


def _refuse(ctx: Import, *scales: Any) -> None:
    quantised = any(ctx.attr(f"{x}_quant_type", "NONE") != "NONE" for x in "kv")
    if quantised or any(s is not None for s in scales):
        raise OnnxError("GroupQueryAttention: quantised caches are not supported")
    if ctx.attr("sliding_window_cache", 0):
        raise OnnxError("GroupQueryAttention: sliding_window_cache is not supported")


def _size(ctx: Import, size: DimLike) -> Any:
    """A size as an int64 of one element."""
    return numbers(ctx, size, size + 1)


def _split(q: Any, k: Any, v: Any, heads: int, kv: int) -> tuple[Any, Any, Any]:
    """Queries, keys and values [B, H, L, D], which may come in one operand."""
    if k is None:
        size = q.shape[2] // (heads + 2 * kv)
        ends = (heads * size, (heads + kv) * size, (heads + 2 * kv) * size)
        q, k, v = (f.slice_axis(q, 2, a, b) for a, b in zip((0, *ends), ends, strict=False))
    return split_heads(q, heads), split_heads(k, kv), split_heads(v, kv)


def _cached(ctx: Import, past: Any, new: Any, first: Any, total: DimLike) -> Any:
    """The cache [B, K, max(P, total), D] with `new` at each sample's position `first` on."""
    if past is None:
        return new
    batch, heads, length, depth = new.shape
    before = past.shape[2]
    if before == 0:
        return new
    size = maximum(before, total)
    both = f.permute(f.concat([past, new], 2), (0, 2, 1, 3))
    rows = f.reshape(both, (batch * (before + length), heads, depth))
    # Of sample b, row j is the past's, then that of `new`; beyond both it does not matter.
    j, start = f.reshape(numbers(ctx, 0, size), (1, size)), f.reshape(first, (batch, 1))
    behind = j - start
    ours = LogicalAnd()(f.greater_equal(behind, 0), f.less(behind, _size(ctx, length)))
    old = f.where(f.less(j, _size(ctx, before)), j, f.zeros_like(j))
    row = f.where(ours, behind + _size(ctx, before), old)
    sample = f.reshape(numbers(ctx, 0, batch), (batch, 1)) * _size(ctx, before + length)
    return f.permute(IndexSelect(0)(rows, row + sample), (0, 2, 1, 3))


def _masks(ctx: Import, where: Any, keys: DimLike) -> list[Any]:
    """Which keys a query sees: those up to its own, in its window."""
    batch, length = where.shape
    reach = ctx.attr("local_window_size", -1)  # its own position counts
    right = 0 if ctx.attr("causal", 1) else None
    left = reach - 1 if reach > 0 else None
    if right is None and left is None:
        return []
    return [window(ctx, f.reshape(where, (batch, 1, length, 1)), keys, left, right)]


def _with_sink(
    k: Any, v: Any, masks: list[Any], sink: Any, heads: int
) -> tuple[Any, Any, list[Any]]:
    """One more key, of score `sink` [H] or 0, whose value is 0: it only takes weight."""
    batch, kv, keys, _ = k.shape
    bias = f.zeros(k, (heads,)) if sink is None else f.cast(sink, k.dtype)
    column = f.reshape(bias, (1, heads, 1, 1))
    own = f.concat([f.zeros(k, (1, heads, 1, keys)), column], 3)
    widened = []
    for mask in masks:
        pads = [(0, 0)] * 3 + [(0, 1)]
        widened.append(f.pad(mask, pads, 1 if mask.dtype.name == "bool" else 0))
    ends = (f.zeros(x, (batch, kv, 1, x.shape[3])) for x in (k, v))
    k, v = (f.concat([x, end], 2) for x, end in zip((k, v), ends, strict=True))
    return k, v, [own, *widened]
