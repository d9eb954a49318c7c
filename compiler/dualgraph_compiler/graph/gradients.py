"""Reverse-mode differentiation of a graph: adds nodes that compute gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import AutogradError, ShapeError
from ..ops import f
from ..ops.eager_steps import EagerCall, gradients_in_one
from ..types import TensorType
from .core import Graph, Node, Value


def gradients(
    graph: Graph,
    ys: Sequence[Value],
    xs: Sequence[Value],
    grad_ys: Sequence[Value | None] | None = None,
) -> list[Value | None]:
    """Append nodes computing d(sum of ys)/dx for each x; None where no y depends on x.

    Args:
        ys: the outputs differentiated; a y without a given gradient counts with weight one, every
            element of it.
        xs: values to differentiate with respect to (any values, inputs or intermediate).
        grad_ys: gradients of the ys, of the same types.

    The rules are the ops' own `vjp`, so the result can be differentiated again.
    """
    given = list(grad_ys) if grad_ys is not None else [None] * len(ys)
    grads: dict[Value, Any] = {}
    for y, g in zip(ys, given, strict=True):
        if not y.dtype.is_differentiable:
            raise AutogradError(f"only floating-point values have gradients, got {y!r}")
        if g is None:
            g = f.expand(f.like(y, 1), y.shape)
        elif g.type != y.type:
            raise ShapeError(f"the gradient of {y!r} must have type {y.type}, got {g.type}")
        grads[y] = grads[y] + g if y in grads else g
    needed = _depends_on(graph, set(xs))
    wanted = set(xs)
    # The list ends where differentiation begins: nodes added on the way are not walked.
    for node in list(graph.reversed_nodes()):
        if node in needed and any(v in grads for v in node.outputs):
            _backward_node(graph, node, grads, needed, wanted)
    return [grads.get(x) for x in xs]


def _depends_on(graph: Graph, xs: set[Value]) -> set[Node]:
    """Nodes some of whose operands depend on `xs`."""
    found: set[Node] = set()
    for node in graph.nodes:
        if any(v in xs or (v.node is not None and v.node in found) for v in node.inputs):
            found.add(node)
    return found


def _backward_node(
    graph: Graph, node: Node, grads: dict[Value, Any], needed: set[Node], wanted: set[Value]
) -> None:
    op = node.op.op if isinstance(node.op, EagerCall) else node.op
    if not op.differentiable:
        return
    if op.n_outputs == 1:
        g, y = grads[node.output], node.output
    else:
        g, y = tuple(grads.get(v) for v in node.outputs), node.outputs  # type: ignore[assignment]
    saved = graph.loc
    graph.loc = node.loc
    try:
        found = _rule(graph, node, g, y, needed, wanted)
        for v, gv in zip(node.inputs, found, strict=True):
            if not _is_wanted(v, needed, wanted):
                continue
            gv = gv() if callable(gv) else gv
            if gv is None:
                continue
            if not isinstance(gv, Value):
                gv = graph.constant(gv)
            if gv.type != TensorType(v.dtype, v.shape):
                raise AutogradError(f"the gradient of {op.name} for {v!r} has type {gv.type}")
            grads[v] = grads[v] + gv if v in grads else gv
    finally:
        graph.loc = saved


def _is_wanted(v: Value, needed: set[Node], wanted: set[Value]) -> bool:
    """Whether the gradient of an operand is to be computed."""
    return (v in wanted or v.node in needed) and v.dtype.is_differentiable


def _rule(
    graph: Graph, node: Node, g: Any, y: Any, needed: set[Node], wanted: set[Value]
) -> Sequence[Any]:
    """The gradients of the operands of a node by its op's rule."""
    if not isinstance(node.op, EagerCall):
        found: Sequence[Any] = node.op.vjp(g, y, *node.inputs)
        return found
    asked = [_is_wanted(v, needed, wanted) for v in node.inputs]
    return gradients_in_one(node.op.op, g, y, node.inputs, asked, graph.call)
