"""Nested graphs: the bodies of `if`, `scan` and `loop`.

A body is closed: whatever it reads comes in through its inputs, so a pass that looks at one graph
need not know of any other. It holds constants but no params. Once an op holds it, a body never
changes; ops compare bodies by identity, a pass puts a rewritten copy in its place, and what is made
from a body (an interpreter, its gradient) is made once and kept by `derived`.

Sizes. A body is generic in the symbols that stand alone as a size of one of its inputs: they take
the operands' sizes, anew at each call. Its other symbols belong to the graph around it; they count
among the `symbols()` of the op that holds the body, whose `resolve` puts values in their place. An
op that `defines_sizes` has symbols of its own for the sizes of its results that only a run tells:
they take their values from the arrays it gives, and a node is kept while anything needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from ..dims import Dim, DimLike, Symbol, substitute, symbols
from ..errors import DTypeError, ShapeError
from ..types import TensorType
from .core import Graph, Value

_T = TypeVar("_T")
_derived: WeakKeyDictionary[Graph, dict[Hashable, Any]] = WeakKeyDictionary()


def derived(body: Graph, key: Hashable, make: Callable[[], _T]) -> _T:
    """What `make` gives, made once per body and key. It must not refer to the body itself."""
    known = _derived.setdefault(body, {})
    if key not in known:
        known[key] = make()
    return known[key]  # type: ignore[no-any-return]


# -- sizes ----------------------------------------------------------------------------------------


def bound_names(types: Sequence[TensorType]) -> set[str]:
    """The symbols that values of these types give a value: those that are a size by themselves."""
    return {d.name for t in types for d in t.shape if isinstance(d, Dim) and d.name is not None}


def definitions(graph: Graph) -> dict[str, tuple[Value, int]]:
    """The symbols that nodes define: for each, a result and the axis whose size it is."""
    found: dict[str, tuple[Value, int]] = {}
    if not any(node.op.defines_sizes for node in graph.nodes):
        return found
    known = {s.name for v in [*graph.inputs, *graph.params] for d in v.shape for s in symbols(d)}
    for node in graph.nodes:
        known.update(s.name for s in node.op.symbols())
        for v in node.outputs if node.op.defines_sizes else ():
            for axis, d in enumerate(v.shape):
                if isinstance(d, Dim) and d.name is not None and d.name not in known:
                    known.add(d.name)
                    found[d.name] = (v, axis)
    return found


def free_symbols(body: Graph) -> frozenset[Symbol]:
    """The symbols of a body that belong to the graph around it."""

    def find() -> frozenset[Symbol]:
        own = bound_names([v.type for v in body.inputs]) | inner_names(body)
        found = {s for v in body.inputs for d in v.shape for s in symbols(d)}
        for node in body.nodes:
            found |= node.op.symbols()
        return frozenset(s for s in found if s.name not in own)

    return derived(body, "free symbols", find)


def inner_names(body: Graph) -> frozenset[str]:
    """The symbols that mean nothing outside a body: those its nodes define."""
    return derived(body, "inner names", lambda: frozenset(definitions(body)))


def match_types(
    what: str, inputs: Sequence[Value], given: Sequence[TensorType]
) -> dict[str, DimLike]:
    """The sizes that a body's symbols take for operands of the types `given`.

    Raises:
        ShapeError, DTypeError: the body does not take such operands.
    """
    if len(inputs) != len(given):
        raise ShapeError(f"{what}: its body takes {len(inputs)} operands, got {len(given)}")
    env: dict[str, DimLike] = {}
    for v, t in zip(inputs, given, strict=True):
        if t.dtype is not v.dtype:
            raise DTypeError(f"{what}: expected {v.type} as {v.name or 'operand'}, got {t}")
        if t.ndim != v.ndim:
            raise ShapeError(f"{what}: expected {v.type} as {v.name or 'operand'}, got {t}")
        for d, n in zip(v.shape, t.shape, strict=True):
            if isinstance(d, Dim) and d.name is not None:
                env.setdefault(d.name, n)
    for v, t in zip(inputs, given, strict=True):
        if t != sized(v.type, env):
            wanted = sized(v.type, env)
            raise ShapeError(f"{what}: expected {wanted} as {v.name or 'operand'}, got {t}")
    return env


def sized(t: TensorType, env: Mapping[str, DimLike]) -> TensorType:
    """`t` with symbols replaced by sizes."""
    return t.with_shape(substitute(d, env) for d in t.shape) if env else t


# -- graphs from graphs ---------------------------------------------------------------------------


def inline(body: Graph, graph: Graph, operands: Sequence[Value]) -> list[Value]:
    """The body's outputs for `operands`, values of `graph`, whose next nodes are the body's."""
    env = match_types(body.name, body.inputs, [v.type for v in operands])
    env = {name: d for name, d in env.items() if d != Dim(name)}
    return _append(body, graph, dict(zip(body.inputs, operands, strict=True)), env)


def _append(
    body: Graph, graph: Graph, new: dict[Value, Value], env: Mapping[str, DimLike]
) -> list[Value]:
    for v in body.constants:
        new[v] = graph.constant(v.data, v.name)
    loc = graph.loc
    for node in body.nodes:
        graph.loc = node.loc or loc
        op = node.op.resolve(env) if env and node.op.symbols() else node.op
        types = [sized(v.type, env) for v in node.outputs]
        made = graph.add_node(op, [new[v] for v in node.inputs], types)
        new.update(zip(node.outputs, made.outputs, strict=True))
    graph.loc = loc
    graph.assume(*(a.sized(env) for a in body.assumptions))
    return [new[v] for v in body.outputs]


def resized(body: Graph, env: Mapping[str, DimLike]) -> Graph:
    """A copy of a body with the values `env` in place of symbols of the graph around it."""
    bound = bound_names([v.type for v in body.inputs])
    env = {name: d for name, d in env.items() if name not in bound}
    out = Graph(body.name)
    new = {v: out.add_input(sized(v.type, env), v.name) for v in body.inputs}
    out.set_outputs(_append(body, out, new, env), body.output_names)
    return out


def prune(graph: Graph) -> bool:
    """Erase the nodes and constants that no output needs; whether there were any."""
    kept = set(graph.outputs)
    before = len(graph)
    defining = any(node.op.defines_sizes for node in graph.nodes)
    sizes: set[str] = set()  # symbols that nodes kept so far need
    # Last to first: a node's consumers are gone before it is looked at, so one walk is enough.
    for node in graph.reversed_nodes():
        used = any(v.uses or v in kept for v in node.outputs)
        if node.op.defines_sizes and not used:
            used = not sizes.isdisjoint(bound_names([v.type for v in node.outputs]))
        if not used:
            graph.erase(node)
        elif defining:
            sizes.update(s.name for s in node.op.symbols())
    dropped = graph.drop_unused()
    return len(graph) != before or dropped > 0
