"""Bins of uneven sizes: see `native.bins`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...graph import Node
from ..bins import Bins
from ..index import Index
from ..loops import Expr, Guard
from ..scalars import const, guarded
from .movement import RULES, Reader


def _bins(op: Any, node: Node, at: Sequence[Index], read: Reader) -> Expr:
    rank = len(op.places)
    lead, places, within = at[: -2 * rank], at[-2 * rank : -rank], at[-rank:]
    sizes = node.inputs[0].shape[len(lead) :]
    guards: list[Guard] = []
    inner: list[Index] = []
    for place, k, n, p in zip(places, within, sizes, op.places, strict=True):
        element = place * n // p + k
        end = (place * n + (n + p - 1)) // p
        guards.append(Guard(element + -end, None, 0))
        inner.append(element)
    kept = tuple(guards)
    return guarded(kept, read(0, [*lead, *inner], kept), const(op.fill, node.output.dtype))


RULES[Bins] = _bins
