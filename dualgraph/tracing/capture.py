"""A graph under construction, and how the tensors of running Python code relate to it.

While a capture is current in a thread, every operation on tensors appends to its graph. A concrete
tensor that an operation reads was made before the capture began (inside it, factories make graph
values), so it is state: it becomes a param of the graph, once, and is listed in `reads`. In-place
writes to state are listed in `writes`; the tensors themselves are, in the end, as they were.

The tape is kept as in eager code, on graph values. It begins at `sources`: the producers of the
arguments and of the state that were on the tape outside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dims import Dim, SizeNumber
from dualgraph_compiler.dtypes import DType, float64
from dualgraph_compiler.errors import TraceError
from dualgraph_compiler.graph import Assumption, Graph, Location, Value
from dualgraph_compiler.ops import REGISTRY, Op
from dualgraph_compiler.ops.base import array_module
from dualgraph_compiler.ops.convert import Cast
from dualgraph_compiler.ops.eager_steps import EagerCall, Shaped, gradients_in_one, operands_of
from dualgraph_compiler.types import TensorType

from .._dispatch import captures, current_fn, make, symbolic
from ..autograd.tape import CustomNode, Leaf
from . import questions as questions
from .failure import CaptureFailure, Place, current_place, user_frame
from .lookups import Lookups
from .notes import Branch
from .phases import Later, Repeat, Writes, Written
from .replay import Call, GradSlot

if TYPE_CHECKING:
    from .._tensor import Tensor
    from .watch import Watch


def accelerated_ops() -> frozenset[type[Op]]:
    """The ops that eager code may leave to kernels."""
    from dualgraph_runtime.native.eager import ACCELERATED

    return ACCELERATED


class Source(CustomNode):
    """Where the tape of a capture begins at a tensor that outside is a non-leaf."""

    name = "CaptureSource"

    def __init__(self) -> None:
        super().__init__(())

    def run(self, g: Any, create_graph: bool) -> Sequence[Any]:
        """Nothing: gradients end here."""
        return ()


class Capture(Lookups):
    """Records operations into `graph`.

    `names` gives state tensors (by the identity of their arrays) their dotted names, as a module's
    state_dict does. `reads`, `writes` are by the identity of arrays, so that ``t.detach()`` is the
    same state as ``t``; `modules` are those called while recording; `branches` are for reports.
    With `whole` the capture is of one call that will be replayed as such, see :class:`Lookups`.
    """

    def __init__(
        self, graph: Graph, names: Mapping[int, str] | None = None, *, whole: bool = False
    ) -> None:
        super().__init__()
        self.graph = graph
        self.names = {**random_state_names(), **(names or {})}
        self.reads: dict[int, tuple[Tensor, Value]] = {}
        self.writes = Writes()
        self.sources: dict[Any, tuple[Tensor, Any]] = {}  # outside producer: tensor, producer here
        self.outside: dict[Any, Any] = {}  # while tracing: of a producer here, that outside
        self.modules: dict[int, Any] = {}
        self.paths: dict[int, dict[int, str]] = {}  # below a module, of those in it
        self.scope: list[str] = []
        self.whole = whole
        # Whether operations and gradient rules that eager code may leave to kernels are nodes that
        # say so: see `ops.eager_steps`.
        self.keeps_steps = False
        # Tensors whose data was assigned, with the data, version cell and view they had.
        self.replaced: dict[int, tuple[Tensor, Any, list[int], Any]] = {}
        self.stand_ins: list[Any] = []  # alive, so that identities stay unique
        self.branches: list[Branch] = []
        self.failures: list[CaptureFailure] = []
        self.watch: Watch | None = None  # of the Python data read meanwhile
        self.repeat: Repeat | None = None
        self.earlier = Later()  # while in a later phase: what was read and written before
        # With `converting`, functions run with their control flow rewritten (see `.convert`).
        # `unset` says of variables that control flow on data left without a value why that is.
        self.converting = False
        self.unset: dict[str, str] = {}
        self.unconverted: dict[Any, str] = {}  # by code: why its control flow is not rewritten
        self.checks: list[tuple[Value, Exception]] = []
        self._branches: set[Place] = set()
        self.entangled: dict[int, list[int]] = {}  # version cells, by identity
        self.no_gradient: CaptureFailure | None = None
        self.uneven: CaptureFailure | None = None
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}  # numbers given to equal wishes
        self._outer: list[Capture | None] = []
        graph.capture = self

    # -- tensors as values ------------------------------------------------------------------------

    def value_of(self, t: Tensor) -> Value:
        """The graph value that stands for `t`."""
        value = self._value_of(t)
        return value if self.repeat is None else self.repeat.value(self, value)

    def _value_of(self, t: Tensor) -> Value:
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
            base = None if info is None or info.ops is None else info.base
            if base is not None and base._ver is t._ver and id(base._data) in self.writes:
                value = self.value_of(base)
                for op in info.ops:
                    value = self.add(op, [value])
                return value
            self._refuse_overlap(data)
        if type(t._fn) is Leaf:
            self.track(t._fn, t)
        found = self.reads.get(id(data))
        if found is None and self.repeat is not None and id(data) not in self.earlier.writes:
            found = self.earlier.reads.get(id(data))  # what is repeated reads what it read then
        if found is None:
            slot = self.held.get(id(t))
            if slot is not None and slot.proxy is not None:
                slot.observed = True
                self.guard("which tensor holds the state", lambda: slot.read(Call(())) is t, True)
                return self.value_of(slot.proxy)
            name = self._free_name(self.names.get(id(data)) or f"state{len(self.reads)}")
            found = self.reads[id(data)] = (t, self.graph.add_param(data, name))
        return found[1]

    def _refuse_overlap(self, data: Any) -> None:
        if not self.writes.spans.may_overlap(data):
            return
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
            self.outside[found[1]] = fn
        return found[1]

    def _free_name(self, wish: str) -> str:
        """`wish`, with a number behind it if an input or param has that name."""
        taken = self._taken
        if len(taken) != len(self.graph.inputs) + len(self.graph.params):
            taken.update(v.name for v in [*self.graph.inputs, *self.graph.params])
        name = wish
        while name in taken:
            self._next[wish] = number = self._next.get(wish, 0) + 1
            name = f"{wish}_{number}"
        taken.add(name)
        return name

    def note_branch(self, place: Place | None) -> None:
        """Note, once, that the graph decides what the user's expression at `place` decides."""
        if place is None or place in self._branches:
            return
        self._branches.add(place)
        where = Location(place.file, place.line, place.function, ".".join(self.scope))
        self.branches.append(Branch(place.expression, where))

    def assume(self, assumption: Assumption) -> None:
        """Let the graph take something of symbolic sizes for granted, for the user's line."""
        self.graph.assume(replace(assumption, loc=self.location()))

    def why_unset(self, error: Exception) -> str | None:
        """Why a variable has no value that code reads, if control flow on data took it."""
        if not isinstance(error, NameError):
            return None
        found = re.search(r"variable '(\w+)'", str(error))
        return None if found is None else self.root.unset.get(found[1])

    def check(self, ok: Tensor, error: Exception) -> None:
        """A call whose graph does not give true for `ok` raises `error`, and writes nothing."""
        self.require_whole(f"raising {type(error).__name__} if a tensor says so")
        self.checks.append((self.value_of(ok), error))

    def refuse_gradient(self, why: str) -> None:
        """Note that what was recorded cannot be differentiated."""
        if self.no_gradient is None:
            advice = "Put it under dg.no_grad() if no gradient is wanted, or use dg.scan."
            self.no_gradient = CaptureFailure(why, current_place(), advice)

    def note_uneven(self, what: str) -> None:
        """Note that gradients lead to other leaves in one branch of `what` than in the other."""
        if self.uneven is None:
            self.uneven = CaptureFailure(
                f"the branches of {what} come from different parameters or inputs: those of the "
                "branch not taken would get a gradient of zeros instead of none",
                current_place(),
                "Use dg.cond if zeros will do, or dg.no_grad() if no gradient is wanted.",
            )

    # -- recording --------------------------------------------------------------------------------

    def add(self, op: Op, values: Sequence[Value]) -> Any:
        """Append `op`, noting the user's line; returns its output Value or the tuple of them."""
        saved, self.graph.loc = self.graph.loc, self.location()
        try:
            made = self.graph.call(op, values)
        except TraceError as error:
            raise self.failure(str(error)) from error
        finally:
            self.graph.loc = saved
        if self.repeat is not None:
            self.repeat.made.update(made if isinstance(made, tuple) else (made,))
        return made

    def apply(self, op: Op, values: Sequence[Value]) -> Any:
        """`add` for what eager code does as one operation."""
        kept = self.root.keeps_steps and type(op) in accelerated_ops()
        return self.add(EagerCall(op) if kept else op, values)

    def gradients(
        self, op: Op, g: Any, y: Any, inputs: Sequence[Any], edges: Sequence[Any]
    ) -> Sequence[Any]:
        """``op.vjp(g, y, *inputs)`` as eager code does it: see :meth:`keeps_steps`."""
        row = [x for x in operands_of(op, g, y, inputs) if x is not None]
        if type(op) not in accelerated_ops() or any(type(x) not in (Value, Shaped) for x in row):
            return op.vjp(g, y, *inputs)
        wanted = [e is not None for e in edges]
        return gradients_in_one(op, g, y, inputs, wanted, self.graph.call)

    def off_tape(self, values: Sequence[Value], edges: Sequence[Any]) -> Sequence[Value]:
        """`values`, with those that have an edge on the tape such that no gradient reaches them.

        The tape says so by itself, except in a nested graph, which is differentiated without it.
        """
        return values

    def taped_values(self, values: Sequence[Value]) -> None:
        """Note that the tape leads through these values."""

    def scalar(self, value: Any, dtype: DType) -> Tensor:
        """A number, or symbolic size, as a 0-d tensor of the graph."""
        if isinstance(value, Dim | SizeNumber):
            found = self._size_value(value)
            return make(found if found.dtype is dtype else self.add(Cast(dtype), [found]))
        return make(self.graph.constant(np.asarray(value).astype(dtype.np)))

    def _size_value(self, value: Any) -> Value:
        """A size as an int64, a number computed from sizes as a float64, as Python computes it."""
        from dualgraph_compiler.ops.creation import DimValue

        if isinstance(value, Dim):
            return self.add(DimValue(value), ())  # type: ignore[no-any-return]
        if not isinstance(value, SizeNumber):
            return self.graph.constant(np.asarray(value, np.float64))
        a, b = (self._size_value(v) for v in value.operands)
        pair = [v if v.dtype is float64 else self.add(Cast(float64), [v]) for v in (a, b)]
        return self.add(REGISTRY[value.op_name](), pair)  # type: ignore[no-any-return]

    def location(self) -> Location | None:
        """The innermost line of code outside this package."""
        frame = user_frame()
        if frame is None:
            return None
        code = frame.f_code
        return Location(code.co_filename, frame.f_lineno, code.co_name, ".".join(self.scope))

    @property
    def root(self) -> Capture:
        """The outermost capture that this one is part of."""
        return self

    def asked_by_user(self) -> bool:
        """Whether it is a traced function, and no debugger or library, that runs right now."""
        from .objects import is_users

        frame = user_frame()
        return self.whole and frame is not None and is_users(frame.f_code.co_filename)

    def adapted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, with its control flow rewritten if the trace is to capture that."""
        if not self.root.converting:
            return function
        from .convert import adapted

        return adapted(function)  # type: ignore[no-any-return]

    def _why_unconverted(self) -> str:
        """Why the control flow of the user's function that runs now was left as it is."""
        frame = user_frame()
        why = None if frame is None else self.root.unconverted.get(frame.f_code)
        return "" if why is None else f"Its control flow cannot be captured: {why}."

    def failure(self, why: str, advice: str = "") -> CaptureFailure:
        """The error for something that cannot be captured, at the user's line which runs now.

        It is noted too: code that catches the error must not lead to a graph without that line.
        """
        found = CaptureFailure(why, current_place(), self._why_unconverted() or advice)
        self.root.failures.append(found)
        return found

    def write(self, t: Tensor, value: Value) -> None:
        """Note that state tensor `t` was overwritten with `value`."""
        self.require_own_memory(t)
        before = self.writes.get(id(t._data))
        slot = None if id(t._data) in self.reads else self.held.get(id(t))
        if slot is not None and slot.proxy is not None:
            self.value_of(t)  # which guards that the slot holds `t`
            slot.proxy._data = value
        elif before is None:
            self.writes[id(t._data)] = Written(t, value, t._fn, t._ver[0])
        else:
            before.value = value

    def rebind(self, t: Tensor, value: Value) -> None:
        """Let tensor `t` of the graph stand for another value."""
        self.require_own_memory(t)
        t._data = value

    def entangle(self, *tensors: Tensor) -> None:
        """Note that data decides whether these tensors, or some of them, are one.

        A write to one of them would reach others, or not.
        """
        for t in tensors:
            self.root.entangled[id(t._ver)] = t._ver

    def require_own_memory(self, t: Tensor) -> None:
        """Raise if data decides which other tensors change with `t`."""
        if id(t._ver) in self.root.entangled:
            raise self.failure(
                f"a tensor ({t._type()}) is changed in place, and data decides whether it is also "
                "known by another name",
                "Use the operation that returns a new tensor, or clone() first.",
            )

    def input(self, type: TensorType, name: str) -> Tensor:
        """A new input of the graph, declared at the user's line."""
        saved, self.graph.loc = self.graph.loc, self.location()
        try:
            return make(self.graph.add_input(type, self._free_name(name)))
        finally:
            self.graph.loc = saved

    def restore(self) -> None:
        """Give every state tensor the gradient, tape entry and version it had before."""
        self._tracing.roll_back()
        self.outside.clear()
        for slot in self.slots.values():
            if type(slot) is GradSlot:
                slot.leaf.grad = slot.before
        for leaf, before in self._gradients.items():
            leaf.grad = before
        for t, data, version, base in self.replaced.values():
            t._ver, t._base = version, base
            if type(data) is not Value:
                t._data = data
        for w in reversed(self.writes.values()):
            w.tensor._fn = w.fn
            w.tensor._ver[0] = w.version

    def state_value(self, t: Tensor) -> Value | None:
        """The value that state tensor `t` has now; None while it was not read."""
        written = self.writes.get(id(t._data))
        if written is not None:
            return written.value
        found = self.reads.get(id(t._data))
        return None if found is None else found[1]

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


def random_state_names() -> dict[int, str]:
    """Names of the default generator's state."""
    from .._random import default_generator as generator

    return {
        id(generator._seed._data): "random_seed",
        id(generator._offset._data): "random_offset",
    }
