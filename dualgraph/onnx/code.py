"""A graph as Python source that does the same in this framework's own functions."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from dualgraph_compiler.dims import Apply, Dim, DimLike, Symbol, as_linear
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.graph import Graph, Node, Value, to_text
from dualgraph_compiler.graph.nested import definitions

from .code_forms import FORMS, number

INLINE = 16  # elements: larger constants are buffers
_LONGEST_NAME = 30
_RESERVED = {"self", "dg", "nn", "F", "max", "float"}


def python_code(graph: Graph, held: Mapping[Value, str], name: str = "Net") -> str:
    """Source of a class `name` that computes `graph`; `held` are the names of its tensors."""
    return "\n".join(_Printer(graph, held).lines(name)) + "\n"


class _Printer:
    def __init__(self, graph: Graph, held: Mapping[Value, str]) -> None:
        self.graph = graph
        self.held = held
        self._taken = set(_RESERVED)
        self.names: dict[Value, str] = {}
        self._is_narrow = False  # whether the node being written computes in float32 at most
        self._sizes: dict[str, str] = {}  # symbol -> the local variable that holds it
        for v in graph.inputs:
            self.names[v] = self._name(v.name or "x")
        for v, path in held.items():
            self.names[v] = "self" + "".join(
                f"[{piece}]" if piece.isdigit() else f".{piece}" for piece in path.split(".")
            )

    def lines(self, name: str) -> list[str]:
        """The whole source."""
        out = [
            f'"""{self.graph.name}: {len(self.graph)} nodes."""',
            "",
            "import dualgraph as dg",
            "import dualgraph.nn.functional as F",
            "",
            "",
            f"class {name}(dg.onnx.Part):",
            "    def __init__(self):",
            "        super().__init__()",
        ]
        parameters = set(self.graph.params)
        for v, path in self.held.items():
            kind = "parameter" if v in parameters and _is_parameter(v) else "buffer"
            shape = tuple(np.shape(v.data))
            out.append(f"        self.{kind}({path!r}, {shape}, dg.{v.dtype.name})")
        inputs = "".join(f", {self.names[v]}" for v in self.graph.inputs)
        out += ["", f"    def forward(self{inputs}):"]
        out += [f"        {line}" for line in self._body()]
        return out

    def _body(self) -> list[str]:
        out = self._given_sizes()
        defined: dict[Node, list[tuple[str, Value, int]]] = {}
        for symbol, (v, axis) in definitions(self.graph).items():
            assert v.node is not None
            defined.setdefault(v.node, []).append((symbol, v, axis))
        for node in self.graph.nodes:
            targets = [self._target(v) for v in node.outputs]
            line = f"{', '.join(targets)} = {self._expression(node)}"
            where = f"  # {node.loc}" if node.loc is not None else ""
            out += (line + where).split("\n")
            for symbol, v, axis in defined.get(node, ()):
                out.append(f"{self._size_name(symbol)} = {self.names[v]}.shape[{axis}]")
        results = [self.operand(v) for v in self.graph.outputs]
        return [*out, f"return {', '.join(results)}"]

    def _given_sizes(self) -> list[str]:
        """Local variables for the sizes that the inputs tell, where they are read."""
        wanted = {s.name for n in self.graph.nodes for s in n.op.symbols()}
        out = []
        for simple in (True, False):
            for v in self.graph.inputs:
                for axis, d in enumerate(v.shape):
                    linear = None if isinstance(d, int) else as_linear(d)
                    if linear is None or linear[0].name in self._sizes:
                        continue
                    symbol, factor, constant = linear
                    if symbol.name not in wanted or ((factor, constant) == (1, 0)) != simple:
                        continue
                    text = f"{self.names[v]}.shape[{axis}]"
                    text = f"({text} - {constant})" if constant else text
                    text += f" // {factor}" if factor != 1 else ""
                    out.append(f"{self._size_name(symbol.name)} = {text}")
        return out

    def _size_name(self, symbol: str) -> str:
        if symbol not in self._sizes:
            self._sizes[symbol] = self._name(symbol)
        return self._sizes[symbol]

    def _name(self, wish: str) -> str:
        """A variable that is not taken, called `wish` if that can be."""
        wish = re.sub(r"\W", "_", wish, flags=re.ASCII)
        if not wish.isidentifier() or keyword.iskeyword(wish):
            wish = f"v{wish}" if wish[:1].isdigit() else f"{wish or 'v'}_"
        name, i = wish, 1
        while name in self._taken:
            name, i = f"{wish}_{i}", i + 1
        self._taken.add(name)
        return name

    def _target(self, v: Value) -> str:
        if not v.uses and v not in self.graph.outputs:
            return "_"
        assert v.node is not None
        last = re.split(r"[/.:]", v.name)[-1]
        good = last.isidentifier() and len(last) <= _LONGEST_NAME
        self.names[v] = self._name(last if good else v.node.op.name)
        return self.names[v]

    # -- expressions ------------------------------------------------------------------------------

    def _expression(self, node: Node) -> str:
        floats = [v.dtype for v in node.inputs if v.dtype.is_differentiable]
        self._is_narrow = all(d.itemsize <= 4 for d in floats)
        form = FORMS.get(node.op.name)
        found = None if form is None else form(self, node)
        return found if found is not None else self._call(node)

    def _call(self, node: Node) -> str:
        """The op by name, which any has."""
        op = node.op
        parts = [repr(op.name), *map(self.operand, node.inputs)]
        graphs = {n: getattr(op, n) for n in op.bodies}
        for f in fields(op):
            if f.name not in graphs:
                parts.append(f"{f.name}={self.value(getattr(op, f.name))}")
        for name, graph in graphs.items():
            text = to_text(graph, full=True).replace("\\", "\\\\")
            parts.append(f'{name}=dg.onnx.body("""\n{text}\n""")')
        inner = {s.name for g in graphs.values() for s in _symbols_of(g)} & set(self._sizes)
        if inner:
            sizes = ", ".join(f"{n!r}: {self._sizes[n]}" for n in sorted(inner))
            parts.append(f"symbols={{{sizes}}}")
        return f"dg.onnx.call({', '.join(parts)})"

    def operand(self, v: Value) -> str:
        """The tensor `v` as an expression."""
        if v in self.names:
            return self.names[v]
        return f"dg.tensor({_literal(v.data)}, dtype=dg.{v.dtype.name})"

    def scalar(self, v: Value) -> str | None:
        """A 0-d constant as a Python number, or None."""
        if v in self.names or not v.is_constant or v.ndim != 0:
            return None
        return number(v.data)

    def value(self, x: Any) -> str:
        """An attribute as an expression."""
        if isinstance(x, Dim):
            return self.size(x)
        if isinstance(x, DType):
            return f"dg.{x.name}"
        if isinstance(x, tuple):
            return f"({', '.join(map(self.value, x))}{',' if len(x) == 1 else ''})"
        if isinstance(x, float):
            short = np.float32(x)  # as files hold it; beside float32 that is no other number
            return number(np.asarray(short if self._is_narrow and short == x else x))
        if isinstance(x, complex):
            return number(np.asarray(x))
        return repr(x)

    def size(self, d: DimLike, *, inside: bool = False) -> str:
        """A size as Python arithmetic on the variables that hold sizes.

        In parentheses where it is `inside` of more arithmetic and needs them.
        """
        if isinstance(d, int):
            return str(d)
        parts = []
        for monomial, c in d.terms:
            factors = [self._atom(a) for a in monomial]
            if c != 1 or not factors:
                factors.insert(0, str(c))
            parts.append(" * ".join(factors))
        text = " + ".join(parts).replace("+ -", "- ")
        return f"({text})" if inside and " " in text else text

    def _atom(self, atom: Any) -> str:
        if isinstance(atom, Symbol):
            known = self._sizes.get(atom.name)
            return known or f"dg.onnx.fresh_size({atom.name!r})"  # which this very node tells
        assert isinstance(atom, Apply)
        left, right = (self.size(d, inside=True) for d in (atom.left, atom.right))
        return f"({left} // {right})" if atom.function == "floordiv" else f"max({left}, {right})"

    def type(self, v: Value) -> Any:
        """The type of a value."""
        return v.type


def _is_parameter(v: Value) -> bool:
    from .module import _is_statistic

    return v.dtype.is_floating_point and not _is_statistic(v)


def _symbols_of(graph: Graph) -> Sequence[Symbol]:
    from dualgraph_compiler.graph.nested import free_symbols

    return sorted(free_symbols(graph), key=lambda s: s.name)


def _literal(data: Any) -> str:
    """An array of a few elements as nested lists."""
    array = np.asarray(data)
    if array.ndim == 0:
        return number(array)
    return f"[{', '.join(_literal(a) for a in array)}]"
