"""The bridge to networkx, for graph algorithms: partitioning, reachability, drawing."""

from __future__ import annotations

from typing import Any

from .core import Graph, Node, Value
from .text import Namer, node_text


def to_networkx(graph: Graph) -> Any:
    """`graph` as a ``networkx.MultiDiGraph``, one edge per operand.

    Ids are strings, stable for a given graph: a value's printed name ("%x", "%3"; a node goes by
    its first result), and "return 0", "return 1" for the outputs. Every id carries

    - `kind`: "input", "param", "constant", "output", or the op's kind ("pointwise", ...)
    - `op`: the op's name, else None; `attributes`: its attributes
    - `label`: what a drawing would write; `text`: the line of the graph's text form
    - `dtype`, `shape`: names and sizes, of the first result; sizes are ints or strings
    - `loc`: "file.py:12" or None
    - `ref`: the Node or Value itself

    and every edge `value` (a printed name), `operand` (the position it is read at), `dtype`,
    `shape`.
    """
    import networkx as nx

    names = Namer(graph)
    out = nx.MultiDiGraph(name=graph.name)
    sources = [(graph.inputs, "input"), (graph.params, "param"), (graph.constants, "constant")]
    for values, kind in sources:
        for v in values:
            text = f"{kind} {names[v]}: {v.type}"
            out.add_node(names[v], **_attributes(v, kind, names[v], text))
    for node in graph.nodes:
        first = node.outputs[0]
        text = node_text(node, names)
        details = _attributes(first, node.op.kind.value, node.op.name, text, node)
        out.add_node(names[first], **details)
        _connect(out, names, node.inputs, names[first])
    for i, (v, name) in enumerate(zip(graph.outputs, graph.output_names, strict=True)):
        key = f"return {i}"
        out.add_node(key, **_attributes(v, "output", name, f"return {names[v]} as {name}"))
        _connect(out, names, (v,), key)
    return out


def _attributes(
    value: Value, kind: str, label: str, text: str, node: Node | None = None
) -> dict[str, Any]:
    return {
        "kind": kind,
        "op": node.op.name if node else None,
        "attributes": node.op.attributes() if node else {},
        "label": label,
        "text": text,
        **_type(value),
        "loc": str(node.loc) if node and node.loc else None,
        "ref": node or value,
    }


def _type(value: Value) -> dict[str, Any]:
    shape = tuple(d if isinstance(d, int) else str(d) for d in value.shape)
    return {"dtype": value.dtype.name, "shape": shape}


def _connect(out: Any, names: Namer, operands: tuple[Value, ...], reader: str) -> None:
    for position, v in enumerate(operands):
        source = names[v.node.outputs[0] if v.node else v]
        out.add_edge(source, reader, value=names[v], operand=position, **_type(v))
