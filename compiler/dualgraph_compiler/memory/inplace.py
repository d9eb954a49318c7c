"""In-place planning: which results are computed into memory that nobody needs any longer.

Two kinds. A result may take the memory of an operand that is last read by the very node. And the
new value of some state may be *donated* the memory of the old one, an input or param: the caller
says which output replaces which.

A run that fails must leave state as it was. So all nodes that write to donated memory come last,
after every node that might fail: they are kernels that, by the contract of ``Op.eager_into``, fail
for nothing but want of memory. Nothing reads their results, so they may always be moved there;
among themselves they are ordered so that whoever reads the old value comes before whoever
overwrites it, and where that goes round in a circle (two states that swap), one of them is
computed beside its target and left for the caller to copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import ArgumentError
from ..graph.alias import Aliases
from ..graph.core import Graph, Node, Value


@dataclass(frozen=True, slots=True, eq=False)
class InPlacePlan:
    """Nodes in the order to run them, and what is computed where.

    `reused`: results that take the memory of an operand, and of which. `donated`: outputs computed
    into the memory of an input or param, by index of the output. The nodes that write to donated
    memory are `order[first_write:]`; before, no state is touched.
    """

    graph: Graph
    order: tuple[Node, ...]
    reused: dict[Value, Value]
    donated: dict[int, Value]
    first_write: int

    def homes(self) -> dict[Value, Value]:
        """For results of nodes computed in place, whose memory it is in the end."""
        homes: dict[Value, Value] = {self.graph.outputs[i]: v for i, v in self.donated.items()}
        for node in self.order:
            for v in node.outputs:
                if v in self.reused:
                    homes[v] = homes.get(self.reused[v], self.reused[v])
        return homes

    def __str__(self) -> str:
        donated = ", ".join(f"{v.name or v.type} <- output {i}" for i, v in self.donated.items())
        return (
            f"{len(self.reused)} of {len(self.order)} nodes in an operand's memory; "
            f"donated: {donated or 'nothing'}"
        )


def plan_in_place(
    graph: Graph, donate: Iterable[tuple[int, Value]] = (), *, row_major: bool = False
) -> InPlacePlan:
    """Plan `graph`, of which output `i` is the new value of the input or param `v` for (i, v).

    A pair is a permission: those that cannot be donated safely are left out of the plan.
    `row_major` is what :class:`Aliases` takes.

    Raises:
        ArgumentError: a pair that names no output, or neither an input nor a param, or whose types
            differ.
    """
    aliases = Aliases(graph, row_major=row_major)
    homes = _Donations(aliases, checked_pairs(graph, donate))
    order, donated = homes.schedule()
    late = set(donated)
    first_write = len(order) - sum(any(v in late for v in n.outputs) for n in order)
    settled = Aliases(graph, order, row_major=row_major)
    reused = _reused(settled, first_write)
    index = {v: i for i, v in enumerate(graph.outputs)}
    return InPlacePlan(
        graph, tuple(order), reused, {index[v]: home for v, home in donated.items()}, first_write
    )


def checked_pairs(graph: Graph, donate: Iterable[tuple[int, Value]]) -> dict[Value, Value]:
    """What replaces which input or param, for numbers of outputs and what they replace.

    Raises:
        ArgumentError: as :func:`plan_in_place`.
    """
    state = {*graph.inputs, *graph.params}
    out: dict[Value, Value] = {}
    for i, target in donate:
        if not 0 <= i < len(graph.outputs):
            raise ArgumentError(f"there is no output {i} to donate memory to")
        value = graph.outputs[i]
        if target not in state:
            raise ArgumentError(f"{target!r} is neither an input nor a param: it cannot be donated")
        if value.type != target.type:
            raise ArgumentError(f"output {i} is {value.type}: it cannot replace {target.type}")
        out[value] = target
    return out


class _Donations:
    """Finds which donations are safe, and an order of the nodes in which they are."""

    def __init__(self, aliases: Aliases, wanted: dict[Value, Value]) -> None:
        self.aliases = aliases
        graph = aliases.graph
        self._kept = set(graph.outputs)
        times = {v: graph.outputs.count(v) for v in wanted}
        taken = list(wanted.values())
        self.wanted = {
            v: target
            for v, target in wanted.items()
            if v.node is not None
            and v.node.op.writes_into
            and v.node.op.is_pure
            and not v.node.op.symbols()  # sizes are put into the other nodes only
            and aliases.owns(v)
            and times[v] == 1
            and taken.count(target) == 1
            and not any(out.uses for out in v.node.outputs)
            and not aliases.escapes(target)
        }

    def schedule(self) -> tuple[list[Node], dict[Value, Value]]:
        """The nodes in order, writers of donated memory last, and what is donated."""
        writers: dict[Node, None] = {}
        for node in self.aliases.nodes:
            self._drop_unsafe(node)
            if any(v in self.wanted for v in node.outputs):
                writers[node] = None
        last = self._sorted(list(writers))
        late = set(last)
        first = [n for n in self.aliases.nodes if n not in late]
        donated = {v: t for v, t in self.wanted.items() if v.node in late}
        return [*first, *last], donated

    def _drop_unsafe(self, node: Node) -> None:
        """Forget `node` as a writer unless every result of it that is wanted may be donated.

        It may not where the kernel reads the target's memory as something else.
        """
        for i, v in enumerate(node.outputs):
            target = self.wanted.get(v)
            if target is None:
                unsafe = v in self._kept
            else:
                unsafe = not may_overwrite(self.aliases, node, i, target)
            if unsafe:
                for other in node.outputs:
                    self.wanted.pop(other, None)
                return

    def _sorted(self, writers: list[Node]) -> list[Node]:
        """Writers ordered so that reading comes before overwriting; dropped where impossible."""
        waits: dict[Node, set[Node]] = {n: set() for n in writers}
        for node in writers:
            for v in node.outputs:
                target = self.wanted.get(v)
                if target is not None:
                    at = self.aliases.readers.get(target, ())
                    waits[node].update(self.aliases.nodes[i] for i in at)
            waits[node].intersection_update(writers)
            waits[node].discard(node)
        out: list[Node] = []
        pending = list(writers)
        while pending:
            done = set(out)
            ready = [n for n in pending if waits[n] <= done]
            if ready:
                out += ready
                pending = [n for n in pending if n not in set(ready)]
                continue
            # A circle: its first node reads and is computed before anything is overwritten.
            dropped = pending.pop(0)
            for v in dropped.outputs:
                self.wanted.pop(v, None)
            for others in waits.values():
                others.discard(dropped)
        return out


def may_overwrite(aliases: Aliases, node: Node, output: int, target: Value) -> bool:
    """Whether the kernel of `node` may write its result into the memory of `target`.

    It may not where it reads that memory by an operand that it does not know to be its output.
    """
    allowed = set(node.op.reusable(output, len(node.inputs)))
    return all(
        (v is target and i in allowed) or target not in aliases.storages[v]
        for i, v in enumerate(node.inputs)
    )


def _reused(aliases: Aliases, first_write: int) -> dict[Value, Value]:
    """Results that take over the memory of an operand which they are the last to read."""
    reused: dict[Value, Value] = {}
    given_away: set[Value] = set()
    for at, node in enumerate(aliases.nodes[:first_write]):
        if not node.op.writes_into:
            continue
        for i, out in enumerate(node.outputs):
            for operand in _candidates(node, i):
                if (
                    operand.node is not None
                    and operand.type == out.type
                    and operand not in given_away
                    and aliases.owns(operand)
                    and aliases.last_read(operand) == at
                    and not aliases.escapes(operand)
                    and may_overwrite(aliases, node, i, operand)
                ):
                    reused[out] = operand
                    given_away.add(operand)
                    break
    return reused


def _candidates(node: Node, output: int) -> Sequence[Value]:
    return [node.inputs[i] for i in node.op.reusable(output, len(node.inputs))]
