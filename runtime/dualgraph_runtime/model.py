"""What a session says of its model, under ONNX Runtime's names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.dims import Dim, DimLike
from dualgraph_compiler.dtypes import BY_ONNX, DType
from dualgraph_compiler.types import TensorType

if TYPE_CHECKING:
    import onnx

    from dualgraph_compiler.graph import Graph, Value


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output: `type` as in ``tensor(float)``; a size is an int, a name or None."""

    name: str
    type: str
    shape: list[int | str | None]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model file says about itself."""

    producer_name: str
    graph_name: str
    domain: str
    description: str
    graph_description: str
    version: int
    custom_metadata_map: dict[str, str]


@dataclass(frozen=True, slots=True)
class Model:
    """Inputs and outputs of a model as its file declares them.

    `types` are those of the inputs, by name; `overridable` are the initializers that a run may be
    fed other contents for. `shared` says of each output whether it may be an
    input or a constant, rather than new memory.
    """

    inputs: list[NodeArg]
    outputs: list[NodeArg]
    meta: ModelMetadata
    types: dict[str, TensorType]
    shared: list[bool]
    overridable: list[NodeArg]


def describe(proto: onnx.ModelProto, graph: Graph) -> Model:
    """A model as its file declares it, and as the graph made from it has it."""
    names = [v.name for v in graph.inputs]
    return Model(
        inputs=_arguments(proto.graph.input, graph.inputs, names),
        outputs=_arguments(proto.graph.output, graph.outputs, graph.output_names),
        meta=metadata(proto),
        types={v.name: v.type for v in graph.inputs},
        shared=[v.node is None for v in graph.outputs],
        overridable=overridable(proto),
    )


def overridable(proto: onnx.ModelProto) -> list[NodeArg]:
    """Initializers that are inputs as well; before IR 4 all were, and none could be replaced."""
    if proto.ir_version < 4:
        return []
    initializers = {t.name: t for t in proto.graph.initializer}
    found = [initializers[i.name] for i in proto.graph.input if i.name in initializers]
    return [NodeArg(t.name, type_name(BY_ONNX[t.data_type]), list(t.dims)) for t in found]


def _arguments(
    infos: Sequence[onnx.ValueInfoProto], values: Sequence[Value], names: Sequence[str]
) -> list[NodeArg]:
    """Inputs or outputs with sizes as the model declares them, else as inferred."""
    declared = {info.name: info.type.tensor_type for info in infos}
    described = []
    for name, value in zip(names, values, strict=True):
        tensor = declared[name]
        shape: list[int | str | None] = [_size(d) for d in value.shape]
        if tensor.HasField("shape") and len(tensor.shape.dim) == len(shape):
            shape = [
                _declared_size(d, size) for d, size in zip(tensor.shape.dim, shape, strict=True)
            ]
        described.append(NodeArg(name, type_name(value.dtype), shape))
    return described


def _size(dim: DimLike) -> int | str:
    return str(dim) if isinstance(dim, Dim) else dim


def _declared_size(dim: Any, inferred: int | str | None) -> int | str | None:
    if isinstance(inferred, int):
        return inferred
    return dim.dim_param or None


def type_name(dtype: DType) -> str:
    """ONNX Runtime's name of a tensor type: ``tensor(float)``."""
    return f"tensor({dtype.onnx_name})"


def metadata(model: onnx.ModelProto) -> ModelMetadata:
    """What a model file says about itself."""
    return ModelMetadata(
        producer_name=model.producer_name,
        graph_name=model.graph.name,
        domain=model.domain,
        description=model.doc_string,
        graph_description=model.graph.doc_string,
        version=model.model_version,
        custom_metadata_map={p.key: p.value for p in model.metadata_props},
    )
