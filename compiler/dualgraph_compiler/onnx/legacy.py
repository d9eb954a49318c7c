"""What ONNX's own version converter gets wrong, put right before it runs.

Before opset 7, binary operators lined their second operand up at the first's axis `axis`, where
today's rule lines up the last axes; slopes of PRelu were one for each channel, axis 1. The
converter misplaces axes in the middle, so trailing axes of size 1 are put in here. Scan of opset 8
had a batch axis first; the converter drops it, so such a node becomes an operator of its own, which
has its own import rule; so do others that it has no adapter for, or a wrong one. Operators that
ONNX Runtime put into ONNX's domain before ONNX had them go to its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import OnnxError

if TYPE_CHECKING:
    import onnx

FIRST_MODERN_OPSET = 7
FIRST_LAYER_NORMALIZATION = 17
_LEGACY = "legacy"
BATCHED_SCAN = f"{_LEGACY}::Scan"
# Operators that become ones of their own in models of earlier opsets: see `legacy_rules`.
_CHANGED_IN = {"Cast": 6, "Hardmax": 13, "Resize": 11, "Scan": 9, "Upsample": 10}
CONTRIBUTED = "com.microsoft"
_STANDARD = ("", "ai.onnx")
_BINARY = {"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"}


def align_broadcasts(model: onnx.ModelProto, source: str) -> None:
    """Give second operands that state an `axis` the axes of size 1 that today's rule needs.

    Args:
        model: of an opset below 7, changed in place.
        source: names the model in messages.

    Raises:
        OnnxError: the rank of an operand is not known.
    """
    if all(_axis(n) is None for n in model.graph.node):
        return
    ranks = _ranks(model)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        axis = _axis(node)
        if axis is not None:
            a, b = (ranks.get(name) for name in node.input)
            if a is None or b is None:
                raise OnnxError(
                    f"{source}: node {node.name or node.output[0]!r} ({node.op_type}) lines its "
                    f"operands up at axis {axis}, but their ranks are not known"
                )
            missing = a - (axis % a if a else 0) - b
            if missing > 0:
                nodes.append(_unsqueeze(node, range(b, b + missing)))
            if node.op_type in _BINARY:
                del node.attribute[[x.name for x in node.attribute].index("axis")]
        nodes.append(node)
    kept = [type(n).FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _axis(node: onnx.NodeProto) -> int | None:
    """The axis that a second operand is lined up at, if that is stated."""
    if node.op_type == "PRelu":
        return 1
    if node.op_type not in _BINARY:
        return None
    attributes = {a.name: a.i for a in node.attribute}
    return attributes.get("axis") if attributes.get("broadcast") else None


def _unsqueeze(node: onnx.NodeProto, axes: range) -> onnx.NodeProto:
    """A node that widens the second operand of `node`, which then reads the result."""
    from onnx import helper

    name = f"{node.output[0]}/operand"
    made = helper.make_node("Unsqueeze", [node.input[1]], [name], name=name, axes=list(axes))
    node.input[1] = name
    return made


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """The number of axes of every value whose shape ONNX can infer."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model).graph
    known = {
        i.name: len(i.type.tensor_type.shape.dim)
        for i in (*graph.value_info, *graph.input, *graph.output)
        if i.type.tensor_type.HasField("shape")
    }
    return known | {t.name: len(t.dims) for t in graph.initializer}


def mark_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which operators that ONNX does not know as they are have other domains.

    Below opset 9 Scan becomes `BATCHED_SCAN`; ONNX Runtime's own normalisations join its domain.
    """
    version = next((o.version for o in model.opset_import if o.domain in _STANDARD), 0)
    domains = dict.fromkeys(["SimplifiedLayerNormalization"], CONTRIBUTED)
    if version < FIRST_LAYER_NORMALIZATION:
        domains["LayerNormalization"] = CONTRIBUTED
    domains.update({op: _LEGACY for op, changed in _CHANGED_IN.items() if 0 < version < changed})
    if not _uses(model.graph, domains):
        return model
    out: onnx.ModelProto = type(model).FromString(model.SerializeToString())
    found = _mark(out.graph, domains)
    for domain in sorted(found - {o.domain for o in out.opset_import}):
        out.opset_import.add(domain=domain, version=1)
    return out


def _uses(graph: onnx.GraphProto, domains: Mapping[str, str]) -> bool:
    return any(
        (node.op_type in domains and node.domain in _STANDARD)
        or any(_uses(a.g, domains) for a in node.attribute if a.HasField("g"))
        for node in graph.node
    )


def _mark(graph: onnx.GraphProto, domains: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    for node in graph.node:
        if node.op_type in domains and node.domain in _STANDARD:
            node.domain = domains[node.op_type]
            found.add(node.domain)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= _mark(attribute.g, domains)
    return found


def keep_types(marked: onnx.ModelProto, plain: onnx.ModelProto) -> None:
    """State in `marked` the types of what its old operators give, which ONNX can no longer infer.

    Args:
        marked: what `mark_operators` gave, changed in place.
        plain: the model as it was, large initializers among its inputs.
    """
    from onnx import shape_inference

    old = {name for n in marked.graph.node if n.domain == _LEGACY for name in n.output}
    stated = {info.name for info in (*marked.graph.value_info, *marked.graph.output)}
    if not old - stated:
        return
    try:
        inferred = shape_inference.infer_shapes(plain).graph.value_info
    except (shape_inference.InferenceError, RuntimeError, ValueError):
        return  # a broken model: the importer says in what way
    marked.graph.value_info.extend(info for info in inferred if info.name in old - stated)
