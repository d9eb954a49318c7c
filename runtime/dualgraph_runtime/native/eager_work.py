"""What eager code computes at a time, as the graph of a program (see `eager`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import BY_NUMPY
from dualgraph_compiler.errors import DualGraphError
from dualgraph_compiler.graph import Graph, Value
from dualgraph_compiler.ops.base import Op
from dualgraph_compiler.ops.eager_steps import called, operands_of
from dualgraph_compiler.ops.optimizer import OptimizerUpdate
from dualgraph_compiler.types import TensorType

_ndarray = np.ndarray

# Shapes of operands; in a pattern, a name stands for any size.
Shapes: TypeAlias = tuple[tuple[Any, ...], ...]

# Ops whose loops are made for certain sizes, or whose rules compute with them.
CONVOLUTIONS = ("conv", "conv_transpose")
POOLING = ("max_pool", "max_pool_indices", "avg_pool", "adaptive_avg_pool")
RECURRENT = ("rnn", "gru", "lstm")
_SIZED = frozenset((*CONVOLUTIONS, *POOLING, *RECURRENT, "group_norm"))


class Work:
    """What is to be computed: an operation on arrays."""

    def __init__(self, op: Op, arrays: Sequence[Any], operands: Sequence[Any] = ()) -> None:
        self.op = op
        self.arrays = arrays
        self.operands = operands or arrays  # and those of which only the shapes are there
        # Names of open sizes: those that arrays tell. What is equal here is equal in all.
        sizes = dict.fromkeys(d for a in arrays for d in a.shape if d > 1)
        self._names = {d: f"n{i}" for i, d in enumerate(sizes)}

    def family(self) -> Any:
        """What it has in common with the same work on arrays of other sizes."""
        return (self.op, *[(a.ndim, a.dtype) for a in self.arrays])

    def pattern(self, opened: bool) -> Shapes:
        """The shapes of all operands that one program is to serve.

        The same for the same shapes, whatever came before. If `opened`, sizes are open: all of
        them, or, of ops in `_SIZED`, that of the batch.
        """
        return tuple(self._shape(a, opened) for a in self.operands)

    def _shape(self, operand: Any, opened: bool) -> tuple[Any, ...]:
        shape = tuple(operand.shape)
        if not opened:
            return shape
        if self.op.name not in _SIZED:
            return tuple(self._names.get(d, d) for d in shape)
        first, *others = self._batched()
        batched = operand is first or any(operand is a for a in others)
        return ("n0", *shape[1:]) if batched and shape[:1] == first.shape[:1] != (1,) else shape

    def _batched(self) -> Sequence[Any]:
        """The first operand and what else begins with its leading size, of a batch or a sequence.

        Others may begin with the same number by chance.
        """
        return self.arrays[:1]

    def make(self, opened: bool) -> Graph:
        """The graph of a program for `pattern`."""
        graph = Graph(self.op.name)
        found = graph.call(self.op, self._inputs(graph, opened))
        graph.set_outputs([found] if self.op.n_outputs == 1 else list(found))
        return graph

    def donated(self, graph: Graph) -> list[tuple[int, Value]]:
        """Outputs that may be written over inputs."""
        return []

    def _inputs(self, graph: Graph, opened: bool) -> list[Value]:
        return [graph.add_input(self._type(a, opened)) for a in self.arrays]

    def _type(self, operand: Any, opened: bool) -> TensorType:
        dtype = operand.dtype if isinstance(operand, TensorType) else BY_NUMPY[operand.dtype]
        shape = self._shape(operand, opened)
        return TensorType(dtype, tuple(Dim(d) if isinstance(d, str) else d for d in shape))


class Update(Work):
    """The step of an optimizer for one parameter, in place: see `ops.optimizer`."""

    op: OptimizerUpdate

    def donated(self, graph: Graph) -> list[tuple[int, Value]]:
        later = range(1, 1 + len(self.op.state))
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
        self._all = operands_of(op, g, y, inputs)
        arrays = [a for a in self._all if type(a) is _ndarray]
        super().__init__(op, arrays, [a for a in self._all if a is not None])

    def family(self) -> Any:
        kinds = [(type(a), None if a is None else len(a.shape)) for a in self._all]
        return (super().family(), self.wanted, *kinds)

    def _batched(self) -> Sequence[Any]:
        first = self.inputs[0]
        found = operands_of(self.op, self.g, self.y, ())
        rank = len(first.shape)
        return [first, *[a for a in found if a is not None and len(a.shape) == rank]]

    def make(self, opened: bool) -> Graph:
        graph = Graph(f"{self.op.name} backward")
        values = iter(self._inputs(graph, opened))

        def value(a: Any) -> Any:
            if a is None:
                return None
            return next(values) if type(a) is _ndarray else self._type(a, opened)

        several = type(self.g) is tuple
        g = tuple(map(value, self.g)) if several else value(self.g)
        if not self.op.saves_output:  # what there is of it may be nothing at all
            y: Any = self.y if several else self.g
            y = tuple(self._type(a, opened) for a in y) if several else self._type(y, opened)
        else:
            y = tuple(map(value, self.y)) if several else value(self.y)
        found = called(self.op.vjp(g, y, *map(value, self.inputs)), self.wanted)
        found = [g for g, w in zip(found, self.wanted, strict=True) if w]
        if not all(isinstance(g, Value) for g in found):
            raise DualGraphError(f"{self.op.name}: a gradient that nothing is computed for")
        graph.set_outputs(found)
        return graph
