"""Gradients of average pooling as sums of windows; max pooling whose positions are wanted, too."""

from __future__ import annotations

import itertools
import math
from typing import Any

from ..dims import Dim, Shape
from ..graph import Node, Value
from ..ops import f
from ..ops.pool import MaxPoolIndices
from .conv_gradient import interleaved, taps
from .windows import Windows, window_counts


def pool_gradient(node: Node) -> Value | None:
    """A node in simpler ops; None where it is no gradient of average pooling, or cannot be."""
    op: Any = node.op
    if not node.outputs[0].dtype.is_floating_point:
        return None
    if op.name == "avg_pool_grad":
        return _avg_pool_grad(op, node.inputs[0])
    if op.name == "adaptive_avg_pool_grad":
        return _adaptive_avg_pool_grad(op, node.inputs[0])
    return None


def with_indices(node: Node) -> Value | None:
    """Max pooling whose positions are asked for elsewhere: computed with them."""
    op: Any = node.op
    same = MaxPoolIndices(*op.geometry())
    if not any(user.op == same for user in node.inputs[0].uses):
        return None
    return same(node.inputs[0])[0]  # type: ignore[no-any-return]


def _avg_pool_grad(op: Any, g: Value) -> Value | None:
    """Each pixel sums the windows that it is in, as `conv_gradient` sums taps."""
    if any(isinstance(lo, Dim) for lo, _ in op.padding):
        return None
    counts = [-(-n // s) for n, s in zip(op.sizes, op.stride, strict=True)]
    dtype = g.dtype
    g = f.cast(g, _wide(g))
    image = f.zeros(g, (*g.shape[:2], *op.sizes))
    g = g / window_counts(op, image, g)
    pieces = []
    known: dict[Any, Value] = {}
    for starts in itertools.product(*map(range, op.stride)):
        found = tuple(
            taps(i, k, s, 1, lo, p, n)
            for i, k, s, (lo, _), p, n in zip(
                starts, op.kernel, op.stride, op.padding, g.shape[2:], counts, strict=True
            )
        )
        key = tuple((t.count, t.dilation, t.before) for t in found)
        if key not in known:
            known[key] = _piece(g, key, tuple(counts))
        pieces.append(known[key])
    return f.cast(interleaved(pieces, op.stride, op.sizes), dtype)  # type: ignore[no-any-return]


def _piece(g: Value, key: tuple[tuple[int, int, int], ...], counts: Shape) -> Value:
    """The pixels of one set: [N, C, *counts]; `key`: count, dilation and padding of their taps."""
    kernel, dilation, before = zip(*key, strict=True)
    if 0 in kernel:
        return f.zeros(g, (*g.shape[:2], *counts))  # type: ignore[no-any-return]
    windows = Windows(counts, kernel, (1,) * len(key), dilation, before, 0.0)(g)
    return f.sum(windows, tuple(range(g.ndim, windows.ndim)))  # type: ignore[no-any-return]


def _adaptive_avg_pool_grad(op: Any, g: Value) -> Value | None:
    """Bins of one size: each pixel has its part of its bin's."""
    places = g.shape[2:]
    pairs = list(zip(op.sizes, places, strict=True))
    wide = f.cast(g, _wide(g))
    if all(p == 1 for p in places):
        whole = f.expand(wide, (*g.shape[:2], *op.sizes))
        return f.cast(whole / f.count(whole, tuple(range(2, g.ndim))), g.dtype)  # type: ignore[no-any-return]
    if any(isinstance(n, Dim) or isinstance(p, Dim) or n % p for n, p in pairs):
        return None
    bins = [n // p for n, p in pairs]
    part = f.cast(wide / f.like(wide, math.prod(bins)), g.dtype)
    thin = [d for p in places for d in (p, 1)]
    spread = [d for p, n in zip(places, bins, strict=True) for d in (p, n)]
    part = f.expand(f.reshape(part, (*g.shape[:2], *thin)), (*g.shape[:2], *spread))
    return f.reshape(part, (*g.shape[:2], *op.sizes))  # type: ignore[no-any-return]


def _wide(x: Value) -> Any:
    from ..ops.norm import wide_dtype

    return wide_dtype(x.dtype)
