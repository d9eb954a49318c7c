"""One graph of a whole model, for the types and small contents of one call.

What a model that is no single graph needs to know (ranks, sizes, flags, how often a loop runs) is
mostly told by the shapes of its inputs and the elements of a few small ones. With all of these
known, branches are taken, loops unrolled, and sequences and optionals are lists of values while the
graph is made: what is left is a graph like that of any other model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import OnnxError
from ...graph import Graph, Value
from ...ops import f
from ...types import TensorType
from ..control_flow import unrolled
from ..importer import Importer, walk
from ..lift import operator_name, with_nested
from ..operator_rules import rule_for
from ..values.registry import FUNCTIONS, ValueContext, tensor_value
from ..values.sequences import axis_of, piece_lengths
from ..weights import Weights
from .kinds import MOVES, STRING, makes_or_takes_values

if TYPE_CHECKING:
    import onnx

    from ..load import ModelFile
    from .plan import Plan

_UNROLLED = 2048  # nodes and steps beyond those that a model has
_TRIES = 4  # how often a node may be read: branches and bodies that do not fit are read in vain
# Operators on sequences and optionals, and which of their operands are positions or lengths.
_POSITIONS = {
    "SequenceConstruct": None,
    "SequenceEmpty": None,
    "SequenceLength": None,
    "SequenceAt": 1,
    "SequenceInsert": 2,
    "SequenceErase": 1,
    "SequenceMap": None,
    "SplitToSequence": 1,
    "ConcatFromSequence": None,
    "Optional": None,
    "OptionalHasElement": None,
    "OptionalGetElement": None,
    "Identity": None,
}


class _Nothing:
    """An optional without an element, which is no operand that is left out."""

    def over(self, _change: Callable[[Value], Value]) -> _Nothing:
        """The same: there is no value in it."""
        return self


NOTHING = _Nothing()


@dataclass(frozen=True, slots=True, eq=False)
class _Strings:
    """A tensor of strings that are constants of the model, as positions among `words`."""

    positions: Value
    words: np.ndarray[Any, Any]

    def over(self, change: Callable[[Value], Value]) -> _Strings:
        """The same of another value."""
        return _Strings(change(self.positions), self.words)


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """An output of strings: its elements are positions, in `words`, that output `at` has."""

    at: int
    words: np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class WholeGraph:
    """A graph for a whole model.

    `outputs` are the model's: positions among the graph's outputs, `Words` for strings, lists of
    either for sequences, None for an optional without an element.
    """

    graph: Graph
    outputs: list[Any]


class Whole:
    """What an importer asks where values may be lists and loops be unrolled.

    Args:
        nodes: how many there are in the model.
    """

    def __init__(self, file: ModelFile, nodes: int) -> None:
        self._file = file
        self._left = _UNROLLED + _TRIES * nodes
        self.askable: Collection[Value] = ()  # inputs whose elements another try may know

    def spend(self, steps: int = 1) -> None:
        """Count nodes that are read.

        Raises:
            OnnxError: there were too many.
        """
        self._left -= steps
        if self._left < 0:
            raise OnnxError("unrolled, it would be too large")

    def may_know(self, value: Value) -> bool:
        """Whether another try may know the elements of a value."""
        inputs = [v for v in walk([value], ()) if v.node is None and not v.is_constant]
        return bool(inputs) and all(v in self.askable for v in inputs)

    def results(self, ctx: Importer, node: onnx.NodeProto, operands: Sequence[Any]) -> Any:
        """The results of a node, as importers keep them.

        Raises:
            NeedsValue: something must be known that is not.
            OnnxError: the node cannot be part of a graph.
        """
        self.spend()
        operator = operator_name(node)
        plain = all(v is None or isinstance(v, Value) for v in operands)
        if operator not in _POSITIONS and any(isinstance(v, _Strings) for v in operands):
            return self._moved(ctx, operator, *operands)
        if operator == "Constant" and makes_or_takes_values(node):
            context = ValueContext(node, self._file, _no_graph)
            return (strings(ctx, FUNCTIONS[operator](context)),)
        if operator == "Loop":
            return self._loop(ctx, operands, plain)
        if plain and rule_for(operator) is not None:
            return ctx.by_rule(operator, operands)
        if operator not in _POSITIONS:
            raise OnnxError("it is no part of a graph on these values")
        if operator == "SplitToSequence":
            return (self._split(ctx, *operands),)
        at = _POSITIONS[operator]
        given = [
            ctx.array(v, "a position in a sequence") if i == at and v is not None else v
            for i, v in enumerate(operands)
        ]

        def call(attribute: str, values: Sequence[Any]) -> list[Any]:
            return ctx.nested(ctx.attr(attribute), [_kept(ctx, v) for v in values])

        context = ValueContext(node, self._file, call, _Functions)
        found = FUNCTIONS[operator](context, *(None if v is NOTHING else v for v in given))
        found = found if isinstance(found, tuple) else (found,)
        return tuple(_kept(ctx, v) for v in found)

    def _moved(self, ctx: Importer, operator: str, first: Any, *others: Any) -> list[_Strings]:
        """The results of a node that moves the elements of its first operand, which are strings."""
        moves = operator in MOVES and isinstance(first, _Strings)
        if not moves or not all(v is None or isinstance(v, Value) for v in others):
            raise OnnxError("it is no part of a graph on strings")
        found = ctx.by_rule(operator, [first.positions, *others])
        results = found if isinstance(found, tuple | list) else [found]
        return [_Strings(v, first.words) for v in results]

    def _loop(self, ctx: Importer, operands: Sequence[Any], plain: bool) -> Any:
        if plain:
            try:
                return ctx.by_rule("Loop", operands)
            except Exception:  # malformed bodies fail in many ways, and so does what follows
                self.spend()
        return unrolled(ctx, *operands)

    def _split(self, ctx: Importer, x: Value, split: Value | None = None) -> list[Value]:
        axis = axis_of(ctx.attr("axis", 0), x.ndim)
        lengths = None if split is None else ctx.array(split, "the lengths of pieces")
        size = ctx.size(x.shape[axis], "the size of an axis that is split")
        if lengths is None or lengths.ndim == 0:
            self.spend(size if lengths is None else size // max(int(lengths), 1))
        pieces, at = [], 0
        for n in piece_lengths(size, lengths):
            pieces.append(f.slice_axis(x, axis, at, at + n))
            at += n
        if split is None and not ctx.attr("keepdims", 1):
            shape = x.shape[:axis] + x.shape[axis + 1 :]
            return [f.reshape(p, shape) for p in pieces]
        return pieces


def strings(ctx: Importer, array: np.ndarray[Any, Any]) -> _Strings:
    """A constant tensor of strings."""
    positions = np.arange(array.size, dtype=np.int64).reshape(array.shape)
    return _Strings(ctx.constant(positions), array.ravel())


def _no_graph(_attribute: str, _values: Sequence[Any]) -> list[Any]:
    raise OnnxError("a constant has no graph")


class _Functions:
    """What functions on values compute with."""

    stack: Callable[..., Value] = staticmethod(f.stack)
    concatenate: Callable[..., Value] = staticmethod(f.concat)


def _kept(ctx: Importer, value: Any) -> Any:
    """A result as importers keep it."""
    if isinstance(value, list):
        return [_kept(ctx, v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return ctx.constant(value)
    return NOTHING if value is None else value


def import_whole(
    file: ModelFile,
    plan: Plan,
    given: Mapping[str, Any],
    askable: Collection[str],
    weights: Weights = "constant",
) -> WholeGraph:
    """The graph of a model for one kind of call.

    Args:
        plan: of the model.
        given: by name of an input, a type, which becomes an input of the graph, an array, which
            becomes part of it, a list of these, or None for an optional without an element.
        askable: the inputs that may be given as arrays, where their elements must be known.
        weights: whether floating-point initializers become constants of the graph or params.

    Raises:
        NeedsValue: elements or more must be known.
        OnnxError: no one graph does what the model does for such a call.
    """
    graph = Graph(file.proto.graph.name or "graph")
    return _Importer(file, graph, weights).add_call(plan, given, askable)


class _Importer(Importer):
    def add_call(
        self, plan: Plan, given: Mapping[str, Any], askable: Collection[str]
    ) -> WholeGraph:
        self._arrays = plan.arrays
        self._initializers.update(plan.initializers)
        for name, value in given.items():
            self._values[name] = self._entered(name, value)
        self.whole = Whole(self._file, sum(1 for _ in with_nested(plan.nodes)))
        self.whole.askable = {v for n in askable if isinstance(v := self._values[n], Value)}
        self._read_nodes(plan.nodes)
        flat: list[Value] = []
        names: list[str] = []
        outputs = []
        for name in plan.results:
            value = self._named(name, "the graph's outputs")
            outputs.append(_flattened(name, value, flat, names))
        self._finish(flat, names)
        return WholeGraph(self.graph, outputs)

    def _tellers(self, values: Sequence[Value]) -> tuple[str, ...]:
        """The names of the inputs that these are computed from."""
        inputs = {*self.graph.inputs}
        return tuple(v.name for v in walk(values, ()) if v in inputs)

    def _weight(self, tensor: onnx.TensorProto) -> Any:
        if tensor.data_type != STRING:
            return super()._weight(tensor)
        return strings(self, tensor_value(tensor, self._file))

    def _entered(self, name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._entered(f"{name}[{i}]", v) for i, v in enumerate(value)]
        if isinstance(value, TensorType):
            return self.graph.add_input(value, name)
        return NOTHING if value is None else self.constant(value)


def _flattened(name: str, value: Any, flat: list[Value], names: list[str]) -> Any:
    """The positions that the tensors of a result get among the graph's outputs."""
    if isinstance(value, list):
        return [_flattened(f"{name}[{i}]", v, flat, names) for i, v in enumerate(value)]
    if value is NOTHING:
        return None
    flat.append(value.positions if isinstance(value, _Strings) else value)
    names.append(name)
    at = len(flat) - 1
    return Words(at, value.words) if isinstance(value, _Strings) else at
