"""The graph's text form: prints, and parses back.

::

    graph scale(%x: f32[batch, 3]):
      param %weight: f32[3]
      const %c0: f32[] = 2.0
      %1: f32[batch, 3] = mul(%x, %weight)  # model.py:7
      %2: f32[batch, 3] = mul(%1, %c0)  # model.py:8
      return %2 as output

Attributes follow the operands: ``sum(%1, axes=(0,), keepdims=False)``. Constants of more than eight
elements print as ``<n elements>`` unless `full` is asked for (then base64), and parse only from the
full form or with their data given.
"""

from __future__ import annotations

import ast
import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..dims import Dim, parse_dim
from ..dtypes import BY_SHORT, DType
from ..errors import GraphError
from ..ops.base import REGISTRY, Op
from ..types import TensorType
from .core import Graph, Location, Node, Value

_SHOWN = 8  # elements of a constant printed in full
_LINE = 100  # locations are aligned, and long lines left alone


class Namer:
    """Unique printable names: a value's own where it has one, else a running number."""

    def __init__(self, graph: Graph) -> None:
        self.names: dict[Value, str] = {}
        self._taken: set[str] = set()
        for v in [*graph.inputs, *graph.params]:
            self._give(v, v.name or "in")
        for v in graph.constants:
            self._give(v, v.name or "c0")
        number = 0
        for node in graph.nodes:
            for v in node.outputs:
                if v.name:
                    self._give(v, v.name)
                    continue
                number += 1
                while str(number) in self._taken:
                    number += 1
                self._give(v, str(number))

    def _give(self, value: Value, wish: str) -> None:
        wish = re.sub(r"[^\w./]", "_", wish)
        name, n = wish, 0
        stem = wish.rstrip("0123456789") if wish == "c0" else wish + "_"
        while name in self._taken:
            n += 1
            name = f"{stem}{n}"
        self._taken.add(name)
        self.names[value] = name

    def __getitem__(self, value: Value) -> str:
        return "%" + self.names[value]


def to_text(graph: Graph, *, full: bool = False, locations: bool = True) -> str:
    """The graph as text; see the module docstring."""
    names = Namer(graph)
    inputs = ", ".join(f"{names[v]}: {v.type}" for v in graph.inputs)
    lines = [f"graph {graph.name}({inputs}):"]
    for v in graph.params:
        data = f" = {_data_text(v.data, True)}" if full else ""
        lines.append(f"  param {names[v]}: {v.type}{data}")
    for v in graph.constants:
        lines.append(f"  const {names[v]}: {v.type} = {_data_text(v.data, full)}")
    for node in graph.nodes:
        line = f"  {node_text(node, names)}"
        lines.append(f"{line}  # {node.loc}" if locations and node.loc else line)
    outs = ", ".join(
        f"{names[v]} as {n}" for v, n in zip(graph.outputs, graph.output_names, strict=True)
    )
    lines.append(f"  return {outs}".rstrip())
    return "\n".join(lines)


def node_text(node: Node, names: Namer) -> str:
    """One node's line, without its location."""
    results = ", ".join(f"{names[v]}: {v.type}" for v in node.outputs)
    operands = [names[v] for v in node.inputs]
    attrs = [f"{k}={_attr_text(v)}" for k, v in node.op.attributes().items()]
    return f"{results} = {node.op.name}({', '.join(operands + attrs)})"


def _attr_text(value: Any) -> str:
    if isinstance(value, DType):
        return value.short
    if isinstance(value, tuple):
        inner = ", ".join(map(_attr_text, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return str(value) if isinstance(value, Dim) else repr(value)


def _data_text(data: Any, full: bool) -> str:
    array = np.asarray(data.get() if hasattr(data, "get") else data)
    if array.size <= _SHOWN:
        values = array.tolist()
        return str(np.float64(values)) if isinstance(values, float) else str(values)
    if not full:
        return f"<{array.size} elements>"
    return "base64:" + base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


# -- parsing --------------------------------------------------------------------------------------

_TYPED = r"%([\w./]+)\s*:\s*(\w+)\[([^\]]*)\]"


def parse_graph(text: str, data: Mapping[str, Any] | None = None) -> Graph:
    """A graph from its text form; `data` gives arrays of params and elided constants by name.

    Raises:
        GraphError: the text does not parse; the message names the line.
    """
    graph: Graph | None = None
    values: dict[str, Value] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped, _, comment = line.partition("  #")
        stripped = stripped.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            if graph is None:
                graph = _parse_header(stripped, values)
            else:
                _parse_line(graph, stripped, comment, values, data or {})
        except (ValueError, KeyError, SyntaxError, TypeError) as error:
            raise GraphError(f"line {number}: {error}: {line.strip()!r}") from error
    if graph is None:
        raise GraphError("expected a line 'graph name(inputs):', got no text")
    return graph


def _parse_header(line: str, values: dict[str, Value]) -> Graph:
    match = re.fullmatch(r"graph ([\w./-]+)\((.*)\):", line)
    if not match:
        raise ValueError("expected 'graph name(inputs):'")
    graph = Graph(match[1])
    for name, t in _typed(match[2]):
        values[name] = graph.add_input(t, name)
    return graph


def _typed(text: str) -> Iterator[tuple[str, TensorType]]:
    for name, dtype, dims in re.findall(_TYPED, text):
        yield name, TensorType(BY_SHORT[dtype], tuple(map(parse_dim, _split(dims))))


def _split(text: str) -> list[str]:
    """Split at top-level commas."""
    out, depth, start = [], 0, 0
    for i, ch in enumerate(text):
        depth += (ch in "([") - (ch in ")]")
        if ch == "," and depth == 0:
            out.append(text[start:i].strip())
            start = i + 1
    return [*out, text[start:].strip()] if text[start:].strip() else out


def _parse_line(
    graph: Graph, line: str, comment: str, values: dict[str, Value], data: Mapping[str, Any]
) -> None:
    keyword, _, rest = line.partition(" ")
    if keyword in ("param", "const"):
        head, _, literal = rest.partition(" = ")
        ((name, t),) = _typed(head)
        array = np.asarray(data[name]) if name in data else _parse_data(literal, t)
        if keyword == "param":
            values[name] = graph.add_param(array, name, type=t)
        else:
            # Printed names of unnamed constants (c0, c1, ...) are not their own.
            own = "" if re.fullmatch(r"c\d+", name) else name
            if array is None:
                raise ValueError("the constant's elements are elided; give them in `data`")
            values[name] = graph.constant(array, own)
    elif keyword == "return":
        pairs = [p.rpartition(" as ") for p in _split(rest)]
        graph.set_outputs([values[v.strip()[1:]] for v, _, _ in pairs], [n for _, _, n in pairs])
    else:
        _parse_node(graph, line, comment, values)


def _parse_data(literal: str, t: TensorType) -> Any:
    if not literal or literal.startswith("<"):
        return None
    if literal.startswith("base64:"):
        raw = np.frombuffer(base64.b64decode(literal[7:]), t.dtype.np)
        return raw.reshape(t.shape).copy()  # type: ignore[arg-type]
    names = {"nan": np.nan, "inf": np.inf}
    plain = eval(compile(_literal(literal), "<graph>", "eval"), {"__builtins__": {}}, names)
    return np.asarray(plain).astype(t.dtype.np).reshape(t.shape)  # type: ignore[arg-type]


def _literal(text: str) -> ast.Expression:
    """Parsed `text`, refused unless it is numbers, lists and arithmetic signs only."""
    tree = ast.parse(text, mode="eval")
    allowed = (
        ast.Expression | ast.List | ast.Constant | ast.UnaryOp | ast.USub | ast.Load | ast.Name
    )
    for node in ast.walk(tree):
        if not isinstance(node, allowed | ast.BinOp | ast.Add | ast.Sub):
            raise ValueError("expected a list of numbers")
    return tree


def _parse_node(graph: Graph, line: str, comment: str, values: dict[str, Value]) -> None:
    head, _, call = line.partition(" = ")
    match = re.fullmatch(r"(\w+)\((.*)\)", call)
    if not match or match[1] not in REGISTRY:
        raise ValueError("expected 'results = op(operands, attributes)' with a known op")
    parts = _split(match[2])
    operands = [values[p[1:]] for p in parts if p.startswith("%")]
    attrs = dict(p.split("=", 1) for p in parts if not p.startswith("%"))
    op: Op = REGISTRY[match[1]](**{k: _parse_attr(v) for k, v in attrs.items()})
    file, _, line_number = comment.strip().rpartition(":")
    graph.loc = Location(file, int(line_number)) if file else None
    node = graph.add_node(op, operands)
    graph.loc = None
    declared = list(_typed(head))
    if [t for _, t in declared] != [v.type for v in node.outputs]:
        got = ", ".join(str(v.type) for v in node.outputs)
        raise ValueError(f"the declared types differ from the inferred {got}")
    for (name, _), value in zip(declared, node.outputs, strict=True):
        values[name] = value
        value.name = "" if name.isdigit() else name


def _parse_attr(text: str) -> Any:
    return _attr_value(ast.parse(text.strip(), mode="eval").body)


def _attr_value(node: ast.expr) -> Any:
    match node:
        case ast.Tuple(elts=elts):
            return tuple(map(_attr_value, elts))
        case ast.Constant(value=v):
            return v
        case ast.Name(id=name) if name in BY_SHORT:
            return BY_SHORT[name]
        case ast.Name(id=("inf" | "nan") as name):
            return float(name)
        case ast.UnaryOp(op=ast.USub(), operand=x):
            return -_attr_value(x)
    return parse_dim(ast.unparse(node))
