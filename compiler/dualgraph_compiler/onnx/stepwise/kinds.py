"""Which values of a model are tensors of numbers, as far as can be told before a run.

What turns out otherwise is learned from the first run (:meth:`.plan.Plan.learn_kind`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..lift import all_nodes, operator_name
from ..operator_rules import rule_for
from ..values import function_of
from .names import nested

if TYPE_CHECKING:
    import onnx

STRING = 8  # TensorProto.STRING
_ENCODERS = ("LabelEncoder", "OneHotEncoder", "CategoryMapper")  # of ai.onnx.ml

# Operators that only move elements, of strings as well; those of others may be compared.
MOVES = {"Compress", "Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND"}
MOVES |= {"Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}


def is_tensor_type(type_proto: onnx.TypeProto) -> bool:
    """Whether a declared type is a tensor of numbers; so is what is not declared."""
    kind = type_proto.WhichOneof("value")
    if kind == "tensor_type":
        return bool(type_proto.tensor_type.elem_type != STRING)
    return kind is None


def is_value_operator(name: str) -> bool:
    """Whether an operator is no part of any graph and is carried out on Python values."""
    return rule_for(name) is None and function_of(name) is not None


def makes_or_takes_values(node: onnx.NodeProto) -> bool:
    """Whether a node is one on Python values, whatever its operands are."""
    if is_value_operator(operator_name(node)):
        return True
    if node.op_type == "Cast":
        return any(a.name == "to" and a.i == STRING for a in node.attribute)
    if node.op_type in _ENCODERS:
        return any(a.strings or a.t.data_type == STRING for a in node.attribute)
    if node.op_type == "Constant":
        return any(
            a.name.startswith("value_string") or (a.name == "value" and a.t.data_type == STRING)
            for a in node.attribute
        )
    return any(
        any(makes_or_takes_values(inner) for inner in all_nodes(graph))
        or not all(is_tensor_type(info.type) for info in (*graph.input, *graph.output))
        for graph in nested(node)
    )


def result_kinds(node: onnx.NodeProto, operands: Sequence[bool]) -> list[bool]:
    """For each result of a node on values, whether it is a tensor of numbers.

    Args:
        operands: the same of the node's operands, as far as it is known.
    """
    graphs = nested(node)
    if graphs and len(node.output) <= len(graphs[0].output):
        skip = 1 if node.op_type == "Loop" else 0  # its body gives a condition first
        declared = [is_tensor_type(o.type) for o in graphs[0].output[skip:]]
        if node.op_type == "SequenceMap":
            return [False] * len(node.output)
        return (declared + [True] * len(node.output))[: len(node.output)]
    if node.op_type == "Constant":
        return [False] * len(node.output)
    return [_result_kind(node, k, operands) for k in range(len(node.output))]


def _result_kind(node: onnx.NodeProto, position: int, operands: Sequence[bool]) -> bool:
    if node.op_type == "Cast":
        return not makes_or_takes_values(node)
    if node.op_type == "LabelEncoder":
        made = [a for a in node.attribute if a.name in ("values_strings", "values_tensor")]
        names = any(a.strings or a.t.data_type == STRING for a in made)
        return not names and not (
            any(a.name == "classes_strings" for a in node.attribute) and all(operands)
        )
    if node.op_type == "CategoryMapper":
        return not all(operands)
    schema = _schema(node.op_type, "" if node.domain == "ai.onnx" else node.domain)
    if schema is None or not schema.outputs:
        return True
    output = schema.outputs[min(position, len(schema.outputs) - 1)]
    numbers = [t.startswith("tensor(") and t != "tensor(string)" for t in output.types]
    if all(numbers) or not any(numbers):
        return all(numbers)
    same = {i for i, formal in enumerate(schema.inputs) if formal.type_str == output.type_str}
    return all(kind for i, kind in enumerate(operands) if min(i, len(schema.inputs) - 1) in same)


@functools.cache
def _schema(name: str, domain: str) -> Any:
    from onnx import defs

    try:
        return defs.get_schema(name, domain)
    except defs.SchemaError:
        return None


def string_results(node: onnx.NodeProto, operands: Mapping[int, bool]) -> list[bool]:
    """For each result, whether it has the element type of those operands that are strings."""
    schema = _schema(node.op_type, "" if node.domain == "ai.onnx" else node.domain)
    if schema is None:
        return [False] * len(node.output)
    last = len(schema.inputs) - 1
    letters = {schema.inputs[min(i, last)].type_str for i, strings in operands.items() if strings}
    ends = len(schema.outputs) - 1
    return [schema.outputs[min(k, ends)].type_str in letters for k in range(len(node.output))]
