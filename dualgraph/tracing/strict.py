"""Compiled graphs whose results are those of eager code to the last bit: when they may run.

How NumPy lays out a result depends on how its operands lie, and in which order it adds depends on
the layout. So a first run through the eager kernels shows which values do not lie in C order; code
is compiled for that, and used for operands in C order of sizes for which values lie the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dualgraph_compiler.graph import Graph, Interpreter, Value
from dualgraph_compiler.graph.nested import definitions
from dualgraph_compiler.native import Exact

_MOST = 256  # sets of sizes that are remembered: they come from callers


class Strict:
    """What is known of how the values of a graph lie. Safe to use from several threads."""

    def __init__(self, graph: Graph) -> None:
        self._interpreter = Interpreter(graph)
        self._is_sized = self._interpreter.symbolic
        self._strided: frozenset[Value] | None = None
        self._same: dict[Any, bool] = {}  # by sizes: whether values lie as in the first run

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

    def fits(self, arrays: Sequence[Any], params: Sequence[Any]) -> bool:
        """Whether the code may run on these operands."""
        return self._same.get(self._key(arrays), False) and _lie_in_order(arrays, params)

    def must_look(self, arrays: Sequence[Any], params: Sequence[Any]) -> bool:
        """Whether a run on these operands is to be looked at."""
        return self._key(arrays) not in self._same and _lie_in_order(arrays, params)

    def look(self, arrays: Sequence[Any], params: Sequence[Any]) -> list[Any]:
        """The outputs of a run that shows how values lie for operands of these sizes."""
        results, strided = self._interpreter.run_observed(arrays, params)
        if self._strided is None:
            self._strided = strided
        if len(self._same) >= _MOST:
            self._same.clear()
        self._same[self._key(arrays)] = strided == self._strided
        return results

    def _key(self, arrays: Sequence[Any]) -> Any:
        return tuple([a.shape for a in arrays]) if self._is_sized else ()


def _lie_in_order(arrays: Sequence[Any], params: Sequence[Any]) -> bool:
    for a in arrays:
        if not a.flags.c_contiguous:
            return False
    return all([p.flags.c_contiguous for p in params])  # noqa: C419 - faster
