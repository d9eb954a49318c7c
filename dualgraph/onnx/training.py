"""``dg.onnx.export_training_step``: forward, backward and update as one plain ONNX model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.compile import optimize
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.graph import Graph

from .. import __version__
from ..tracing import tree
from ..tracing.compiled import CompiledFunction
from ..tracing.outputs import OutputIndex
from ..tracing.replay import Call, Number
from ..tracing.trace import trace_call
from ..tracing.traced import Traced, labelled
from .export import example_arrays, rename
from .verify import check_model, verify_model

if TYPE_CHECKING:
    import onnx

_FIRST = "first"  # the number that is 1 in a parameter's first step, 0 in all later ones


@dataclass(frozen=True)
class TrainingStep:
    """An exported step.

    `model` is the ONNX model. `state` holds what its state inputs start from, `updates` the output
    that gives each its next value. State without an update (a learning rate) stays as it is until
    one feeds something else.
    """

    model: onnx.ModelProto
    state: dict[str, Any]
    updates: dict[str, str]

    def next(self, state: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
        """The state after a run that was fed `state` and gave `outputs`, by name."""
        return {**state, **{name: outputs[new] for name, new in self.updates.items()}}


def export_training_step(
    step: Callable[..., Any],
    args: Any,
    f: str | os.PathLike[str] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_shapes: Any = None,
    opset_version: int | None = None,
    external_data: bool = False,
    metadata: Mapping[str, str] | None = None,
    check: bool = True,
    verify: bool = True,
) -> TrainingStep:
    """Write a whole training step as ONNX: any runtime can then train.

    The step is a function such as is given to ``dg.compile``: it computes a loss, calls
    ``backward()`` and ``optimizer.step()``. It is traced, not run. What it reads and writes besides
    its arguments (parameters, buffers, optimizer state, the random generator) are inputs of the
    model, whose initial values are in the file: the first run need not feed them. Their new values
    are outputs. Numbers that a schedule changes, such as ``lr``, are inputs, too; what schedulers
    do is left to the caller.

    Args:
        step: the function, or what ``dg.compile`` made of it.
        args, kwargs, dynamic_shapes: example arguments and sizes that vary, as for :func:`export`.
        f: the path to write; None writes none.
        input_names, output_names: names for the arguments and for the step's own results.
        opset_version, external_data, metadata, check, verify: as for :func:`export`.

    Raises:
        OnnxError: an operation has no ONNX form at this opset, or the result fails a check.
        TraceError: the step cannot be captured.
        ArgumentError: it keeps tensors elsewhere, as attributes that are assigned.
    """
    from dualgraph_compiler.onnx import DEFAULT_OPSET, export_graph, save_model

    if not isinstance(args, tuple):
        args = (args,)
    kwargs = dict(kwargs or {})
    function = step._function if isinstance(step, CompiledFunction) else step
    traced = trace_call(function, args, kwargs, dynamic_shapes=dynamic_shapes)
    graph, state, updates = _with_state(traced, output_names)
    rename(graph, input_names, None)
    written = optimize(graph, numerics="strict")
    proto = export_graph(
        written,
        opset=DEFAULT_OPSET if opset_version is None else opset_version,
        producer_version=__version__,
        metadata={**(metadata or {}), **{f"dualgraph.state.{k}": v for k, v in updates.items()}},
        fed=list(state),
    )
    if check:
        check_model(proto)
    if verify:
        arrays = example_arrays(function, args, kwargs)
        verify_model(proto, graph, arrays, what="the exported step")
    if f is not None:
        save_model(proto, f, external_data=external_data)
    return TrainingStep(proto, state, updates)


def _with_state(
    traced: Traced, output_names: Sequence[str] | None
) -> tuple[Graph, dict[str, Any], dict[str, str]]:
    """The graph of a step with what a run needs, its state now, and what that becomes."""
    for change in traced.changes:
        if any(isinstance(leaf, OutputIndex) for _, leaf in labelled(change.what)):
            raise ArgumentError(
                f"the step assigns a tensor to {change.place.name}, and a file has no place for "
                "it; write into a buffer in place instead"
            )
    graph = traced.graph
    names = {id(read): v.name for v, read in zip(graph.params, traced.reads, strict=True)}
    call = Call([])
    for number in traced.capture.replay:
        if isinstance(number, Number):
            number.run(call)
    state = {
        v.name: np.array(_host(call.resolve(read)._data))
        for v, read in zip(graph.params, traced.reads, strict=True)
    }
    for v in graph.params:
        v.data = state[v.name]
    results = [x for x in _leaves(traced.result) if isinstance(x, OutputIndex)]
    kept = [(graph.output_names[x.index], graph.outputs[x.index]) for x in results]
    if output_names is not None:
        if len(output_names) != len(kept):
            raise ArgumentError(
                f"output_names has {len(output_names)} names; the step has {len(kept)} results"
            )
        kept = [(name, v) for name, (_, v) in zip(output_names, kept, strict=True)]
    updates: dict[str, str] = {}
    for holder, index in [(h, i) for h, i, _ in traced.writes] + list(traced.slot_writes):
        name = graph.inputs[holder].name if isinstance(holder, int) else names.get(id(holder))
        if name is not None:
            kept.append((f"{name}.new", graph.outputs[index]))
            if not isinstance(holder, int):
                updates[name] = f"{name}.new"
    for name in state:
        if name.split("_")[0].rstrip("0123456789") == _FIRST:
            updates[name] = f"{name}.new"
            kept.append((updates[name], graph.constant(np.zeros((), np.float64))))
    graph.set_outputs([v for _, v in kept], [name for name, _ in kept])
    return graph, state, updates


def _host(array: Any) -> Any:
    return array.get() if hasattr(array, "get") else array


def _leaves(result: Any) -> list[Any]:
    return [leaf for _, leaf in tree.flatten(result)]
