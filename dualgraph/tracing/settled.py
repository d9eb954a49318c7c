"""What a call found, kept for the calls after it while nothing of that is another way.

A training step reads hundreds of things that hardly ever change: which tensors an optimizer keeps
for which parameter, its options, the arrays of the parameters. Whoever changes one of them notes it
(``_changes``). So a call that comes without such a note takes what the call before it found, and
looks only at what may change quietly: gradients, and which parameters an optimizer has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from .. import _changes
from .._tensor import Tensor
from ..autograd.tape import Leaf
from .compiled_node import resolved
from .replay import Call, Effect, GradSlot, Number, Slot, Steady

if TYPE_CHECKING:
    from .program import Program
    from .traced import Holder


# A program, the arrays of its params, and which of these are looked up at every call or numbers.
_Arrays: TypeAlias = "tuple[Program, list[Any], list[tuple[int, Any]], list[tuple[int, str]]]"


class Settled:
    """What calls find as long as there is no note of a change.

    `slots` and `steps` are those to be looked at, or made, at every call all the same; `bare` are
    leaves that must have no gradient.
    """

    def __init__(
        self, call: Call, slots: Sequence[Slot], steps: Sequence[Any], at: tuple[int, int, int]
    ) -> None:
        """As `call` found it, when the counts of changes were `at`."""
        self.at = at
        self.of_optimizers = bool(slots or steps)
        known: dict[Steady, bool] = {}
        changing = [s for s in slots if not (_is_steady(s, known) and s in call.entries)]
        self.slots = [s for s in changing if not _is_bare(s)]
        self.bare: list[Leaf] = [s.leaf for s in changing if type(s) is GradSlot and _is_bare(s)]
        self.entries = {slot: t for slot, t in call.entries.items() if _is_steady(slot, known)}
        self._arrays: _Arrays | None = None
        self._owners: set[int] | None = None
        self._owned: tuple[bool, list[Holder]] | None = None
        self._settle(call, steps)

    def _settle(self, call: Call, steps: Sequence[Any]) -> None:
        """Keep what `call` read and did, as far as it is steady."""
        known: dict[Steady, bool] = {}
        steady = [_is_steady(step, known) for step in steps]
        # What an effect may have changed is read again.
        effects = [type(s) is Effect and not ok for s, ok in zip(steps, steady, strict=True)]
        moved = effects.index(True) if True in effects else len(steps)
        self.steps = [s for i, s in enumerate(steps) if i >= moved or not steady[i]]
        again = {s.name for s in self.steps if type(s) is Number}
        self.reads_numbers = bool(again)
        self.numbers = {name: t for name, t in call.numbers.items() if name not in again}

    def with_options(self, call: Call, steps: Sequence[Any], count: int) -> Settled:
        """The same after a change of options, which `call` has read, when their count was `count`.

        A schedule changes the learning rate at every call; nothing else is another way.
        """
        found = object.__new__(Settled)
        found.__dict__.update(self.__dict__)
        found.at = *self.at[:2], count
        found._settle(call, steps)
        if self._arrays is not None:
            program, arrays, moving, numbers = self._arrays
            arrays = arrays.copy()
            for i, name in numbers:
                arrays[i] = call.numbers[name]._data
            moving = [m for m in moving if type(m[1]) is not str]
            moving += [m for m in numbers if m[1] not in found.numbers]
            found._arrays = program, arrays, moving, numbers
        return found

    @staticmethod
    def now() -> tuple[int, int, int]:
        """The counts of changes."""
        return _changes.optimizers.count, _changes.tensors.count, _changes.options.count

    def holds(self) -> bool:
        """Whether there was no change since, but for options."""
        optimizers, tensors, _ = self.at
        return _changes.tensors.count == tensors and (
            _changes.optimizers.count == optimizers or not self.of_optimizers
        )

    def arrays(self, program: Program, call: Call) -> list[Any]:
        """The arrays of the params of `program`, in a list of the caller's own."""
        found = self._arrays
        if found is None or found[0] is not program:
            reads = list(enumerate(program.params))
            moving = [(i, r) for i, r in reads if not self._is_kept(r)]
            numbers = [(i, r) for i, r in reads if type(r) is str]
            arrays = [call.resolve(r)._data for r in program.params]
            self._arrays = program, arrays, moving, numbers
            return arrays.copy()
        arrays = found[1].copy()
        for i, read in found[2]:
            arrays[i] = call.resolve(read)._data
        return arrays

    def _is_kept(self, read: Any) -> bool:
        return isinstance(read, Tensor) or read in self.numbers or read in self.entries

    def apart(self, arguments: Iterable[Tensor], state: Iterable[Any]) -> bool:
        """Whether it is certain that no argument shares memory with another, or with `state`."""
        met = self._owners
        if met is None:
            owners = [_owner(t._data) for t in state if isinstance(t, Tensor)]
            met = self._owners = {id(a) for a in owners}
        found: set[int] = set()
        for t in arguments:
            owner = t._data
            if owner.base is not None:
                owner = _owner(owner)
            key = id(owner)
            if owner.base is not None or key in met or key in found:
                return False
            found.add(key)
        return True

    def owns_memory(self, call: Call, holders: Iterable[Holder]) -> bool:
        """Whether what these hold are tensors with memory of their own, no views."""
        if self._owned is None:
            fixed = [h for h in holders if isinstance(h, Tensor)]
            moving: list[Holder] = [h for h in holders if not isinstance(h, Tensor)]
            self._owned = all(t._base is None for t in fixed), moving
        own, others = self._owned
        return own and all(resolved(h, call)._base is None for h in others)


def _is_steady(x: Any, known: dict[Steady, bool]) -> bool:
    """``x.steady()``, asked once for all that have the same one."""
    found = known.get(x.steady)
    if found is None:
        found = known[x.steady] = x.steady()
    return found


def _is_bare(slot: Slot) -> bool:
    """Whether it is of a fixed leaf, which had no gradient when it was traced."""
    return type(slot) is GradSlot and slot.argument is None and slot.value is None


def _owner(a: Any) -> Any:
    """The array whose memory `a` shows; it has a base itself if that memory is no array's."""
    while hasattr(a.base, "nbytes") and hasattr(a.base, "base"):
        a = a.base
    return a
