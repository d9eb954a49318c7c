"""Ops with loops of their own: a rule writes the statements that compute a node.

What they read they read through virtual ops, as every kernel does. The top loops of a rule may be
shared among threads (see `parallel`): where a step of a loop needs what the step before has done,
the loop is `serial`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ...dims import Shape
from ...graph import Node
from ...graph.text import Namer, node_text
from ...ops.base import Op
from ..index import Axis, Index, flatten, of_axis
from ..loops import Expr, Guard, Kernel, Load, Loop, Stmt, Store, expressions
from .registry import ROUNDING, registering, unlisted

if TYPE_CHECKING:
    from ..reading import BufferOf, Reading


@dataclass(frozen=True, slots=True)
class Nest:
    """A node, and how its operands are read and its results written."""

    node: Node
    reading: Reading
    buffer: BufferOf

    def read(self, operand: int, coords: Sequence[Index], guards: tuple[Guard, ...] = ()) -> Expr:
        """An element of an operand."""
        return self.reading(self.node.inputs[operand], coords, guards)

    def store(self, at: Sequence[Index], expr: Expr, result: int = 0) -> Store:
        """Writes an element of a result."""
        v = self.node.outputs[result]
        return Store(self.buffer(v), flatten(at, v.shape), expr)

    def load(self, at: Sequence[Index], result: int = 0) -> Load:
        """An element of a result, written before."""
        v = self.node.outputs[result]
        return Load(self.buffer(v), flatten(at, v.shape), (), v.dtype)


Rule: TypeAlias = Callable[[Any, Node, Nest], Sequence[Stmt]]
RULES: dict[type[Op], Rule] = {}
rule = registering(RULES, ROUNDING)


def why_not(node: Node) -> str | None:
    """Why a node has no loops of its own; None where it has."""
    return unlisted(node, RULES)


def kernel(node: Node, reading: Reading, buffer: BufferOf, names: Namer) -> Kernel:
    """The loops of a node."""
    body = tuple(RULES[type(node.op)](node.op, node, Nest(node, reading, buffer)))
    writes = tuple(buffer(v) for v in node.outputs)
    reads = dict.fromkeys(
        e.buffer for e in expressions(body) if isinstance(e, Load) and e.buffer not in writes
    )
    return Kernel(body, tuple(reads), writes, (), (node_text(node, names),))


# -- loops ----------------------------------------------------------------------------------------


def counters(shape: Shape) -> tuple[list[Axis], list[Index]]:
    """A counter for each dimension, and the coordinates that they give."""
    axes = [Axis(i, d) for i, d in enumerate(shape)]
    return axes, [of_axis(a) for a in axes]


def over(
    axes: Sequence[Axis], body: Sequence[Stmt], *, lanes: bool = False, serial: bool = False
) -> list[Stmt]:
    """Loops over `axes`, the last of them innermost, and of vectors where `lanes` holds."""
    if any(a.extent == 0 for a in axes):
        return []
    real = [a for a in axes if a.extent != 1]
    stmts = list(body)
    for axis in reversed(real):
        stmts = [Loop(axis, tuple(stmts), lanes and axis is real[-1], serial=serial)]
    return stmts


def filled(nest: Nest, value: Callable[[Sequence[Index]], Expr]) -> list[Stmt]:
    """Loops that write every element of the result."""
    axes, at = counters(nest.node.output.shape)
    return over(axes, [nest.store(at, value(at))], lanes=True)
