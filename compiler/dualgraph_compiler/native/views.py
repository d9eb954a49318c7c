"""What library steps are made from: operands as strided views of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..dims import DimLike
from ..graph import Value
from ..graph.text import Namer
from .index import Axis, Index, of_axis
from .loops import Buffer, Const, Load
from .reading import BufferOf, Reading


@dataclass(frozen=True, slots=True)
class Context:
    """What a routine is made from beside its step.

    `constant` are values that may be packed once, since they do not change while a loop runs, or
    are constants that a branch is given.
    `step` holds the number of that loop's step.
    """

    reading: Reading
    buffer: BufferOf
    names: Namer
    constant: frozenset[Value] = frozenset()
    step: Buffer | None = None

    def is_fixed(self, weights: Value) -> bool:
        """Whether weights are packed once."""
        if weights.is_constant:
            return True
        return weights in self.constant and all(isinstance(d, int) for d in weights.shape)


@dataclass(frozen=True, slots=True)
class View:
    """Memory seen under strides: `at` is where it begins, for the counters of outer loops.

    `buffer_value` is the value whose memory it is.
    """

    buffer: Buffer
    buffer_value: Value | None
    at: Index


@dataclass(frozen=True, slots=True)
class Array:
    """A whole operand as it lies: where it begins in `buffer`, and the step of each axis."""

    buffer: Buffer
    offset: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]


def array(value: Value, context: Context) -> Array:
    """An operand of known sizes as a view."""
    axes = [Axis(1000 + i, d) for i, d in enumerate(value.shape)]
    expr = context.reading(value, [of_axis(a) if a.extent != 1 else Index() for a in axes])
    if isinstance(expr, Const):  # a single number, read from memory here
        expr = Load(context.buffer(value), Index(), (), value.dtype)
    assert isinstance(expr, Load), f"{value!r} is not in memory"
    steps = [expr.at.stride(a) for a in axes]
    offset = expr.at.substitute({a: Index() for a in axes}).offset
    assert isinstance(offset, int)
    assert all(isinstance(step, int) for step in steps)
    known = tuple(int(step) for step in steps if step is not None)
    return Array(expr.buffer, offset, tuple(map(int, value.shape)), known)


def strided(
    value: Value, batch: Sequence[Axis], context: Context
) -> tuple[View, tuple[DimLike, DimLike]]:
    """A matrix operand as a view, and the strides of its last two axes.

    `batch` are the counters of the result's leading axes, which the operand's broadcast against.
    """
    rows, columns = (Axis(1000 + i, d) for i, d in enumerate(value.shape[-2:]))
    lead = len(batch) - (value.ndim - 2)
    at = [Index() if d == 1 else of_axis(batch[lead + i]) for i, d in enumerate(value.shape[:-2])]
    expr = context.reading(value, [*at, of_axis(rows), of_axis(columns)])
    if isinstance(expr, Const) and value.is_constant:  # a single number, read from memory here
        expr = Load(context.buffer(value), Index(), (), value.dtype)
    assert isinstance(expr, Load), f"{value!r} is not in memory"
    steps = (expr.at.stride(rows), expr.at.stride(columns))
    assert steps[0] is not None
    assert steps[1] is not None
    begin = expr.at.substitute({rows: Index(), columns: Index()})
    base = value
    while base.node in context.reading.virtual and base.node not in context.reading.in_memory:
        assert base.node is not None
        base = base.node.inputs[0]
    return View(expr.buffer, base, begin), (steps[0], steps[1])
