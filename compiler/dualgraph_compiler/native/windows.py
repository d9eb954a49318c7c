"""Pooling as reductions over windows, which exist as index arithmetic only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..dims import Shape
from ..dtypes import int64
from ..graph import Node, Value
from ..ops import f
from ..ops.base import REGISTRY, Kind, Op
from ..types import TensorType


@dataclass(frozen=True, slots=True, repr=False)
class Windows(Op):
    """The window at each place, as new last axes: [.., *S] -> [.., *places, *kernel].

    Element k of the window at p is x[p * stride + k * dilation - before], or `fill` outside.
    """

    places: Shape
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: Shape
    fill: float
    name: ClassVar[str] = "windows"
    kind: ClassVar[Kind] = Kind.MOVEMENT

    def infer(self, x: TensorType) -> TensorType:
        lead = x.shape[: x.ndim - len(self.kernel)]
        return x.with_shape((*lead, *self.places, *self.kernel))


def pooled(node: Node) -> Value | None:
    """A pooling node as reductions of windows; None where it is none or cannot be."""
    if node.op.name == "max_pool":
        return _max_pool(node.op, node.inputs[0])
    if node.op.name == "avg_pool" and not node.output.dtype.is_complex:
        return _avg_pool(node.op, node.inputs[0], node.output.shape)
    if node.op.name == "adaptive_avg_pool" and node.output.dtype.is_floating_point:
        return _adaptive_avg_pool(node.op, node.inputs[0])
    return None


def global_maximum(node: Node) -> Value | None:
    """The values of an adaptive_max_pool over whole images whose positions nobody reads."""
    (x,), positions = node.inputs, node.outputs[1]
    if positions.uses or positions in node.graph.outputs:
        return None
    if any(p != 1 for p in node.op.attributes()["output_size"]):
        return None
    return f.max(x, tuple(range(2, x.ndim)), True)  # type: ignore[no-any-return]


def _max_pool(op: Any, x: Value) -> Value:
    places = op.output(x.type).shape[2:]
    least = -math.inf if x.dtype.is_floating_point else int(np.iinfo(x.dtype.np).min)
    windows = _windows(op, op.dilation, x, places, least)
    return REGISTRY["max"](axes=_last(windows, op), keepdims=False)(windows)  # type: ignore[no-any-return]


def _avg_pool(op: Any, x: Value, out: Shape) -> Value:
    flat = (1,) * len(op.kernel)
    whole = not x.dtype.is_floating_point
    wide = x if whole else f.cast(x, _wide(x))
    windows = _windows(op, flat, wide, out[2:], 0.0)
    total = f.sum(windows, _last(windows, op))
    if whole:  # integers truncate, their sums having wrapped
        total, wide = f.cast(total, int64), f.cast(x, int64)
        mean = REGISTRY["trunc_div"]()(total, window_counts(op, wide, total))
        return f.cast(mean, x.dtype)  # type: ignore[no-any-return]
    return f.cast(total / window_counts(op, wide, total), x.dtype)  # type: ignore[no-any-return]


def window_counts(op: Any, x: Value, total: Value) -> Value:
    """What each of an average pool's windows over `x` is divided by, beside their sums `total`."""
    padded = any(v != 0 for pair in op.padding for v in pair)
    if op.divisor is not None:
        return f.like(total, op.divisor)  # type: ignore[no-any-return]
    if not op.ceil_mode and (op.count_include_pad or not padded):
        return f.like(total, math.prod(op.kernel))  # type: ignore[no-any-return]
    return _counts(op, x, total.shape[2:])


def _counts(op: Any, x: Value, places: Shape) -> Value:
    """The number of elements of each window that count."""
    sizes: Shape = x.shape[2:]
    before = tuple(lo for lo, _ in op.padding)
    if op.count_include_pad:
        sizes = tuple(n + lo + hi for n, (lo, hi) in zip(sizes, op.padding, strict=True))
        before = (0,) * len(sizes)
    ones = f.expand(f.like(x, 1), sizes)
    flat = (1,) * len(op.kernel)
    windows = Windows(places, op.kernel, op.stride, flat, before, 0.0)(ones)
    return f.sum(windows, _last(windows, op))  # type: ignore[no-any-return]


def _adaptive_avg_pool(op: Any, x: Value) -> Value | None:
    sizes, out = x.shape[2:], op.output_size
    axes = tuple(range(2, x.ndim))
    if all(p == 1 for p in out):
        return f.mean(x, axes, True)  # type: ignore[no-any-return]
    pairs = list(zip(sizes, out, strict=True))
    kernel = tuple(
        n // p for n, p in pairs if isinstance(n, int) and isinstance(p, int) and n % p == 0
    )
    if len(kernel) < len(pairs):
        return None
    flat = (1,) * len(kernel)
    windows = Windows(out, kernel, kernel, flat, (0,) * len(kernel), 0.0)(x)
    last = tuple(range(windows.ndim - len(kernel), windows.ndim))
    return f.mean(windows, last)  # type: ignore[no-any-return]


def _windows(op: Any, dilation: tuple[int, ...], x: Value, places: Shape, fill: float) -> Any:
    before = tuple(lo for lo, _ in op.padding)
    return Windows(places, op.kernel, op.stride, dilation, before, fill)(x)


def _last(x: Value, op: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim - len(op.kernel), x.ndim))


def _wide(x: Value) -> Any:
    from ..ops.norm import wide_dtype

    return wide_dtype(x.dtype)
