"""Gradients of convolutions by the image, and transposed convolutions, as convolutions.

Pixel i of the image gets ``sum_k g[p] w[k]`` over the places p and taps k with
``p * stride + k * dilation - before = i``. Along one axis the pixels ``i = first, first + stride,
...`` share their taps, so that they are a convolution of g with those taps, turned round, with
stride 1; with stride 1 there is one such set. The sets are then interleaved.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from ..dims import Dim, DimLike, product
from ..graph import Node, Value
from ..ops import f
from ..ops.conv import Conv


def input_gradient(node: Node) -> Value | None:
    """A transposed convolution as convolutions; None where it is none or cannot be."""
    op: Any = node.op
    if op.name == "conv_input_grad":
        return _transposed(op, op.padding, op.sizes, node.inputs[0], node.inputs[1])
    if op.name == "conv_transpose":
        x, w, *bias = node.inputs
        sizes = op.result(x.shape[2:], w.shape[2:])
        y = _transposed(op, op.forward().padding, sizes, x, w)
        if y is None or not bias:
            return y
        return y + f.reshape(bias[0], (*bias[0].shape, *(1,) * (y.ndim - 2)))  # type: ignore[no-any-return]
    return None


@dataclass(frozen=True, slots=True)
class Taps:
    """The taps of one set of pixels along one axis: `count` of them from `first`, each `period`th.

    They make a convolution with `dilation` and padding of `before` and `after`.
    """

    first: int
    period: int
    count: int
    dilation: int
    before: int
    after: DimLike


def _transposed(op: Any, padding: Any, sizes: Any, g: Value, w: Value) -> Value | None:
    kernel = w.shape[2:]
    if any(isinstance(d, Dim) for d in (*w.shape, *(lo for lo, _ in padding))):
        return None
    if g.dtype.is_complex or product(w.shape) == 0:
        return None
    weight = _exchanged(w, op.groups)
    pieces: list[Value] = []
    counts = [-(-n // s) for n, s in zip(sizes, op.stride, strict=True)]
    for starts in itertools.product(*map(range, op.stride)):
        found = [
            taps(i, k, s, d, lo, p, n)
            for i, k, s, d, (lo, _), p, n in zip(
                starts, kernel, op.stride, op.dilation, padding, g.shape[2:], counts, strict=True
            )
        ]
        pieces.append(_piece(op, g, weight, found, counts))
    return interleaved(pieces, op.stride, sizes)


def taps(
    start: int, kernel: DimLike, stride: int, dilation: int, lo: int, places: DimLike, n: DimLike
) -> Taps:
    """The taps that reach the pixels `start`, `start` + `stride`, ...; n of them."""
    assert isinstance(kernel, int)
    phase = (start + lo) % stride
    found = [k for k in range(kernel) if k * dilation % stride == phase]
    if not found:
        return Taps(0, 1, 0, 1, 0, 0)
    common = math.gcd(stride, dilation)
    step = dilation // common
    reach = step * (len(found) - 1)
    before = (found[0] * dilation - phase) // stride + reach - (start + lo - phase) // stride
    after = n - places - before + reach
    return Taps(found[0], stride // common, len(found), step, before, after)


def _exchanged(w: Value, groups: int) -> Value:
    """[G * O, C, *K] -> [G * C, O, *K], turned round along K."""
    rows, channels, *kernel = w.shape
    w = f.flip(w, tuple(range(2, w.ndim)))
    parts = f.reshape(w, (groups, rows // groups, channels, *kernel))
    parts = f.permute(parts, (0, 2, 1, *range(3, parts.ndim)))
    return f.reshape(parts, (groups * channels, rows // groups, *kernel))  # type: ignore[no-any-return]


def _piece(op: Any, g: Value, w: Value, taps: list[Taps], counts: list[DimLike]) -> Value:
    """The pixels of one set: [N, C, *counts]."""
    if any(t.count == 0 for t in taps):
        return f.zeros(g, (g.shape[0], w.shape[0], *counts))  # type: ignore[no-any-return]
    for axis, t in enumerate(taps, start=2):
        kernel = w.shape[axis]
        assert isinstance(kernel, int)
        first = kernel - 1 - (t.first + (t.count - 1) * t.period)  # in the weight turned round
        if (first, t.period) != (0, 1):
            stop = first + (t.count - 1) * t.period + 1
            w = f.slice_axis(w, axis, first, stop, t.period)
    ones = (1,) * len(taps)
    pads = tuple((t.before, t.after) for t in taps)
    return Conv(ones, pads, tuple(t.dilation for t in taps), op.groups)(g, w)  # type: ignore[no-any-return]


def interleaved(pieces: list[Value], stride: tuple[int, ...], sizes: Any) -> Value:
    """Pieces [N, C, *counts], the first start outermost, as [N, C, *sizes]."""
    if len(pieces) == 1:
        return pieces[0]
    n, c, *counts = pieces[0].shape
    rank = len(counts)
    if all(p is pieces[0] for p in pieces):
        y = f.expand(f.reshape(pieces[0], (n, c, 1, *counts)), (n, c, len(pieces), *counts))
    else:
        y = f.stack(pieces, 2)
    y = f.reshape(y, (n, c, *stride, *counts))
    order = [a for d in range(rank) for a in (2 + rank + d, 2 + d)]
    y = f.permute(y, (0, 1, *order))
    y = f.reshape(y, (n, c, *(s * k for s, k in zip(stride, counts, strict=True))))
    for axis, size in enumerate(sizes, start=2):
        if y.shape[axis] != size:
            y = f.slice_axis(y, axis, 0, size)
    return y  # type: ignore[no-any-return]
