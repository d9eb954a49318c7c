"""Rules about moving elements without computing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import DualGraphError
from ...graph import Node, Value
from ...ops.base import Kind, Op
from ...ops.creation import Full
from ...ops.movement import Expand, Permute, Reshape
from ...ops.padding import Pad
from ...ops.rearrange import Concat
from ...ops.reduction import Sum
from ...ops.slicing import Slice
from ...types import TensorType
from .tables import on


def _made_by(value: Value, op: type[Op]) -> Node | None:
    """The node that makes `value`, if its op is of this class."""
    return value.node if value.node is not None and isinstance(value.node.op, op) else None


@on(Reshape, Expand)
def to_own_shape(node: Node) -> Value | None:
    """reshape(x, x.shape) = expand(x, x.shape) = x"""
    (x,) = node.inputs
    return x if x.shape == node.output.shape else None


@on(Reshape)
def reshape_of_reshape(node: Node) -> Value | None:
    """reshape(reshape(x, s), t) = reshape(x, t)"""
    inner = _made_by(node.inputs[0], Reshape)
    return node.op(*inner.inputs) if inner else None


@on(Expand)
def expand_of_expand(node: Node) -> Value | None:
    """expand(expand(x, s), t) = expand(x, t)"""
    inner = _made_by(node.inputs[0], Expand)
    return node.op(*inner.inputs) if inner else None


@on(Expand)
def expand_of_leading_ones(node: Node) -> Value | None:
    """expand(reshape(x, (1, *x.shape)), t) = expand(x, t)"""
    inner = _made_by(node.inputs[0], Reshape)
    if inner is None:
        return None
    (x,) = inner.inputs
    lead = inner.output.ndim - x.ndim
    if lead <= 0 or inner.output.shape != (*(1,) * lead, *x.shape):
        return None
    return node.op(x)  # type: ignore[no-any-return]


@on(Permute)
def identity_permute(node: Node) -> Value | None:
    """permute(x, (0, 1, ...)) = x"""
    (x,) = node.inputs
    return x if _axes(node) == tuple(range(x.ndim)) else None


@on(Permute)
def permute_of_permute(node: Node) -> Value | None:
    """permute(permute(x, a), b) = permute(x, a[b])"""
    inner = _made_by(node.inputs[0], Permute)
    if inner is None:
        return None
    first = _axes(inner)
    return Permute(tuple(first[a] for a in _axes(node)))(*inner.inputs)  # type: ignore[no-any-return]


@on(Permute)
def permute_of_unit_axes(node: Node) -> Value | None:
    """A permutation that moves only axes of size 1 is a reshape, which copies nothing."""
    (x,) = node.inputs
    order = [a for a in _axes(node) if x.shape[a] != 1]
    if order != sorted(order):
        return None
    return Reshape(node.output.shape)(x)  # type: ignore[no-any-return]


@on(Slice)
def full_slice(node: Node) -> Value | None:
    """x[0:n, ...] = x"""
    (x,) = node.inputs
    op = node.op
    assert isinstance(op, Slice)
    whole = all(s == 0 for s in op.starts) and op.stops == x.shape
    return x if whole and all(s == 1 for s in op.steps) else None


@on(Slice)
def slice_of_slice(node: Node) -> Value | None:
    """x[a:b:s][c:d:t] = x[a+s*c : a+s*d : s*t]"""
    inner = _made_by(node.inputs[0], Slice)
    if inner is None:
        return None
    outer, first = node.op, inner.op
    assert isinstance(outer, Slice)
    assert isinstance(first, Slice)
    bounds = [*outer.starts, *outer.stops, *first.starts, *first.stops]
    if not all(isinstance(b, int) for b in bounds):
        return None
    starts, stops, steps = [], [], []
    for axis, (start, stop, step) in enumerate(zip(outer.starts, outer.stops, outer.steps)):
        origin, end, stride = first.starts[axis], first.stops[axis], first.steps[axis]
        starts.append(origin + start * stride)
        stops.append(min(origin + stop * stride, end) if stop > start else starts[-1])
        steps.append(stride * step)
    composed = Slice(tuple(starts), tuple(stops), tuple(steps))
    return composed(*inner.inputs)  # type: ignore[no-any-return]


@on(Concat)
def concat_of_one(node: Node) -> Value | None:
    """concat(x) = x"""
    return node.inputs[0] if len(node.inputs) == 1 else None


@on(Pad)
def pad_by_nothing(node: Node) -> Value | None:
    """pad(x, 0, 0) = x"""
    op = node.op
    assert isinstance(op, Pad)
    return node.inputs[0] if all(pair == (0, 0) for pair in op.pads) else None


@on(Full)
def full_as_expand(node: Node) -> Value | None:
    """full(shape, v) = expand(v, shape): one number in memory, and rules see that it is uniform."""
    op = node.op
    assert isinstance(op, Full)
    number = node.graph.constant(np.asarray(op.value).astype(op.dtype.np))
    return number if not op.shape else Expand(op.shape)(number)


@on(Sum, exact=False)
def sum_of_nothing(node: Node) -> Value | None:
    """sum(x, axes=()) = x, except that NumPy sums -0.0 to 0.0."""
    (x,) = node.inputs
    op = node.op
    assert isinstance(op, Sum)
    return x if not op.axes else None


@on(Sum, exact=False)
def sum_of_unit_axes(node: Node) -> Value | None:
    """A sum over axes of size 1 is a reshape, except that NumPy sums -0.0 to 0.0."""
    (x,) = node.inputs
    op = node.op
    assert isinstance(op, Sum)
    if any(x.shape[a] != 1 for a in op.axes):
        return None
    return Reshape(node.output.shape)(x)  # type: ignore[no-any-return]


@on(Kind.POINTWISE)
def broadcast_implicitly(node: Node) -> Value | None:
    """op(expand(x), y) = op(x, y), expanded again if that is smaller: pointwise ops broadcast."""
    inners = [_made_by(v, Expand) for v in node.inputs]
    if not any(inners) or len(node.outputs) != 1:
        return None
    out = node.output.type
    plain = [n.inputs[0] if n else v for n, v in zip(inners, node.inputs)]
    if (found := _infer(node.op, plain)) is not None and found.dtype is out.dtype:
        new: Value = node.op(*plain)
        return new if found.shape == out.shape else Expand(out.shape)(new)
    return None


def _infer(op: Op, operands: Sequence[Value]) -> TensorType | None:
    try:
        found = op.infer(*(v.type for v in operands))
    except DualGraphError:
        return None
    return found if isinstance(found, TensorType) else None


def _axes(node: Node) -> tuple[int, ...]:
    assert isinstance(node.op, Permute)
    return node.op.axes
