"""ONNX models made into others that compute the same: newer, in half precision, weights inside.

What works on the file as it is, operator by operator, as opposed to import and export.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dtypes import DType
from ..errors import OnnxError
from .lift import all_nodes, operator_name, opset_of
from .load import ModelFile
from .save import without_initializers

if TYPE_CHECKING:
    import onnx


def with_weights(file: ModelFile, proto: onnx.ModelProto | None = None) -> onnx.ModelProto:
    """A copy of a model (or of `proto`, from the same place) with all of its data inside.

    Initializers that were replaced have their new contents.
    """
    from onnx import numpy_helper

    model = proto if proto is not None else file.proto
    out = without_initializers(model)
    for tensor in model.graph.initializer:
        if tensor.data_location == tensor.EXTERNAL or file.is_replaced(tensor):
            array = file.initializer(tensor)
            out.graph.initializer.append(numpy_helper.from_array(array, tensor.name))
        else:
            out.graph.initializer.append(tensor)
    return out


def to_opset(file: ModelFile, opset: int) -> onnx.ModelProto:
    """The model at a newer version of the standard operator set, by ONNX's own converter.

    Raises:
        OnnxError: the version is older than the model's, or unknown; or the converter gives up.
    """
    import onnx
    from onnx import version_converter

    from .wellformed import check_model

    check_model(file)
    model = file.proto
    have, newest = opset_of(model), onnx.defs.onnx_opset_version()
    if not have <= opset <= newest:
        raise OnnxError(f"{file.source} has opset {have}; expected a target from that to {newest}")
    if opset == have:
        return with_weights(file)
    whole = with_weights(file)
    try:
        made = version_converter.convert_version(whole, opset)
    except Exception as error:  # the converter has exceptions of its own
        raise OnnxError(
            f"{file.source}: cannot be brought from opset {have} to {opset}: {error}"
        ) from error
    opsets = list(made.opset_import)
    made.ir_version = max(
        made.ir_version, onnx.helper.find_min_ir_version_for(opsets, ignore_unknown=True)
    )
    return made


def to_half(file: ModelFile, dtype: DType, keep: Collection[str] = ()) -> onnx.ModelProto:
    """The model with float32 weights and values in `dtype`, float16 or bfloat16.

    Inputs and outputs stay float32, and so do nodes that `keep` names (by their own name, or by
    operator) and those whose operator does not take the dtype; casts stand between.

    Raises:
        OnnxError: nodes with graphs of their own, functions, or a name in `keep` that is none.
    """
    if file.proto.functions or any(
        a.HasField("g") or a.graphs for n in all_nodes(file.proto.graph) for a in n.attribute
    ):
        raise OnnxError(f"{file.source}: functions and control flow are not brought to {dtype}")
    names = {n.name for n in file.proto.graph.node} | {
        operator_name(n) for n in file.proto.graph.node
    }
    unknown = [k for k in keep if k not in names]
    if unknown:
        raise OnnxError(f"{file.source} has no node or operator {', '.join(map(repr, unknown))}")
    return _Halver(with_weights(file), dtype, keep).convert()


_FLOAT = 1


class _Halver:
    """Converts one model, without changing it."""

    def __init__(self, model: onnx.ModelProto, dtype: DType, keep: Collection[str]) -> None:
        from onnx import shape_inference

        self._model = model
        self._dtype = dtype
        self._keep = set(keep)
        self._type = f"tensor({dtype.name})"
        self._opset = opset_of(model)
        inferred = shape_inference.infer_shapes(model).graph
        self._types = {
            i.name: i.type.tensor_type.elem_type
            for i in (*inferred.value_info, *inferred.input, *inferred.output)
        }
        self._types.update((t.name, t.data_type) for t in model.graph.initializer)
        self._weights = {t.name: t for t in model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._made: dict[tuple[str, bool], str] = {}  # a value and whether in half: its name
        self._tensors: dict[str, onnx.TensorProto] = {}

    def convert(self) -> onnx.ModelProto:
        graph = self._model.graph
        for info in graph.input:
            if info.name not in self._weights:
                self._made[info.name, False] = info.name
        for node in graph.node:
            self._node(node)
        outputs = {o.name for o in graph.output}
        for name in outputs:
            self._wanted(name, False)
        out = without_initializers(self._model)
        del out.graph.node[:], out.graph.value_info[:]
        out.graph.node.extend(self._nodes)
        out.graph.initializer.extend(self._tensors.values())
        return out

    def _is_float(self, name: str) -> bool:
        return self._types.get(name) == _FLOAT

    def _node(self, node: onnx.NodeProto) -> None:
        import onnx

        made = onnx.NodeProto()
        made.CopyFrom(node)
        half = self._in_half(node)
        for i, name in enumerate(node.input):
            if name:
                wanted = half and self._is_float(name) and self._takes(node, i)
                made.input[i] = self._wanted(name, wanted)
        public = {o.name for o in self._model.graph.output}
        for i, name in enumerate(node.output):
            if not name:
                continue
            is_half = half and self._is_float(name)
            # The plain name belongs to whoever asked for float32: an output of the graph.
            made.output[i] = f"{name}/{self._dtype.name}" if is_half and name in public else name
            self._made[name, is_half] = made.output[i]
            if not self._is_float(name):
                self._made[name, False] = made.output[i]
        if half:
            self._attributes(made)
        self._nodes.append(made)

    def _attributes(self, node: onnx.NodeProto) -> None:
        """Element types and constants that attributes state."""
        for a in node.attribute:
            if node.op_type == "Cast" and a.name == "to" and a.i == _FLOAT:
                a.i = self._dtype.onnx
            elif a.type == a.TENSOR and a.t.data_type == _FLOAT:
                a.t.CopyFrom(self._lowered(a.t, a.t.name))

    def _in_half(self, node: onnx.NodeProto) -> bool:
        """Whether a node computes in half precision."""
        schema = _schema(node, self._opset)
        if schema is None or {node.name, operator_name(node)} & self._keep:
            return False
        if node.op_type in _STATES_FLOAT:
            return False
        results = [
            self._type in _parameter(schema.outputs, i).types
            for i, name in enumerate(node.output)
            if name and self._is_float(name)
        ]
        variables = {
            _parameter(schema.outputs, i).type_str
            for i, name in enumerate(node.output)
            if name and self._is_float(name)
        }
        operands = [
            self._takes(node, i)
            for i, name in enumerate(node.input)
            if name
            and self._is_float(name)
            and (not variables or _parameter(schema.inputs, i).type_str in variables)
        ]
        return all(results) and all(operands)

    def _takes(self, node: onnx.NodeProto, i: int) -> bool:
        return self._type in _parameter(_schema(node, self._opset).inputs, i).types

    def _wanted(self, name: str, half: bool) -> str:
        """The name under which a value is to be had, in half precision or as it was."""
        if name in self._weights:
            return self._weight(name, half)
        if (name, half) in self._made or not self._is_float(name):
            return self._made.get((name, half), name)
        from onnx import helper

        source = self._made.get((name, not half), name)
        public = not half and name in {o.name for o in self._model.graph.output}
        result = name if public else f"{name}/{self._dtype.name if half else 'float32'}"
        to = self._dtype.onnx if half else _FLOAT
        self._nodes.append(
            helper.make_node("Cast", [source], [result], name=f"{result}/cast", to=to)
        )
        self._made[name, half] = result
        return result

    def _weight(self, name: str, half: bool) -> str:
        tensor = self._weights[name]
        result = name
        if half:
            result = f"{name}/{self._dtype.name}"
            if result not in self._tensors:
                self._tensors[result] = self._lowered(tensor, result)
        else:
            self._tensors[name] = tensor
        return result

    def _lowered(self, tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
        from onnx import numpy_helper

        array = numpy_helper.to_array(tensor)
        largest = _LARGEST[self._dtype.name]
        with np.errstate(all="ignore"):
            # A mask of -1e38 is a mask still at the least number there is.
            low = np.where(np.isfinite(array), array.clip(-largest, largest), array)
            made = numpy_helper.from_array(low.astype(self._dtype.np), name)
        return made


_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}

# Operators whose float32 results or operands an attribute states.
_STATES_FLOAT = {"DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "RandomNormal"}


def _schema(node: onnx.NodeProto, opset: int) -> Any:
    from onnx import defs

    try:
        return defs.get_schema(node.op_type, opset, "" if node.domain == "ai.onnx" else node.domain)
    except defs.SchemaError:
        return None


def _parameter(parameters: Any, i: int) -> Any:
    return parameters[min(i, len(parameters) - 1)]


def node_counts(model: onnx.ModelProto) -> Mapping[str, int]:
    """How many nodes of each operator there are, nested ones included."""
    counts: dict[str, int] = {}
    for node in all_nodes(model.graph):
        name = operator_name(node)
        counts[name] = counts.get(name, 0) + 1
    return counts
