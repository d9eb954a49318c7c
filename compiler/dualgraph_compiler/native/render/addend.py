"""What is added to a matrix product, as a bias is: tiles begin from it and are stored in place."""

from __future__ import annotations

from dataclasses import dataclass

from ...dims import DimLike
from ...dtypes import float32
from ..index import Axis, Index
from ..loops import Buffer, Call, Kernel, Let, Load, Loop, Ref, Store


@dataclass(frozen=True, slots=True)
class Addend:
    """Where the numbers lie that a product is added to, and where the total is stored.

    Rows are `step` apart there, rows of the total `out_step`; columns are adjacent in both.
    """

    buffer: Buffer
    at: Index
    step: DimLike
    out: Buffer
    out_at: Index
    out_step: DimLike


def addend(kernel: Kernel, sums: Buffer, inside: tuple[Axis, Axis], row: Axis) -> Addend | None:
    """The addend where an epilogue does nothing but add one; else None.

    `inside` are the counters of rows and columns within a block of `sums`, `row` that of a block's
    first row.
    """
    body = kernel.body
    while len(body) == 1 and isinstance(body[0], Loop):
        body = body[0].body
    match body:
        case (
            Let(name=first, expr=Load(buffer=read)),
            Let(name=second, expr=Call(fn="add", args=(one, other))),
            Store(buffer=out, at=out_at, expr=Ref(name=stored)),
        ) if read is sums and stored == second:
            pass
        case _:
            return None
    if isinstance(one, Ref) and one.name == first:
        one, other = other, one
    if not isinstance(one, Load) or not isinstance(other, Ref) or other.name != first:
        return None
    plain = not one.guards and not one.at.taken() and not out_at.taken()
    if (
        not plain
        or out.dtype is not float32
        or one.buffer.dtype is not float32
        or one.buffer is out
    ):
        return None
    steps = []
    for at in (one.at, out_at):
        step = at.stride(inside[0])
        if step is None or at.stride(row) != step or at.stride(inside[1]) != 1:
            return None
        steps.append(step)
    return Addend(one.buffer, one.at, steps[0], out, out_at, steps[1])
