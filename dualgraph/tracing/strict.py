"""Compiled graphs whose results are those of eager code to the last bit: when they may run.

Eager code leaves some operations to kernels, by what their operands are: these stay steps of eager
code, and all else is what NumPy computes. How NumPy lays out a result depends on how its operands
lie, and in which order it adds depends on the layout. So a first run through the eager kernels
shows which values do not lie in C order; code is compiled for that, and used for operands in C
order of sizes for which the same steps are left to kernels, and values lie the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dualgraph_compiler.compile import optimize
from dualgraph_compiler.dims import substitute, symbols
from dualgraph_compiler.feeds import bind_shapes
from dualgraph_compiler.graph import Graph, Interpreter, Value
from dualgraph_compiler.graph.nested import definitions
from dualgraph_compiler.native import Exact
from dualgraph_compiler.ops.base import SMALLEST
from dualgraph_compiler.ops.eager_steps import Shaped
from dualgraph_compiler.passes.inline_steps import InlineSteps, eager_steps
from dualgraph_compiler.types import is_static

_MOST = 256  # sets of sizes that are remembered: they come from callers


class Strict:
    """What is known of how the values of a graph lie. Safe to use from several threads."""

    def __init__(self, graph: Graph) -> None:
        self._given = graph
        self._steps = eager_steps(graph)
        self._inputs = [(v.name, v.type) for v in graph.inputs]
        self._is_sized = any(symbols(d) for v in graph.inputs for d in v.shape)
        self._kept: frozenset[int] = frozenset()  # numbers of steps that are left to kernels
        self._strided: frozenset[Value] | None = None
        self._same: dict[Any, bool] = {}  # by sizes: whether values lie as in the first run
        # What code is compiled for, once a run has been looked at.
        self.graph = graph
        self._interpreter: Interpreter | None = None

    @classmethod
    def of(cls, graph: Graph) -> Strict | None:
        """None for a graph of which some sizes are known behind a run only."""
        return None if definitions(graph) else cls(graph)

    @property
    def exact(self) -> Exact:
        """What code is to be compiled for."""
        assert self._strided is not None
        from dualgraph_runtime.native.laid import takes_second_zero

        return Exact(self._strided, takes_second_zero())

    @property
    def may_change(self) -> bool:
        """Whether what is left to kernels depends on which there are at the moment of a call."""
        operands = (v.type for node in self._steps for v in node.inputs)
        return any(not is_static(t.shape) or t.size >= SMALLEST for t in operands)

    def donations(self, donate: Iterable[tuple[int, Value]]) -> list[tuple[int, Value]]:
        """`donate`, of the given graph, for the one that is compiled."""
        own = {v.name: v for v in (*self.graph.inputs, *self.graph.params)}
        return [(i, own[v.name]) for i, v in donate if v.name in own]

    def fits(self, arrays: Sequence[Any], params: Sequence[Any]) -> bool:
        """Whether the code may run on these operands."""
        return self._same.get(self._key(arrays), False) and _lie_in_order(arrays, params)

    def must_look(self, arrays: Sequence[Any], params: Sequence[Any]) -> bool:
        """Whether a run on these operands is to be looked at."""
        return self._key(arrays) not in self._same and _lie_in_order(arrays, params)

    def look(self, arrays: Sequence[Any], params: Sequence[Any]) -> list[Any] | None:
        """The outputs of a run that shows how values lie for operands of these sizes.

        None where other steps are left to kernels than in the code that there is.
        """
        kept = self._left_to_kernels(arrays)
        if self._strided is None:
            self._kept, self.graph = kept, self._inlined(kept)
            self._interpreter = Interpreter(self.graph)
        results = None
        same = kept == self._kept
        if same and self._interpreter is not None:
            given = {v.name: p for v, p in zip(self._given.params, params, strict=True)}
            own = [given[v.name] for v in self.graph.params]
            results, strided = self._interpreter.run_observed(arrays, own)
            if self._strided is None:
                self._strided = strided
            same = strided == self._strided
        if len(self._same) >= _MOST:
            self._same.clear()
        self._same[self._key(arrays)] = same
        return results

    def _left_to_kernels(self, arrays: Sequence[Any]) -> frozenset[int]:
        """The numbers of the steps that eager code may leave to kernels, on these operands."""
        env = bind_shapes(self._inputs, arrays) if self._is_sized else {}
        found = []
        for i, node in enumerate(self._steps):
            step: Any = node.op.resolve(env)
            if step.may_accelerate([_sized(v, env) for v in node.inputs]):
                found.append(i)
        return frozenset(found)

    def _inlined(self, kept: frozenset[int]) -> Graph:
        if not self._steps:
            return self._given
        graph = self._given.copy()
        InlineSteps([n for i, n in enumerate(eager_steps(graph)) if i in kept]).run(graph)
        return optimize(graph, numerics="strict")

    def _key(self, arrays: Sequence[Any]) -> Any:
        """What decides how values lie, and what is left to kernels."""
        shapes = tuple([a.shape for a in arrays]) if self._is_sized else ()
        if not self._steps:
            return shapes
        step: Any = self._steps[0].op
        return shapes, step.op.accelerator is not None  # all ops have one, or none has


def _sized(v: Value, env: dict[str, int]) -> Shaped:
    return Shaped(tuple(int(substitute(d, env)) for d in v.shape), v.dtype.np)


def _lie_in_order(arrays: Sequence[Any], params: Sequence[Any]) -> bool:
    for a in arrays:
        if not a.flags.c_contiguous:
            return False
    return all([p.flags.c_contiguous for p in params])  # noqa: C419 - faster
