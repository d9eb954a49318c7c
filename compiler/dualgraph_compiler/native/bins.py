"""Adaptive pooling as reductions over bins of uneven sizes, which exist as index arithmetic only.

Bin i of P over S elements is [floor(i S / P), ceil((i + 1) S / P)). Element s is in just the bins
that "bin s of S over P elements" names, so that a gradient is a reduction over bins, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..dims import DimLike, Shape, product
from ..dtypes import int64
from ..graph import Node, Value
from ..ops import f
from ..ops.base import REGISTRY, Kind, Op
from ..ops.creation import Arange
from ..types import TensorType


@dataclass(frozen=True, slots=True, repr=False)
class Bins(Op):
    """The elements of each bin, as new last axes: [.., *S] -> [.., *places, *widths].

    `fill` stands where a bin has fewer elements than the widest.
    """

    places: Shape
    fill: float
    name: ClassVar[str] = "bins"
    kind: ClassVar[Kind] = Kind.MOVEMENT

    def infer(self, x: TensorType) -> TensorType:
        lead = x.ndim - len(self.places)
        widths = tuple(map(widest, x.shape[lead:], self.places))
        return x.with_shape((*x.shape[:lead], *self.places, *widths))


def widest(size: DimLike, places: DimLike) -> DimLike:
    """The size of the largest bin, or of one more."""
    if not (isinstance(size, int) and isinstance(places, int)):
        return (size + (places - 1)) // places + 1
    return max(
        (-(-(i + 1) * size // places) - i * size // places for i in range(places)), default=0
    )


def binned(node: Node) -> list[Value] | None:
    """A node of adaptive pooling as reductions over bins; None where it is none."""
    op: Any = node.op
    if op.name == "adaptive_avg_pool":
        x = node.inputs[0]
        return [f.cast(_averages(f.cast(x, _wide(x)), op.output_size), x.dtype)]
    if op.name == "adaptive_avg_pool_grad":
        g = node.inputs[0]
        wide = f.cast(g, _wide(g))
        shares = wide / _counts(wide, g.shape[2:], op.sizes)
        return [f.cast(_sums(shares, op.sizes), g.dtype)]
    if op.name == "adaptive_max_pool":
        return _largest(op, node.inputs[0])
    return None


def _sums(x: Value, places: Shape) -> Value:
    bins = Bins(places, 0.0)(x)
    return f.sum(bins, tuple(range(x.ndim, bins.ndim)))  # type: ignore[no-any-return]


def _counts(x: Value, places: Shape, sizes: Shape) -> Value:
    """The number of elements of each bin: [*places]."""
    return _sums(f.expand(f.like(x, 1), sizes), places)


def _averages(x: Value, places: Shape) -> Value:
    return _sums(x, places) / _counts(x, places, x.shape[2:])


def _largest(op: Any, x: Value) -> list[Value]:
    """The maximum of each bin and the first place of what equals it, or is NaN."""
    least = -math.inf if x.dtype.is_floating_point else int(np.iinfo(x.dtype.np).min)
    sizes = x.shape[2:]
    bins = Bins(op.output_size, least)(x)
    inside = tuple(range(x.ndim, bins.ndim))
    top = REGISTRY["max"](axes=inside, keepdims=True)(bins)
    hit = f.logical_or(f.equal(bins, top), f.not_equal(bins, bins))
    flat = x.graph.call(Arange(0, product(sizes), 1, int64), ())
    far = 2**63 - 1
    places = Bins(op.output_size, far)(f.reshape(flat, sizes))
    found = f.where(hit, f.expand(places, bins.shape), far)
    at = REGISTRY["min"](axes=inside, keepdims=False)(found)
    return [f.reshape(top, top.shape[: x.ndim]), at]


def _wide(x: Value) -> Any:
    from ..ops.norm import wide_dtype

    return wide_dtype(x.dtype)
