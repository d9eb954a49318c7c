"""Joining of steps: a step whose results a single other step reads becomes part of that."""

from __future__ import annotations

from typing import Protocol

from ..graph import Node, Value
from .steps import Place, Step, StepKind, real_axes, renamed


class Parts(Protocol):
    """A partition in the making: the step and the class of each node, and who reads a value."""

    step_of: dict[Node, Step]
    classes: dict[Node, tuple[str, str]]

    def readers(self, value: Value) -> set[Step | None]:
        """The steps that read a value; None: the caller."""
        ...

    def forget_readers(self) -> None:
        """Steps have changed."""
        ...


class Joining:
    """Joins steps without folds to their only readers, where their loops are the same."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def run(self, steps: list[Step]) -> list[Step]:
        """The steps that are left."""
        gone: set[Step] = set()
        for step in reversed(steps):
            if step.kind is not StepKind.FUSED or step.reduced is not None:
                continue
            readers = {r for n in step.nodes for r in self.parts.readers(n.output)} - {step, None}
            reader = readers.pop() if len(readers) == 1 else None
            if reader is None or reader.kind is not StepKind.FUSED:
                continue
            if self._merge(step, reader):
                gone.add(step)
                self.parts.forget_readers()
        return [s for s in steps if s not in gone]

    def _merge(self, step: Step, reader: Step) -> bool:
        """Move the nodes of `step` into the only step that reads them, if they fit there."""
        axis_of: dict[int, int] = {}
        for node in step.nodes:
            if not self.parts.readers(node.output) - {step, None}:
                continue
            if not self._maps(step, reader, node.output, axis_of):
                return False
        used = set(axis_of.values())
        rows = real_axes(reader) - reader.reduced if reader.reduced is not None else None
        if len(used) != len(axis_of) or used not in (set(), real_axes(reader), rows):
            return False
        if set(axis_of) != real_axes(step):
            return False
        for v, place in step.place.items():
            moved = tuple(axis_of[p] if p >= 0 else -1 for p in place)
            if v.node in self.parts.step_of and self.parts.step_of[v.node] is step:
                reader.place[v] = moved
            else:
                reader.place.setdefault(v, moved)
        for node in step.nodes:
            self.parts.step_of[node] = reader
        reader.nodes += step.nodes
        return True

    def _maps(self, step: Step, reader: Step, value: Value, axis_of: dict[int, int]) -> bool:
        """Whether all reads of `value` in `reader` are at one place; notes what axes become."""
        pending: list[Value] = [value]
        seen: set[tuple[int, ...]] = set()
        while pending:
            v = pending.pop()
            for user in v.uses:
                if self.parts.step_of.get(user) is step:
                    continue
                if user not in self.parts.step_of:
                    if user.op.name not in ("reshape", "permute", "expand"):
                        return False
                    pending.append(user.output)
                    continue
                base = self._place_of_base(v, value, self._read_place(reader, user, v))
                if base is None:
                    return False
                seen.add(base)
        if len(seen) != 1:
            return False
        for own, theirs in zip(step.place[value], seen.pop(), strict=True):
            if own >= 0 and axis_of.setdefault(own, theirs) != theirs:
                return False
        return all(a >= 0 for a in axis_of.values())

    def _read_place(self, reader: Step, user: Node, value: Value) -> Place | None:
        """Where a node of `reader` reads a value that comes from another step."""
        kind = self.parts.classes[user][0]
        if kind == "reduction":
            return reader.place.get(value)
        if kind != "pointwise":
            return None
        out = reader.place[user.output]
        lead = len(out) - value.ndim
        return tuple(out[lead + i] if d != 1 else -1 for i, d in enumerate(value.shape))

    def _place_of_base(self, v: Value, base: Value, place: Place | None) -> Place | None:
        """The place of `base` such that `v`, reached from it by renaming, has `place`."""
        if place is None:
            return None
        trial = tuple(range(base.ndim))
        chain: list[Node] = []
        u = v
        while u is not base:
            assert u.node is not None
            chain.append(u.node)
            u = u.node.inputs[0]
        current: Place | None = tuple(i if d != 1 else -1 for i, d in zip(trial, base.shape))
        for node in reversed(chain):
            current = renamed(node, current) if current is not None else None
        if current is None:
            return None
        found = [-1] * base.ndim
        for dim, axis in zip(current, place, strict=True):
            if dim >= 0:
                found[dim] = axis
        return tuple(found)
