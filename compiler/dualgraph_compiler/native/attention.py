"""Attention as one operation, found in a graph by the products and the softmax it is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ..dims import DimLike, product
from ..dtypes import bool_, float32
from ..errors import DualGraphError
from ..graph import Graph, Node, Value
from ..ops import f
from ..ops.base import Kind, Op, broadcast_shapes
from ..types import TensorType


@dataclass(frozen=True, slots=True, repr=False)
class Attention(Op):
    """softmax(q k scale + mask) v, the softmax over the keys (Vaswani et al. 2017).

    With `cap` not 0 the scores are ``cap tanh(q k scale) + mask``.
    Shapes: q (..., L, D), k (..., D, S), v (..., S, E), masks (..., L or 1, S) -> (..., L, E).
    `masks` says of each mask whether it is added ("add") or leaves keys out where it is false
    ("where"); they apply in order. `zero_empty`: rows without a key are 0, not NaN.
    """

    scale: float
    masks: tuple[str, ...]
    zero_empty: bool
    cap: float = 0.0
    name: ClassVar[str] = "attention"
    kind: ClassVar[Kind] = Kind.CONTRACTION

    def infer(self, q: TensorType, k: TensorType, v: TensorType, *masks: TensorType) -> TensorType:
        batch = broadcast_shapes("attention", q.shape[:-2], k.shape[:-2])
        batch = broadcast_shapes("attention", batch, v.shape[:-2])
        return q.with_shape((*batch, q.shape[-2], v.shape[-1]))

    def flops(self, y: TensorType, *inputs: TensorType) -> DimLike:
        q, k, v = inputs[:3]
        return product(y.shape[:-1]) * k.shape[-1] * (q.shape[-1] + v.shape[-1]) * 2


@dataclass(frozen=True, slots=True)
class _Scores:
    """How scores are made: the product, what it is multiplied by, masks in order; and the nodes.

    `cap` is 0 but for scores that are a number times a hyperbolic tangent.
    """

    q: Value
    k: Value
    scale: float = 1.0
    cap: float = 0.0
    masks: tuple[tuple[str, Value], ...] = ()
    nodes: frozenset[Node] = field(default_factory=frozenset)


def attention(graph: Graph, node: Node) -> Value | None:
    """What replaces a product of softmax weights with values; None where a node is none."""
    if node.op.name != "matmul" or node.output.dtype is not float32:
        return None
    weights, v = node.inputs
    if not isinstance(v.shape[-1], int):
        return None
    found = _weights(weights)
    if found is None:
        return None
    scores, around, zero_empty = found
    made = _scores(scores, scores)
    if made is None or not _is_private(graph, made.nodes | around, node):
        return None
    kinds, masks = [kind for kind, _ in made.masks], [m for _, m in made.masks]
    with graph.inserting_before(node):
        masks = [m if m.ndim > 1 else f.reshape(m, (1, *m.shape)) for m in masks]
        try:
            op = Attention(made.scale, tuple(kinds), zero_empty, made.cap)
            y: Value = op(made.q, made.k, v, *masks)
        except DualGraphError:
            return None
    return y if y.shape == node.output.shape else None


def _weights(value: Value) -> tuple[Value, frozenset[Node], bool] | None:
    """The scores whose softmax along the last axis a value is; the nodes; if empty rows are 0."""
    node = value.node
    zero_empty = node is not None and node.op.name == "where" and _is_number(node.inputs[1], 0.0)
    outer = value
    if node is not None and zero_empty:
        value = node.inputs[2]
    quotient = _made_by(value, "div")
    if quotient is None:
        return None
    e, total = _made_by(quotient.inputs[0], "exp"), _made_by(quotient.inputs[1], "sum")
    below = _made_by(e.inputs[0], "sub") if e is not None else None
    if e is None or total is None or below is None or total.inputs[0] is not e.output:
        return None
    top = _made_by(below.inputs[1], "max")
    if top is None or top.inputs[0] is not below.inputs[0]:
        return None
    if not all(_is_along_last(n) for n in (total, top)):
        return None
    nodes = {quotient, e, total, below, top}
    scores = below.inputs[0]
    if zero_empty:
        tests = _empty_rows(outer, scores)
        if tests is None:
            return None
        nodes |= tests
    return scores, frozenset(nodes), zero_empty


def _empty_rows(value: Value, scores: Value) -> set[Node] | None:
    """The nodes of where(all(scores == -inf), 0, ..), if that is what a value is."""
    node = value.node
    assert node is not None
    every = _made_by(node.inputs[0], "all")
    same = _made_by(every.inputs[0], "equal") if every is not None else None
    if every is None or same is None or not _is_along_last(every):
        return None
    if same.inputs[0] is not scores or not _is_number(same.inputs[1], -math.inf):
        return None
    return {node, every, same}


def _scores(value: Value, whole: Value) -> _Scores | None:
    """How a value of the shape of `whole` comes from a product; None where it does otherwise."""
    node = value.node
    if node is None or value.shape != whole.shape or value.dtype is not float32:
        return None
    if node.op.name == "matmul":
        return _product(node)
    if node.op.name in ("mul", "div"):
        return _scaled(node, _scores(node.inputs[0], whole))
    if node.op.name == "tanh":
        inner = _scores(node.inputs[0], whole)
        if inner is None or inner.masks or inner.cap:
            return None
        return replace(inner, cap=1.0, nodes=inner.nodes | {node})
    if node.op.name == "where" and _is_number(node.inputs[2], -math.inf):
        return _masked(node, "where", node.inputs[0], _scores(node.inputs[1], whole), whole)
    if node.op.name == "add":
        a, b = node.inputs
        return _masked(node, "add", b, _scores(a, whole), whole) or _masked(
            node, "add", a, _scores(b, whole), whole
        )
    return None


def _product(node: Node) -> _Scores:
    """A product; factors that are one number are taken out of its operands."""
    q, k = node.inputs
    found = _Scores(q, k, nodes=frozenset((node,)))
    for side in ("q", "k"):
        inner = getattr(found, side).node
        if inner is None or inner.op.name != "mul" or not _is_number(inner.inputs[1]):
            continue
        if list(inner.output.uses) == [node]:
            x, factor = inner.inputs[0], float(inner.inputs[1].data.reshape(()))
            nodes = found.nodes | {inner}
            if x.shape == inner.output.shape:
                found = replace(found, **{side: x}, scale=found.scale * factor, nodes=nodes)
    return found


def _scaled(node: Node, inner: _Scores | None) -> _Scores | None:
    if inner is None or inner.masks or not _is_number(node.inputs[1]):
        return None
    factor = float(node.inputs[1].data.reshape(()))
    if node.op.name == "div" and factor == 0:
        return None
    factor = factor if node.op.name == "mul" else 1 / factor
    nodes = inner.nodes | {node}
    if inner.cap:
        return replace(inner, cap=inner.cap * factor, nodes=nodes)
    return replace(inner, scale=inner.scale * factor, nodes=nodes)


def _masked(
    node: Node, kind: str, mask: Value, inner: _Scores | None, whole: Value
) -> _Scores | None:
    wanted = float32 if kind == "add" else bool_
    if inner is None or mask.dtype is not wanted or not 1 <= mask.ndim <= whole.ndim:
        return None
    if mask.shape[-1] != whole.shape[-1]:
        return None
    masks = (*inner.masks, (kind, mask))
    return replace(inner, masks=masks, nodes=inner.nodes | {node})


def _is_private(graph: Graph, nodes: frozenset[Node], reader: Node) -> bool:
    """Whether nobody but `reader` and the nodes themselves reads what they compute."""
    shown = set(graph.outputs)
    return all(
        v not in shown and all(user in nodes or user is reader for user in v.uses)
        for n in nodes
        for v in n.outputs
    )


def _made_by(value: Value, name: str) -> Node | None:
    return value.node if value.node is not None and value.node.op.name == name else None


def _is_along_last(node: Node) -> bool:
    """Whether a reduction folds the last axis alone, and keeps it."""
    given = node.op.attributes()
    return given["axes"] == (node.inputs[0].ndim - 1,) and bool(given["keepdims"])


def _is_number(value: Value, number: float | None = None) -> bool:
    """Whether it is a constant of one element, and that element this number."""
    if not value.is_constant or value.data.size != 1:
        return False
    return number is None or float(value.data.reshape(())) == number
