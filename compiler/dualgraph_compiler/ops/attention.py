"""Attention of several heads, and rotary positions, in ops; the ONNX operators made of them.

Queries are [B, H, L, D], keys [B, K, S, D] and values [B, K, S, E], where K divides H: a head of
keys serves H / K heads of queries next to each other (Ainslie et al. 2023, GQA). The products and
the softmax between them are what the native engine compiles into one kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..dims import DimLike
from ..dtypes import BY_ONNX, DType, bool_, dtype_of, float32, float64, int64
from ..errors import OnnxError, ShapeError
from ..types import TensorType
from . import f
from .base import Array
from .comparison import LogicalAnd
from .creation import Arange
from .indexing import IndexSelect
from .norm import widened
from .onnx_rules import Import, from_onnx
from .quantifier import All

Function = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Attended:
    """What attention gives, y [B, H, L, E], and stages of its scores, [B, H, L, S] each.

    `raw` are the scaled products, `capped` those after the soft cap, `masked` those that the
    softmax is of, `weights` the softmax itself.
    """

    y: Array
    raw: Array
    capped: Array
    masked: Array
    weights: Array


def attend(
    q: Array,
    k: Array,
    v: Array,
    masks: Sequence[Array] = (),
    *,
    scale: float,
    softcap: float = 0.0,
    precision: DType | None = None,
    guard: bool = True,
) -> Attended:
    """softmax(q kᵀ scale + masks) v (Vaswani et al. 2017).

    `masks` broadcast to [B, H, L, S]; bool ones are true where a query sees a key, others are
    added. `softcap` c bounds the scores by ``c tanh(scores / c)``. Everything is computed in
    float32 at least, the softmax in float64 if that is the `precision`. With `guard`, queries that
    see no key get 0 instead of NaN.

    Raises:
        ShapeError: the numbers of heads do not fit.
    """
    dtype, whole = dtype_of(q), (*q.shape[:3], k.shape[2])
    q, k, v = widened(q), widened(k), widened(v)
    grouped = q.shape[1] != k.shape[1]
    if grouped:
        kv, groups = _groups(q.shape[1], k.shape[1])
        q = f.reshape(q, (q.shape[0], kv, groups, *q.shape[2:]))
        k, v = (f.reshape(x, (x.shape[0], kv, 1, *x.shape[2:])) for x in (k, v))
        masks = [_by_group(m, kv, groups) for m in masks]
    raw = f.matmul(q * f.like(q, scale), f.transpose(k))
    capped = raw
    if softcap:
        capped = f.tanh(raw * f.like(raw, 1 / softcap)) * f.like(raw, softcap)
    masked = capped
    for mask in masks:
        if dtype_of(mask) is bool_:
            masked = f.where(mask, masked, -math.inf)
        else:
            masked = masked + f.cast(mask, dtype_of(masked))
    wide = f.cast(masked, float64) if precision is float64 else masked
    weights = f.softmax(wide, wide.ndim - 1)
    if masks and guard:
        empty = All((wide.ndim - 1,), True)(f.equal(wide, -math.inf))
        weights = f.where(empty, 0, weights)
    y = f.matmul(f.cast(weights, dtype_of(v)), v)
    stages = (f.cast(f.reshape(x, whole), dtype) for x in (raw, capped, masked, weights))
    return Attended(f.cast(f.reshape(y, (*whole[:3], y.shape[-1])), dtype), *stages)


def _groups(heads: DimLike, kv: DimLike) -> tuple[int, int]:
    """The number of heads of keys, and of heads of queries that share one."""
    if not isinstance(heads, int) or not isinstance(kv, int) or kv < 1 or heads % kv:
        raise ShapeError(f"attention: {heads} heads of queries do not share {kv} heads of keys")
    return kv, heads // kv


def _by_group(mask: Array, kv: int, groups: int) -> Array:
    """A mask over heads as one over heads of keys and their groups."""
    if mask.ndim < 3:
        return mask
    heads = (1, 1) if mask.shape[-3] == 1 else (kv, groups)
    return f.reshape(mask, (*mask.shape[:-3], *heads, *mask.shape[-2:]))


def split_heads(x: Array, heads: int) -> Array:
    """[B, L, heads D] -> [B, heads, L, D]."""
    batch, length, width = x.shape
    if heads < 1 or (isinstance(width, int) and width % heads):
        raise ShapeError(f"attention: {width} features do not divide among {heads} heads")
    return f.permute(f.reshape(x, (batch, length, heads, width // heads)), (0, 2, 1, 3))


def join_heads(x: Array) -> Array:
    """[B, H, L, E] -> [B, L, H E]."""
    batch, heads, length, width = x.shape
    return f.reshape(f.permute(x, (0, 2, 1, 3)), (batch, length, heads * width))


# -- masks ----------------------------------------------------------------------------------------


def numbers(ctx: Import, start: DimLike, stop: DimLike) -> Array:
    """``start, ..., stop - 1`` as int64."""
    return ctx.graph.call(Arange(start, stop, 1, int64), ())


def positions(ctx: Import, first: DimLike, length: DimLike) -> Array:
    """The positions of `length` queries from `first` on: [L, 1]."""
    return f.reshape(numbers(ctx, first, first + length), (length, 1))


def last_positions(ctx: Import, ends: Array, length: DimLike) -> Array:
    """The positions of the last `length` of `ends` [B] tokens: [B, 1, L, 1]."""
    return f.reshape(ends, (ends.shape[0], 1, 1, 1)) + positions(ctx, -length, length)


def window(ctx: Import, at: Array, keys: DimLike, left: int | None, right: int | None) -> Array:
    """Which keys j queries at the positions p in `at` see: p - left <= j <= p + right.

    One of `left` and `right` may be None, for no bound.
    """
    ahead = at - numbers(ctx, 0, keys)
    low = None if right is None else f.greater_equal(ahead, f.like(ahead, -right))
    high = None if left is None else f.less_equal(ahead, f.like(ahead, left))
    if low is None or high is None:
        return high if low is None else low
    return LogicalAnd()(low, high)


def before(ctx: Import, lengths: Array, keys: DimLike) -> Array:
    """Which keys are among the first `lengths` [B] of a sample: [B, 1, 1, S]."""
    ends = f.reshape(f.cast(lengths, int64), (lengths.shape[0], 1, 1, 1))
    return f.less(numbers(ctx, 0, keys), ends)


def widened_mask(mask: Array, keys: DimLike) -> Array:
    """A mask whose last axis may be shorter than `keys`: what it leaves open is not seen."""
    missing = keys - mask.shape[-1]
    if missing == 0 or mask.shape[-1] == 1:
        return mask
    pads = [(0, 0)] * (mask.ndim - 1) + [(0, missing)]
    return f.pad(mask, pads, False if dtype_of(mask) is bool_ else -math.inf)


# -- ONNX -----------------------------------------------------------------------------------------


def default_scale(ctx: Import, depth: DimLike) -> float:
    """1 / sqrt(depth)."""
    return 1 / math.sqrt(max(ctx.size(depth, "the number of features of a head"), 1))


def _bound(size: int) -> int | None:
    if size < -1:
        raise OnnxError(f"Attention: expected a window of -1 or more positions, got {size}")
    return None if size == -1 else size


@from_onnx("Attention")
def _import_attention(
    ctx: Import,
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    past_key: Any = None,
    past_value: Any = None,
    filled: Any = None,
) -> Any:
    if (past_key is None) != (past_value is None):
        raise OnnxError("Attention: past_key and past_value are given together or not at all")
    if filled is not None and past_key is not None:
        raise OnnxError("Attention: nonpad_kv_seqlen stands for a cache outside; there are pasts")
    packed = q.ndim == 3
    if packed:
        heads, kv = ctx.attr("q_num_heads"), ctx.attr("kv_num_heads")
        if not heads or not kv:
            raise OnnxError("Attention: operands of three axes need q_num_heads and kv_num_heads")
        q, k, v = split_heads(q, heads), split_heads(k, kv), split_heads(v, kv)
    first: DimLike = 0
    if past_key is not None:
        first = past_key.shape[2]
        k, v = f.concat([past_key, k], 2), f.concat([past_value, v], 2)
    length, keys = q.shape[2], k.shape[2]
    if filled is not None:
        filled = f.cast(filled, int64)
        at = last_positions(ctx, filled, length)
    else:
        at = positions(ctx, first, length)
    left, right = (_bound(ctx.attr(f"{side}_window_size", -1)) for side in ("left", "right"))
    if ctx.attr("is_causal", 0):
        right = 0
    masks = [] if mask is None else [widened_mask(mask, keys)]
    if left is not None or right is not None:
        masks.append(window(ctx, at, keys, left, right))
    if filled is not None:
        masks.append(before(ctx, filled, keys))
    given = ctx.attr("scale")
    precision = ctx.attr("softmax_precision")
    found = attend(
        q,
        k,
        v,
        masks,
        scale=default_scale(ctx, q.shape[3]) if given is None else given,
        softcap=ctx.attr("softcap", 0.0),
        precision=BY_ONNX[precision] if precision else None,
    )
    stages = (found.raw, found.capped, found.masked, found.weights)
    shown = stages[ctx.attr("qk_matmul_output_mode", 0)]
    return join_heads(found.y) if packed else found.y, k, v, shown


@from_onnx("ai.onnx.preview::FlexAttention")
def _import_flex_attention(ctx: Import, q: Any, k: Any, v: Any) -> Any:
    dtype, whole = q.dtype, (*q.shape[:3], k.shape[2])
    stated = ctx.attr("softmax_precision")
    wide = BY_ONNX[stated] if stated else float64 if dtype is float64 else float32
    if q.shape[1] != k.shape[1]:
        kv, groups = _groups(q.shape[1], k.shape[1])
        k, v = (_repeated(x, kv, groups) for x in (k, v))
    scale = ctx.attr("scale")
    scale = default_scale(ctx, q.shape[3]) if scale is None else scale
    q, k = f.cast(q, wide), f.cast(k, wide)
    scores = _modified(ctx, "score_mod", f.matmul(q * f.like(q, scale), f.transpose(k)), whole)
    weights = _modified(ctx, "prob_mod", f.softmax(scores, 3), whole)
    return f.matmul(f.cast(weights, dtype), v)


def _repeated(x: Any, kv: int, groups: int) -> Any:
    """Every head as often as there are heads of queries that share it."""
    batch, _, *sizes = x.shape
    x = f.expand(f.reshape(x, (batch, kv, 1, *sizes)), (batch, kv, groups, *sizes))
    return f.reshape(x, (batch, kv * groups, *sizes))


def _modified(ctx: Import, name: str, x: Any, shape: Sequence[DimLike]) -> Any:
    """What the graph in the attribute `name` makes of `x`, if there is one."""
    proto = ctx.attr(name)
    if proto is None:
        return x
    (y,) = ctx.nested(proto, [x])
    if y.type != TensorType(dtype_of(x), tuple(shape)):
        raise OnnxError(f"FlexAttention: {name} makes {y.type} of {x.type}")
    return y


# -- rotary positions -----------------------------------------------------------------------------


def rotated(x: Array, cos: Array, sin: Array, interleaved: bool) -> Array:
    """The first 2 R features of `x` turned in pairs by the angles of `cos` and `sin`, [.., R].

    Pairs are neighbours if `interleaved`, else a feature and the one R after it. `cos` and `sin`
    broadcast to x's other axes. Source: Su et al. 2021 (RoFormer).
    """
    last, half = x.ndim - 1, cos.shape[-1]
    turned, rest = f.slice_axis(x, last, 0, 2 * half), x.shape[last] - 2 * half
    if interleaved:
        pairs = f.reshape(turned, (*x.shape[:last], half, 2))
        a, b = (f.select(pairs, last + 1, i) for i in (0, 1))
    else:
        a, b = (f.slice_axis(turned, last, i * half, (i + 1) * half) for i in (0, 1))
    real, imaginary = a * cos - b * sin, a * sin + b * cos
    if interleaved:
        y = f.reshape(f.stack([real, imaginary], last + 1), turned.shape)
    else:
        y = f.concat([real, imaginary], last)
    return y if rest == 0 else f.concat([y, f.slice_axis(x, last, 2 * half, x.shape[last])], last)


@from_onnx("RotaryEmbedding")
def _import_rotary(ctx: Import, x: Any, cos: Any, sin: Any, at: Any = None) -> Any:
    heads, packed = ctx.attr("num_heads", 0), x.ndim == 3
    if packed and not heads:
        raise OnnxError("RotaryEmbedding: an operand of three axes needs num_heads")
    whole = x.shape
    if packed:  # [B, L, H, D]; else [B, H, L, D]
        x = f.reshape(x, (*whole[:2], heads, whole[2] // heads))
    size = ctx.attr("rotary_embedding_dim", 0) or x.shape[3]
    if at is not None:
        at = f.cast(at, int64)
        cos, sin = IndexSelect(0)(cos, at), IndexSelect(0)(sin, at)
    if cos.ndim != 3 or cos.shape != sin.shape or 2 * cos.shape[2] != size:
        raise OnnxError(
            f"RotaryEmbedding: expected tables of {size} / 2 angles, got {cos.type} and {sin.type}"
        )
    batch, length, half = cos.shape
    shape = (batch, length, 1, half) if packed else (batch, 1, length, half)
    cos, sin = f.reshape(cos, shape), f.reshape(sin, shape)
    return f.reshape(rotated(x, cos, sin, bool(ctx.attr("interleaved", 0))), whole)
