"""Nodes as calls that are quick to make: a function, and how to pick its arguments from slots.

A run keeps every value in a slot of one list, the array module among them, so that making a call
takes no more than a look at precomputed tuples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np

from ..ops.base import Op

# Of one node: operand slots, first result slot, number of results, slots dead afterwards.
Wiring: TypeAlias = tuple[tuple[int, ...], int, int, tuple[int, ...]]
Pick: TypeAlias = Callable[[list[Any]], Sequence[Any]]
# Function, arguments, first result slot, number of results, slots dead afterwards.
Call: TypeAlias = tuple[Callable[..., Any], Pick, int, int, tuple[int, ...]]


# NumPy wants the output of these by keyword.
_NO_POSITION_FOR_OUT = ("", "maximum", "minimum")


def pick(slots: Sequence[int]) -> Pick:
    """What takes the values of these slots."""
    if len(slots) == 1:  # `itemgetter` would give the value itself
        return itemgetter(slice(slots[0], slots[0] + 1))
    return itemgetter(*slots)


def call(op: Op, wiring: Wiring, xp: Any, module: int) -> Call:
    """The call of `op` in `xp`, which is in slot `module`."""
    operands, first, count, dead = wiring
    if op.ufunc and xp is np:
        return getattr(np, op.ufunc), pick(operands), first, count, dead
    return op.eager, pick((module, *operands)), first, count, dead


def call_into(op: Op, operands: Sequence[int], out: int, module: int) -> tuple[Any, Pick]:
    """Function and arguments of the call that writes into the array in slot `out`."""
    if op.ufunc not in _NO_POSITION_FOR_OUT:
        return getattr(np, op.ufunc), pick((*operands, out))
    return op.eager_into, pick((module, out, *operands))


def run_calls(calls: Sequence[Call], slots: list[Any], *, keep: bool = False) -> None:
    """Make these calls one after the other; with `keep`, dead values are not dropped."""
    for function, arguments, result, count, dead in calls:
        out = function(*arguments(slots))
        if count == 1:
            slots[result] = out
        else:
            slots[result : result + count] = out
        if not keep:
            for i in dead:
                slots[i] = None
