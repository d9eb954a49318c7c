"""``dg.onnx.export``: trace, write, check."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dualgraph_compiler.compile import optimize
from dualgraph_compiler.errors import ArgumentError

from .. import __version__
from ..tracing.trace import trace


def export(
    model: Callable[..., Any],
    args: Any,
    f: str | os.PathLike[str] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_shapes: Any = None,
    opset_version: int = 21,
    external_data: bool = False,
    check: bool = True,
) -> Any:
    """Write `model` as ONNX; returns the ``onnx.ModelProto``.

    Args:
        model: a module (exported in evaluation mode, its own mode restored) or a function.
        args: example arguments: a tuple, or one tensor.
        f: the path to write; None only returns the model. An existing file is replaced at once or
            not at all.
        kwargs: example keyword arguments.
        input_names, output_names: names in the file; default the parameters' names and ``output``.
        dynamic_shapes: dimensions that may vary, as for ``dg.trace``: ``{"x": {0: "batch"}}``.
        opset_version: the version of ai.onnx.
        external_data: put weights in a file beside the model.
        check: run ``onnx.checker`` with full shape inference.

    Raises:
        OnnxError: an operation has no ONNX form at this opset.
        TraceError: the model cannot be captured.
    """
    from dualgraph_compiler.onnx import export_graph, save_model

    if not isinstance(args, tuple):
        args = (args,)
    with _evaluating(model):
        graph = trace(model, *args, dynamic_shapes=dynamic_shapes, **(kwargs or {}))
    _rename(graph.inputs, input_names, "input")
    if output_names is not None:
        if len(output_names) != len(graph.outputs):
            raise ArgumentError(
                f"output_names has {len(output_names)} names; the model has "
                f"{len(graph.outputs)} outputs"
            )
        graph.output_names = list(output_names)
    proto = export_graph(
        optimize(graph, numerics="strict"), opset=opset_version, producer_version=__version__
    )
    if check:
        import onnx

        onnx.checker.check_model(proto, full_check=True)
    if f is not None:
        save_model(proto, f, external_data=external_data)
    return proto


def _rename(values: Sequence[Any], names: Sequence[str] | None, what: str) -> None:
    if names is None:
        return
    if len(names) != len(values):
        raise ArgumentError(
            f"{what}_names has {len(names)} names; the model has {len(values)} {what}s"
        )
    for v, name in zip(values, names, strict=True):
        v.name = name


@contextlib.contextmanager
def _evaluating(model: Any) -> Any:
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
