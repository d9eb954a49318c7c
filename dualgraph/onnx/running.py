"""Runs a graph node by node on tensors, like any eager code: it differentiates and traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dualgraph_compiler import graph as ir
from dualgraph_compiler.dims import Dim, as_linear
from dualgraph_compiler.errors import FeedError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.graph.nested import definitions
from dualgraph_compiler.ops import Op

from .._dispatch import captures, make
from .._tensor import Tensor
from .parts import fresh_size, run


class GraphRunner:
    """A graph to be run on tensors."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._plan: list[tuple[Op, tuple[Value, ...], tuple[Value, ...]]] = [
            (n.op, n.inputs, n.outputs) for n in graph.nodes
        ]
        # Sizes that only running a node tells: by node, the symbol, which result, which axis.
        self._defined: dict[int, list[tuple[str, int, int]]] = {}
        at = {node: i for i, node in enumerate(graph.nodes)}
        for name, (v, axis) in definitions(graph).items():
            assert v.node is not None
            self._defined.setdefault(at[v.node], []).append((name, v.index, axis))
        self._symbolic = {i for i, (op, _, _) in enumerate(self._plan) if op.symbols()}

    def run(self, inputs: Sequence[Tensor], held: Mapping[Value, Tensor]) -> list[Tensor]:
        """The graph's outputs.

        Args:
            inputs: one for each input of the graph.
            held: the tensors for its params, and for constants that are not to be made anew.

        Raises:
            FeedError: an input of another type than the graph's, or sizes that do not agree.
        """
        declared = self.graph.inputs
        env = _bind(declared, inputs)
        values: dict[Value, Any] = dict(zip(declared, inputs, strict=True))
        values.update(held)
        for v in self.graph.constants:
            if v not in values:
                values[v] = _constant(v)
        for i, (op, operands, results) in enumerate(self._plan):
            defined = self._defined.get(i, ())
            if defined:
                op = op.resolve({name: fresh_size(name) for name, _, _ in defined})
            if i in self._symbolic:
                op = op.resolve(env)
            outs = run(op, *(values[v] for v in operands))
            values.update(zip(results, outs, strict=True))
            for name, index, axis in defined:
                env[name] = values[results[index]].shape[axis]
        return [values[v] for v in self.graph.outputs]


def _constant(v: Value) -> Tensor:
    if captures.current is not None:
        return make(captures.current.graph.constant(v.data))
    return make(v.data)


def _bind(declared: Sequence[Value], inputs: Sequence[Tensor]) -> dict[str, Any]:
    """Sizes of the symbolic dims (themselves symbolic inside another trace)."""
    env: dict[str, Any] = {}
    for v, t in zip(declared, inputs, strict=True):
        if not isinstance(t, Tensor):
            raise FeedError(f"input {v.name!r}: expected a tensor, got {type(t).__name__}")
        if len(t.shape) != v.ndim or t.dtype is not v.dtype:
            raise FeedError(f"input {v.name!r}: expected {v.type}, got {t._type()}")
        for d, n in zip(v.shape, t.shape, strict=True):
            if isinstance(d, Dim) and d.name is not None:
                known = env.setdefault(d.name, n)
                if known != n:
                    raise FeedError(f"input {v.name!r}: {d.name} is {known} elsewhere, {n} here")
            elif isinstance(d, int) and d != n:
                raise FeedError(f"input {v.name!r}: expected {v.type}, got {t._type()}")
    for v, t in zip(declared, inputs, strict=True):
        for d, n in zip(v.shape, t.shape, strict=True):
            if isinstance(d, Dim) and (linear := as_linear(d)) is not None:
                symbol, factor, constant = linear  # of a size such as 2*frames + 1
                env.setdefault(symbol.name, (n - constant) // factor)
    return env
