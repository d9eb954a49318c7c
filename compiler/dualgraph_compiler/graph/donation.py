"""Carrying out donations: the last nodes of a run write new state over the old."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..memory.inplace import InPlacePlan
from ..ops.optimizer import OptimizerUpdate
from .alias import Aliases
from .core import Node, Value

# Parameters of up to this many elements take their optimizer's step together: one by one, starting
# a dozen small kernels each would take longer than the arithmetic.
_SMALL = 4096


# Slots of targets, by the identity of the array whose memory they are part of.
_Owners: TypeAlias = dict[int, list[int]]


def _nothing() -> None:
    """A reference to no array."""


class Donations:
    """The nodes of a plan that write to donated memory.

    Args:
        plan: which nodes, and where their results go.
        aliases: of the graph, in the plan's order.
        slots: the numbers of values in a run.
        modules: what each of the nodes runs on, NumPy or CuPy.
    """

    def __init__(
        self,
        plan: InPlacePlan,
        aliases: Aliases,
        slots: Mapping[Value, int],
        modules: Sequence[Any],
    ) -> None:
        self._homes = {plan.graph.outputs[i]: v for i, v in plan.donated.items()}
        self._slots = slots
        self._targets = {slots[v]: (v.dtype.np, v.shape) for v in plan.donated.values()}
        self._seen: tuple[list[Any], _Owners] = [_nothing] * len(self._targets), {}
        writers = plan.order[plan.first_write :]
        groups: dict[Any, list[Node]] = {}
        self._steps: list[Callable[[list[Any]], None]] = []
        independent = all(self._is_independent(n, aliases) for n in writers)
        for node, xp in zip(writers, modules, strict=True):
            if independent and xp is np and self._is_small(node):
                numbers = node.inputs[2 + len(node.op.state) :]  # type: ignore[attr-defined]
                key = (node.op, node.inputs[0].dtype, tuple(slots[v] for v in numbers))
                groups.setdefault(key, []).append(node)
            else:
                self._steps.append(self._single(node, xp))
        for (op, _, numbers), nodes in groups.items():
            self._steps.append(self._together(op, nodes, numbers))

    def _is_independent(self, node: Node, aliases: Aliases) -> bool:
        """Whether `node` reads no state that another node overwrites."""
        own = {self._homes.get(v) for v in node.outputs}
        others = {v for v in self._homes.values() if v not in own}
        return all(others.isdisjoint(aliases.storages[v]) for v in node.inputs)

    def _is_small(self, node: Node) -> bool:
        """Whether `node` steps a small parameter, all in place."""
        if not isinstance(node.op, OptimizerUpdate) or not node.op.elementwise:
            return False
        size = node.inputs[0].size
        operands = (node.inputs[0], *node.inputs[2 : 1 + len(node.outputs)])
        homes = tuple(self._homes.get(v) for v in node.outputs)
        return isinstance(size, int) and 0 < size <= _SMALL and homes == operands

    def are_safe(self, slots: Sequence[Any], n_operands: int) -> bool:
        """Whether every target is memory of its own that can be written to.

        Operands are the first `n_operands` slots.
        """
        if not self._targets:
            return False
        seen, owners = self._seen
        for slot, known in zip(self._targets, seen, strict=True):
            if known() is not slots[slot] or not _is_writable(slots[slot]):
                found = self._learn(slots)
                break
        else:
            found = owners
        return found is not None and self._are_apart(slots, n_operands, found)

    def _learn(self, slots: Sequence[Any]) -> _Owners | None:
        """Look at targets not seen before: whose memory they lie in, None if not to be written to.

        What is found is kept for as long as the same arrays come.
        """
        owners: _Owners = {}
        for slot, (dtype, shape) in self._targets.items():
            x = slots[slot]
            if x.dtype != dtype or x.shape != shape or not _is_writable(x):
                return None
            owner = _owner(x)
            if type(owner) is not type(x):  # somebody else's memory: who knows who shows it
                return None
            others = owners.setdefault(id(owner), [])
            if any(_overlap(x, slots[other]) for other in others):
                return None
            others.append(slot)
        self._seen = [weakref.ref(slots[slot]) for slot in self._targets], owners
        return owners

    def _are_apart(self, slots: Sequence[Any], n_operands: int, owners: _Owners) -> bool:
        """Whether no other operand lies in the memory of a target."""
        for slot in range(n_operands):
            if slot not in self._targets:
                x = slots[slot]
                if any(_overlap(x, slots[other]) for other in owners.get(id(_owner(x)), ())):
                    return False
        return True

    def run(self, slots: list[Any]) -> None:
        """Run the nodes, each result in the memory promised to it."""
        for step in self._steps:
            step(slots)

    def _single(self, node: Node, xp: Any) -> Callable[[list[Any]], None]:
        """How to run one node."""
        op = node.op
        operands = [self._slots[v] for v in node.inputs]
        first = self._slots[node.outputs[0]]
        targets = [self._homes.get(v) for v in node.outputs]
        homes = [None if v is None else self._slots[v] for v in targets]
        several = op.n_outputs > 1

        def step(slots: list[Any]) -> None:
            inputs = [slots[i] for i in operands]
            out: list[Any] = [None if i is None else slots[i] for i in homes]
            if several:
                op.eager_into(xp, tuple(out), *inputs)
            elif all(x.flags.c_contiguous for x in (out[0], *inputs) if x.ndim):
                op.eager_into(xp, out[0], *inputs)
            else:  # kernels may round otherwise where layouts differ
                out[0][...] = op.eager(xp, *inputs)
            slots[first : first + len(out)] = out

        return step

    def _together(
        self, op: OptimizerUpdate, nodes: Sequence[Node], numbers: Sequence[int]
    ) -> Callable[[list[Any]], None]:
        """How to take the steps of several small parameters at once."""
        n = 2 + len(op.state)
        sets = [[self._slots[v] for v in node.inputs[:n]] for node in nodes]
        results = [[self._slots[v] for v in node.outputs] for node in nodes]
        counters = [2 + i for i, name in enumerate(op.state) if name in op.scalars]
        singles = [self._single(node, np) for node in nodes]

        def step(slots: list[Any]) -> None:
            arrays = [[slots[i] for i in operands] for operands in sets]
            counts = {tuple(float(a[i]) for i in counters) for a in arrays}
            if len(counts) > 1 or not all(x.flags.c_contiguous for a in arrays for x in a):
                for single in singles:
                    single(slots)
                return
            op.update_together(np, arrays, [float(slots[i]) for i in numbers])
            for places, new in zip(results, arrays, strict=True):
                for place, x in zip(places, (new[0], *new[2:]), strict=True):
                    slots[place] = x

        return step if len(nodes) > 1 else singles[0]


def _is_writable(x: Any) -> bool:
    return type(x) is not np.ndarray or x.flags.writeable


def _owner(x: Any) -> Any:
    while (base := getattr(x, "base", None)) is not None:
        x = base
    return x


def _overlap(a: Any, b: Any) -> bool:
    return type(a) is not np.ndarray or np.may_share_memory(a, b)
