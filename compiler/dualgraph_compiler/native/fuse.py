"""Partition of a graph into steps: fused kernels, library calls, interpreted nodes.

A fused kernel is a set of loops over a space of *axes*, over some of which it may fold. Each value
in it has a *place*: for each of its dimensions the axis that counts it, or -1 where it does not
vary. So a row's maximum, the row minus it, and their quotient are all values of one kernel, and
transposing or adding dimensions of size 1 costs nothing. Ops that move elements have no kernel
unless memory is needed: their readers read through them.

Steps are kept in the order in which they will run. A node joins the step of the producer that comes
last, so that everything else it reads is there already and steps can never wait for each other in
a circle; afterwards a step with a single reader is joined to that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ..dims import DimLike
from ..graph import Graph, Node, Value
from ..graph.nested import definitions
from .index import Axis, Index, of_axis
from .joining import Joining
from .loops import Buffer, Load
from .lower import library, pointwise, taking
from .reading import Reading
from .steps import Partition, Place, Step, StepKind, classify, real_axes, renamed

__all__ = ["Partition", "Place", "Step", "StepKind", "partition", "renamed"]


def partition(graph: Graph, left: Mapping[Node, str] = MappingProxyType({})) -> Partition:
    """Partition `graph`; nodes in `left` are interpreted, for the reason that stands there."""
    return _Partitioner(graph, left).run()


class _Partitioner:
    def __init__(self, graph: Graph, left: Mapping[Node, str]) -> None:
        self.graph = graph
        self.epoch = _epochs(graph)
        self.nodes, self.early = _scalars_first(graph)
        if any(self.epoch.values()):  # then nodes keep their order
            self.nodes, self.early = list(graph.nodes), set()
        self.classes = {
            node: ("interpreted", left[node]) if node in left else classify(node)
            for node in self.nodes
        }
        self.virtual = {n for n, (c, _) in self.classes.items() if c == "virtual"}
        self.number = {n: i for i, n in enumerate(self.nodes)}
        self.steps: list[Step] = []
        self.step_of: dict[Node, Step] = {}
        self.free: set[Step] = set()  # those that read nothing but what is there from the start
        self.waiting: dict[Node, None] = {}  # pointwise nodes whose step their first reader decides
        self.aliases: dict[Value, Value] = {}
        self._sources: dict[Value, frozenset[Value]] = {}
        self._readers: dict[Value, set[Step | None]] = {}
        self.outputs = set(graph.outputs)

    def run(self) -> Partition:
        steps = Joining(self).run(self._grow())
        for step in steps:
            first = step.nodes[0] if step.kind is StepKind.LIBRARY else None  # stays the first
            step.nodes.sort(key=lambda n: (n is not first, self.number[n]))
            for node in step.nodes:
                step.stores += [v for v in node.outputs if self.is_stored(v, step)]
        return Partition(self.graph, steps, self.virtual, self.aliases)

    # -- growing ----------------------------------------------------------------------------------

    def _grow(self) -> list[Step]:
        for node in self.nodes:
            kind, reason = self.classes[node]
            if kind == "virtual":
                if not self._needs_memory(node.output) or self._is_alias(node.output):
                    continue
                kind = "copy"
            if kind == "pointwise" and self._is_free(node):
                self.waiting[node] = None
            else:
                self._settle(node, kind, reason)
        while self.waiting:
            self._settle(next(iter(self.waiting)), "pointwise", "")
        return self.steps

    def _settle(self, node: Node, kind: str, reason: str) -> None:
        """Find a step for a node, and for what has waited for it."""
        waited = self.waiting.pop(node, self) is None
        waiting = self._waiting_for(node)
        latest = self._latest(node)
        if waiting and kind == "pointwise" and latest is not None:
            here = self._may_join(latest, node, kind) and latest.epoch == self.epoch[node]
            if here and self._join_all(latest, node, waiting):
                return
            self.waiting.update(dict.fromkeys(waiting))
        for n in waiting:
            if n in self.waiting:
                self._settle(n, "pointwise", "")
        latest = self._latest(node)
        if kind in ("pointwise", "reduction", "copy"):
            if latest is not None and self._may_join(latest, node, kind):
                why = self._join(latest, node, kind)
                if why is None:
                    self.step_of[node] = latest
                    return
                reason = why
            elif latest is not None:
                reason = f"reads a {latest.kind.value} step"
            step = self._new(node, kind, len(self.steps))
        else:
            step = Step(StepKind(kind), [node], len(self.steps))
            if kind == "library" and len(node.outputs) == 1:
                step.axes = list(node.output.shape)
                whole = tuple(i if d != 1 else -1 for i, d in enumerate(step.axes))
                step.place[node.output] = whole
        if waited or node in self.early:
            self.free.add(step)
        step.reason, step.epoch = reason, self.epoch[node]
        self.step_of[node] = step
        self.steps.append(step)

    def _is_free(self, node: Node) -> bool:
        """Whether a node reads nothing but what is there from the start.

        It has no step until a reader has one, so that it can be computed where it is read.
        """
        return node not in self.early and all(
            s.node is None or s.node in self.early or s.node in self.waiting
            for v in node.inputs
            for s in self.sources(v)
        )

    def _waiting_for(self, node: Node) -> list[Node]:
        """The nodes without a step that a node reads, and those that they read, in order."""
        found: set[Node] = set()
        pending = [node]
        while pending:
            for v in pending.pop().inputs:
                for s in self.sources(v):
                    if s.node in self.waiting and s.node not in found:
                        found.add(s.node)
                        pending.append(s.node)
        return sorted(found, key=lambda n: self.number[n])

    def _join_all(self, step: Step, node: Node, waiting: Sequence[Node]) -> bool:
        """Add a pointwise node, and those that have waited for it, to a step: all or none."""
        before = len(step.nodes), dict(step.place), step.reduced
        fits = True
        for n in (node, *reversed(waiting)):  # a reader says where its operands are
            fits = fits and self._join(step, n, "pointwise") is None
            if fits:
                self.step_of[n] = step
        if fits and all(
            self._reads_in_place(step, n, v) for n in (node, *waiting) for v in n.inputs
        ):
            for n in waiting:
                self.waiting.pop(n, None)
            return True
        del step.nodes[before[0] :]
        _, step.place, step.reduced = before
        for n in (node, *waiting):
            self.step_of.pop(n, None)
        return False

    def _reads_in_place(self, step: Step, node: Node, value: Value) -> bool:
        """Whether a node finds a value of its step, seen through virtual ops, where the loops are.

        Not so where it is turned round, cut or read by an index, say.
        """
        if not any(s.node and self.step_of.get(s.node) is step for s in self.sources(value)):
            return True
        chain: list[Node] = []
        v = value
        while v.node is not None and v.node in self.virtual and v.node not in self.step_of:
            if v.node.op.name not in ("reshape", "permute", "expand"):
                return False
            chain.append(v.node)
            v = v.node.inputs[0]
        found: Place | None = step.place[v]
        for n in reversed(chain):
            found = renamed(n, found) if found is not None else None
        out = step.place[node.output][node.output.ndim - value.ndim :]
        return found is not None and all(f in (-1, p) for f, p in zip(found, out, strict=True))

    def _may_join(self, step: Step, node: Node, kind: str) -> bool:
        """Behind a library step what is pointwise, and cannot fail, is computed as it stores."""
        if step.epoch != self.epoch[node]:
            return False
        if step.kind is StepKind.FUSED:
            return True
        library = step.kind is StepKind.LIBRARY and len(step.nodes[0].outputs) == 1
        library = library and kind == "pointwise"
        return library and not pointwise.can_fail(node) and not any(map(self._checks, node.inputs))

    def _checks(self, value: Value) -> bool:
        """Whether reading a value reads indices, which may be out of range."""
        node = value.node
        if node is None or node not in self.virtual or node in self.step_of:
            return False
        return type(node.op) in taking.CHECKING or any(map(self._checks, node.inputs))

    def _latest(self, node: Node) -> Step | None:
        """The last of the steps that a node reads from."""
        sources = [s.node for v in node.inputs for s in self.sources(v)]
        steps = [self.step_of[n] for n in sources if n in self.step_of]
        # Free steps can run before any other.
        steps = [s for s in steps if s not in self.free] or steps
        return max(steps, key=lambda s: s.order, default=None)

    def _new(self, node: Node, kind: str, order: int) -> Step:
        shape = node.inputs[0].shape if kind == "reduction" else node.output.shape
        step = Step(StepKind.FUSED, [node], order, list(shape))
        whole = tuple(i if d != 1 else -1 for i, d in enumerate(shape))
        if kind == "reduction":
            step.place[node.inputs[0]] = whole
            self._reduce(step, node, whole)
        else:
            self._set_places(step, node, list(whole), kind)
        return step

    def _join(self, step: Step, node: Node, kind: str) -> str | None:
        """Add a node to a step, if it fits; else the reason why it does not."""
        if kind == "copy":
            place = self.place(step, node.output)
            shape = node.output.shape
            if place is None or any(p < 0 for p, d in zip(place, shape, strict=True) if d != 1):
                return f"{node.op.name} needs memory"
            step.place[node.output] = place
        elif kind == "reduction":
            place = self.place(step, node.inputs[0])
            shape = node.inputs[0].shape
            if place is None or any(p < 0 for p, d in zip(place, shape, strict=True) if d != 1):
                return "reads its operand through a change of shape"
            if not self._reduce(step, node, place):
                return "folds other axes"
        else:
            axes = self._axes_in(step, node)
            if isinstance(axes, str):
                return axes
            self._set_places(step, node, axes, kind)
        step.nodes.append(node)
        return None

    def _reduce(self, step: Step, node: Node, place: Place) -> bool:
        axes = node.op.attributes()["axes"]
        keepdims = node.op.attributes()["keepdims"]
        folded = frozenset(place[a] for a in axes if place[a] >= 0)
        if folded:
            covers = {p for p in place if p >= 0} == real_axes(step)
            if step.reduced is None and covers:
                step.reduced = folded
            elif step.reduced != folded:
                return False
        kept = [-1 if i in axes else p for i, p in enumerate(place)]
        step.place[node.output] = tuple(p for i, p in enumerate(kept) if keepdims or i not in axes)
        return True

    def _axes_in(self, step: Step, node: Node) -> list[int] | str:
        """The axes of `step` that count a pointwise node's dimensions, or why there are none."""
        shape = node.output.shape
        axes = list(step.place.get(node.output, (-1,) * len(shape)))
        hints: list[tuple[Value, Place]] = []
        for v in node.inputs:
            place = self.place(step, v)
            if any(s.node and self.step_of.get(s.node) is step for s in self.sources(v)):
                if place is None:
                    return "reads what another kernel must have finished"
                if not _fill(axes, place):
                    return "reads one value in two orders"
            elif place is not None:
                hints.append((v, place))
        for _, place in hints:
            _fill(axes, place)
        self._guess(step, axes, shape)
        if any(a < 0 for a, d in zip(axes, shape, strict=True) if d != 1):
            return "has another shape"
        used = [a for a in axes if a >= 0]
        if len(set(used)) != len(used):
            return "reads one value in two orders"
        if step.reduced is None and set(used) != real_axes(step):
            return "has another shape"
        if step.reduced is not None and step.reduced & {*used} not in (set(), step.reduced):
            return "has another shape"  # it would be stored in a loop that may be empty
        return axes

    def _guess(self, step: Step, axes: list[int], shape: tuple[DimLike, ...]) -> None:
        """Count what is left by free axes of its size, where the order stays that of the axes."""
        for i, d in enumerate(shape):
            if d == 1 or axes[i] >= 0:
                continue
            low = max((a for a in axes[:i]), default=-1)
            high = min((a for a in axes[i + 1 :] if a >= 0), default=len(step.axes))
            free = [a for a in range(low + 1, high) if step.axes[a] == d]
            if len(free) == 1:
                axes[i] = free[0]

    def _set_places(self, step: Step, node: Node, axes: list[int], kind: str) -> None:
        step.place[node.output] = tuple(axes)
        for v in node.inputs if kind == "pointwise" else ():
            if self.place(step, v) is None:
                lead = len(axes) - v.ndim
                step.place[v] = tuple(
                    axes[lead + i] if d != 1 else -1 for i, d in enumerate(v.shape)
                )

    # -- values -----------------------------------------------------------------------------------

    def place(self, step: Step, value: Value) -> Place | None:
        """The place of a value in a step, found through ops that only rename dimensions."""
        chain: list[Node] = []
        v = value
        while v not in step.place:
            if v.node is None or v.node not in self.virtual or v.node in self.step_of:
                return None
            if v.node.op.name not in ("reshape", "permute", "expand"):
                return None
            chain.append(v.node)
            v = v.node.inputs[0]
        place: Place | None = step.place[v]
        for node in reversed(chain):
            assert place is not None
            place = renamed(node, place)
            if place is None:
                return None
        return place

    def sources(self, value: Value) -> frozenset[Value]:
        """The values in memory that `value` is read from."""
        found = self._sources.get(value)
        if found is None:
            node = value.node
            if node is None or node not in self.virtual or node in self.step_of:
                found = frozenset((value,))
            elif len(node.inputs) == 1:
                found = self.sources(node.inputs[0])
            else:
                found = frozenset[Value]().union(*(self.sources(v) for v in node.inputs))
            self._sources[value] = found
        return found

    def _needs_memory(self, value: Value) -> bool:
        if value in self.outputs:
            return True
        kinds = {self.classes[n][0] for n in value.uses}
        if kinds & {"interpreted", "routine", "control"}:
            return True
        if "library" not in kinds:
            return False
        reversed_too = True
        for node in value.uses:
            if self.classes[node][0] == "library":
                rule = library.RULES[type(node.op)]
                operands = [i for i, v in enumerate(node.inputs) if v is value]
                if not all(rule.takes_view(node, i) for i in operands):
                    return True
                reversed_too &= all(rule.takes_reversed(node, i) for i in operands)
        return not self._is_strided(value, reversed_too)

    def _is_strided(self, value: Value, reversed_too: bool) -> bool:
        """Whether a value can be read from memory as it is, under strides."""
        movements = {"permute", "expand", "slice", "reshape", *(("flip",) if reversed_too else ())}
        v = value
        while v.node in self.virtual and v.node not in self.step_of:
            assert v.node is not None
            if v.node.op.name not in movements:
                return False
            v = v.node.inputs[0]
        axes = [Axis(i, d) for i, d in enumerate(value.shape)]
        at = [of_axis(a) for a in axes]
        for i, d in enumerate(value.shape[:-2]):
            if d == 1:
                at[i] = Index()
        expr = Reading(self.virtual, set(self.step_of), _anonymous)(value, at)
        return isinstance(expr, Load) and all(expr.at.stride(a) is not None for a in axes)

    def _is_alias(self, value: Value) -> bool:
        """Whether a reshape can share the memory of what it reshapes; then it will."""
        root = value
        while root.node in self.virtual and root.node not in self.step_of:
            assert root.node is not None
            if root.node.op.name != "reshape":
                return False
            root = root.node.inputs[0]
        root = self.aliases.get(root, root)
        if value in self.outputs:
            shown = {self.aliases.get(v, v) for v in self.outputs if v is not value}
            if root.node is None or root in shown:
                return False
            if any(root is r for v, r in self.aliases.items() if v in self.outputs):
                return False
        if root.node is None and root in self.outputs:
            return False
        self.aliases[value] = root
        return True

    def readers(self, value: Value) -> set[Step | None]:
        """The steps that read a value, directly or through what has no memory; None: the caller."""
        found = self._readers.get(value)
        if found is None:
            found = {None} if value in self.outputs else set()
            for user in value.uses:
                step = self.step_of.get(user)
                found |= {step} if step is not None else self.readers(user.output)
            self._readers[value] = found
        return found

    def forget_readers(self) -> None:
        """Steps have changed."""
        self._readers.clear()

    def is_stored(self, value: Value, step: Step) -> bool:
        """Whether a value of a step must be written to memory."""
        if step.kind not in (StepKind.FUSED, StepKind.LIBRARY):
            return True
        return bool(self.readers(value) - {step})


def _anonymous(value: Value) -> Buffer:
    return Buffer(value.dtype, value.size, "")


def _epochs(graph: Graph) -> dict[Node, int]:
    """For each node the number of those before it that define sizes, which only a run tells."""
    defining = {v.node for v, _ in definitions(graph).values()}
    found: dict[Node, int] = {}
    count = 0
    for node in graph.nodes:
        found[node] = count
        count += node in defining
    return found


def _scalars_first(graph: Graph) -> tuple[list[Node], set[Node]]:
    """The nodes, those on single numbers that come from outside first, and which those are.

    So what reads such a number as well, an optimizer's update for one, joins the step that it gets
    its large operands from.
    """
    early: set[Node] = set()
    for node in graph.nodes:
        single = all(v.size == 1 for v in (*node.inputs, *node.outputs))
        if (
            single
            and node.op.is_pure
            and all(v.node is None or v.node in early for v in node.inputs)
        ):
            early.add(node)
    late = [n for n in graph.nodes if n not in early]
    return [n for n in graph.nodes if n in early] + late, early


def _fill(axes: list[int], place: Place) -> bool:
    """Enter the place of an operand, aligned at the last dimension; false where it disagrees."""
    lead = len(axes) - len(place)
    agrees = True
    for i, p in enumerate(place):
        if p >= 0:
            if axes[lead + i] not in (-1, p):
                agrees = False
            elif axes[lead + i] < 0 and p not in axes:
                axes[lead + i] = p
            elif axes[lead + i] < 0:
                agrees = False
    return agrees
