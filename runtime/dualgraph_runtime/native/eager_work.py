"""What eager code computes at a time, by NumPy or as the graph of a program (see `eager`)."""

from __future__ import annotations

from collections.abc import Sequence
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np

from dualgraph_compiler.dims import Dim, DimLike
from dualgraph_compiler.dtypes import BY_NUMPY
from dualgraph_compiler.errors import DualGraphError
from dualgraph_compiler.graph import Graph, Value
from dualgraph_compiler.kernels.optimizers import Workspace
from dualgraph_compiler.ops.base import Op
from dualgraph_compiler.ops.optimizer import OptimizerUpdate
from dualgraph_compiler.types import TensorType

_ndarray = np.ndarray

# Shapes of operands; in a pattern, a name stands for any size.
Shapes: TypeAlias = tuple[tuple[Any, ...], ...]


class Work:
    """What is to be computed: an operation on arrays."""

    def __init__(self, op: Op, arrays: Sequence[Any]) -> None:
        self.op = op
        self.arrays = arrays

    def family(self) -> Any:
        """What it has in common with the same work on arrays of other sizes."""
        return (self.op, *[(a.ndim, a.dtype) for a in self.arrays])

    def reference(self) -> Any:
        """The results by NumPy."""
        return self.op.eager(np, *self.arrays)

    def results(self, found: Sequence[Any]) -> Any:
        """What the program has found, as `reference` would give it."""
        return found[0] if self.op.n_outputs == 1 else tuple(found)

    def make(self, pattern: Shapes) -> Graph:
        """The graph of a program, for a pattern of the arrays' shapes."""
        graph = Graph(self.op.name)
        found = graph.call(self.op, self._inputs(graph, pattern))
        graph.set_outputs([found] if self.op.n_outputs == 1 else list(found))
        return graph

    def donated(self, graph: Graph) -> list[tuple[int, Value]]:
        """Outputs that may be written over inputs."""
        return []

    def _inputs(self, graph: Graph, pattern: Shapes) -> list[Value]:
        return [
            graph.add_input(TensorType(BY_NUMPY[a.dtype], _sizes(s)))
            for a, s in zip(self.arrays, pattern, strict=True)
        ]


class Update(Work):
    """The step of an optimizer for one parameter, in place: see `ops.optimizer`."""

    op: OptimizerUpdate

    def __init__(self, op: OptimizerUpdate, arrays: Sequence[Any], workspace: Workspace) -> None:
        super().__init__(op, arrays)
        self.workspace = workspace
        n = 2 + len(op.state)
        self.targets = (arrays[0], *arrays[2:n])  # what is overwritten
        self.numbers = arrays[n:]

    def reference(self) -> None:
        param, grad = self.arrays[:2]
        numbers = [float(x) for x in self.numbers]
        self.op.update(np, self.workspace, param, grad, self.targets[1:], numbers)

    def results(self, found: Sequence[Any]) -> None:
        write_back(self.targets, found)

    def donated(self, graph: Graph) -> list[tuple[int, Value]]:
        later = range(1, len(self.targets))
        return [(0, graph.inputs[0]), *((i, graph.inputs[i + 1]) for i in later)]


def write_back(targets: Sequence[Any], found: Sequence[Any]) -> None:
    """Results that are not in the memory of what they replace already, written there."""
    for target, y in zip(targets, found, strict=True):
        if y is not target:
            np.copyto(target, y)


class Gradients(Work):
    """The gradient rule of an op, for those operands that are `wanted`.

    `g` is the gradient of the result `y`. What is no array of `y` and `inputs` has a shape and a
    dtype only. Of an op with several results both are tuples, with None for a missing gradient.
    """

    def __init__(self, op: Op, g: Any, y: Any, inputs: Sequence[Any], wanted: tuple[bool, ...]):
        self.g, self.y, self.inputs, self.wanted = g, y, inputs, wanted
        self.operands = operands_of(op, g, y, inputs)
        super().__init__(op, [a for a in self.operands if type(a) is _ndarray])

    def family(self) -> Any:
        kinds = [(type(a), None if a is None else len(a.shape)) for a in self.operands]
        return (super().family(), self.wanted, *kinds)

    def reference(self) -> Any:
        return self._called(self.op.vjp(self.g, self.y, *self.inputs))

    def _called(self, found: Sequence[Any]) -> list[Any]:
        """Gradients that are wanted, and None for others."""
        wanted = zip(found, self.wanted, strict=False)
        return [(g() if type(g) is FunctionType else g) if w else None for g, w in wanted]

    def results(self, found: Sequence[Any]) -> Any:
        given = iter(found)
        return [next(given) if w else None for w in self.wanted]

    def make(self, pattern: Shapes) -> Graph:
        graph = Graph(f"{self.op.name} backward")
        values = iter(self._inputs(graph, pattern))
        sizes = dict(zip(_joined(a.shape for a in self.arrays), _joined(pattern), strict=True))

        def value(a: Any) -> Any:
            if a is None:
                return None
            return next(values) if type(a) is _ndarray else _type(a, sizes)

        several = type(self.g) is tuple
        g = tuple(map(value, self.g)) if several else value(self.g)
        if not self.op.saves_output:  # what there is of it may be nothing at all
            y: Any = self.y if several else self.g
            y = tuple(_type(a, sizes) for a in y) if several else _type(y, sizes)
        else:
            y = tuple(map(value, self.y)) if several else value(self.y)
        found = self._called(self.op.vjp(g, y, *map(value, self.inputs)))
        found = [g for g, w in zip(found, self.wanted, strict=True) if w]
        if not all(isinstance(g, Value) for g in found):
            raise DualGraphError(f"{self.op.name}: a gradient that nothing is computed for")
        graph.set_outputs(found)
        return graph


def operands_of(op: Op, g: Any, y: Any, inputs: Sequence[Any]) -> list[Any]:
    """Everything that a gradient rule reads, in a row."""
    found = [*g] if type(g) is tuple else [g]
    if op.saves_output:
        found += y if type(y) is tuple else (y,)
    return [*found, *inputs]


def _joined(shapes: Any) -> list[Any]:
    return [d for s in shapes for d in s]


def _type(a: Any, sizes: dict[int, Any]) -> TensorType:
    """The type of an operand that is no array, of which sizes are symbols as in the others."""
    if isinstance(a, TensorType):
        return a
    return TensorType(BY_NUMPY[a.dtype], _sizes([sizes.get(d, d) for d in a.shape]))


def _sizes(pattern: Sequence[Any]) -> tuple[DimLike, ...]:
    return tuple(Dim(d) if isinstance(d, str) else d for d in pattern)
