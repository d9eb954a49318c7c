"""Carries out the steps of plans, on arrays or on any other kind of tensor."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dualgraph_compiler.errors import NeedsValue, OnnxError
from dualgraph_compiler.graph import Graph
from dualgraph_compiler.onnx.lift import operator_name, operators, prepare
from dualgraph_compiler.onnx.operator_rules import rule_for
from dualgraph_compiler.onnx.stepwise import (
    Arrival,
    Plan,
    Segment,
    Single,
    arrival,
    import_segment,
)
from dualgraph_compiler.onnx.stepwise.kinds import is_tensor_type
from dualgraph_compiler.onnx.stepwise.names import outside
from dualgraph_compiler.onnx.stepwise.segment import Sizes
from dualgraph_compiler.onnx.values import (
    ANY_TENSORS,
    FUNCTIONS,
    ValueContext,
    function_of,
    is_tensor,
    tensor_value,
)
from dualgraph_compiler.onnx.values.reference import run_reference
from dualgraph_compiler.onnx.weights import Weights
from dualgraph_compiler.stopping import raise_if_stopped
from dualgraph_compiler.types import TensorType

from .coded import Coded
from .declared import Inputs, Shapes
from .report import report
from .specialized import Specialized

if TYPE_CHECKING:
    import onnx

    from dualgraph_compiler.onnx import ModelFile

_MANY = 4  # graphs of a segment that differ in contents, before it gets one for all
_MAX_SPARE = 64  # graphs kept besides one for each step: types, sizes, contents are the callers'
_MAX_ARRIVED = 64  # kinds of operands that are recognised at once
# Their functions are for operands that are no tensors of numbers, not for what rules refuse.
_ON_STRINGS = ("Identity", "Constant", "Cast", "CastLike")


class Runnable(Protocol):
    """The graph of a segment; `sizes` is what is known of the sizes of its outputs."""

    sizes: list[Sizes]

    @property
    def way(self) -> str:
        """How it runs, for reports."""

    def run(self, tensors: Sequence[Any]) -> Sequence[Any]:
        """The graph's outputs, of tensors for its inputs."""


class _CutAgain(Exception):
    """The plan has learned something, and has other steps now."""


class Walker(ABC):
    """A model that runs in steps. Safe to call from several threads.

    What tensors are is a matter of subclasses: `make` gives a graph that takes and gives them.

    Args:
        file: the model.
        error: why it is no single graph.
        shapes: of inputs, by name, to use instead of those declared.
        weights: whether floating-point initializers are params or constants of the graphs.

    Raises:
        OnnxError: `error`, if steps do not help.
    """

    xp: Any = np  # what functions on values compute with, where they take any tensors

    def __init__(
        self, file: ModelFile, error: OnnxError, shapes: Shapes, weights: Weights = "constant"
    ) -> None:
        self.file, self.weights = file, weights
        try:
            self._set_up(error, shapes)
        except OnnxError:
            raise
        except Exception as cause:  # malformed models fail in many ways
            raise error from cause
        self._graphs: OrderedDict[Any, Runnable] = OrderedDict()
        self._bodies: dict[tuple[int, int, str], Plan] = {}
        self._arrived: dict[Any, tuple[Segment, Arrival, Runnable]] = {}  # by what came
        self._read: dict[int, tuple[onnx.TensorProto, Any]] = {}  # initializers, by identity
        self._outside: dict[int, tuple[onnx.GraphProto, tuple[str, ...]]] = {}  # likewise
        self._constants: dict[tuple[int, int], Sequence[Any]] = {}  # results, by plan and node
        self._coded = Coded(file)
        self._lock = threading.Lock()
        self._why = error
        external = sum(math.prod(t.dims) for t in file.proto.graph.initializer)
        size = file.proto.ByteSize() + 4 * external
        self.specialized = Specialized(self, self._plan, size) if self.inputs.are_numbers else None

    def _set_up(self, error: OnnxError, shapes: Shapes) -> None:
        """Cut the model into steps; raises `error` if they do not help."""
        file = self.file
        lifted = prepare(file, lambda op: rule_for(op) is not None or function_of(op) is not None)
        if any(rule_for(op) is None and function_of(op) is None for op in operators(lifted)):
            raise error
        graph = file.proto.graph
        initializers = {t.name: t for t in (*lifted.graph.initializer, *graph.initializer)}
        infos = [info for info in graph.input if info.name not in initializers]
        kinds = {info.name: is_tensor_type(info.type) for info in infos}
        self._plan = Plan(lifted.graph.node, kinds, initializers, [o.name for o in graph.output])
        shaped = all(info.type.tensor_type.HasField("shape") for info in infos)
        alone = any(isinstance(step, Single) for step in self._plan.steps)
        instead = function_of(error.operator) is not None and error.operator not in _ON_STRINGS
        if not (isinstance(error, NeedsValue) or alone or instead or not shaped):
            raise error
        self.inputs = Inputs(infos, shapes, file.source)

    def run(self, values: Sequence[Any]) -> list[Any]:
        """Every output, for the values of the inputs in the model's order."""
        special = None if self.specialized is None else self.specialized.find(values)
        return self.run_in_steps(values) if special is None else special.run(values)

    def run_in_steps(self, values: Sequence[Any]) -> list[Any]:
        """`run`, step by step."""
        given = dict(zip(self.inputs.names, values, strict=True))
        return self._run(self._plan, given, dict(self.inputs.sizes))

    def report(self) -> str:
        """How every node runs."""
        specials = [] if self.specialized is None else self.specialized.programs
        bodies, graphs = list(self._bodies.items()), list(self._graphs.items())
        return report(specials, self._plan, bodies, graphs, self._why)

    # -- what tensors are -------------------------------------------------------------------------

    @abstractmethod
    def make(self, graph: Graph) -> Runnable:
        """A segment's graph made ready to run."""

    def is_tensor(self, value: Any) -> bool:
        """Whether a value is a tensor of numbers."""
        return is_tensor(value)

    def array(self, tensor: Any) -> np.ndarray[Any, Any]:
        """The elements of a tensor of numbers."""
        return tensor  # type: ignore[no-any-return]

    def with_tensors(self, value: Any) -> Any:
        """A value with the tensors of this kind in the place of arrays of numbers."""
        return value

    def with_arrays(self, value: Any) -> Any:
        """A value with arrays in the place of tensors of this kind."""
        return value

    def initializer(self, tensor: onnx.TensorProto) -> Any:
        """The value of an initializer, of `str` objects where it holds strings."""
        found = self._read.get(id(tensor))
        if found is None:
            array = tensor_value(tensor, self.file).view()
            array.flags.writeable = False  # for it is there for all runs
            found = self._read[id(tensor)] = tensor, array
        return self.with_tensors(found[1])

    # -- steps ------------------------------------------------------------------------------------

    def _run(
        self, plan: Plan, given: Mapping[str, Any], sizes: Mapping[str, Sizes | None]
    ) -> list[Any]:
        # A plan learns so much of each node and operand; a malformed model might go to and fro.
        operands = sum(len(node.input) for node in plan.nodes)
        for _ in range(8 + 4 * (len(plan.nodes) + operands)):
            values, known = dict(given), dict(sizes)
            try:
                for step in plan.steps:
                    raise_if_stopped()
                    if isinstance(step, Single):
                        self._run_single(plan, step, values)
                    else:
                        self._run_segment(plan, step, values, known)
                    for name in step.dead:
                        values.pop(name, None)
            except _CutAgain:
                continue
            return [self._value(plan, name, values) for name in plan.results]
        raise OnnxError(f"{self.file.source}: no way was found to cut it into steps that run")

    def _value(self, plan: Plan, name: str, values: Mapping[str, Any]) -> Any:
        if name in values:
            return values[name]
        tensor = plan.initializers.get(name)
        if tensor is None:
            raise OnnxError(f"{self.file.source}: {name!r} is read but nothing before defines it")
        return self.initializer(tensor)

    def _run_segment(
        self,
        plan: Plan,
        segment: Segment,
        values: dict[str, Any],
        sizes: dict[str, Sizes | None],
    ) -> None:
        operands = {name: self._value(plan, name, values) for name in segment.reads}
        for name, value in operands.items():
            if not self.is_tensor(value):
                with self._lock:
                    plan.learn_kind(name, False)
                raise _CutAgain
        asked = segment.known | segment.sized
        what = tuple([(v.dtype, v.shape, sizes.get(n)) for n, v in operands.items()])
        elements = tuple([self.array(operands[n]).tobytes() for n in segment.reads if n in asked])
        _, given, prepared = self._arrival(plan, segment, operands, sizes, (what, elements))
        fed = [v for n, v in operands.items() if isinstance(given.operands[n], TensorType)]
        results = prepared.run([*fed, *map(self.with_tensors, given.sizes)])
        for name, y, known in zip(segment.writes, results, prepared.sizes, strict=True):
            values[name] = y
            sizes[name] = known

    def _arrival(
        self,
        plan: Plan,
        segment: Segment,
        operands: Mapping[str, Any],
        sizes: Mapping[str, Sizes | None],
        like: Any,
    ) -> tuple[Segment, Arrival, Runnable]:
        """What a segment is made for, and its graph; the same as before where `like` is."""
        key = id(segment), like
        found = self._arrived.get(key)
        if found is None:
            arrays = {name: self.array(value) for name, value in operands.items()}
            given = arrival(segment, list(arrays.values()), [sizes.get(n) for n in operands])
            found = segment, given, self._prepared(plan, segment, arrays, given)
            with self._lock:
                if len(self._arrived) >= _MAX_ARRIVED:
                    self._arrived.clear()
                self._arrived[key] = found  # with the segment, so that its identity stays its own
        return found

    def _prepared(
        self,
        plan: Plan,
        segment: Segment,
        operands: Mapping[str, Any],
        given: Arrival,
    ) -> Runnable:
        """The graph of a segment for these operands, made if it is not among those kept."""
        key = (id(plan), segment, given.key)
        with self._lock:
            found = self._graphs.get(key)
            if found is not None:
                self._graphs.move_to_end(key)
                return found
            others = sum((p, s) == (id(plan), segment) for p, s, _ in self._graphs)
            if segment.known and others >= _MANY and plan.generalise(segment):
                raise _CutAgain
        try:
            graph = import_segment(self.file, plan, segment, given, self.weights)
        except OnnxError as error:
            with self._lock:
                plan.learn(segment, error, operands)
            raise _CutAgain from None
        made = self.make(graph)
        with self._lock:
            found = self._graphs.setdefault(key, made)
            plans = [self._plan, *self._bodies.values()]
            if len(self._graphs) > _MAX_SPARE + sum(len(p.steps) for p in plans):
                self._graphs.popitem(last=False)
                self._arrived.clear()
        return found

    # -- nodes on values --------------------------------------------------------------------------

    def _run_single(self, plan: Plan, step: Single, values: dict[str, Any]) -> None:
        node = plan.nodes[step.node]
        operands = [self._value(plan, n, values) if n else None for n in node.input]
        try:
            results = self._results(plan, step, operands, values)
        except (_CutAgain, RecursionError):
            raise
        except Exception as error:  # malformed nodes fail in many ways
            what = f"{self.file.source}: node {node.name or (*node.output, '?')[0]!r}"
            raise OnnxError(f"{what} ({operator_name(node)}): {error}") from error
        values.update((n, v) for n, v in zip(node.output, results, strict=False) if n)

    def _results(
        self, plan: Plan, step: Single, operands: list[Any], values: Mapping[str, Any]
    ) -> Sequence[Any]:
        node = plan.nodes[step.node]
        operator = operator_name(node)
        function = FUNCTIONS.get(operator)
        if operator == "Constant":
            return self._constant(plan, step)
        if function is not None:

            def call(attribute: str, given: Sequence[Any]) -> list[Any]:
                return self._call(plan, step, attribute, given, values)

            if operator not in ANY_TENSORS:
                operands = [self.with_arrays(v) for v in operands]
            found = function(ValueContext(node, self.file, call, self.xp), *operands)
            results = found if isinstance(found, tuple) else (found,)
            return [self.with_tensors(y) for y in results]
        arrays = [self.with_arrays(v) for v in operands]
        if rule_for(operator) is None:
            return [self.with_tensors(y) for y in run_reference(node, arrays)]
        if all(v is None or is_tensor(v) for v in arrays):  # the plan took them for others
            with self._lock:
                for name, v in zip(node.input, operands, strict=True):
                    if v is not None:
                        plan.learn_kind(name, True)
            raise _CutAgain
        return [self.with_tensors(y) for y in self._coded.run(node, arrays)]

    def _constant(self, plan: Plan, step: Single) -> Sequence[Any]:
        """The result of a Constant of strings, which is there for all runs."""
        key = id(plan), step.node
        found = self._constants.get(key)
        if found is None:
            node = plan.nodes[step.node]
            value = FUNCTIONS["Constant"](ValueContext(node, self.file, _no_graph, self.xp))
            value.flags.writeable = False
            found = self._constants[key] = [value]
        return found

    def _call(
        self,
        plan: Plan,
        step: Single,
        attribute: str,
        given: Sequence[Any],
        values: Mapping[str, Any],
    ) -> list[Any]:
        """Run the graph that a node holds on values for its inputs."""
        node = plan.nodes[step.node]
        body: onnx.GraphProto = next(a.g for a in node.attribute if a.name == attribute)
        formal = [i.name for i in body.input]
        if len(formal) != len(given):
            raise OnnxError(
                f"its graph {body.name!r} takes {len(formal)} inputs, but gets {len(given)}"
            )
        known = dict(zip(formal, map(self.with_tensors, given), strict=True))
        read = self._outside.get(id(body))
        if read is None:
            read = self._outside[id(body)] = body, outside(body)
        known.update((name, values[name]) for name in read[1] if name in values)
        key = (id(plan), step.node, attribute)
        with self._lock:
            inner = self._bodies.get(key)
            if inner is None:
                inner = self._bodies[key] = Plan(
                    body.node,
                    {name: self.is_tensor(value) for name, value in known.items()},
                    {**plan.initializers, **{t.name: t for t in body.initializer}},
                    [o.name for o in body.output],
                )
        return self._run(inner, known, {})


def _no_graph(attribute: str, given: Sequence[Any]) -> list[Any]:
    raise OnnxError(f"no graph {attribute!r}")
