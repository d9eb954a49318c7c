"""Operators replaced by what they mean in terms of others, where ONNX says so.

ONNX's inliner must know the type of every operand and gives up on one that is left out. For such
nodes the definition is asked for here, with no type in that place, and put into the model as a
function of its own, which the inliner takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import OnnxError

if TYPE_CHECKING:
    import onnx

_DOMAIN = "dualgraph.definitions"


def has_definition(op_type: str, model: onnx.ModelProto) -> bool:
    """Whether ONNX defines an operator ("Gelu", "ai.onnx.preview::FlexAttention") by others."""
    schema = _schema(op_type, model)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def inline_definitions(
    model: onnx.ModelProto,
    names: Collection[str],
    nodes: Callable[[onnx.GraphProto], Iterator[onnx.NodeProto]],
    source: str,
) -> onnx.ModelProto:
    """`model` with the operators of these names replaced by their definitions.

    Args:
        model: changed in place where defaults of attributes are to be stated.
        nodes: the nodes of a graph and of those nested in it.
        source: names the model in messages.

    Raises:
        OnnxError: a definition does not fit the node it is for.
    """
    from onnx import inliner

    ids = [(name.rpartition("::")[0], name.rpartition("::")[2]) for name in names]
    partial = []
    for node in nodes(model.graph):
        domain = "" if node.domain == "ai.onnx" else node.domain
        if (domain, node.op_type) not in ids:
            continue
        schema = _schema(f"{domain}::{node.op_type}" if domain else node.op_type, model)
        _state_defaults(node, schema)
        if "" in node.input and schema.has_context_dependent_function:
            partial.append((node, schema))
    try:
        if partial:
            _define(model, partial)
            model = inliner.inline_local_functions(model, convert_version=True)
        return inliner.inline_selected_functions(model, ids, inline_schema_functions=True)
    except Exception as error:  # the inliner has exceptions of its own
        raise OnnxError(
            f"{source}: the definitions of {', '.join(names)} cannot be inlined: {error}"
        ) from error


def _schema(op_type: str, model: onnx.ModelProto) -> Any:
    """What ONNX says of an operator at the version that a model uses; None if nothing."""
    from onnx import defs

    domain, _, name = op_type.rpartition("::")
    versions = [o.version for o in model.opset_import if o.domain in (domain, domain or "ai.onnx")]
    try:
        return defs.get_schema(name, versions[0] if versions else 1, domain)
    except defs.SchemaError:
        return None


def _state_defaults(node: onnx.NodeProto, schema: Any) -> None:
    """Write out the defaults of absent attributes, which the inliner leaves undefined."""
    given = {a.name for a in node.attribute}
    for name, attribute in schema.attributes.items():
        if name not in given and attribute.default_value.name:
            node.attribute.append(attribute.default_value)


def _define(model: onnx.ModelProto, nodes: list[tuple[onnx.NodeProto, Any]]) -> None:
    """Make each of the nodes the call of a function of the model, with the node's definition."""
    import onnx

    types = _types(model)
    model.opset_import.add(domain=_DOMAIN, version=1)
    for i, (node, schema) in enumerate(nodes):
        given = [types.get(name, onnx.TypeProto()) for name in node.input]
        body = schema.get_context_dependent_function(
            node.SerializeToString(), [t.SerializeToString() for t in given]
        )
        function = onnx.FunctionProto.FromString(body)
        function.name, function.domain = f"{node.op_type}_{i}", _DOMAIN
        model.functions.append(function)
        node.op_type, node.domain = function.name, _DOMAIN


def _types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """The type of every value for which ONNX can infer it."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model).graph
    return {i.name: i.type for i in (*graph.value_info, *graph.output, *graph.input)}
