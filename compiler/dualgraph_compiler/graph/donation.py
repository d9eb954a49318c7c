"""Carrying out donations: the last nodes of a run write new state over the old."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..memory.inplace import InPlacePlan
from .core import Value


class Donations:
    """The nodes of a plan that write to donated memory."""

    def __init__(self, plan: InPlacePlan, slots: Mapping[Value, int]) -> None:
        graph = plan.graph
        homes = {graph.outputs[i]: slots[v] for i, v in plan.donated.items()}
        self._targets = {slots[v]: (v.dtype.np, v.shape) for v in plan.donated.values()}
        self._steps = [
            (
                node.op,
                tuple(slots[v] for v in node.inputs),
                slots[node.outputs[0]],
                tuple(homes.get(v) for v in node.outputs),
            )
            for node in plan.order[plan.first_write :]
        ]

    def are_safe(self, slots: Sequence[Any], n_operands: int) -> bool:
        """Whether every target is memory of its own that can be written to.

        Operands are the first `n_operands` slots.
        """
        if not self._targets:
            return False
        owned: dict[int, list[Any]] = {}  # targets, by the array whose memory they are part of
        for slot, (dtype, shape) in self._targets.items():
            x = slots[slot]
            if x.dtype != dtype or x.shape != shape or not _is_writable(x):
                return False
            owner = _owner(x)
            if type(owner) is not type(x):  # somebody else's memory: who knows who shows it
                return False
            others = owned.setdefault(id(owner), [])
            if any(_overlap(x, other) for other in others):
                return False
            others.append(x)
        for slot in range(n_operands):
            if slot not in self._targets:
                x = slots[slot]
                others = owned.get(id(_owner(x)), [])
                if any(_overlap(x, other) for other in others):
                    return False
        return True

    def run(self, modules: Sequence[Any], slots: list[Any]) -> None:
        """Run the nodes, each result in the memory promised to it, on NumPy or CuPy as given."""
        for (op, operands, result, homes), xp in zip(self._steps, modules, strict=True):
            inputs = [slots[i] for i in operands]
            if len(homes) > 1:
                out = tuple(None if i is None else slots[i] for i in homes)
                op.eager_into(xp, out, *inputs)
                slots[result : result + len(homes)] = out
                continue
            (home,) = homes
            assert home is not None
            out = slots[home]
            if all(x.flags.c_contiguous for x in (out, *inputs) if x.ndim):
                op.eager_into(xp, out, *inputs)
            else:  # kernels may round otherwise where layouts differ
                out[...] = op.eager(xp, *inputs)
            slots[result] = out


def _is_writable(x: Any) -> bool:
    return type(x) is not np.ndarray or x.flags.writeable


def _owner(x: Any) -> Any:
    while (base := getattr(x, "base", None)) is not None:
        x = base
    return x


def _overlap(a: Any, b: Any) -> bool:
    return type(a) is not np.ndarray or np.may_share_memory(a, b)
