"""A graph that is ready to run on the state tensors it was traced with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dualgraph_compiler.compile import Numerics, optimize
from dualgraph_compiler.graph import Graph, Interpreter
from dualgraph_compiler.graph.alias import Aliases
from dualgraph_compiler.graph.interpret import shared_outputs
from dualgraph_compiler.ops.base import array_module


class Program:
    """A graph ready to run; `reads` says, by name, where its params come from.

    `donate` pairs an output that is the new value of some state with the argument's position or the
    read that state comes from. `shared` are outputs that may share memory with an operand or with
    another output.

    `params` are those that the graph needs, in the order `run` takes them; `inputs` the numbers of
    the inputs that it reads.
    """

    def __init__(
        self, graph: Graph, reads: Mapping[str, Any], donate: Sequence[tuple[int, Any]] = ()
    ) -> None:
        self.params = [reads[v.name] for v in graph.params]
        needed = {v for node in graph.nodes for v in node.inputs} | set(graph.outputs)
        self.inputs = [i for i, v in enumerate(graph.inputs) if v in needed]
        self.shared = shared_outputs(Aliases(graph))
        target = {id(r): v for r, v in zip(self.params, graph.params, strict=True)}
        self._donate = [
            (i, graph.inputs[of] if type(of) is int else target[id(of)])
            for i, of in donate
            if type(of) is int or id(of) in target
        ]
        self.graph = graph
        self._interpreters: dict[Any, Interpreter] = {}  # by array module

    @classmethod
    def optimised(
        cls,
        graph: Graph,
        reads: Mapping[str, Any],
        *,
        freeze: bool = False,
        numerics: Numerics = "standard",
        donate: Sequence[tuple[int, Any]] = (),
    ) -> Program:
        """The program of the optimised graph; `graph` itself stays as it is."""
        return cls(optimize(graph, freeze=freeze, numerics=numerics), reads, donate)

    def run(
        self, arrays: Sequence[Any], params: Sequence[Any] | None = None, *, donate: bool = False
    ) -> list[Any]:
        """Outputs for these inputs, with the state tensors' arrays of now unless given.

        With `donate`, new state may be computed over the old: then the result is that very array.
        """
        if params is None:
            params = [t._data for t in self.params]
        xp = np
        for a in arrays or params:  # operands on the CPU may stand beside them: seeds of random ops
            if type(a) is not np.ndarray and (xp := array_module(a)) is not np:
                break
        interpreter = self._interpreters.get(xp)
        if interpreter is None:
            interpreter = self._interpreters[xp] = Interpreter(self.graph, xp, donate=self._donate)
        return interpreter.run(arrays, params, donate=donate)
