"""Runs a graph node by node under the eyes of somebody who times, compares or keeps results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..feeds import bind_shapes
from ..ops.base import Op
from .assumptions import check_assumptions
from .core import Graph, Node, Value
from .nested import definitions

# Computes a node, given its op with sizes put in and its operands: the result, or a tuple of them.
Compute: TypeAlias = Callable[[Node, Op, list[Any]], Any]


def run_observed(graph: Graph, inputs: Sequence[Any], compute: Compute, xp: Any = np) -> list[Any]:
    """Outputs for positional input arrays, each node computed by `compute`.

    Values are dropped once nothing reads them any longer; results may share memory with inputs and
    constants.

    Raises:
        FeedError: an input has another rank, size or dtype than declared.
    """
    env = bind_shapes([(v.name, v.type) for v in graph.inputs], inputs)
    check_assumptions(graph.assumptions, env)
    defined: dict[Value, list[tuple[str, int]]] = {}
    for name, (value, axis) in definitions(graph).items():
        defined.setdefault(value, []).append((name, axis))
    readers = {v: len(v.uses) for node in graph.nodes for v in node.inputs}
    kept = set(graph.outputs)
    values: dict[Value, Any] = dict(zip(graph.inputs, inputs, strict=True))
    for v in [*graph.params, *graph.constants]:
        values[v] = xp.asarray(v.data)
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            op = node.op.resolve(env) if node.op.symbols() else node.op
            found = compute(node, op, [values[v] for v in node.inputs])
            results = (found,) if op.n_outputs == 1 else found
            for value, array in zip(node.outputs, results, strict=True):
                values[value] = array
                env.update({name: array.shape[axis] for name, axis in defined.get(value, ())})
            for v in set(node.inputs):
                readers[v] -= 1
                if not readers[v] and v not in kept:
                    del values[v]
    return [xp.asarray(values[v]) for v in graph.outputs]
