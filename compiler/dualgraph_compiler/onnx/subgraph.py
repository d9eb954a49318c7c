"""Graphs that nodes hold: imported like a model's graph, with the names around them in sight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..dtypes import int64
from ..errors import OnnxError
from ..graph import Graph, Value
from ..ops.base import Kind
from .importer import Importer, walk
from .materialize import materialize

if TYPE_CHECKING:
    import onnx


class Subgraph(Importer):
    """Imports a nested graph of the model that `outer` imports.

    With a graph of its own to fill, it takes what it reads from outside as further inputs, listed
    in `captured`: what is constant out there is constant here, and sizes are sizes. Given the
    graph of `outer`, it appends to that.
    """

    def __init__(self, outer: Importer, graph: Graph) -> None:
        super().__init__(outer._file, graph, outer._weights)
        self._outer = outer
        self.whole = outer.whole
        self._dims = outer._dims
        self._settings = outer._settings
        self.number: Value | None = None  # that of the step, in the body of a loop
        self.captured: dict[Value, Value] = {}  # values outside, and the inputs they come in by
        if graph is outer.graph:
            self._pending, self._folder = outer._pending, outer._folder

    def read(self, proto: onnx.GraphProto, formal: Sequence[Value]) -> list[Value]:
        """Import every node, given the values of the graph's own inputs; returns its outputs.

        Raises:
            OnnxError: the number of inputs is another.
        """
        for tensor in proto.initializer:
            self._initializers[tensor.name] = tensor
        declared = [i.name for i in proto.input if i.name not in self._initializers]
        if len(declared) != len(formal):
            raise OnnxError(
                f"its graph {proto.name!r} takes {len(declared)} inputs, but gets {len(formal)}"
            )
        self._values.update(zip(declared, formal, strict=True))
        for node in proto.node:
            self._add_node(node)
        outputs = [self._named(o.name, f"the outputs of {proto.name!r}") for o in proto.output]
        if self.graph is self._outer.graph:
            return outputs
        if not all(isinstance(v, Value) for v in outputs):
            raise OnnxError(f"its graph {proto.name!r} gives what is no tensor of numbers")
        self.graph.loc = None
        self.graph.set_outputs(outputs, [o.name for o in proto.output])
        materialize(self.graph, self._pending)
        self.graph.drop_unused()
        return list(self.graph.outputs)

    def counted(self, value: Value) -> tuple[Value, int] | None:
        """The number of a loop's step and what is added to it, if `value` is that sum."""
        plus = 0
        while value.size == 1 and value.dtype is int64:
            if value is self.number:
                return value, plus
            if value.node is None:
                break
            op, (first, *rest) = value.node.op, value.node.inputs or (value,)
            if op.name == "add":
                known = [self.array(v) for v in (first, *rest)]
                if known[0] is not None:
                    first, known = rest[0], known[::-1]
                if known[1] is None:
                    break
                plus += int(known[1].item())
            elif op.kind is not Kind.MOVEMENT or rest:
                break
            value = first
        return None

    def capture(self, outside: Value) -> Value:
        """The input by which a value from outside comes in."""
        if outside not in self.captured:
            taken = not outside.name or any(v.name == outside.name for v in self.graph.inputs)
            name = "" if taken else outside.name
            self.captured[outside] = self.graph.add_input(outside.type, name)
        return self.captured[outside]

    def _tellers(self, values: Sequence[Value]) -> tuple[str, ...]:
        if self.graph is self._outer.graph:
            return super()._tellers(values)
        outside = {inner: value for value, inner in self.captured.items()}
        reached = list(walk(values, outside))
        if any(v.node is None and not v.is_constant and v not in outside for v in reached):
            return ()  # what the body is called with
        return self._outer._tellers([outside[v] for v in reached if v in outside])

    def _named(self, name: str, reader: str) -> Any:
        if name in self._values or name in self._initializers:
            return super()._named(name, reader)
        return self._from_outside(self._outer._named(name, reader))

    def _from_outside(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._from_outside(v) for v in value]
        if not isinstance(value, Value):
            return value.over(self._from_outside)
        if value.graph is self.graph:
            return value
        sizes = self._outer._pending.get(value)
        if sizes is not None:
            return self.size_value(sizes, value.dtype)
        array = self._outer.array(value)
        if array is not None:
            return self.graph.constant(array, value.name if array.nbytes > 64 else "")
        return self.capture(value)

    def _weight(self, tensor: onnx.TensorProto) -> Value:
        if self._is_trainable(tensor):  # weights of the model are its graph's, not a body's
            weight: Value = self._from_outside(self._outer._weight(tensor))
            return weight
        return super()._weight(tensor)
