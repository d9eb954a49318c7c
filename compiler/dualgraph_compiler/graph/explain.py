"""Why operands do not fit: both sides with their types and lines, and where their sizes come from.

The message of an error that an op's inference raises, continued with what the graph knows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ..dims import Dim, DimLike, differ, symbols
from ..dims.expressions import Apply
from ..errors import DualGraphError, ShapeError
from .core import Graph, Value

_OPERANDS_SHOWN = 4


def explain(graph: Graph, inputs: Sequence[Value], error: DualGraphError) -> None:
    """Add to an error's message where the operands and their symbolic sizes come from."""
    lines = [f"  {_operand(graph, v)}" for v in inputs[:_OPERANDS_SHOWN]]
    if len(inputs) > _OPERANDS_SHOWN:
        lines.append(f"  and {len(inputs) - _OPERANDS_SHOWN} more operands")
    names = {s.name for v in inputs for d in v.shape for s in symbols(d)}
    lines += [f"  {line}" for name in sorted(names) for line in _declaration(graph, name)]
    sizes = error.sizes if isinstance(error, ShapeError) else None
    if sizes is not None:
        lines += [f"  {line}" for line in compare(*sizes)]
    if lines:
        error.args = ("\n".join([str(error), *lines]), *error.args[1:])


def _operand(graph: Graph, v: Value) -> str:
    where = "" if v.location is None else f" at {v.location.file}:{v.location.line}"
    if v.node is not None:
        name = f" {v.name!r}" if v.name else ""
        return f"{v.type}{name}: the result of {v.node.op.name}{where}"
    if graph.owns_constant(v):
        return f"{v.type}{' ' + repr(v.name) if v.name else ''}: a constant"
    kind = "an input" if v in graph.inputs else "a parameter or buffer"
    return f"{v.type} {v.name!r}: {kind}{', declared' + where if where else ''}"


def _declaration(graph: Graph, name: str) -> Iterator[str]:
    """Where the symbol was declared: the first input that has it as a size, and its bounds."""
    for v in graph.inputs:
        for axis, d in enumerate(v.shape):
            for s in symbols(d):
                if s.name == name:
                    where = "" if v.location is None else f" ({v.location})"
                    whole = "" if isinstance(d, Dim) and d.name else f", {d}"
                    place = f"dimension {axis}{whole} of {v.name!r}{where}"
                    yield f"{name}{_limits(s)}: declared as {place}"
                    return


def _limits(symbol: Any) -> str:
    if symbol.max is not None:
        return f" (within [{symbol.min}, {symbol.max}])"
    return f" (at least {symbol.min})" if symbol.min else ""


def compare(left: DimLike, right: DimLike) -> Iterator[str]:
    """What is known of two sizes that should be equal, and what to declare if they are."""
    if isinstance(left, int) and isinstance(right, int):
        return
    if differ(left, right):
        yield f"{left} and {right} differ, whatever the symbolic sizes are"
        return
    for a, b in ((left, right), (right, left)):
        if isinstance(a, Dim) and a.name is not None and isinstance(b, int):
            yield f"{a} may be other than {b}: give that dimension its size, {b}, or both one name"
            return
        if isinstance(a, Dim) and isinstance(b, Dim) and a.name is not None and b.name is not None:
            yield f"{a} and {b} may differ: if they are always equal, declare both with one name"
            return
    yield f"whether {left} == {right} for all sizes is not known{_when_equal(left - right)}"


def _when_equal(difference: Any) -> str:
    """What to declare so that the difference of two sizes is zero, where it is one atom."""
    if len(difference.terms) == 1 and len(difference.terms[0][0]) == 1:
        atom = difference.terms[0][0][0]
        if isinstance(atom, Apply) and atom.function == "max" and isinstance(atom.right, Dim):
            return _bound(atom.right)
    common = math.gcd(*(c for _, c in difference.terms))
    for text in (str(difference // common), str(-difference // common)):
        match = re.fullmatch(r"mod\((\w+), (\d+)\)", text)
        if match:
            name, divisor = match.groups()
            return f': declare {name} as a multiple, {divisor}*Dim("{name}")'
    return "; if they are, declare the sizes so that it follows"


def _bound(x: Dim) -> str:
    """What bound makes ``max(0, x)`` zero, where `x` is a symbol and a number."""
    moved = x - x.constant
    if isinstance(moved, Dim) and moved.name is not None:
        most = -x.constant
        return f': they are where {moved} <= {most}; declare Dim("{moved}", max={most})'
    return f": they are where {x} <= 0"
