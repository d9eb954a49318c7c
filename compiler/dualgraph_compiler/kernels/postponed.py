"""Checks of indices on a GPU: noted where they come up, decided when the host next waits anyway.

On NumPy an index out of range is an error at once. To say so at once of an index on a GPU, every
gather would have to wait for the device. Instead the extremes of the indices are kept there, and
whoever reads from the device next (``Tensor.item``, ``.cpu()``, ``synchronize`` ...) asks
`raise_failed`. Until then a bad index wraps around, as CuPy has it: no memory but the operand's
is touched, and no result is seen before the error.
"""

from __future__ import annotations

from typing import Any

from ..errors import IndexOutOfRange
from .arrays import Array

_MANY = 64  # checks of one kind, after which they are folded into one

# (device, what, least, most) -> the extremes seen, in pairs.
pending: dict[tuple[int, str, int, int], list[tuple[Array, Array]]] = {}


def note(xp: Any, values: Array, least: int, most: int, what: str) -> None:
    """Ask that all `values`, of an integer dtype and at least one, be in [least, most]."""
    low, high = values.min(), values.max()
    seen = pending.setdefault((int(values.device.id), what, least, most), [])
    seen.append((low, high))
    if len(seen) > _MANY:
        lows, highs = zip(*seen, strict=True)
        seen[:] = [(xp.stack(lows).min(), xp.stack(highs).max())]


def raise_failed() -> None:
    """Raise for a check that failed since the last call; waits for the device if there are any.

    Raises:
        IndexOutOfRange: says which value was out of which range.
    """
    while pending:
        (_, what, least, most), seen = pending.popitem()
        for low, high in seen:
            smallest, largest = int(low.get()), int(high.get())
            if smallest < least or largest > most:
                pending.clear()
                wrong = smallest if smallest < least else largest
                raise IndexOutOfRange(
                    f"{what} {wrong} is out of bounds: expected {least} <= {what} < {most + 1} "
                    "(in an earlier operation on the GPU, which was not waited for)"
                )
