"""Complex numbers in memory: read part by part, written as pairs, and scanned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...dtypes import int64
from ...graph import Node
from ..complex import Join, PartOf
from ..complex_scan import ComplexScan
from ..index import Index, flatten
from ..loops import Assign, Declare, Expr, Let, Load, Position, Ref, Stmt, Store
from ..scalars import call, size, test, where
from . import movement, nests
from .movement import Reader
from .nests import Nest, counters, over
from .scans import along


def _part_of(op: Any, node: Node, at: Sequence[Index], read: Reader) -> Expr:
    x = read(0, at)
    assert isinstance(x, Load), "complex numbers are read from memory"
    return Load(x.buffer, x.at * 2 + op.part, x.guards, node.output.dtype)


def _join(op: Any, node: Node, nest: Nest) -> list[Stmt]:
    axes, at = counters(node.output.shape)
    buffer, place = nest.buffer(node.output), flatten(at, node.output.shape) * 2
    stores = [Store(buffer, place + i, nest.read(i, at)) for i in range(2)]
    return over(axes, stores, lanes=True)


def _scan(op: ComplexScan, node: Node, nest: Nest) -> list[Stmt]:
    out = node.outputs[0]
    dtype, shape = out.dtype, out.shape
    re, im = Ref("re", dtype), Ref("im", dtype)
    first = size(shape[op.axis] - 1 if op.reverse else 0, int64)

    def step(at: list[Index]) -> list[Stmt]:
        a, b, *added = (nest.read(i, at) for i in range(op.operands))
        new_re = call("sub", call("mul", a, re), call("mul", b, im))
        new_im = call("add", call("mul", a, im), call("mul", b, re))
        begins = test("eq", Position(at[op.axis], int64), first)
        if added:
            new_re, new_im = call("add", added[0], new_re), call("add", added[1], new_im)
        # The first step is no product with what is not there.
        start_re, start_im = added if added else (a, b)
        return [
            Let("next", where(begins, start_re, new_re)),
            Assign("im", where(begins, start_im, new_im)),
            Assign("re", Ref("next", dtype)),
            nest.store(at, re, 0),
            nest.store(at, im, 1),
        ]

    def start() -> list[Stmt]:
        return [Declare("re", "sum", dtype), Declare("im", "sum", dtype)]

    return along(shape, op.axis, start, step, reverse=op.reverse)


movement.RULES[PartOf] = _part_of
nests.RULES[Join] = _join
nests.RULES[ComplexScan] = _scan
