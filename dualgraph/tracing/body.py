"""Tracing the functions of control flow: each into a graph of its own, inside another capture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dualgraph_compiler.errors import DTypeError, ShapeError, TraceError
from dualgraph_compiler.graph import Graph, Value
from dualgraph_compiler.ops.convert import StopGradient
from dualgraph_compiler.types import TensorType

from .._dispatch import make
from .._promote import is_number
from .._tensor import Tensor
from ..autograd.tape import Overwritten
from . import tree
from .capture import Capture, Source


class BodyCapture(Capture):
    """Records into a nested graph what `function` does.

    A nested graph is closed, so tensors of the enclosing captures, and state, come in as further
    inputs, listed in `captured`; constants are repeated. State that is written (buffers, the place
    in a stream of random numbers) goes out again, see `states`. Writing to any other tensor from
    outside is refused: what a branch or a loop changes, it must return.

    It is differentiated without the tape, so where that ends (`detach`, `no_grad`) a node says so,
    and what only the tape knows is refused.
    """

    def __init__(self, outer: Capture, name: str, function: Callable[..., Any]) -> None:
        super().__init__(Graph(name), outer.names)
        self.outer = outer
        self.function = function
        self.scope, self.modules = outer.scope, outer.modules
        # By value and producer: a detached tensor is another operand than what it was made from.
        self.captured: dict[Any, tuple[Tensor, Value, Value]] = {}
        self.taped: set[int] = set()  # arrays of the state whose new value is on the tape
        # Tensors of the graphs around that were written to, with what they held, and then hold.
        # With `keeps_writes` whoever applies the graph carries these writes out.
        self.rebound: dict[int, tuple[Tensor, Tensor]] = {}
        self.keeps_writes = False
        self.on_tape: set[Value] = set()
        self._stopped: dict[Value, Value] = {}
        self._overwritten: set[Value] = set()  # on the tape, with gradients of zero
        self.fresh: dict[int, Any] = {}  # Python objects made inside, by identity
        self._before: dict[int, tuple[Value, Any]] = {}

    @property
    def root(self) -> Capture:
        return self.outer.root

    def guard_data(self, t: Tensor, what: str) -> None:
        if id(t._data) in self.writes:
            raise self.failure(f"{what} needs the data of a tensor that is computed while traced")
        self.outer.guard_data(t, what)

    def value_of(self, t: Tensor) -> Value:
        if type(t._data) is Value:
            own = t._data.graph is self.graph
        else:
            base = t if t._base is None else t._base.base
            own = id(t._data) in self.writes or id(base._data) in self.writes
            if self.writes and not own:
                self._refuse_overlap(t._data)
        if own:
            return self._as_taped(t, super().value_of(t))
        outside = self.outer.value_of(t)
        if outside.is_constant:
            return self.graph.constant(outside.data, outside.name)
        return self.input_for(t, outside)

    def _as_taped(self, t: Tensor, value: Value) -> Value:
        """`value`, with what the tape says of gradients said in the graph."""
        if t._fn is None:
            return self.stopped(value) if value in self.on_tape else value
        if value in self.on_tape:
            return value
        if type(t._fn) is Overwritten:
            self._overwritten.add(value)
            return value
        raise self.failure(
            "a gradient that only the tape knows (of a custom Function, a new leaf, or an in-place "
            "operation under no_grad) cannot be part of a branch or loop in a graph"
        )

    def stopped(self, value: Value) -> Value:
        """`value`, such that no gradient reaches it."""
        if value not in self._stopped:
            self._stopped[value] = self.add(StopGradient(), [value])
        return self._stopped[value]

    def off_tape(self, values: Sequence[Value], edges: Sequence[Any]) -> Sequence[Value]:
        return [
            v if e is None or not v.dtype.is_differentiable else self.stopped(v)
            for v, e in zip(values, edges, strict=True)
        ]

    def requires_grad(self, value: Value) -> bool:
        """Whether a result of the function is on the tape."""
        return value in self.on_tape or value in self._overwritten

    def taped_values(self, values: Sequence[Value]) -> None:
        self.on_tape.update(values)

    def input_for(self, t: Tensor, outside: Value) -> Value:
        """The input by which a tensor from outside comes in."""
        key = (outside, t._fn)
        if key not in self.captured:
            name = self._free_name(outside.name) if outside.name else ""
            self.captured[key] = (t, outside, self.graph.add_input(outside.type, name))
            if t._fn is not None:
                self.on_tape.add(self.captured[key][2])
        return self.captured[key][2]

    def write(self, t: Tensor, value: Value) -> None:
        self.input_for(t, self.outer.value_of(t))  # where nothing writes, it stays what it was
        super().write(t, value)

    def states(self) -> list[Tensor]:
        """The state written so far."""
        return [w.tensor for w in self.writes.values()]

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """What `function` returns for `args`."""
        try:
            with self:
                result = function(*args)
        finally:
            for key, w in self.writes.items():
                if w.tensor._fn is not w.fn and w.tensor._fn is not None:
                    self.taped.add(key)
            self.restore()
            self._restore_rebound(function)
        return result

    def rebind(self, t: Tensor, value: Value) -> None:
        self.require_own_memory(t)
        if t._data.graph is not self.graph:
            self._before[id(t)] = t._data, t._fn
            self.rebound[id(t)] = t, t
        t._data = value

    def _restore_rebound(self, function: Callable[..., Any]) -> None:
        for key, (value, fn) in self._before.items():
            t, _ = self.rebound[key]
            self.rebound[key] = t, make(t._data, t._fn)
            t._data, t._fn = value, fn
            t._ver[0] += 1  # views of it are made again
            if not self.keeps_writes:
                raise TraceError(
                    f"{described(function)} writes to a tensor made outside of it "
                    f"({t._type()}), as control flow must not: return the new value instead"
                )
        self._before.clear()

    def last_value_of(self, t: Tensor) -> Value:
        """What a tensor of the graphs around holds in the end, in this graph."""
        found = self.rebound.get(id(t))
        return self.value_of(t if found is None else found[1])

    def rebinds_on_tape(self, t: Tensor) -> bool:
        """Whether `t` was given a value that is on the tape in another way than before."""
        found = self.rebound.get(id(t))
        return found is not None and found[1]._fn is not t._fn and found[1]._fn is not None

    def finish(self, inputs: Sequence[Value], outputs: Sequence[Value]) -> Graph:
        """The graph; no more is recorded."""
        self.graph.inputs = list(inputs)
        self.graph.set_outputs(outputs)
        self.close()
        return self.graph


Inputs = list[tuple[Tensor, Value]]


def split_captured(body: BodyCapture) -> tuple[Inputs, Inputs]:
    """The tensors that a loop's body took from outside, with its inputs: state that it writes,
    which is carried from step to step, and the rest."""
    written = {id(t._data) for t in body.states()}
    states: dict[int, tuple[Tensor, Value]] = {}
    shared: Inputs = []
    for t, _, inside in body.captured.values():
        if id(t._data) not in written:
            shared.append((t, inside))
        elif states.setdefault(id(t._data), (t, inside))[1] is not inside:
            raise TraceError(
                f"{described(body.function)} writes to state that it also reads detached "
                f"({t._type()}), which control flow cannot carry from step to step"
            )
    return list(states.values()), shared


# -- results of functions that must agree ---------------------------------------------------------


def described(function: Callable[..., Any]) -> str:
    """A function and its line."""
    code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
    name = getattr(function, "__qualname__", type(function).__name__).rpartition(".")[2]
    return f"{name!r} at {code.co_filename}:{code.co_firstlineno}" if code else f"{name!r}"


def place(function: Callable[..., Any], leaf: Any) -> str:
    """The line where a result of `function` was computed; that of the function if not known."""
    data = getattr(leaf, "_data", None)
    node = data.node if type(data) is Value else None
    if node is not None and node.loc is not None:
        return f"{node.loc.file}:{node.loc.line}"
    return described(function)


def require_same_structure(what: str, one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    """Raise unless two (function or description, result) pairs have results of one structure."""
    if tree.structure(one[1]) != tree.structure(other[1]):
        raise TraceError(
            f"{what}: {_sketch(one[1])} from {_source(one[0])} does not have the structure of "
            f"{_sketch(other[1])} from {_source(other[0])}"
        )


def require_same_type(
    what: str, path: str, one: tuple[Any, Any, TensorType], other: tuple[Any, Any, TensorType]
) -> None:
    """Raise unless two (function or description, leaf, type) are of one type."""
    if one[2] == other[2]:
        return
    error = DTypeError if one[2].dtype is not other[2].dtype else ShapeError
    at = f" [{path}]" if path else ""
    raise error(
        f"{what}: result{at} is {one[2]} from {_source(*one[:2])} but {other[2]} from "
        f"{_source(*other[:2])}"
    )


def _source(function: Any, leaf: Any = None) -> str:
    return function if isinstance(function, str) else place(function, leaf)


def _sketch(result: Any) -> str:
    """A result with types in place of tensors."""
    text = tree.map_leaves(lambda x: _Text(x), result)
    return repr(text)


class _Text:
    def __init__(self, leaf: Any) -> None:
        self.text = str(leaf._type()) if isinstance(leaf, Tensor) else type(leaf).__name__

    def __repr__(self) -> str:
        return self.text


def as_tensor(leaf: Any, like: TensorType | None = None) -> Tensor:
    """A tensor, or a number as one (of the dtype of `like`).

    Raises:
        TraceError: it is neither.
    """
    if isinstance(leaf, Tensor):
        return leaf
    if not is_number(leaf):
        raise TraceError(f"expected tensors and numbers, got {type(leaf).__name__}")
    from ..functions import tensor

    return tensor(leaf, dtype=like.dtype if like is not None else None)


def formal(capture: BodyCapture, type: TensorType, like: Tensor | None = None) -> Tensor:
    """A tensor for a new input, on the tape if `like` is."""
    taped = like is not None and like.requires_grad
    value = capture.graph.add_input(type)
    if taped:
        capture.on_tape.add(value)
    return make(value, Source() if taped else None)
