"""Cuts the nodes of a graph into steps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from ...errors import NeedsValue, OnnxError
from ..lift import operator_name
from ..values import function_of
from .kinds import STRING, makes_or_takes_values, result_kinds
from .names import reads

if TYPE_CHECKING:
    import onnx

_LIKE = ("RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout")
DRAWS = frozenset({"RandomNormal", "RandomUniform", *_LIKE})
_MAX_SETTING = 16  # elements: a graph may be made anew for each content of such an operand


@dataclass(frozen=True, slots=True)
class Segment:
    """Nodes on tensors that become one graph, by position.

    `reads` and `writes` are the names of its operands and results. The elements of those in
    `known` are part of what the graph is made for; so are all sizes if it is `fixed`. Those in
    `sized` come as symbolic sizes. No later step reads those in `dead`.
    """

    nodes: tuple[int, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    known: frozenset[str]
    sized: frozenset[str]
    fixed: bool
    dead: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Single:
    """One node on Python values, by position; `dead` is what no later step reads."""

    node: int
    dead: tuple[str, ...] = field(default=(), compare=False)


Step: TypeAlias = Segment | Single


@dataclass(slots=True)
class _Learned:
    """What runs taught: by position of a node unless said otherwise."""

    known: dict[int, set[str]] = field(default_factory=dict)  # names it must know to be imported
    exact: set[int] = field(default_factory=set)  # symbolic sizes will not do for those
    general: set[int] = field(default_factory=set)  # gets those as symbolic sizes if they will do
    later: set[int] = field(default_factory=set)  # in a segment after the one that computes those
    fixed: set[int] = field(default_factory=set)  # needs sizes that are numbers
    single: set[int] = field(default_factory=set)  # is carried out on values
    kinds: dict[str, bool] = field(default_factory=dict)  # by name: whether a tensor of numbers


class Plan:
    """The steps of one graph.

    Args:
        nodes: the graph's nodes, producers first.
        given: the names that come from outside, and whether each is a tensor of numbers.
        initializers: by name.
        results: the names of the outputs.

    `steps` is replaced, never changed, when the plan learns something.

    Raises:
        OnnxError: a node reads what it or a later one defines.
    """

    def __init__(
        self,
        nodes: Sequence[onnx.NodeProto],
        given: Mapping[str, bool],
        initializers: Mapping[str, onnx.TensorProto],
        results: Sequence[str],
    ) -> None:
        self.nodes = list(nodes)
        self.initializers = initializers
        self.arrays: dict[str, Any] = {}  # of initializers, for the graphs of all segments
        self.results = list(results)
        self._given = dict(given)
        self._reads = [reads(node) for node in self.nodes]
        self._producer = {n: i for i, node in enumerate(self.nodes) for n in node.output if n}
        for i, names in enumerate(self._reads):
            late = next((n for n in names if self._producer.get(n, -1) >= i), None)
            if late is not None:
                raise OnnxError(f"{late!r} is read but nothing before defines it")
        self._values = [makes_or_takes_values(node) for node in self.nodes]
        self._constant = self._constants()
        self._learned = _Learned()
        self.steps = self._cut()

    # -- cutting ----------------------------------------------------------------------------------

    def _constants(self) -> set[int]:
        """Nodes on tensors that depend on initializers only; every segment has those it needs."""
        found: set[int] = set()
        for i, node in enumerate(self.nodes):
            if self._values[i] or node.op_type in DRAWS:  # every segment would draw others
                continue
            if all(self._is_constant(name, found) for name in self._reads[i]):
                found.add(i)
        return found

    def _is_constant(self, name: str, constant: Collection[int]) -> bool:
        if name in self.initializers:
            return self.initializers[name].data_type != STRING
        return self._producer.get(name, -1) in constant

    def _cut(self) -> tuple[Step, ...]:
        """As few steps as it takes: tensor nodes as early as their operands allow."""
        single, stages = self._stages()
        live = self._live()
        wanted = {*self.results}
        for i in single & live:
            wanted.update(self._reads[i])
        parts: dict[int, list[int]] = {}
        for i in sorted(live):
            if i not in self._constant or wanted.intersection(self.nodes[i].output):
                parts.setdefault(stages[i], []).append(i)
        inside = {stage: self._with_constants(part) for stage, part in parts.items()}
        for stage in parts:
            if stage % 2 == 0:
                wanted.update(self._read_by(inside[stage]))
        steps: list[Step] = []
        for stage, part in sorted(parts.items()):
            if stage % 2:
                steps += [Single(i) for i in part]
            elif (segment := self._segment(inside[stage], part, wanted)).writes:
                steps.append(segment)
        return self._with_last_reads(steps)

    def _with_last_reads(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """The steps, each with the values that none after it reads."""
        last: dict[str, int] = {}
        for k, step in enumerate(steps):
            if isinstance(step, Segment):
                names = (*step.reads, *step.writes)
            else:
                names = (*self._reads[step.node], *self.nodes[step.node].output)
            last.update(dict.fromkeys(names, k))
        dead: list[list[str]] = [[] for _ in steps]
        for name, k in last.items():
            if name not in self.results:
                dead[k].append(name)
        return tuple(replace(s, dead=tuple(d)) for s, d in zip(steps, dead, strict=True))

    def _stages(self) -> tuple[set[int], list[int]]:
        """The nodes on values, and for each node its stage: even for tensors, odd for values."""
        learned = self._learned
        kinds = {**self._given, **learned.kinds}
        for name, tensor in self.initializers.items():
            kinds.setdefault(name, tensor.data_type != STRING)
        single: set[int] = set()
        stages: list[int] = []
        for i, node in enumerate(self.nodes):
            before = [(name, kinds.get(name, True)) for name in self._reads[i]]
            alone = i in learned.single or self._values[i] or not all(k for _, k in before)
            parity = int(alone)
            stage = parity
            for name, _ in before:
                at = self._producer.get(name)
                if at is not None and at not in self._constant:
                    stage = max(stage, stages[at] + (stages[at] % 2 != parity))
            if i in learned.later:
                for name in learned.known[i]:
                    at = self._producer.get(name)
                    if at is not None:
                        stage = max(stage, stages[at] + 2 - stages[at] % 2)
            stages.append(stage)
            found = [True] * len(node.output)
            if alone:
                single.add(i)
                operands = [kinds.get(name, True) for name in node.input]
                found = result_kinds(node, operands)
            for name, kind in zip(node.output, found, strict=True):
                kinds.setdefault(name, kind)
        return single, stages

    def _live(self) -> set[int]:
        """The nodes that a result depends on."""
        wanted = {*self.results}
        found: set[int] = set()
        for i in reversed(range(len(self.nodes))):
            if not wanted.isdisjoint(self.nodes[i].output):
                found.add(i)
                wanted.update(self._reads[i])
        return found

    def _with_constants(self, part: Iterable[int]) -> list[int]:
        """These nodes and the constant ones that they need, in order."""
        kept = set(part)
        todo = list(kept)
        while todo:
            for name in self._reads[todo.pop()]:
                at = self._producer.get(name, -1)
                if at in self._constant and at not in kept:
                    kept.add(at)
                    todo.append(at)
        return sorted(kept)

    def _read_by(self, nodes: Sequence[int]) -> dict[str, None]:
        """What these nodes read that none of them makes."""
        made = {name for i in nodes for name in self.nodes[i].output}
        return {
            name: None
            for i in nodes
            for name in self._reads[i]
            if name not in made and name not in self.initializers
        }

    def _segment(self, nodes: list[int], own: list[int], wanted: Collection[str]) -> Segment:
        outer = self._read_by(nodes)
        learned = self._learned
        known = {n for i in own for n in learned.known.get(i, ()) if n in outer}
        exact = [i for i in own if i in learned.exact or i not in learned.general]
        sized = known.difference(*(learned.known.get(i, ()) for i in exact))
        written = [n for i in own for n in self.nodes[i].output if n and n in wanted]
        return Segment(
            tuple(nodes),
            tuple(outer),
            tuple(written),
            frozenset(known - sized),
            frozenset(sized),
            not sized and not learned.fixed.isdisjoint(nodes),
        )

    # -- learning ---------------------------------------------------------------------------------

    def learn_kind(self, name: str, tensor: bool) -> None:
        """Cut again, knowing that a value is a tensor of numbers, or is not."""
        if self._learned.kinds.get(name) is not tensor:
            self._learned.kinds[name] = tensor
            self.steps = self._cut()

    def generalise(self, segment: Segment) -> bool:
        """Cut again, with symbolic sizes for elements that differ often; whether that is new."""
        learned = self._learned
        asking = {i for i in segment.nodes if i in learned.known}
        new = asking - learned.exact - learned.general
        if new and segment in self.steps:
            learned.general |= new
            self.steps = self._cut()
        return bool(new)

    def learn(self, segment: Segment, error: OnnxError, arrived: Mapping[str, Any]) -> None:
        """Cut again after a segment could not be imported.

        Args:
            error: what the import met; `error.node` counts among the segment's nodes.
            arrived: the segment's operands.

        Raises:
            OnnxError: `error`, where steps do not help.
        """
        if segment not in self.steps:  # somebody else has learned it
            return
        if error.node is None:
            raise error
        if not self._note(segment, error, segment.nodes[error.node], arrived):
            raise error
        self.steps = self._cut()

    def _note(
        self, segment: Segment, error: OnnxError, at: int, arrived: Mapping[str, Any]
    ) -> bool:
        """Take down what an error says of the node at `at`; whether that is anything new."""
        learned = self._learned
        if segment.sized:
            learned.exact.update(i for i in segment.nodes if i in learned.known)
            return True
        if not segment.fixed and not (isinstance(error, NeedsValue) and _tell(error)):
            return _add(learned.fixed, at)
        node = self.nodes[at]
        if isinstance(error, NeedsValue) and error.names:
            varying = {*segment.nodes} - self._constant
            inside = {n for i in varying for n in self.nodes[i].output}
            computed = not inside.isdisjoint(error.names)
            origins = self._origins(segment, error.names)
            known = learned.known.setdefault(at, set())
            if not error.symbolic:
                learned.exact.add(at)
            settings = all(is_setting(arrived[n]) for n in origins)
            if (settings or not computed) and not origins <= known:
                known |= origins
                return True
            if computed and at not in learned.later:
                known.update(error.names)
                learned.later.add(at)
                return True
        if function_of(operator_name(node)) is not None:
            return _add(learned.single, at)
        return False

    def _origins(self, segment: Segment, names: Iterable[str]) -> set[str]:
        """The operands of a segment that values of it are computed from."""
        inside = set(segment.nodes)
        found: set[str] = set()
        seen = set(names)
        todo = list(seen)
        while todo:
            name = todo.pop()
            at = self._producer.get(name, -1)
            if at in inside:
                new = [n for n in self._reads[at] if n not in seen]
                seen.update(new)
                todo += new
            elif name in segment.reads:
                found.add(name)
        return found


def _tell(error: NeedsValue) -> bool:
    """Whether elements, of values outside of nested graphs, are what must be known."""
    return bool(error.names) and not error.sizes


def _add(positions: set[int], at: int) -> bool:
    new = at not in positions
    positions.add(at)
    return new


def is_setting(array: Any) -> bool:
    """Whether an operand looks like axes, sizes or a flag, rather than data."""
    return bool(array.ndim <= 1 and array.size <= _MAX_SETTING)
