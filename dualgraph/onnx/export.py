"""``dg.onnx.export``: trace, write, check, verify."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dualgraph_compiler.compile import optimize
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.graph import Graph

from .. import __version__
from .._tensor import Tensor
from ..tracing import tree
from ..tracing.binding import bind
from ..tracing.trace import trace
from .loaded import LoadedModule
from .module import GraphModule
from .verify import check_model, refuse_random, verify_model


def export(
    model: Callable[..., Any],
    args: Any = (),
    f: str | os.PathLike[str] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_shapes: Any = None,
    dynamic_axes: Mapping[str, Mapping[int, str] | Sequence[int]] | None = None,
    opset_version: int | None = None,
    export_params: bool = True,
    do_constant_folding: bool = True,
    optimized: bool = False,
    external_data: bool = False,
    metadata: Mapping[str, str] | None = None,
    check: bool = True,
    verify: bool = True,
    verbose: bool = False,
) -> Any:
    """Write `model` as ONNX; returns the ``onnx.ModelProto``. The same model gives the same bytes.

    Args:
        model: a module (exported in evaluation mode, its own mode restored) or a function.
        args: example arguments: a tuple, or one tensor.
        f: the path to write; None only returns the model. An existing file is replaced at once or
            not at all.
        kwargs: example keyword arguments.
        input_names, output_names: names in the file; default the parameters' names and ``output``,
            or those that a loaded module had in its file.
        dynamic_shapes: dimensions that may vary, as for ``dg.trace``: ``{"x": {0: "batch"}}``;
            default none, or those of a loaded module's file.
        dynamic_axes: the same by the names of inputs, as in PyTorch: ``{"input": {0: "batch"}}`` or
            ``{"input": [0]}``. Those of outputs follow from the inputs'.
        opset_version: the version of ai.onnx, 13 to 28; default 21.
        export_params: False: the parameters are inputs of the model, after the others.
        do_constant_folding: whether what depends on constants only is computed now.
        optimized: write what an optimising runtime would run: parameters are constants that are
            computed with (batch norm goes into convolutions), and pointwise nodes that one kernel
            computes are one call of a function that the file defines in standard operators.
        external_data: put weights in a file beside the model, as is done above 2 GB in any case.
        metadata: the file's ``metadata_props``.
        check: run ``onnx.checker`` with full shape inference.
        verify: run what was written on the example arguments, and compare with the trace.
        verbose: print the graph.

    Raises:
        OnnxError: an operation has no ONNX form at this opset, or what was written fails the check
            or the comparison.
        TraceError: the model cannot be captured.

    Source: ``torch.onnx.export``.
    """
    from dualgraph_compiler.onnx import DEFAULT_OPSET, export_graph, save_model

    if not isinstance(args, tuple):
        args = (args,)
    kwargs = dict(kwargs or {})
    if isinstance(model, LoadedModule) and not isinstance(model, GraphModule):
        from .stepped import SteppedModule, export_stepped

        assert isinstance(model, SteppedModule)
        wishes = {
            "kwargs": kwargs,
            "input_names": input_names,
            "output_names": output_names,
            "dynamic_shapes": dynamic_shapes,
            "dynamic_axes": dynamic_axes,
            "opset_version": opset_version,
            "export_params=False": not export_params,
            "optimized": optimized,
            "metadata": metadata,
        }
        with evaluating(model):
            proto = export_stepped(model, args if verify else None, wishes)
        if check:
            check_model(proto)
        if f is not None:
            save_model(proto, f, external_data=external_data)
        return proto
    if dynamic_axes:
        if dynamic_shapes is not None:
            raise ArgumentError("expected dynamic_shapes or dynamic_axes, got both")
        dynamic_shapes = _by_parameter(model, args, kwargs, input_names, dynamic_axes)
    if isinstance(model, GraphModule):
        input_names = input_names or model.input_names
        output_names = output_names or model.output_names
        dynamic_shapes = model.dynamic_shapes if dynamic_shapes is None else dynamic_shapes
    with evaluating(model):
        graph = trace(model, *args, dynamic_shapes=dynamic_shapes, **kwargs)
    refuse_random(graph)
    rename(graph, input_names, output_names)
    written = graph
    if optimized:
        written = optimize(graph, freeze=export_params)
    elif do_constant_folding:
        written = optimize(graph, numerics="strict")
    if verbose:
        print(written)
    proto = export_graph(
        written,
        opset=DEFAULT_OPSET if opset_version is None else opset_version,
        producer_version=__version__,
        metadata=metadata,
        fed=() if export_params else [v.name for v in written.params],
        defaults=False,
        functions=optimized,
    )
    if check:
        check_model(proto)
    if verify:
        verify_model(proto, graph, example_arrays(model, args, kwargs))
    if f is not None:
        save_model(proto, f, external_data=external_data)
    return proto


def example_arrays(model: Any, args: Any, kwargs: Mapping[str, Any]) -> list[Any]:
    """The arrays of the tensors among the arguments, in the order of the graph's inputs."""
    return [leaf._data for _, leaf in _tensors(model, args, kwargs)]


def _tensors(model: Any, args: Any, kwargs: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """The tensors among the arguments, under the names of their parameters."""
    return [
        (key, leaf)
        for key, value in bind(model, args, kwargs).items()
        for _, leaf in tree.flatten(value, key)
        if isinstance(leaf, Tensor)
    ]


def _by_parameter(
    model: Any,
    args: Any,
    kwargs: Mapping[str, Any],
    input_names: Sequence[str] | None,
    axes: Mapping[str, Mapping[int, str] | Sequence[int]],
) -> dict[str, list[dict[int, str]]]:
    """`dynamic_axes` in the form of `dynamic_shapes`: by parameter, for each tensor under it."""
    tensors = _tensors(model, args, kwargs)
    paths = [
        path
        for key, value in bind(model, args, kwargs).items()
        for path, leaf in tree.flatten(value, key)
        if isinstance(leaf, Tensor)
    ]
    names = list(input_names or paths)
    out: dict[str, list[dict[int, str]]] = {}
    for (key, t), name in zip(tensors, names, strict=False):
        found = axes.get(name, {})
        if not isinstance(found, Mapping):  # only which ones: each has a size of its own
            found = {axis: f"{name}_dynamic_axes_{i + 1}" for i, axis in enumerate(found)}
        out.setdefault(key, []).append({axis % max(t.ndim, 1): d for axis, d in found.items()})
    return {key: spec for key, spec in out.items() if any(spec)}


def rename(
    graph: Graph, input_names: Sequence[str] | None, output_names: Sequence[str] | None
) -> None:
    """Give inputs and outputs the names that are asked for.

    Raises:
        ArgumentError: there are more or fewer of them.
    """
    for names, count, what in (
        (input_names, len(graph.inputs), "input"),
        (output_names, len(graph.outputs), "output"),
    ):
        if names is not None and len(names) != count:
            raise ArgumentError(
                f"{what}_names has {len(names)} names; the model has {count} {what}s"
            )
    for v, name in zip(graph.inputs, input_names or (), strict=False):
        v.name = name
    if output_names is not None:
        graph.output_names = list(output_names)


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode inside, each module's own mode restored after."""
    modules = list(model.modules()) if hasattr(model, "modules") else []
    modes = [m.training for m in modules]
    try:
        for m in modules:
            m.training = False
        yield
    finally:
        for m, mode in zip(modules, modes, strict=True):
            m.training = mode
