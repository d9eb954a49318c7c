"""Checks every invariant of a graph and re-infers every type."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import cache

from ..dims import Dim
from ..errors import DualGraphError, GraphError
from ..ops.base import Op
from ..types import TensorType, type_of
from .core import Graph, Node, Value


def verify(graph: Graph) -> None:
    """Raise if `graph` breaks an invariant.

    Raises:
        GraphError: a value used before it is defined or owned by another graph, a use list that is
            wrong, a declared type that inference does not give or data does not have, duplicate
            input names, or a nested graph that does or is not closed.
    """
    uses: dict[Value, dict[Node, int]] = {}
    known: set[Value] = set()
    for v in [*graph.inputs, *graph.params, *graph.constants]:
        if v in known:
            raise GraphError(f"{v!r} is declared twice")
        if v.graph is not graph or v.node is not None:
            raise GraphError(f"{v!r} is declared by {graph.name!r} but produced elsewhere")
        known.add(v)
    names = [v.name for v in [*graph.inputs, *graph.params] if v.name]
    if len(set(names)) != len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        raise GraphError(f"input and param names must be unique; repeated: {', '.join(twice)}")
    count = 0
    for node in graph.nodes:
        count += 1
        _verify_node(graph, node, known)
        for v in node.inputs:
            by = uses.setdefault(v, {})
            by[node] = by.get(node, 0) + 1
        known.update(node.outputs)
    if count != len(graph):
        raise GraphError(f"the graph lists {count} nodes but counts {len(graph)}")
    for v in graph.outputs:
        if v not in known:
            raise GraphError(f"output {v!r} is not defined in the graph")
    if len(graph.outputs) != len(graph.output_names):
        raise GraphError(
            f"the graph has {len(graph.outputs)} outputs but {len(graph.output_names)} output names"
        )
    for v in [*graph.params, *graph.constants]:
        if v.data is not None and not _holds(v):
            raise GraphError(f"{v!r} declares {v.type} but holds {type_of(v.data)}")
    for v in known:
        if v.uses != uses.get(v, {}):
            raise GraphError(f"the use list of {v!r} is wrong: {v.uses} against {uses.get(v, {})}")


def _holds(value: Value) -> bool:
    """Whether the data's type is the declared one; symbolic sizes may hold any."""
    held = type_of(value.data)
    return (
        held.dtype is value.dtype
        and held.ndim == value.ndim
        and all(isinstance(d, Dim) or d == n for d, n in zip(value.shape, held.shape))
    )


def check_operand_count(op: Op, count: int) -> None:
    """Raise GraphError unless `op` takes `count` operands; shape inference need not look."""
    fewest, most = _operand_counts(type(op).eager)
    if not fewest <= count <= most:
        expected = str(fewest) if fewest == most else f"{fewest} or more"
        raise GraphError(f"{op.name} takes {expected} operands, got {count}")


@cache
def _operand_counts(eager: Callable[..., object]) -> tuple[int, float]:
    _, _, *operands = inspect.signature(eager).parameters.values()
    named = [p for p in operands if p.kind is not p.VAR_POSITIONAL]
    fewest = sum(p.default is p.empty for p in named)
    return fewest, len(named) if len(named) == len(operands) else math.inf


def _verify_body(op: Op, name: str, where: str) -> None:
    """Check a nested graph, which may read nothing but its inputs and constants."""
    body: Graph = getattr(op, name)
    try:
        verify(body)
        if body.params:
            raise GraphError(f"expected no params in a nested graph, got {body.params[0]!r}")
    except GraphError as error:
        raise GraphError(f"in the {name} of {op.name}{where}: {error}") from error


def _verify_node(graph: Graph, node: Node, known: set[Value]) -> None:
    where = f" (at {node.loc})" if node.loc else ""
    if node.graph is not graph:
        raise GraphError(f"{node!r} belongs to another graph")
    for v in node.inputs:
        if v not in known:
            raise GraphError(f"{node.op.name} uses {v!r} before it is defined{where}")
    check_operand_count(node.op, len(node.inputs))
    for name in node.op.bodies:
        _verify_body(node.op, name, where)
    try:
        inferred = node.op.infer(*(v.type for v in node.inputs))
    except DualGraphError as error:
        raise GraphError(f"{node.op.name} refuses its inputs{where}: {error}") from error
    types = (inferred,) if isinstance(inferred, TensorType) else tuple(inferred)
    if types != tuple(v.type for v in node.outputs):
        declared = ", ".join(str(v.type) for v in node.outputs)
        got = ", ".join(map(str, types))
        raise GraphError(f"{node.op.name} declares {declared} but infers {got}{where}")
    for i, v in enumerate(node.outputs):
        if v.node is not node or v.index != i or v.graph is not graph:
            raise GraphError(f"output {i} of {node!r} does not point back to it")
