"""How many channels are in a block, of a file that ONNX Runtime wrote with blocked images.

The file does not say; ONNX Runtime takes it to run on the processor that it was written on. But it
often follows from which numbers of channels were filled up to whole blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_DOMAIN = "com.microsoft.nchwc"


def state_blocks(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` whose nodes on blocked images have an attribute `block`: 8, 16, or 0."""
    if not any(node.domain == _DOMAIN for node in model.graph.node):
        return model
    from onnx import helper

    out: onnx.ModelProto = type(model).FromString(model.SerializeToString())
    block = _block(out.graph)
    for node in out.graph.node:
        if node.domain == _DOMAIN:
            node.attribute.append(helper.make_attribute("block", block))
    return out


def _block(graph: onnx.GraphProto) -> int:
    """The size that all nodes agree with; 0 where both do, or neither."""
    filters = {t.name: tuple(t.dims) for t in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    fits = {8, 16}
    for node in graph.node:
        if node.domain != _DOMAIN:
            continue
        if node.op_type == "Conv":
            outputs, inputs = (*filters.get(node.input[1], ()), 0, 0)[:2]
            fits -= {b for b in fits if outputs % b}
            source = made.get(node.input[0])
            plain = source is None or source.domain != _DOMAIN
            if plain and _number(node, "group", 1) == 1:  # so few that they stay as they are
                fits -= {b for b in fits if inputs >= b}
        if node.op_type == "ReorderOutput":
            source = made.get(node.input[0])
            if source is not None and source.op_type == "Conv":
                found = filters.get(source.input[1], (0,))[0]
                channels = _number(node, "channels", 0)
                fits -= {b for b in fits if -(-channels // b) * b != found}
    return fits.pop() if len(fits) == 1 else 0


def _number(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)
