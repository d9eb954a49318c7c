"""How each operation acts on batches.

A rule is a function ``(op, size, xs, flags)``: the operands `xs`, of which those with a true flag
have the batch, of `size`, as their first axis. It gives the result, or a tuple of results, with the
batch first. Pointwise operations have one rule for all; fused ones without a rule of their own are
carried out by their formula; what is left runs element by element (:func:`how` tells which).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.dims import DimLike
from dualgraph_compiler.errors import AutogradError
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.base import Kind, Op

from ..._dispatch import apply
from . import contraction, indexing, layers, matrices, movement
from .rules import RULES, pointwise

if TYPE_CHECKING:
    from ..._tensor import Tensor

__all__ = ["batch", "how"]

_LOADED = (contraction, indexing, layers, matrices, movement)
# The shape of their result depends on the data: elements of a batch would differ.
_DATA_DEPENDENT = frozenset(("masked_select", "nonzero", "positions", "unique"))


def how(kind: type[Op]) -> str:
    """What carries out an op on batches: "rule", "pointwise", "formula", "slices" or "refused"."""
    if kind in RULES:
        return "rule"
    if kind.kind is Kind.POINTWISE:
        return "pointwise"
    if kind.name in _DATA_DEPENDENT:
        return "refused"
    return "formula" if kind.decompose is not Op.decompose else "slices"


def batch(op: Op, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    """`op` on batches; see the module.

    Raises:
        AutogradError: the result's shape depends on the data.
    """
    rule = RULES.get(type(op))
    if rule is not None:
        return rule(op, size, xs, flags)
    found = how(type(op))
    if found == "pointwise":
        return pointwise(op, size, xs, flags)
    if found == "refused":
        raise AutogradError(
            f"vmap: {op.name} is not possible since the shape of its result depends on the data, "
            "and would differ between the elements of the batch"
        )
    return by_formula(op, size, xs, flags) if found == "formula" else slices(op, size, xs, flags)


def by_formula(op: Op, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    """`op` in simpler ops, of which each acts on batches."""
    from ..._dispatch import make
    from ..batched import Batched, BatchLevel

    with BatchLevel(size) as level:
        shown = [make(Batched(level, x)) if own else x for x, own in zip(xs, flags, strict=True)]
        outputs = op.decompose(*shown)
        if type(outputs) is tuple:
            return tuple(map(level.rows, outputs))
        return level.rows(outputs)


def slices(op: Op, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    """`op` on one element after the other, the results stacked."""
    if not isinstance(size, int) or size == 0:
        raise AutogradError(
            f"vmap: {op.name} runs element by element, which needs a batch of a known size above 0"
        )
    rows: list[Any] = []
    for i in range(size):
        row = [f.select(x, 0, i) if own else x for x, own in zip(xs, flags, strict=True)]
        rows.append(apply(op, *row))
    if type(rows[0]) is tuple:
        return tuple(f.stack(part, 0) for part in zip(*rows, strict=True))
    return f.stack(rows, 0)
