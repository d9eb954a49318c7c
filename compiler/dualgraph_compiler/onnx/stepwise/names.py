"""What nodes read and write, by name, graphs that they hold included."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def reads(node: onnx.NodeProto) -> tuple[str, ...]:
    """The names that a node reads: its operands, then what its nested graphs read from outside."""
    found = dict.fromkeys(name for name in node.input if name)
    for graph in nested(node):
        found.update(dict.fromkeys(outside(graph)))
    return tuple(found)


def outside(graph: onnx.GraphProto) -> tuple[str, ...]:
    """The names that a nested graph reads from the graphs around it."""
    own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    found: dict[str, None] = {}
    for node in graph.node:
        found.update((name, None) for name in reads(node) if name not in own)
        own.update(node.output)
    found.update((o.name, None) for o in graph.output if o.name not in own)
    return tuple(found)


def nested(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs that a node holds."""
    return [a.g for a in node.attribute if a.HasField("g")]
