"""The static graph: values, nodes, and the graph that owns them.

SSA: every Value has one producer. Values and nodes compare by identity. A graph changes only
through its methods, which keep the use lists right. Nodes form a linked list in a topological
order, so that inserting and erasing cost O(1) wherever they happen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dims import DimLike, Shape
from ..dtypes import DType
from ..errors import DualGraphError, GraphError
from ..ops.base import Op
from ..types import TensorType, type_of
from .assumptions import Assumption, merged


@dataclass(frozen=True, slots=True)
class Location:
    """Where in the user's code a node came from; `scope` is the module path ("features.conv1")."""

    file: str
    line: int
    function: str = ""
    scope: str = ""

    def __str__(self) -> str:
        return f"{self.file.replace(chr(92), '/').rsplit('/', 1)[-1]}:{self.line}"


class Value:
    """One tensor of a graph.

    `type` is its TensorType; `node` the producer (None for inputs, params and constants) and
    `index` which of its outputs; `uses` maps each consumer to how many of its operands this value
    is; `data` is the array of a constant or param, `loc` where an input was declared. Arithmetic
    operators append nodes to the graph.
    """

    __slots__ = ("__weakref__", "data", "graph", "index", "loc", "name", "node", "type", "uses")

    # NumPy must not try to broadcast over Values: `array * value` is ours.
    __array_ufunc__ = None

    def __init__(
        self,
        graph: Graph,
        type: TensorType,
        *,
        node: Node | None = None,
        index: int = 0,
        name: str = "",
        data: Any = None,
    ) -> None:
        self.graph = graph
        self.type = type
        self.node = node
        self.index = index
        self.name = name
        self.data = data
        self.loc: Location | None = None
        self.uses: dict[Node, int] = {}

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    @property
    def size(self) -> DimLike:
        return self.type.size

    @property
    def location(self) -> Location | None:
        """The user's line that made it, or declared it."""
        return self.loc if self.node is None else self.node.loc

    @property
    def is_constant(self) -> bool:
        """Whether this is a constant of the graph (a param is not: it may change between runs)."""
        return self.graph.owns_constant(self)

    def __repr__(self) -> str:
        name = self.name or (f"{self.node.op.name}#{self.index}" if self.node else "?")
        return f"%{name}: {self.type}"

    def __dualgraph_call__(self, op: Op, inputs: Sequence[Any]) -> Any:
        graph = next(x.graph for x in inputs if isinstance(x, Value))
        return graph.call(op, inputs)

    def __dualgraph_scalar__(self, value: complex) -> Value:
        return self.graph.constant(np.asarray(value).astype(self.dtype.np))

    # -- operators, as arrays have them; a Python number takes this value's dtype -----------------

    def _binary(self, op: str, other: Any, reflected: bool = False) -> Value:
        from ..ops.base import REGISTRY

        if isinstance(other, int | float | complex):
            other = self.__dualgraph_scalar__(other)
        operands = (other, self) if reflected else (self, other)
        return self.graph.call(REGISTRY[op](), operands)  # type: ignore[no-any-return]

    def __add__(self, o: Any) -> Value:
        return self._binary("add", o)

    def __radd__(self, o: Any) -> Value:
        return self._binary("add", o, True)

    def __sub__(self, o: Any) -> Value:
        return self._binary("sub", o)

    def __rsub__(self, o: Any) -> Value:
        return self._binary("sub", o, True)

    def __mul__(self, o: Any) -> Value:
        return self._binary("mul", o)

    def __rmul__(self, o: Any) -> Value:
        return self._binary("mul", o, True)

    def __truediv__(self, o: Any) -> Value:
        return self._binary("div", o)

    def __rtruediv__(self, o: Any) -> Value:
        return self._binary("div", o, True)

    def __pow__(self, o: Any) -> Value:
        return self._binary("pow", o)

    def __matmul__(self, o: Any) -> Value:
        return self._binary("matmul", o)

    def __neg__(self) -> Value:
        from ..ops.pointwise import Neg

        return self.graph.call(Neg(), (self,))  # type: ignore[no-any-return]

    def __gt__(self, o: Any) -> Value:
        return self._binary("greater", o)

    def __lt__(self, o: Any) -> Value:
        return self._binary("less", o)

    def __ge__(self, o: Any) -> Value:
        return self._binary("greater_equal", o)

    def __le__(self, o: Any) -> Value:
        return self._binary("less_equal", o)

    def __and__(self, o: Any) -> Value:
        return self._binary("logical_and", o)

    def __invert__(self) -> Value:
        from ..ops.base import REGISTRY

        return self.graph.call(REGISTRY["logical_not"](), (self,))  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        raise GraphError(f"{self!r} has no truth value while the graph is being built")


class Node:
    """One application of an op: `inputs` and `outputs` are Values, `loc` the user's line."""

    __slots__ = ("__weakref__", "_next", "_prev", "graph", "inputs", "loc", "op", "outputs")

    def __init__(
        self, graph: Graph, op: Op, inputs: tuple[Value, ...], loc: Location | None
    ) -> None:
        self.graph = graph
        self.op = op
        self.inputs = inputs
        self.outputs: tuple[Value, ...] = ()
        self.loc = loc
        self._prev: Node | None = None
        self._next: Node | None = None

    @property
    def output(self) -> Value:
        """The only output."""
        (out,) = self.outputs
        return out

    def __repr__(self) -> str:
        return f"<{self.op} at {self.loc}>"


class Graph:
    """A static graph.

    `inputs` are fed at every run. `params` are named values that the model owns (weights, running
    statistics): they carry data but may change between runs, so no pass folds them until `freeze`
    turns them into constants. `constants` never change. `outputs` are values, any of the above or
    a node's; the same value may be output twice. `assumptions` are checked when sizes are known.
    """

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.params: list[Value] = []
        self._constants: dict[Value, None] = {}
        self._small_constants: dict[Any, Value] = {}
        self.outputs: list[Value] = []
        self.output_names: list[str] = []
        self.assumptions: list[Assumption] = []
        self._first: Node | None = None
        self._last: Node | None = None
        self._count = 0
        self._before: Node | None = None  # insertion point; None appends
        self.loc: Location | None = None  # given to new nodes
        self.capture: Any = None  # the front end's recorder, while one is at work

    # -- looking ----------------------------------------------------------------------------------

    @property
    def nodes(self) -> Iterator[Node]:
        """Nodes in topological order; while walking, the current one may be erased."""
        node = self._first
        while node is not None:
            following = node._next
            yield node
            node = following

    def reversed_nodes(self) -> Iterator[Node]:
        """Nodes from last to first, under the same licence as `nodes`."""
        node = self._last
        while node is not None:
            before = node._prev
            yield node
            node = before

    def __len__(self) -> int:
        return self._count

    @property
    def constants(self) -> list[Value]:
        return list(self._constants)

    def owns_constant(self, value: Value) -> bool:
        return value in self._constants

    def __str__(self) -> str:
        from .text import to_text

        return to_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from .page import notebook_html

        return notebook_html(self)

    def show(
        self, path: str | None = None, *, open: bool | None = None, passes: bool = True
    ) -> str:
        """Write a self-contained HTML page about this graph; returns its path.

        It shows a drawing, the user's code of every node, and the graph after each pass of the
        compiler, to flip through.

        Args:
            path: where to write; default a temporary file.
            open: whether to open it in a browser; default where Python is interactive.
            passes: show what the passes make of the graph.
        """
        from .page import show

        return show(self, path, open=open, passes=passes)

    def to_networkx(self) -> Any:
        """A ``networkx.MultiDiGraph`` of inputs, params, constants, nodes and outputs."""
        from .networkx import to_networkx

        return to_networkx(self)

    # -- building ---------------------------------------------------------------------------------

    def add_input(self, type: TensorType, name: str = "") -> Value:
        """A value fed at every run."""
        value = Value(self, type, name=name)
        value.loc = self.loc
        self.inputs.append(value)
        return value

    def add_param(self, data: Any, name: str = "", *, type: TensorType | None = None) -> Value:
        """A named value the model owns; `data` is its array now."""
        value = Value(self, type or type_of(data), name=name, data=data)
        self.params.append(value)
        return value

    def constant(self, data: Any, name: str = "") -> Value:
        """A value that never changes; small equal constants are one value."""
        key = None
        if not name and data.nbytes <= 64 and isinstance(data, np.ndarray | np.generic):
            data = np.asarray(data)
            key = (data.dtype, data.shape, data.tobytes())
            found = self._small_constants.get(key)
            if found is not None and found in self._constants:
                return found
        value = Value(self, type_of(data), name=name, data=data)
        self._constants[value] = None
        if key is not None:
            self._small_constants[key] = value
        return value

    def add_node(
        self, op: Op, inputs: Sequence[Value], types: Sequence[TensorType] | None = None
    ) -> Node:
        """Append a node (or insert it at the insertion point), inferring its output types.

        Raises:
            ShapeError, DTypeError: the op refuses the inputs; the message says where they and their
                sizes come from, a note names `self.loc`.
        """
        for v in inputs:
            if v.graph is not self:
                raise GraphError(f"{v!r} belongs to graph {v.graph.name!r}, not {self.name!r}")
        if types is None:
            try:
                inferred = op.infer(*(v.type for v in inputs))
            except DualGraphError as error:
                from .explain import explain

                explain(self, inputs, error)
                if self.loc is not None:
                    error.add_note(f"at {self.loc.file}:{self.loc.line}")
                raise
            types = (inferred,) if isinstance(inferred, TensorType) else inferred
        node = Node(self, op, tuple(inputs), self.loc)
        node.outputs = tuple(Value(self, t, node=node, index=i) for i, t in enumerate(types))
        for v in inputs:
            v.uses[node] = v.uses.get(node, 0) + 1
        self._link(node, self._before)
        return node

    def call(self, op: Op, operands: Sequence[Any]) -> Any:
        """Add a node and return its output Value, or the tuple of them; arrays become constants."""
        inputs = [x if isinstance(x, Value) else self.constant(x) for x in operands]
        outputs = self.add_node(op, inputs).outputs
        return outputs[0] if op.n_outputs == 1 else outputs

    def set_outputs(self, values: Sequence[Value], names: Sequence[str] = ()) -> None:
        """Declare the outputs; unnamed ones take their value's name, or a numbered one."""
        self.outputs = list(values)
        self.output_names = list(names)
        for i, v in enumerate(values[len(names) :], len(names)):
            numbered = f"output{i}" if len(values) > 1 else "output"
            taken = v.name in self.output_names
            self.output_names.append(numbered if taken or not v.name else v.name)

    def assume(self, *assumptions: Assumption) -> None:
        """Take something for granted of sizes, to be checked when a run tells them."""
        self.assumptions = merged(self.assumptions, assumptions)

    @contextmanager
    def inserting_before(self, node: Node) -> Iterator[None]:
        """New nodes go before `node` and take its source location."""
        saved = self._before, self.loc
        self._before, self.loc = node, node.loc
        try:
            yield
        finally:
            self._before, self.loc = saved

    # -- changing ---------------------------------------------------------------------------------

    def replace_uses(self, old: Value, new: Value) -> None:
        """Make every consumer and output of `old` read `new`; `new` must come earlier."""
        if old is new:
            return
        for node in list(old.uses):
            self.set_inputs(node, [new if v is old else v for v in node.inputs])
        self.outputs = [new if v is old else v for v in self.outputs]

    def set_inputs(self, node: Node, inputs: Sequence[Value]) -> None:
        """Replace the operands of a node."""
        for v in node.inputs:
            if v.uses[node] == 1:
                del v.uses[node]
            else:
                v.uses[node] -= 1
        node.inputs = tuple(inputs)
        for v in inputs:
            v.uses[node] = v.uses.get(node, 0) + 1

    def set_op(self, node: Node, op: Op) -> None:
        """Let a node apply another op to its operands, of results of the same types."""
        node.op = op

    def erase(self, node: Node) -> None:
        """Remove a node whose outputs nothing uses.

        Raises:
            GraphError: an output is still used.
        """
        for v in node.outputs:
            if v.uses or any(v is o for o in self.outputs):
                raise GraphError(f"cannot erase {node!r}: {v!r} is still used")
        self.set_inputs(node, ())
        before, after = node._prev, node._next
        if before is None:
            self._first = after
        else:
            before._next = after
        if after is None:
            self._last = before
        else:
            after._prev = before
        self._count -= 1

    def drop_unused(self) -> int:
        """Forget constants and params that nothing uses; returns how many."""
        kept = set(self.outputs)
        dead_constants = [v for v in self._constants if not v.uses and v not in kept]
        for v in dead_constants:
            del self._constants[v]
        live_params = [v for v in self.params if v.uses or v in kept]
        dead = len(self.params) - len(live_params) + len(dead_constants)
        self.params = live_params
        return dead

    def freeze(self, data: Mapping[str, Any] | None = None) -> None:
        """Turn params into constants with their present data (or `data`, by name)."""
        for v in self.params:
            if data is not None and v.name in data:
                v.data = data[v.name]
            self._constants[v] = None
        self.params = []

    def copy(self) -> Graph:
        """An independent graph with the same structure; constant data is shared."""
        out, _ = self.copy_with_map()
        return out

    def copy_with_map(self) -> tuple[Graph, dict[Value, Value]]:
        """`copy`, and the new value of every old one."""
        out = Graph(self.name)
        new: dict[Value, Value] = {}
        for v in self.inputs:
            new[v] = copied = out.add_input(v.type, v.name)
            copied.loc = v.loc
        for v in self.params:
            new[v] = out.add_param(v.data, v.name, type=v.type)
        for v in self._constants:
            new[v] = copied = Value(out, v.type, name=v.name, data=v.data)
            out._constants[copied] = None
        for node in self.nodes:
            out.loc = node.loc
            made = out.add_node(
                node.op, [new[v] for v in node.inputs], [v.type for v in node.outputs]
            )
            for a, b in zip(node.outputs, made.outputs, strict=True):
                b.name = a.name
                new[a] = b
        out.loc = None
        out.set_outputs([new[v] for v in self.outputs], self.output_names)
        out.assumptions = list(self.assumptions)
        return out, new

    def _link(self, node: Node, before: Node | None) -> None:
        after = before._prev if before is not None else self._last
        node._prev, node._next = after, before
        if after is None:
            self._first = node
        else:
            after._next = node
        if before is None:
            self._last = node
        else:
            before._prev = node
        self._count += 1
