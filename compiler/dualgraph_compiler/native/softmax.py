"""Softmax's exponentials: of numbers that are not positive, and with a sum that is at least 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..dtypes import float32
from ..graph import Graph, Node, Value
from ..ops.base import REGISTRY, Kind, Op
from ..types import TensorType


@dataclass(frozen=True, slots=True, repr=False)
class ExpNonpositive(Op):
    """e**x of x <= 0 or NaN, on float32; 0 where the result would be below the normal range."""

    name: ClassVar[str] = "exp_nonpositive"
    kind: ClassVar[Kind] = Kind.POINTWISE

    def infer(self, x: TensorType) -> TensorType:
        return x


def cheaper(graph: Graph, node: Node) -> Value | None:
    """What costs less than a node that is part of a softmax; None where there is nothing.

    exp(x - max(x)) needs no care for large x. The sum of such numbers is at least 1, so that
    multiplying by its reciprocal overflows nowhere.
    """
    if node.op.name == "exp" and _is_below_maximum(node.inputs[0]):
        with graph.inserting_before(node):
            return ExpNonpositive()(node.inputs[0])  # type: ignore[no-any-return]
    if node.op.name == "div" and _is_sum_of_weights(node.inputs[1]):
        with graph.inserting_before(node):
            x, total = node.inputs
            return x * REGISTRY["reciprocal"]()(total)  # type: ignore[no-any-return]
    return None


def _is_below_maximum(x: Value) -> bool:
    """Whether it is x - max(x), where each row has its maximum taken off."""
    if x.dtype is not float32 or x.node is None or x.node.op.name != "sub":
        return False
    whole, top = x.node.inputs
    if top.node is None or top.node.op.name != "max" or top.node.inputs[0] is not whole:
        return False
    return bool(top.node.op.attributes()["keepdims"])


def _is_sum_of_weights(total: Value) -> bool:
    """Whether it sums numbers of which one in each row is e**0."""
    node = total.node
    if node is None or node.op.name != "sum":
        return False
    weights = node.inputs[0].node
    if weights is None or not isinstance(weights.op, ExpNonpositive):
        return False
    below = weights.inputs[0].node
    assert below is not None
    top = below.inputs[1].node
    assert top is not None
    return set(top.op.attributes()["axes"]) <= set(node.op.attributes()["axes"])
