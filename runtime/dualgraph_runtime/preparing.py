"""A model file made into the graph that a session's options ask for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.dims import DimLike

from .memory import usable_memory
from .options import GraphOptimizationLevel, SessionOptions

if TYPE_CHECKING:
    from dualgraph_compiler.graph import Graph
    from dualgraph_compiler.onnx import ModelFile
    from dualgraph_compiler.onnx.load import ModelSource


def read(source: ModelSource, options: SessionOptions) -> ModelFile:
    """The model, with the contents of initializers that the options give."""
    from dualgraph_compiler.onnx import load_model

    file = load_model(source)
    if options.initializers:
        file.replace_initializers({n: v.numpy() for n, v in options.initializers.items()})
    return file


def read_with_inputs(source: ModelSource, names: Collection[str]) -> ModelFile:
    """The model with these initializers turned into inputs that must be fed."""
    import onnx

    from dualgraph_compiler.onnx import ModelFile, load_model

    file = load_model(source)
    if isinstance(source, onnx.ModelProto | ModelFile):  # somebody else's
        copy = onnx.ModelProto()
        copy.CopyFrom(file.proto)
        file = file.with_proto(copy)
    initializers = file.proto.graph.initializer
    for i in reversed(range(len(initializers))):
        if initializers[i].name in names:
            del initializers[i]
    return file


def fixed_shapes(file: ModelFile, options: SessionOptions) -> dict[str, list[DimLike | str]]:
    """Shapes of the inputs with some symbolic sizes replaced, for those inputs that have any."""
    by_name, by_denotation = options.free_dimensions, options.free_denotations
    shapes: dict[str, list[DimLike | str]] = {}
    for info in file.proto.graph.input if by_name or by_denotation else ():
        dims = info.type.tensor_type.shape.dim
        fixed = [_fixed(d, by_name, by_denotation) for d in dims]
        if any(size is not None for size in fixed):
            shapes[info.name] = [
                _as_declared(info.name, i, d) if size is None else size
                for i, (d, size) in enumerate(zip(dims, fixed, strict=True))
            ]
    return shapes


def _fixed(dim: Any, by_name: Mapping[str, int], by_denotation: Mapping[str, int]) -> int | None:
    if dim.HasField("dim_value"):
        return None
    found = by_name.get(dim.dim_param) if dim.dim_param else None
    return by_denotation.get(dim.denotation) if found is None and dim.denotation else found


def _as_declared(name: str, axis: int, dim: Any) -> DimLike | str:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return str(dim.dim_param) or f"{name}_{axis}"


def optimized(graph: Graph, options: SessionOptions) -> Graph:
    """The graph as the options want it to run, which is written where they say so.

    Raises:
        OutOfMemory: a run would need more memory than there is.
    """
    from dualgraph_compiler.graph.footprint import require_fits

    level = options.graph_optimization_level
    if level > GraphOptimizationLevel.ORT_DISABLE_ALL:
        from dualgraph_compiler.compile import optimize

        exact = level == GraphOptimizationLevel.ORT_ENABLE_BASIC
        graph = optimize(graph, numerics="strict" if exact else "standard")
    require_fits(list(graph.nodes), graph.outputs, {}, usable_memory())
    if options.optimized_model_filepath:
        from dualgraph_compiler.onnx import export_graph, save_model

        save_model(export_graph(graph), options.optimized_model_filepath)
    return graph
