"""The pieces that exported models are put together from: what a schema asks, attributes, types."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dtypes import ALL, DType
from ..errors import OnnxError
from ..types import TensorType

if TYPE_CHECKING:
    import onnx


class Schema:
    """What the exporter needs of an operator's schema."""

    def __init__(self, schema: Any) -> None:
        names = {f"tensor({d.onnx_name})": d.onnx for d in ALL}
        self.name: str = schema.name
        self.version: int = schema.since_version
        self.attributes: dict[str, int] = {k: a.type.value for k, a in schema.attributes.items()}
        self.inputs = [frozenset(names[t] for t in i.types if t in names) for i in schema.inputs]


@functools.cache
def schema_of(op_type: str, opset: int) -> Schema:
    """The schema of a standard operator; raises OnnxError where the opset has none."""
    from onnx import defs

    try:
        return Schema(defs.get_schema(op_type, opset, ""))
    except defs.SchemaError:
        raise OnnxError(f"opset {opset} has no operator {op_type}") from None


def type_refused(schema: Schema, position: int, dtype: DType) -> str:
    """Why an operator does not take an operand, and from which opset on it would."""
    from onnx import defs

    text = f"ONNX {schema.name}-{schema.version} takes no {dtype.name} operand here"
    for opset in range(schema.version + 1, defs.onnx_opset_version() + 1):
        later = schema_of(schema.name, opset)
        if dtype.onnx in later.inputs[min(position, len(later.inputs) - 1)]:
            return f"{text}; it needs opset {later.version} or newer"
    return text


def attribute(key: str, value: Any, schema: Schema | None) -> onnx.AttributeProto:
    """An attribute of the type its operator declares."""
    from onnx import AttributeProto, helper, numpy_helper

    if isinstance(value, DType):
        value = value.onnx
    elif isinstance(value, np.ndarray):
        value = numpy_helper.from_array(value)
    if schema is None:
        return helper.make_attribute(key, value)
    if key not in schema.attributes:
        raise OnnxError(f"{schema.name}-{schema.version} has no attribute {key!r}")
    kind = schema.attributes[key]
    if kind == AttributeProto.FLOAT:
        value = float(value)
    elif kind == AttributeProto.INT:
        value = int(value)
    elif kind == AttributeProto.FLOATS:
        value = [float(v) for v in value]
    elif kind == AttributeProto.INTS:
        value = [int(v) for v in value]
    return helper.make_attribute(key, value, attr_type=kind)


def value_info(name: str, t: TensorType) -> onnx.ValueInfoProto:
    """The declaration of an input or output."""
    from onnx import helper

    sizes = [d if isinstance(d, int) else str(d) for d in t.shape]
    return helper.make_tensor_value_info(name, t.dtype.onnx, sizes)
