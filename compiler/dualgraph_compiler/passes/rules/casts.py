"""Rules about conversions of element type."""

from __future__ import annotations

import numpy as np

from ...dtypes import BOOL, COMPLEX, FLOAT, INT, REAL_OF, DType, bfloat16, float16, float32, float64
from ...graph import Node, Value
from ...ops.convert import Cast, StopGradient
from .tables import on

# Significant bits: integers of at most so many bits are represented exactly.
_PRECISION = {float16: 11, bfloat16: 8, float32: 24, float64: 53}
_WIDER = {float16: {float32, float64}, bfloat16: {float32, float64}, float32: {float64}}


def is_lossless(source: DType, target: DType) -> bool:
    """Whether every value of `source` is a value of `target`."""
    if source is target:
        return True
    if source.category > target.category or target.is_narrow:
        return False
    if source.category == BOOL:
        return True
    if target.category == COMPLEX:
        return is_lossless(REAL_OF.get(source, source), REAL_OF[target])
    if source.category == FLOAT:
        return target in _WIDER.get(source, ())
    if target.category == FLOAT:
        return bool(source.bits - source.is_signed <= _PRECISION[target])
    if source.is_narrow:
        return source.is_signed <= target.is_signed
    return bool(np.can_cast(source.np, target.np))


@on(Cast)
def cast_to_same(node: Node) -> Value | None:
    """cast(x: t, t) = x"""
    (x,) = node.inputs
    return x if x.dtype is node.output.dtype else None


@on(StopGradient)
def stop_gradient(node: Node) -> Value | None:
    """x: a graph that is optimised is not differentiated any more."""
    return node.inputs[0]


@on(Cast)
def cast_of_lossless_cast(node: Node) -> Value | None:
    """cast(cast(x, wide), t) = cast(x, t)"""
    inner = node.inputs[0].node
    if inner is None or not isinstance(inner.op, Cast):
        return None
    (x,) = inner.inputs
    middle, target = inner.output.dtype, node.output.dtype
    if not is_lossless(x.dtype, middle):
        return None
    # A float out of an integer type's range converts to whatever the machine does, and that
    # depends on the type it comes from.
    if middle.category >= FLOAT and target.category == INT and not is_lossless(x.dtype, target):
        return None
    return x if x.dtype is target else Cast(target)(x)
