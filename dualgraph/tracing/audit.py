"""``dg.audit``: what the graph of a function holds fixed although it varies."""

from __future__ import annotations

import inspect
import itertools
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

import dualgraph_compiler
from dualgraph_compiler.dims import Dim
from dualgraph_compiler.errors import DualGraphError, TraceError
from dualgraph_compiler.graph import Graph, Location, Node, Value, interpret

from .._tensor import Tensor
from ..functions import tensor
from . import tree
from .failure import OURS
from .trace import trace_call

# capture  the function does what a graph cannot do
# call     differs from one call to the next, with equal arguments
# value    differs with the elements of a tensor argument
# size     a size of an argument that is free in eager code, and fixed in the graph
# number   a Python number that is part of the graph, so that each one is traced anew
FindingKind: TypeAlias = Literal["capture", "call", "value", "size", "number"]

_COMPILER = str(Path(dualgraph_compiler.__file__).parent)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is frozen: of what kind, in words, and the user's line."""

    kind: FindingKind
    what: str
    where: Location | None = None

    def __str__(self) -> str:
        where = f"  # {self.where}" if self.where is not None else ""
        return f"{self.kind:<8}{self.what}{where}"


@dataclass(frozen=True, slots=True)
class Audit:
    """What :func:`audit` found, after tracing `function` so many times. False if nothing."""

    function: str
    findings: tuple[Finding, ...]
    traces: int

    def __bool__(self) -> bool:
        return bool(self.findings)

    def __str__(self) -> str:
        count = len(self.findings)
        found = "nothing is frozen" if not count else f"{count} finding{'s' * (count > 1)}"
        head = f"audit of {self.function}: {found} in {self.traces} traces"
        return "\n  ".join([head, *map(str, self.findings)])


def audit(function: Callable[..., Any], *examples: Any) -> Audit:
    """What a graph of `function` would hold fixed although it varies, with the lines of code.

    The function is traced again and again: with equal arguments, with other elements in its tensors
    (floats moved, the rest reordered), with other numbers, and with each size one larger; graphs
    that should be equal are compared node by node. What tensors hold is afterwards as before; other
    effects of `function` happen once for each trace.

    Args:
        function: a module or any callable.
        examples: arguments it may be called with, each a tuple, or one tensor alone.

    A compiled function takes care of what is found here, by tracing again or by running eagerly; an
    exported model cannot.
    """
    if not examples:
        raise TypeError("audit: expected at least one example of the arguments, got none")
    auditor = _Auditor(function)
    calls = [e if isinstance(e, tuple) else (e,) for e in examples]
    for i, args in enumerate(calls):
        if auditor.traced(args) is None:
            continue
        auditor.compare("call", args, args, "with equal arguments")
        auditor.compare("value", args, _map(_other_elements, args), "with other elements")
        for other in calls[:i]:
            if _kind(other) == _kind(args):
                auditor.compare("value", args, other, "between the examples")
        auditor.numbers(args)
        auditor.sizes(args)
    name = getattr(function, "__qualname__", None) or type(function).__name__
    return Audit(name, tuple(auditor.findings), auditor.traces)


class _Auditor:
    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.findings: dict[Finding, None] = {}  # in the order found
        self.traces = 0

    def add(self, kind: FindingKind, what: str, where: Location | None = None) -> None:
        """Note a finding, once: what differs between two calls need not be said of others."""
        again = any(f.where == where and f.kind == "call" for f in self.findings)
        if where is None or not again:
            self.findings[Finding(kind, what, where)] = None

    def graph(self, args: Sequence[Any], shapes: Sequence[Any] | None = None) -> Graph:
        """The whole graph of a call, with what it writes among the outputs."""
        self.traces += 1
        return trace_call(self.function, args, {}, dynamic_shapes=shapes).graph

    def traced(self, args: Sequence[Any]) -> Graph | None:
        """The graph of a call, or None where there is a finding instead."""
        try:
            return self.graph(args)
        except TraceError as error:
            self.add("capture", str(error), _raised_at(error))
            return None

    def compare(
        self, kind: FindingKind, args: Sequence[Any], other: Sequence[Any], how: str
    ) -> None:
        """Find what differs between the graphs of two calls that should have the same one."""
        one, two = self.traced(args), self.traced(other)
        if one is not None and two is not None:
            for what, where in differences(one, two):
                self.add(kind, f"{what}, {how}", where)

    def flatten(self, args: Sequence[Any]) -> list[tuple[str, Any]]:
        """The leaves of the arguments under the names of the parameters."""
        function = getattr(self.function, "forward", self.function)
        try:
            bound = inspect.signature(function).bind(*args).arguments
        except (TypeError, ValueError):  # a builtin without a signature
            bound = {"args": args}
        return [leaf for name, x in bound.items() for leaf in tree.flatten(x, name)]

    def numbers(self, args: Sequence[Any]) -> None:
        """Find Python numbers that the graph depends on."""
        for i, (path, leaf) in enumerate(self.flatten(args)):
            if type(leaf) not in (int, float):
                continue
            new = leaf + 1 if type(leaf) is int else leaf * 1.25 + 0.125
            other = _replaced(args, i, new)
            try:
                found = next(differences(self.graph(args), self.graph(other)), None)
            except (DualGraphError, ValueError, TypeError, IndexError):  # not a number it may take
                continue
            if found is not None:
                what = f"{path} = {leaf!r} is part of the graph ({found[0]})"
                self.add("number", what, found[1])

    def sizes(self, args: Sequence[Any]) -> None:
        """Find sizes that calls may vary and a graph may not."""
        done: set[tuple[int, int]] = set()
        tensors = [(p, x) for p, x in self.flatten(args) if isinstance(x, Tensor)]
        for i, (path, t) in enumerate(tensors):
            for axis, n in enumerate(t.shape):
                if (i, axis) in done or not n:
                    continue
                equal = {
                    (j, a)
                    for j, (_, x) in enumerate(tensors)
                    for a, m in enumerate(x.shape)
                    if m == n
                }
                for group in ({(i, axis)}, equal):
                    larger = _larger(args, group)
                    try:
                        fixed = self.graph(larger)
                    except Exception:  # eager code refuses this size as well: it is not free
                        continue
                    done |= group
                    self._size(f"dimension {axis} of {path}", args, group, larger, fixed)
                    break

    def _size(
        self, what: str, args: Sequence[Any], group: set[tuple[int, int]], larger: Any, fixed: Graph
    ) -> None:
        try:
            graph = self.graph(args, _dynamic(args, group))
        except DualGraphError as error:
            self.add("size", f"{what} cannot vary in a graph: {error}", _raised_at(error))
            return
        if any(f.kind == "call" for f in self.findings):
            return  # results differ anyhow
        feeds = [x.detach().numpy() for _, x in tree.flatten(larger) if isinstance(x, Tensor)]
        results = zip(interpret(graph, feeds), interpret(fixed, feeds), strict=False)
        for name, (a, b) in zip(fixed.output_names, results, strict=False):
            if a.shape != b.shape or not np.allclose(a, b, 1e-4, 1e-5, equal_nan=True):
                self.add("size", f"{what}: {name} is wrong for sizes other than the traced one")


def differences(a: Graph, b: Graph) -> Iterator[tuple[str, Location | None]]:
    """How two graphs differ, in words, and at which line; up to where they part for good."""
    at: list[dict[Value, Any]] = [{}, {}]
    for graph, numbers in zip((a, b), at, strict=True):
        numbers.update((v, i) for i, v in enumerate([*graph.inputs, *graph.params]))
    seen: set[Value] = set()
    for n, (x, y) in enumerate(itertools.zip_longest(a.nodes, b.nodes)):
        if x is None or y is None or type(x.op) is not type(y.op):
            node = x or y
            yield f"{_called(x)} in one graph is {_called(y)} in another", node.loc
            return
        yield from ((what, x.loc) for what in _attributes(x, y))
        for p, q in zip(x.inputs, y.inputs, strict=False):
            if p.is_constant and q.is_constant:
                if p not in seen and not _same(p.data, q.data):
                    yield f"a constant is {_shown(p.data)} or {_shown(q.data)}", x.loc
                seen.add(p)
            elif at[0].get(p, p.is_constant) != at[1].get(q, q.is_constant):
                yield f"{_called(x)} reads other operands", x.loc
        for numbers, node in zip(at, (x, y), strict=True):
            numbers.update((v, (n, i)) for i, v in enumerate(node.outputs))
    for p, q in zip(a.outputs, b.outputs, strict=False):
        if p.is_constant and q.is_constant and not _same(p.data, q.data):
            yield f"a result is the constant {_shown(p.data)} or {_shown(q.data)}", None


def _raised_at(error: Exception) -> Location | None:
    """The user's line that led to an error, unless its message names one."""
    found = None
    if getattr(error, "place", None) is None:
        for frame, line in traceback.walk_tb(error.__traceback__):
            code = frame.f_code
            if not code.co_filename.startswith((OURS, _COMPILER)):
                found = Location(code.co_filename, line, code.co_name)
    return found


def _attributes(x: Node, y: Node) -> Iterable[str]:
    there = y.op.attributes()
    for name, u in x.op.attributes().items():
        v = there[name]
        if isinstance(u, Graph) and isinstance(v, Graph):
            yield from (f"in {name}, {what}" for what, _ in differences(u, v))
        elif u != v and not (u != u and v != v):
            yield f"{name} of {_called(x)} is {u!r} or {v!r}"


def _called(node: Node | None) -> str:
    return "nothing" if node is None else node.op.name


def _same(a: Any, b: Any) -> bool:
    return bool(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))


def _shown(data: Any) -> str:
    if data.size <= 4:
        return np.array2string(data, precision=4, separator=", ")
    first = ", ".join(f"{x:.4g}" for x in data.flat[:3])
    return f"[{first}, ...] of shape {list(data.shape)}"


def _map(function: Callable[[Any], Any], args: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(tree.map_leaves(function, x) for x in args)


def _replaced(args: Sequence[Any], index: int, new: Any) -> tuple[Any, ...]:
    """The arguments with another leaf in the place of the one numbered `index`."""
    count = itertools.count()
    return _map(lambda leaf: new if next(count) == index else leaf, args)


def _kind(args: Sequence[Any]) -> list[Any]:
    return [
        (path, x.dtype, tuple(x.shape)) if isinstance(x, Tensor) else (path, type(x), repr(x))
        for path, x in tree.flatten(args)
    ]


def _like(t: Tensor, array: Any) -> Tensor:
    return tensor(array, dtype=t.dtype, device=t.device, requires_grad=t.requires_grad)


def _other_elements(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    array = leaf.detach().cpu().numpy()
    moved = array * 1.25 + 0.125 if leaf.dtype.is_floating_point else np.roll(array, 1)
    return _like(leaf, moved.astype(array.dtype))


def _larger(args: Sequence[Any], group: set[tuple[int, int]]) -> tuple[Any, ...]:
    """The arguments with the first slice once more at the end, along these axes of tensors."""
    count = itertools.count()

    def grow(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        i = next(count)
        array = leaf.detach().cpu().numpy()
        for axis in (a for j, a in group if j == i):
            array = np.concatenate([array, np.take(array, [0], axis)], axis)
        return _like(leaf, array)

    return _map(grow, args)


def _dynamic(args: Sequence[Any], group: set[tuple[int, int]]) -> list[list[dict[int, Dim]]]:
    """Specifications for `trace` that give these axes of tensors one symbolic size."""
    size = Dim("size")
    count = itertools.count()
    out = []
    for arg in args:
        held = [next(count) for _, x in tree.flatten(arg) if isinstance(x, Tensor)]
        out.append([{a: size for j, a in group if j == i} for i in held])
    return out
