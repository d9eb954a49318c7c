"""Concatenation: a nest of loops for each operand, which copies it to its part of the result."""

from __future__ import annotations

from ..dims import DimLike
from ..graph import Node
from ..graph.text import Namer, node_text
from .index import Axis, flatten, of_axis
from .loops import Kernel, Load, Loop, Stmt, Store, expressions
from .reading import BufferOf, Reading


def concat_kernel(node: Node, reading: Reading, buffer: BufferOf, names: Namer) -> Kernel:
    """A nest of loops for each operand, which copies it to its part of the result."""
    out = node.output
    joined: int = node.op.attributes()["axis"]
    body: list[Stmt] = []
    start: DimLike = 0
    for v in node.inputs:
        axes = [Axis(i, d) for i, d in enumerate(v.shape)]
        at = [of_axis(a) for a in axes]
        target = [c + start if i == joined else c for i, c in enumerate(at)]
        stmts: list[Stmt] = [Store(buffer(out), flatten(target, out.shape), reading(v, at))]
        real = [a for a in axes if a.extent != 1]
        for axis in reversed(real):
            stmts = [Loop(axis, tuple(stmts), axis is real[-1])]
        body += stmts
        start = start + v.shape[joined]
    writes = (buffer(out),)
    reads = dict.fromkeys(e.buffer for e in expressions(tuple(body)) if isinstance(e, Load))
    return Kernel(tuple(body), tuple(reads), writes, (), (node_text(node, names),))
