"""A graph under construction, and how the tensors of running Python code relate to it.

While a capture is current in a thread, every operation on tensors appends to its graph. A concrete
tensor that an operation reads was made before the capture began (inside it, factories make graph
values), so it is state: it becomes a param of the graph, once, and is listed in `reads`. In-place
writes to state are listed in `writes`; the tensors themselves are, in the end, as they were.

The tape is kept as in eager code, on graph values. It begins at `sources`: the producers of the
arguments and of the state that were on the tape outside.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.errors import TraceError
from dualgraph_compiler.graph import Graph, Location, Value
from dualgraph_compiler.ops import Op
from dualgraph_compiler.ops.base import array_module
from dualgraph_compiler.types import TensorType

from .._dispatch import captures, current_fn, make, symbolic
from ..autograd.tape import CustomNode, Leaf

if TYPE_CHECKING:
    from .._tensor import Tensor

# Frames of these files are ours; the first frame outside them is the user's line.
_OURS = str(Path(__file__).resolve().parent.parent) + os.sep


class Source(CustomNode):
    """Where the tape of a capture begins at a tensor that outside is a non-leaf."""

    name = "CaptureSource"

    def __init__(self) -> None:
        super().__init__(())

    def run(self, g: Any, create_graph: bool) -> Sequence[Any]:
        """Nothing: gradients end here."""
        return ()


@dataclass
class Written:
    """State that was overwritten: the tensor, its value now, its tape entry and version before."""

    tensor: Tensor
    value: Value
    fn: Any
    version: int


class Capture:
    """Records operations into `graph`.

    `names` gives state tensors (by the identity of their arrays) their dotted names, as a module's
    state_dict does. `reads`, `writes` are by the identity of arrays, so that ``t.detach()`` is the
    same state as ``t``; `modules` are those called while recording.
    """

    def __init__(self, graph: Graph, names: Mapping[int, str] | None = None) -> None:
        self.graph = graph
        self.names = dict(names or {})
        self.reads: dict[int, tuple[Tensor, Value]] = {}
        self.writes: dict[int, Written] = {}
        self.sources: dict[Any, tuple[Tensor, Any]] = {}  # outside producer: tensor, producer here
        self.modules: dict[int, Any] = {}
        self.scope: list[str] = []
        self._gradients: dict[Leaf, Tensor | None] = {}
        self._outer: list[Capture | None] = []
        graph.capture = self

    # -- tensors as values ------------------------------------------------------------------------

    def value_of(self, t: Tensor) -> Value:
        """The graph value that stands for `t`."""
        data = t._data
        info = t._base
        if type(data) is Value:
            if info is not None and info.version != t._ver[0]:
                current_fn(t)
                data = t._data
            if data.graph is not self.graph:
                raise TraceError(
                    f"a tensor of graph {data.graph.name!r} was used while building "
                    f"{self.graph.name!r}"
                )
            value: Value = data
            return value
        written = self.writes.get(id(data))
        if written is not None:
            return written.value
        if self.writes:
            if info is not None and info.ops is not None and id(info.base._data) in self.writes:
                value = self.value_of(info.base)
                for op in info.ops:
                    value = self.add(op, [value])
                return value
            self._refuse_overlap(data)
        found = self.reads.get(id(data))
        if found is None:
            name = self._free_name(self.names.get(id(data)) or f"state{len(self.reads)}")
            found = self.reads[id(data)] = (t, self.graph.add_param(data, name))
        if type(t._fn) is Leaf:
            self._gradients.setdefault(t._fn, t._fn.grad)
        return found[1]

    def _refuse_overlap(self, data: Any) -> None:
        for written in self.writes.values():
            other = written.tensor._data
            together = type(data) is type(other)  # on one kind of device
            if together and array_module(data).may_share_memory(data, other):
                raise TraceError(
                    "a tensor from outside was read after another one that shares its memory was "
                    "written; how they are related cannot be captured. Use one of them for both."
                )

    def edge(self, t: Tensor) -> Any:
        """The tape entry that `t` has in this capture."""
        fn = t._fn if t._base is None else current_fn(t)
        if fn is None or type(t._data) is Value:
            return fn
        base = t if t._base is None else t._base.base
        written = self.writes.get(id(base._data))
        if written is not None and written.fn is not base._fn:
            return fn
        return self.source(t, fn)

    def source(self, t: Tensor, fn: Any) -> Any:
        """What stands here for `fn`, the producer of `t` outside: a leaf for itself."""
        found = self.sources.get(fn)
        if found is None:
            found = self.sources[fn] = (t, fn if type(fn) is Leaf else Source())
        return found[1]

    def _free_name(self, wish: str) -> str:
        """`wish`, with a number behind it if an input or param has that name."""
        taken = {v.name for v in [*self.graph.inputs, *self.graph.params]}
        return next(n for n in itertools.chain([wish], _numbered(wish)) if n not in taken)

    # -- recording --------------------------------------------------------------------------------

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
        before = self.writes.get(id(t._data))
        if before is None:
            self.writes[id(t._data)] = Written(t, value, t._fn, t._ver[0])
        else:
            before.value = value

    def input(self, type: TensorType, name: str) -> Tensor:
        """A new input of the graph."""
        return make(self.graph.add_input(type, self._free_name(name)))

    def new_gradients(self) -> list[tuple[Leaf, Tensor]]:
        """Leaves of state tensors whose gradient was set while recording, with that gradient."""
        return [
            (leaf, leaf.grad)
            for leaf, before in self._gradients.items()
            if leaf.grad is not before and leaf.grad is not None
        ]

    def old_gradients(self) -> list[tuple[Leaf, Tensor | None]]:
        """The gradient that each leaf of the state had before."""
        return list(self._gradients.items())

    def restore(self) -> None:
        """Give every state tensor the gradient, tape entry and version it had before."""
        for leaf, before in self._gradients.items():
            leaf.grad = before
        for w in self.writes.values():
            w.tensor._fn = w.fn
            w.tensor._ver[0] = w.version

    # -- being current ----------------------------------------------------------------------------

    def __enter__(self) -> Capture:
        self._outer.append(captures.current)
        captures.current = self
        self.graph.capture = self
        symbolic.opened()
        return self

    def __exit__(self, *exception: object) -> None:
        captures.current = self._outer.pop()
        symbolic.closed()

    def close(self) -> None:
        """No more may be recorded: tensors of the graph that are used later raise TraceError."""
        self.graph.capture = None


def _numbered(stem: str) -> Iterator[str]:
    return (f"{stem}_{i}" for i in itertools.count(1))
