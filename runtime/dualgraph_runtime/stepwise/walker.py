"""Carries out the steps of a plan."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.errors import NeedsValue, OnnxError
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.onnx.importer import rule_for
from dualgraph_compiler.onnx.lift import operator_name, operators, prepare
from dualgraph_compiler.onnx.stepwise import (
    Arrival,
    Plan,
    Segment,
    Single,
    arrival,
    import_segment,
)
from dualgraph_compiler.onnx.stepwise.kinds import is_tensor_type, string_results
from dualgraph_compiler.onnx.stepwise.names import outside
from dualgraph_compiler.onnx.stepwise.segment import Sizes, import_on
from dualgraph_compiler.onnx.values import (
    FUNCTIONS,
    ValueContext,
    function_of,
    is_tensor,
    tensor_value,
)
from dualgraph_compiler.onnx.values.reference import run_reference
from dualgraph_compiler.stopping import raise_if_stopped
from dualgraph_compiler.types import TensorType

from ..device import Device
from ..model import Model, metadata, overridable
from ..options import Execution, SessionOptions
from ..preparing import fixed_shapes
from .declared import Inputs, argument
from .prepared import Prepared
from .report import report

if TYPE_CHECKING:
    import onnx

    from dualgraph_compiler.onnx import ModelFile

_MANY = 4  # graphs of a segment that differ in contents, before it gets one for all
_MAX_SPARE = 64  # graphs kept besides one for each step: types, sizes, contents are the callers'
# Their functions are for operands that are no tensors of numbers, not for what rules refuse.
_ON_STRINGS = ("Identity", "Constant", "Cast", "CastLike")


class _CutAgain(Exception):
    """The plan has learned something, and has other steps now."""


class Steps:
    """A model that runs in steps. Safe to call from several threads.

    Args:
        file: the model.
        error: why it is no single graph.

    Raises:
        OnnxError: `error`, if steps do not help.
    """

    def __init__(
        self,
        file: ModelFile,
        error: OnnxError,
        options: SessionOptions,
        device: Device,
        execution: Execution,
    ) -> None:
        self._file, self._options, self._device = file, options, device
        self._execution: Execution = execution
        try:
            self._set_up(error)
        except OnnxError:
            raise
        except Exception as cause:  # malformed models fail in many ways
            raise error from cause
        self._graphs: OrderedDict[Any, Prepared] = OrderedDict()
        self._bodies: dict[tuple[int, int, str], Plan] = {}
        self._lock = threading.Lock()
        self._why = error

    def _set_up(self, error: OnnxError) -> None:
        """Cut the model into steps; raises `error` if they do not help."""
        file, options = self._file, self._options
        lifted = prepare(file, lambda op: rule_for(op) is not None or function_of(op) is not None)
        unknown = any(rule_for(op) is None and function_of(op) is None for op in operators(lifted))
        if unknown or options.optimized_model_filepath:  # which is for a single graph
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
        fixed = fixed_shapes(file, options)
        self._inputs = Inputs(infos, fixed, file.source)
        self.model = Model(
            inputs=[argument(info, fixed) for info in infos],
            outputs=[argument(info, fixed) for info in graph.output],
            meta=metadata(file.proto),
            types={},
            shared=[],
            overridable=overridable(file.proto),
        )

    def feeds(self, feed: Mapping[str, Any]) -> list[Any]:
        """The values of a feed, in the order of the inputs.

        Raises:
                FeedError: other names, or one of another kind, element type, rank or size.
        """
        return self._inputs.values(feed)

    def run(self, values: Sequence[Any]) -> list[Any]:
        """Every output; tensors are arrays of the caller's own."""
        given = dict(zip(self._inputs.names, values, strict=True))
        found = self._run(self._plan, given, dict(self._inputs.sizes))
        return [_own(value) for value in found]

    def trim(self) -> None:
        """Give back the memory that runs keep for intermediate values."""
        for prepared in list(self._graphs.values()):
            prepared.trim()

    def report(self) -> str:
        """How every node runs."""
        return report(self._plan, list(self._bodies.items()), list(self._graphs.items()), self._why)

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
        raise OnnxError(f"{self._file.source}: no way was found to cut it into steps that run")

    def _value(self, plan: Plan, name: str, values: Mapping[str, Any]) -> Any:
        if name in values:
            return values[name]
        tensor = plan.initializers.get(name)
        if tensor is None:
            raise OnnxError(f"{self._file.source}: {name!r} is read but nothing before defines it")
        return tensor_value(tensor, self._file)

    def _run_segment(
        self,
        plan: Plan,
        segment: Segment,
        values: dict[str, Any],
        sizes: dict[str, Sizes | None],
    ) -> None:
        operands = {name: self._value(plan, name, values) for name in segment.reads}
        for name, value in operands.items():
            if not is_tensor(value):
                with self._lock:
                    plan.learn_kind(name, False)
                raise _CutAgain
        given = arrival(segment, list(operands.values()), [sizes.get(n) for n in operands])
        prepared = self._prepared(plan, segment, operands, given)
        fed = [v for n, v in operands.items() if isinstance(given.operands[n], TensorType)]
        results = prepared.run([*fed, *given.sizes])
        for name, y, known in zip(segment.writes, results, prepared.sizes, strict=True):
            values[name] = y
            sizes[name] = known

    def _prepared(
        self,
        plan: Plan,
        segment: Segment,
        operands: Mapping[str, Any],
        given: Arrival,
    ) -> Prepared:
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
            graph = import_segment(self._file, plan, segment, given)
        except OnnxError as error:
            with self._lock:
                plan.learn(segment, error, operands)
            raise _CutAgain from None
        made = Prepared(graph, self._options, self._device, self._execution)
        with self._lock:
            found = self._graphs.setdefault(key, made)
            plans = [self._plan, *self._bodies.values()]
            if len(self._graphs) > _MAX_SPARE + sum(len(p.steps) for p in plans):
                self._graphs.popitem(last=False)
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
            what = f"{self._file.source}: node {node.name or (*node.output, '?')[0]!r}"
            raise OnnxError(f"{what} ({operator_name(node)}): {error}") from error
        values.update((n, v) for n, v in zip(node.output, results, strict=False) if n)

    def _results(
        self, plan: Plan, step: Single, operands: list[Any], values: Mapping[str, Any]
    ) -> Sequence[Any]:
        node = plan.nodes[step.node]
        operator = operator_name(node)
        function = FUNCTIONS.get(operator)
        if function is not None:

            def call(attribute: str, given: Sequence[Any]) -> list[Any]:
                return self._call(plan, step, attribute, given, values)

            found = function(ValueContext(node, self._file, call), *operands)
            return found if isinstance(found, tuple) else (found,)
        if rule_for(operator) is None:
            return run_reference(node, operands)
        if all(v is None or is_tensor(v) for v in operands):  # the plan took them for others
            with self._lock:
                for name, v in zip(node.input, operands, strict=True):
                    if v is not None:
                        plan.learn_kind(name, True)
            raise _CutAgain
        return _on_codes(self._file, node, operands)

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
        known = dict(zip(formal, given, strict=True))
        for name in outside(body):
            if name in values:
                known[name] = values[name]
        key = (id(plan), step.node, attribute)
        with self._lock:
            inner = self._bodies.get(key)
            if inner is None:
                inner = self._bodies[key] = Plan(
                    body.node,
                    {name: is_tensor(value) for name, value in known.items()},
                    {**plan.initializers, **{t.name: t for t in body.initializer}},
                    [o.name for o in body.output],
                )
        return self._run(inner, known, {})


def _on_codes(file: ModelFile, node: onnx.NodeProto, operands: Sequence[Any]) -> list[Any]:
    """A node that moves or compares strings, carried out on their numbers in sorted order."""
    texts = {i: v for i, v in enumerate(operands) if v is not None and not is_tensor(v)}
    if not all(isinstance(v, np.ndarray) for v in texts.values()):
        raise OnnxError("expected tensors")
    words = sorted({"", *(s for v in texts.values() for s in v.flat)})
    codes = {word: i for i, word in enumerate(words)}
    arrays = {
        name: np.array([codes[s] for s in v.flat], np.int64).reshape(v.shape) if i in texts else v
        for i, (name, v) in enumerate(zip(node.input, operands, strict=True))
        if v is not None
    }
    graph = import_on(file, node, arrays)
    found = interpret(graph, [])
    table = np.array(words, dtype=object)
    strings = string_results(node, dict.fromkeys(texts, True))
    return [table[y] if s else y for y, s in zip(found, strings, strict=False)]


def _own(value: Any) -> Any:
    """A result that is the caller's alone."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [_own(v) for v in value]
    return value
