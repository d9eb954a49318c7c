"""A graph under construction, and how the tensors of running Python code relate to it.

While a capture is current in a thread, every operation on tensors appends to its graph. A concrete
tensor that an operation reads was made before the capture began (inside it, factories make graph
values), so it is state: it becomes a param of the graph, once, and is listed in `reads`. In-place
writes to state are listed in `writes`; the tensors themselves stay as they were.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.errors import TraceError
from dualgraph_compiler.graph import Graph, Location, Value
from dualgraph_compiler.ops import Op
from dualgraph_compiler.types import TensorType

from .._dispatch import captures, current_fn, make, symbolic
from ..autograd.tape import Leaf

if TYPE_CHECKING:
    from .._tensor import Tensor

# Frames of these files are ours; the first frame outside them is the user's line.
_OURS = str(Path(__file__).resolve().parent.parent)


class Capture:
    """Records operations into `graph`.

    `names` gives state tensors (by identity) their dotted names, as a module's state_dict does.
    """

    def __init__(self, graph: Graph, names: Mapping[int, str] | None = None) -> None:
        self.graph = graph
        self.names = dict(names or {})
        self.reads: dict[int, tuple[Tensor, Value]] = {}
        self.writes: dict[int, tuple[Tensor, Value]] = {}
        self.scope: list[str] = []
        self._gradients: dict[Leaf, Tensor | None] = {}
        graph.capture = self

    def value_of(self, t: Tensor) -> Value:
        """The graph value that stands for `t`."""
        data = t._data
        if type(data) is Value:
            if t._base is not None and t._base.version != t._ver[0]:
                current_fn(t)
                data = t._data
            if data.graph is not self.graph:
                raise TraceError(
                    f"a tensor of graph {data.graph.name!r} was used while building "
                    f"{self.graph.name!r}"
                )
            return data
        key = id(t)
        if key in self.writes:
            return self.writes[key][1]
        found = self.reads.get(key)
        if found is None:
            name = self._free_name(self.names.get(key) or f"state{len(self.reads)}")
            found = self.reads[key] = (t, self.graph.add_param(data, name))
            if type(t._fn) is Leaf:
                self._gradients.setdefault(t._fn, t._fn.grad)
        return found[1]

    def _free_name(self, wish: str) -> str:
        """`wish`, with a number behind it if an input or param has that name."""
        taken = {v.name for v in [*self.graph.inputs, *self.graph.params]}
        return next(n for n in itertools.chain([wish], _numbered(wish)) if n not in taken)

    def add(self, op: Op, values: Sequence[Value]) -> Any:
        """Append `op`, noting the user's line; returns its output Value or the tuple of them."""
        self.graph.loc = self.location()
        try:
            return self.graph.call(op, values)
        finally:
            self.graph.loc = None

    def scalar(self, value: Any, dtype: DType) -> Tensor:
        """A number, or symbolic size, as a 0-d tensor of the graph."""
        if isinstance(value, Dim):
            from dualgraph_compiler.ops.creation import DimValue
            from dualgraph_compiler.ops.f import cast

            return make(cast(self.add(DimValue(value), ()), dtype))
        return make(self.graph.constant(np.asarray(value).astype(dtype.np)))

    def location(self) -> Location | None:
        """The innermost line of code outside this package."""
        frame = sys._getframe(2)
        while frame is not None:
            code = frame.f_code
            if not code.co_filename.startswith(_OURS):
                return Location(
                    code.co_filename, frame.f_lineno, code.co_name, ".".join(self.scope)
                )
            frame = frame.f_back  # type: ignore[assignment]
        return None

    def write(self, t: Tensor, value: Value) -> None:
        """Note that state tensor `t` was overwritten with `value`."""
        self.writes[id(t)] = (t, value)

    def input(self, type: TensorType, name: str) -> Tensor:
        """A new input of the graph."""
        return make(self.graph.add_input(type, name))

    def new_gradients(self) -> list[tuple[Leaf, Tensor]]:
        """Leaves of state tensors whose gradient was set while recording, with that gradient."""
        return [
            (leaf, leaf.grad)
            for leaf, before in self._gradients.items()
            if leaf.grad is not before and leaf.grad is not None
        ]

    def restore(self) -> None:
        """Give every state tensor the gradient it had before."""
        for leaf, before in self._gradients.items():
            leaf.grad = before

    # -- being current ----------------------------------------------------------------------------

    def __enter__(self) -> Capture:
        self._outer = captures.current
        captures.current = self
        symbolic.opened()
        return self

    def __exit__(self, *exception: object) -> None:
        captures.current = self._outer
        symbolic.closed()

    def close(self) -> None:
        """No more may be recorded: tensors of the graph that are used later raise TraceError."""
        self.graph.capture = None


def _numbered(stem: str) -> Iterator[str]:
    return (f"{stem}_{i}" for i in itertools.count(1))
