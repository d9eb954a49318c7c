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
full form or with their data given. Symbolic sizes with bounds are declared before the graph:
``dim batch: 1..64``. What is assumed of sizes stands before the first node:
``assume mod(n, 2) == 0, 'glu: ...'  # model.py:5``.

The graphs that a node holds follow its line, indented, each under the name of its attribute. Their
values have names of their own::

    %2: f32[3] = if(%1, %x)  # model.py:9
      then_branch(%a: f32[3]):
        %1: f32[3] = neg(%a)
        return %1 as output
      else_branch(%a: f32[3]):
        return %a as output
"""

from __future__ import annotations

import ast
import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..dims import Dim, Symbol, parse_dim, symbols
from ..dtypes import BY_SHORT, DType
from ..errors import DualGraphError, GraphError
from ..ops.base import REGISTRY, Op
from ..types import TensorType
from .assumptions import Assumption
from .core import Graph, Location, Node, Value
from .verify import check_operand_count

_PLAIN = r"[\w./:-]+"  # names of outputs that need no quotes
_SHOWN = 8  # elements of a constant printed in full


class Namer:
    """Unique printable names: a value's own where it has one, else a running number."""

    def __init__(self, graph: Graph) -> None:
        self.names: dict[Value, str] = {}
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}  # by stem, so that many equal wishes cost little
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
        name, stem = wish, "c" if wish == "c0" else wish + "_"
        while name in self._taken:
            self._next[stem] = self._next.get(stem, 0) + 1
            name = f"{stem}{self._next[stem]}"
        self._taken.add(name)
        self.names[value] = name

    def __getitem__(self, value: Value) -> str:
        return "%" + self.names[value]


def to_text(graph: Graph, *, full: bool = False, locations: bool = True) -> str:
    """The graph as text; see the module docstring."""
    lines = [f"dim {s.name}: {_bounds_text(s)}" for s in _bounded_symbols(graph)]
    title = re.sub(r"[^\w./-]", "_", graph.name) or "graph"
    return "\n".join(lines + _block(f"graph {title}", graph, full, locations))


def _block(title: str, graph: Graph, full: bool, locations: bool) -> list[str]:
    """The lines of a graph, those of nested graphs among them."""
    names = Namer(graph)
    inputs = ", ".join(f"{names[v]}: {v.type}" for v in graph.inputs)
    lines = [f"{title}({inputs}):"]
    for v in graph.params:
        data = f" = {_data_text(v.data, True)}" if full else ""
        lines.append(f"  param {names[v]}: {v.type}{data}")
    for v in graph.constants:
        lines.append(f"  const {names[v]}: {v.type} = {_data_text(v.data, full)}")
    for a in graph.assumptions:
        line = f"  assume {a}, {a.why!r}"
        lines.append(f"{line}  # {a.loc}" if locations and a.loc else line)
    for node in graph.nodes:
        line = f"  {node_text(node, names)}"
        lines.append(f"{line}  # {node.loc}" if locations and node.loc else line)
        lines += [f"    {line}" for line in nested_lines(node, full, locations)]
    outs = ", ".join(
        f"{names[v]} as {n if re.fullmatch(_PLAIN, n) else repr(n)}"
        for v, n in zip(graph.outputs, graph.output_names, strict=True)
    )
    lines.append(f"  return {outs}".rstrip())
    return lines


def nested_lines(node: Node, full: bool = False, locations: bool = False) -> list[str]:
    """The lines of the graphs that a node holds."""
    graphs = ((name, getattr(node.op, name)) for name in node.op.bodies)
    return [line for name, g in graphs for line in _block(name, g, full, locations)]


def _bounded_symbols(graph: Graph) -> list[Symbol]:
    """The symbols of a graph that declare more than the default bounds, by name."""
    dims = {d for v in _all_values(graph) for d in v.shape if isinstance(d, Dim)}
    found = {s.name: s for d in dims for s in symbols(d) if s.min != 0 or s.max is not None}
    return [found[name] for name in sorted(found)]


def _all_values(graph: Graph) -> Iterator[Value]:
    """The values of a graph and of those nested in it."""
    yield from graph.inputs
    yield from graph.params
    for node in graph.nodes:
        yield from node.outputs
        for name in node.op.bodies:
            yield from _all_values(getattr(node.op, name))


def _bounds_text(symbol: Symbol) -> str:
    return f"{symbol.min}..{'' if symbol.max is None else symbol.max}"


def node_text(node: Node, names: Namer) -> str:
    """One node's line, without its location and the graphs it holds."""
    results = ", ".join(f"{names[v]}: {v.type}" for v in node.outputs)
    operands = [names[v] for v in node.inputs]
    attributes = node.op.attributes().items()
    attrs = [f"{k}={_attr_text(v)}" for k, v in attributes if k not in node.op.bodies]
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
    lines = [_Line(n, line) for n, line in enumerate(text.splitlines(), 1)]
    parser = _Parser([line for line in lines if line.code], data or {}, {})
    parser.read("graph")
    if parser.graph is None:
        raise GraphError("expected a line 'graph name(inputs):', got no text")
    if parser.at < len(parser.lines):
        line = parser.lines[parser.at]
        raise GraphError(f"line {line.number}: expected no more text: {line.text!r}")
    return parser.graph


class _NestedError(GraphError):
    """Raised inside a nested graph: the message names the line already."""


class _Line:
    """A line of the text, taken apart."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text.strip()
        self.code, self.comment = _uncomment(text)

    def location(self) -> Location | None:
        """The source line that the comment names."""
        file, _, number = self.comment.strip().rpartition(":")
        return Location(file, int(number)) if file else None


class _Parser:
    """What has been read of a graph so far; `lines` from `at` on are still to read."""

    def __init__(
        self, lines: list[_Line], data: Mapping[str, Any], dims: dict[str, Dim], at: int = 0
    ) -> None:
        self.lines = lines
        self.at = at
        self.data = data
        self.graph: Graph | None = None
        self.values: dict[str, Value] = {}
        self.dims = dims

    def read(self, keyword: str) -> None:
        """Read a graph that begins with `keyword`, up to its `return` or the end."""
        done = False
        while self.at < len(self.lines) and not done:
            line = self.lines[self.at]
            self.at += 1
            try:
                done = self._line(line, keyword)
            except (DualGraphError, ValueError, LookupError, SyntaxError, TypeError) as error:
                if type(error) is _NestedError:
                    raise
                message = f"line {line.number}: {error}: {line.text!r}"
                kind = GraphError if keyword == "graph" else _NestedError
                raise kind(message) from error

    def _line(self, line: _Line, title: str) -> bool:
        """Read one line (and the graphs that follow a node); whether it was the graph's last."""
        code = line.code
        keyword, _, rest = code.partition(" ")
        if self.graph is None:
            if keyword == "dim" and title == "graph":
                self._dim(rest)
            else:
                self._header(code, title)
        elif keyword in ("param", "const"):
            self._stored(self.graph, keyword, rest)
        elif keyword == "assume":
            self._assume(self.graph, rest, line)
        elif keyword == "return":
            pairs = [p.partition(" as ") for p in _split(rest)]
            names = [_attr(n, {}) if n[:1] in "'\"" else n for _, _, n in pairs]
            self.graph.set_outputs([self.values[v.strip()[1:]] for v, _, _ in pairs], names)
            return True
        else:
            self._node(self.graph, line)
        return False

    def _define(self, name: str, value: Value) -> None:
        if name in self.values:
            raise ValueError(f"%{name} is defined twice")
        self.values[name] = value

    def _dim(self, text: str) -> None:
        match = re.fullmatch(r"(\w+): (-?\d+)\.\.(-?\d+)?", text)
        if not match:
            raise ValueError("expected 'dim name: min..max'")
        top = int(match[3]) if match[3] else None
        self.dims[match[1]] = Dim(match[1], min=int(match[2]), max=top)

    def _header(self, code: str, title: str) -> None:
        name = r"graph ([\w./-]+)" if title == "graph" else f"({title})"
        match = re.fullmatch(name + r"\((.*)\):", code)
        if not match:
            raise ValueError(f"expected '{title}{' name' if title == 'graph' else ''}(inputs):'")
        self.graph = Graph(match[1])
        for name, t in self._typed(match[2]):
            self._define(name, self.graph.add_input(t, name))

    def _typed(self, text: str) -> Iterator[tuple[str, TensorType]]:
        for name, dtype, sizes in re.findall(_TYPED, text):
            shape = tuple(parse_dim(d, self.dims) for d in _split(sizes))
            yield name, TensorType(BY_SHORT[dtype], shape)

    def _stored(self, graph: Graph, keyword: str, text: str) -> None:
        head, _, literal = text.partition(" = ")
        ((name, t),) = self._typed(head)
        array = np.asarray(self.data[name]) if name in self.data else _parse_data(literal, t)
        if keyword == "param":
            self._define(name, graph.add_param(array, name, type=t))
            return
        if array is None:
            raise ValueError("the constant's elements are elided; give them in `data`")
        # Printed names of unnamed constants (c0, c1, ...) are not their own.
        own = "" if re.fullmatch(r"c\d+", name) else name
        self._define(name, graph.constant(array, own))

    def _assume(self, graph: Graph, text: str, line: _Line) -> None:
        match = re.match(r"(.+?) (==|!=|>=) (.+), (['\"].*)", text)
        if not match:
            raise ValueError("expected 'assume size == size, why'")
        left, right = (parse_dim(match[i], self.dims) for i in (1, 3))
        graph.assume(Assumption(left, match[2], right, _attr(match[4], {}), line.location()))

    def _nested(self, cls: type[Op]) -> dict[str, Graph]:
        """The graphs that follow a node's line."""
        found: dict[str, Graph] = {}
        for name in cls.bodies:
            inner = _Parser(self.lines, self.data, self.dims, self.at)
            inner.read(name)
            if inner.graph is None:
                raise ValueError(f"expected the lines of its {name} below")
            found[name] = inner.graph
            self.at = inner.at
        return found

    def _node(self, graph: Graph, line: _Line) -> None:
        head, _, call = line.code.partition(" = ")
        match = re.fullmatch(r"(\w+)\((.*)\)", call)
        if not match or match[1] not in REGISTRY:
            raise ValueError("expected 'results = op(operands, attributes)' with a known op")
        parts = _split(match[2])
        operands = [self.values[p[1:]] for p in parts if p.startswith("%")]
        attrs = dict(p.split("=", 1) for p in parts if not p.startswith("%"))
        given = {k: _attr(v, self.dims) for k, v in attrs.items()}
        op: Op = REGISTRY[match[1]](**given, **self._nested(REGISTRY[match[1]]))
        check_operand_count(op, len(operands))
        graph.loc = line.location()
        node = graph.add_node(op, operands)
        graph.loc = None
        declared = list(self._typed(head))
        if [t for _, t in declared] != [v.type for v in node.outputs]:
            got = ", ".join(str(v.type) for v in node.outputs)
            raise ValueError(f"the declared types differ from the inferred {got}")
        for (name, _), value in zip(declared, node.outputs, strict=True):
            self._define(name, value)
            value.name = "" if name.isdigit() else name


def _uncomment(line: str) -> tuple[str, str]:
    """A line without its comment, and the comment; a # within quotes begins none."""
    if "#" not in line:
        return line.strip(), ""
    code = re.match(r"""(?:[^#'"]|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")*""", line)
    end = code.end() if code else 0
    return line[:end].strip(), line[end + 1 :].strip()


def _split(text: str) -> list[str]:
    """Split at commas outside brackets and quotes."""
    out, depth, start, quote, escaped = [], 0, 0, "", False
    for i, ch in enumerate(text):
        if quote:
            quote = "" if ch == quote and not escaped else quote
            escaped = ch == "\\" and not escaped
            continue
        quote = ch if ch in "'\"" else ""
        depth += (ch in "([") - (ch in ")]")
        if ch == "," and depth == 0:
            out.append(text[start:i].strip())
            start = i + 1
    return [*out, text[start:].strip()] if text[start:].strip() else out


def _parse_data(literal: str, t: TensorType) -> Any:
    if not literal or literal.startswith("<"):
        return None
    if literal.startswith("base64:"):
        raw = np.frombuffer(base64.b64decode(literal[7:]), t.dtype.np)
        return raw.reshape(t.shape).copy()
    plain = eval(compile(_literal(literal), "<graph>", "eval"), {"__builtins__": {}}, _NUMBERS)
    return np.asarray(plain).astype(t.dtype.np).reshape(t.shape)


_NUMBERS = {"nan": np.nan, "inf": np.inf, "nanj": complex(0, np.nan), "infj": complex(0, np.inf)}


def _literal(text: str) -> ast.Expression:
    """Parsed `text`, refused unless it is numbers, lists and arithmetic signs only."""
    tree = ast.parse(text, mode="eval")
    allowed = ast.Expression | ast.List | ast.Constant | ast.UnaryOp | ast.USub | ast.Load
    for node in ast.walk(tree):
        known = isinstance(node, ast.Name) and node.id in _NUMBERS
        if not known and not isinstance(node, allowed | ast.BinOp | ast.Add | ast.Sub):
            raise ValueError("expected a list of numbers")
    return tree


def _attr(text: str, dims: Mapping[str, Dim]) -> Any:
    return _attr_value(ast.parse(text.strip(), mode="eval").body, dims)


def _attr_value(node: ast.expr, dims: Mapping[str, Dim]) -> Any:
    match node:
        case ast.Tuple(elts=elts):
            return tuple(_attr_value(e, dims) for e in elts)
        case ast.Constant(value=v):
            return v
        case ast.Name(id=name) if name in BY_SHORT:
            return BY_SHORT[name]
        case ast.Name(id=name) if name in _NUMBERS:
            return _NUMBERS[name]
        case ast.UnaryOp(op=ast.USub(), operand=x):
            return -_attr_value(x, dims)
        case ast.BinOp(right=ast.Constant(value=v)) if isinstance(v, complex):
            return complex(ast.unparse(node).replace(" ", ""))
    return parse_dim(ast.unparse(node), dims)
