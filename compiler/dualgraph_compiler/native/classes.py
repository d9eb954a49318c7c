"""Losses against class indices, as ops that read or make one class of several.

A loss reads one score of each sample, so whatever is computed pointwise from the scores is computed
for that one score alone: `pushed` turns the order round. So a cross entropy is one pass over the
scores, and its gradient another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..dims import DimLike, Shape
from ..dtypes import int64
from ..graph import Node, Value
from ..ops import f
from ..ops.base import Kind, Op
from ..types import TensorType


@dataclass(frozen=True, slots=True, repr=False)
class Pick(Op):
    """The element at each target along `axis`; where the target is `ignored`, the first one.

    Shapes: x [.., C, ..], target as x without `axis` -> the target's shape.
    """

    axis: int
    ignored: int | None
    name: ClassVar[str] = "pick"
    kind: ClassVar[Kind] = Kind.MOVEMENT

    def infer(self, x: TensorType, target: TensorType) -> TensorType:
        return target.with_dtype(x.dtype)


@dataclass(frozen=True, slots=True, repr=False)
class Spread(Op):
    """Zeros with x at each target along a new `axis` of size `classes`: the transpose of Pick.

    Shapes: x and target [..] -> [.., classes, ..].
    """

    axis: int
    classes: DimLike
    ignored: int | None
    name: ClassVar[str] = "spread"
    kind: ClassVar[Kind] = Kind.MOVEMENT

    def infer(self, x: TensorType, target: TensorType) -> TensorType:
        return x.with_shape((*x.shape[: self.axis], self.classes, *x.shape[self.axis :]))


def with_classes(node: Node) -> Value | None:
    """A node of a loss as simpler ones; None where it is none."""
    if node.op.name == "nll_loss":
        return _loss(node.op, *node.inputs)
    if node.op.name == "nll_loss_grad":
        return _gradient(node.op, *node.inputs)
    if isinstance(node.op, Pick):
        return _pushed(node.op, *node.inputs)
    if node.op.name == "sum":
        return _sum_of_one(node.op, node.inputs[0])
    return None


def _weights(op: Any, target: Value, axis: int, classes: DimLike, weight: Value) -> Value:
    """What each target counts for, before those to ignore are left out."""
    shape = (*target.shape[:axis], classes, *target.shape[axis:])
    row = (classes, *(1,) * (target.ndim - axis))
    spread = f.expand(f.reshape(weight, row), shape)
    return Pick(axis, op.ignore_index)(spread, target)  # type: ignore[no-any-return]


def _counted(op: Any, target: Value) -> Value:
    return f.not_equal(f.cast(target, int64), op.ignore_index)  # type: ignore[no-any-return]


def _loss(op: Any, x: Value, target: Value, *weight: Value) -> Value:
    axis = 1 if x.ndim > 1 else 0
    wide = f.cast(x, _wide(x))
    counted = _counted(op, target)
    losses = -Pick(axis, op.ignore_index)(wide, target)
    w = f.cast(counted, wide.dtype)
    if weight:
        given = f.cast(weight[0], wide.dtype)
        w = f.where(counted, _weights(op, target, axis, x.shape[axis], given), 0)
        counted, losses = f.not_equal(w, 0), losses * w
    # A choice, not a product: an infinite score that is ignored must not become NaN.
    losses = f.where(counted, losses, 0)
    axes = tuple(range(target.ndim))
    if op.reduction != "none":
        losses = f.sum(losses, axes)
    if op.reduction == "mean":
        losses = losses / f.sum(w, axes)
    return f.cast(losses, x.dtype)  # type: ignore[no-any-return]


def _gradient(op: Any, g: Value, target: Value, *weight: Value) -> Value:
    axis = 1 if target.ndim else 0
    scale = -f.cast(g, _wide(g))
    counted = _counted(op, target)
    w = f.cast(counted, scale.dtype)
    if weight:
        given = f.cast(weight[0], scale.dtype)
        w = f.where(counted, _weights(op, target, axis, op.classes, given), 0)
        counted, scale = f.not_equal(w, 0), scale * w
    if op.reduction == "mean":
        scale = scale / f.sum(w, tuple(range(target.ndim)))
    scale = f.cast(f.where(counted, scale, 0), g.dtype)
    return Spread(axis, op.classes, op.ignore_index)(scale, target)  # type: ignore[no-any-return]


def _pushed(op: Pick, x: Value, target: Value) -> Value | None:
    """What is picked from a pointwise result, computed from what is picked from its operands."""
    node = x.node
    if node is None or node.op.kind is not Kind.POINTWISE or not node.op.is_pure:
        return None
    y = node.op(*(_picked(op, v, x.shape, target) for v in node.inputs))
    return y if y.shape == target.shape else f.expand(y, target.shape)  # type: ignore[no-any-return]


def _picked(op: Pick, x: Value, shape: Shape, target: Value) -> Value:
    if x.ndim == 0:
        return x
    if x.ndim == len(shape) and x.shape[op.axis] == 1:
        return f.reshape(x, (*x.shape[: op.axis], *x.shape[op.axis + 1 :]))  # type: ignore[no-any-return]
    return op(x if x.shape == shape else f.expand(x, shape), target)  # type: ignore[no-any-return]


def _sum_of_one(op: Any, x: Value) -> Value | None:
    """The sum over the classes of what one class has."""
    node = x.node
    if node is None or not isinstance(node.op, Spread) or op.axes != (node.op.axis,):
        return None
    y = node.inputs[0]
    if not op.keepdims:
        return y
    shape = (*y.shape[: node.op.axis], 1, *y.shape[node.op.axis :])
    return f.reshape(y, shape)  # type: ignore[no-any-return]


def _wide(x: Value) -> Any:
    from ..ops.norm import wide_dtype

    return wide_dtype(x.dtype)
