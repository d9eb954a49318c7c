"""Routines that are C loops of their own over tasks, with nothing vectorised by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...dims import DimLike
from ...graph import Node
from ...graph.text import node_text
from ..loops import Buffer
from ..lower.library import Pack, Phase
from ..schedule import Context
from .types import Sizes, memory


class PlainRoutine:
    """A node computed task by task. See `lower.library.Routine`.

    `body` is what is done for ``task``, on the operands ``a0``, ``a1``, ..., the results ``y0``,
    ... and, of each thread's own, ``m0``, ...: all contiguous. It may return a status.
    """

    scratch: tuple[Buffer, ...] = ()
    packs: tuple[Pack, ...] = ()

    def __init__(self, node: Node, context: Context, symbols: Mapping[str, int]) -> None:
        self.sizes = Sizes(symbols)
        self.operands = [context.buffer(v) for v in node.inputs]
        self.reads: tuple[Buffer, ...] = tuple(dict.fromkeys(self.operands))
        self.writes: tuple[Buffer, ...] = tuple(context.buffer(v) for v in node.outputs)
        self.notes: tuple[str, ...] = (node_text(node, context.names),)
        self.own: tuple[Buffer, ...] = ()
        self.phases: tuple[Phase, ...] = ()
        self.checked = False
        self._body = ""

    def does(
        self, body: str, tasks: DimLike, cost: DimLike, own: Sequence[Buffer] = ()
    ) -> PlainRoutine:
        """Sets what is done for each of `tasks`; `cost` is that of all, in picoseconds."""
        self._body, self.own = body, tuple(own)
        self.phases = (Phase("", tasks, cost),)
        self.checked = "return " in body
        return self

    @property
    def arguments(self) -> tuple[str, ...]:
        """The symbolic sizes it takes."""
        return tuple(self.sizes.used)

    def text(self, name: str) -> str:
        """The function that takes a range of tasks."""
        names = {b: f"a{self.operands.index(b)}" for b in self.reads}
        parameters = [f"const {memory(b.dtype)} *restrict {n}" for b, n in names.items()]
        for letter, buffers in (("y", self.writes), ("m", self.own)):
            parameters += [
                f"{memory(b.dtype)} *restrict {letter}{i}" for i, b in enumerate(buffers)
            ]
        parameters += [f"i64 {n}" for n in (*self.arguments, "first", "last")]
        again = [
            f"  const {memory(b.dtype)} *const a{i} = {names[b]};\n"
            for i, b in enumerate(self.operands)
            if names[b] != f"a{i}"
        ]
        result, end = ("int", "  return 0;\n") if self.checked else ("void", "")
        return (
            f"static {result} {name}({', '.join(parameters)}) {{\n{''.join(again)}"
            f"  for (i64 task = first; task < last; task++) {{\n{self._body}\n  }}\n{end}}}"
        )
