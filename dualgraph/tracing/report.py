"""What a compiled function has captured: the report of ``dg.compile``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from dualgraph_compiler.dims import symbols
from dualgraph_compiler.graph import Graph, Node, Value

from .cache import Cached, Kind
from .entry import Entry
from .guards import is_plain, shown
from .replay import Effect, GradSlot, Guarded, Number


@dataclass(frozen=True, slots=True)
class GraphReport:
    """One traced graph, in words.

    `why` it was traced; `calls` it has served; `seconds` tracing took. `specialised` are sizes and
    values of arguments that the graph is for, `symbolic` the sizes that may vary; `constants`
    arrays that are part of it, with the line that made use of them; `guarded` state that is
    compared at every call; `replayed` numbers read and Python effects made at every call; `written`
    state that the call overwrites; `branches` Python control flow that became part of the graph.
    `native` says which kernels its programs were compiled to, why there are boundaries between
    them, and which nodes are interpreted and why.
    """

    why: str
    calls: int
    seconds: float
    nodes: str
    inputs: tuple[str, ...]
    results: tuple[str, ...]
    reads: tuple[str, ...]
    written: tuple[str, ...]
    symbolic: tuple[str, ...]
    specialised: tuple[str, ...]
    constants: tuple[str, ...]
    guarded: tuple[str, ...]
    replayed: tuple[str, ...]
    branches: tuple[str, ...]
    native: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """The report, one line for each kind of thing there is."""
        yield f"{self.why}; {_count(self.calls, 'call')}, traced in {self.seconds * 1e3:.0f} ms"
        yield f"  nodes        {self.nodes}"
        for f in fields(self)[4:]:
            things = getattr(self, f.name)
            if f.name == "native":
                shown = things
            else:
                shown = _wrapped(things) if f.name in _NAMES else _limited(things)
            for i, line in enumerate(shown):
                yield f"  {'' if i else f.name:<12} {line}"

    def __str__(self) -> str:
        return "\n".join(self.lines())


# Fields that hold many short names, shown one after the other.
_NAMES = {"inputs", "results", "reads", "written", "replayed"}


@dataclass(frozen=True, slots=True)
class Fallback:
    """Calls that run eagerly, how many there were, and why."""

    why: str
    calls: int


@dataclass(frozen=True, slots=True)
class CompileReport:
    """What a compiled function has captured so far, and what it runs eagerly. Prints as text.

    `limits` say of kinds of calls that were traced too often what kept changing.
    """

    function: str
    graphs: tuple[GraphReport, ...]
    fallbacks: tuple[Fallback, ...]
    limits: tuple[str, ...]

    def __str__(self) -> str:
        calls = sum(g.calls for g in self.graphs) + sum(f.calls for f in self.fallbacks)
        lines = [f"compiled {self.function}: {_count(len(self.graphs), 'graph')}, "
                 f"{_count(calls, 'call')}"]  # fmt: skip
        for i, graph in enumerate(self.graphs, 1):
            first, *rest = graph.lines()
            lines += ["", f"graph {i}: {first}", *rest]
        for fallback in self.fallbacks:
            lines += ["", f"runs eagerly, {_count(fallback.calls, 'call')}: {fallback.why}"]
        lines += [line for limit in self.limits for line in ("", f"traced too often: {limit}")]
        return "\n".join(lines)


def report_on(function: str, kinds: Sequence[Kind]) -> CompileReport:
    """The report on everything that is cached."""
    cached = [(kind, c) for kind in kinds for c in reversed(kind.entries)]
    return CompileReport(
        function,
        tuple(_graph(kind, c) for kind, c in cached if c.entry is not None),
        tuple(Fallback(c.fallback, c.calls) for _, c in cached if c.entry is None),
        tuple(kind.summary() for kind in kinds if kind.full),
    )


def _graph(kind: Kind, cached: Cached) -> GraphReport:
    assert cached.entry is not None
    traced = cached.entry.traced
    graph, capture = traced.graph, traced.capture
    written = [_output(graph, i) for _, i, _ in traced.writes]
    written += [_output(graph, i) for _, i in traced.slot_writes]
    written += [f"gradient of {_gradient(slot)}" for slot, _ in traced.grads]
    written += [f"{c.place.name}: {_HOW[c.how]}" for c in traced.changes]
    results = [f"{n}: {v.type}" for n, v in zip(graph.output_names, graph.outputs, strict=True)]
    return GraphReport(
        why=cached.why,
        calls=cached.calls,
        seconds=cached.seconds,
        nodes=_nodes(graph),
        inputs=tuple(f"{v.name}: {v.type}" for v in graph.inputs),
        results=tuple(results[: traced.n_results]),
        reads=tuple(f"{v.name}: {v.type}" for v in graph.params),
        written=tuple(written),
        symbolic=tuple(_symbolic(graph)),
        specialised=tuple(_specialised(kind, cached)),
        constants=tuple(_constants(graph)),
        guarded=tuple(_guarded(cached, capture.replay)),
        replayed=tuple(_replayed(capture.replay)),
        branches=tuple(map(str, capture.branches)),
        native=tuple(_native(cached.entry)),
    )


def _native(entry: Entry) -> Iterator[str]:
    """The native code that there is by now."""
    for name, program in entry.programs():
        for i, line in enumerate(program.report().splitlines()):
            yield _shortened(line) if i else f"{name}: {line}"


_HOW = {
    "assign": "assigned",
    "add": "counted on",
    "extend": "extended",
    "fill": "filled anew",
}


def _output(graph: Graph, index: int) -> str:
    return graph.output_names[index].removesuffix(".new")


def _gradient(slot: GradSlot) -> str:
    return slot.owner or "a leaf"


def _nodes(graph: Graph) -> str:
    kinds = Counter(node.op.name for node in graph.nodes)
    shown = ", ".join(f"{name} {n}" if n > 1 else name for name, n in kinds.most_common(8))
    return f"{len(graph)} ({shown}{', ...' * (len(kinds) > 8)})"


def _symbolic(graph: Graph) -> Iterator[str]:
    found = {s for v in graph.inputs for d in v.type.shape for s in symbols(d)}
    for s in sorted(found, key=str):
        at = [f"{v.name} dim {i}" for v in graph.inputs for i, d in enumerate(v.type.shape)
              if s in symbols(d)]  # fmt: skip
        yield f"{s}: {', '.join(at)}"


def _specialised(kind: Kind, cached: Cached) -> Iterator[str]:
    """Values and sizes of arguments that the graph is for, and why."""
    yield from kind.values_in_words(cached.values)
    for (i, axis), why in kind.sizes.fixed.items():
        yield f"{kind.sizes.label((i, axis))}: {why}"
    for answer in cached.pattern.answers:
        yield f"sizes with {answer}"


def _constants(graph: Graph) -> Iterator[str]:
    """Arrays that are part of the graph, and the line they were first used at; numbers together."""
    numbers = 0
    for value, node in _baked(graph):
        if value.type.ndim == 0:
            numbers += 1
            continue
        where = f"  # {node.loc}" if node is not None and node.loc is not None else ""
        yield f"{value.type}, {value.data.nbytes} bytes{where}"
    if numbers:
        yield _count(numbers, "number")


def _baked(graph: Graph) -> Iterator[tuple[Value, Node | None]]:
    first: dict[Value, Node] = {}
    for node in graph.nodes:
        for v in node.inputs:
            first.setdefault(v, node)
        for x in node.op.attributes().values():
            if isinstance(x, Graph):
                yield from _baked(x)
    for v in graph.constants:
        yield v, first.get(v)


def _guarded(cached: Cached, replay: Sequence[Any]) -> Iterator[str]:
    """What is compared at every call: values first, then objects that are to be the same."""
    objects = 0
    for guard in cached.guards.guards:
        if is_plain(guard.expected) or isinstance(guard.expected, np.ndarray):
            yield str(guard)
        else:
            objects += 1
    for step in replay:
        if isinstance(step, Guarded):
            yield f"{step.what} is {shown(step.expected)}"
    tensors, modules = len(cached.guards.state), len(cached.guards.modules)
    if tensors:
        yield f"dtype, shape and requires_grad of {_count(tensors, 'tensor')}"
    if modules:
        yield f"what {_count(modules, 'module')} consist{'s' * (modules == 1)} of"
    if objects:
        yield f"which {_count(objects, 'object')} (functions, modules, containers) the code finds"


def _replayed(replay: Sequence[Any]) -> Iterator[str]:
    yield from (step.name for step in replay if isinstance(step, Number))
    effects = sum(isinstance(step, Effect) for step in replay)
    if effects:
        yield _count(effects, "Python effect")


def _wrapped(things: Sequence[str], width: int = 84, most: int = 4) -> list[str]:
    """Things one after the other, on a few lines."""
    lines: list[str] = []
    for i, thing in enumerate(things):
        if lines and len(lines[-1]) + len(thing) + 2 <= width:
            lines[-1] += f", {thing}"
        elif len(lines) == most:
            return [*lines, f"and {len(things) - i} more"]
        else:
            lines.append(thing)
    return lines


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."


def _limited(things: Sequence[str], most: int = 12) -> list[str]:
    shown = [_shortened(thing) for thing in things[:most]]
    return [*shown, f"and {len(things) - most} more"] if len(things) > most else shown


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
