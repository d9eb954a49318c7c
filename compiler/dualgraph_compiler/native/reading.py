"""Reading a value: through the ops that move elements, down to memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from ..graph import Node, Value
from .index import Index, flatten
from .loops import Buffer, Expr, Guard, Load
from .lower import movement
from .scalars import const

_INLINE = 1  # constants of up to this many elements are written into the code

BufferOf: TypeAlias = Callable[[Value], Buffer]


class Reading:
    """Reads values through the ops that move elements, down to memory."""

    def __init__(
        self,
        virtual: set[Node],
        in_memory: set[Node],
        buffer: BufferOf,
        aliases: Mapping[Value, Value] | None = None,
    ) -> None:
        self.virtual = virtual
        self.in_memory = in_memory
        self.buffer = buffer
        self.aliases = aliases or {}

    def __call__(self, value: Value, at: Sequence[Index], guards: tuple[Guard, ...] = ()) -> Expr:
        """The element of `value` at coordinates `at`."""
        node = value.node
        seen = node is not None and node in self.virtual and node not in self.in_memory
        if seen and node is not None and value not in self.aliases:
            return self.through(node, at, guards)
        if value.is_constant and value.data.size == _INLINE:
            return const(value.data.reshape(()), value.dtype)
        # An index from data is written out even where it can only be 0: it is checked there.
        where = [
            Index() if d == 1 and not c.taken() else c for c, d in zip(at, value.shape, strict=True)
        ]
        return Load(self.buffer(value), flatten(where, value.shape), guards, value.dtype)

    def through(self, node: Node, at: Sequence[Index], guards: tuple[Guard, ...] = ()) -> Expr:
        """The element of a moving op's result."""

        def read(operand: int, coords: Sequence[Index], guards: tuple[Guard, ...] = ()) -> Expr:
            return self(node.inputs[operand], coords, (*outer, *guards))

        outer = guards
        return movement.RULES[type(node.op)](node.op, node, at, read)
