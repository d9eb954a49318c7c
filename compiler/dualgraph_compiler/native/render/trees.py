"""Decision trees: rows go down a tree side by side, so that the wait for one's memory is another's.

A task is a block of rows. It takes one tree after the other, whose nodes stay in cache while all
of its rows pass; a row alone goes down several trees at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...dtypes import float64
from ...graph import Node
from ...graph.text import node_text
from ..loops import Buffer
from ..lower.library import Pack, Phase
from ..schedule import Context
from .prelude import Prelude
from .types import Sizes, memory

_SIDE = 8  # rows, or trees, that are on their way at a time
_ROWS = 64  # of a task
_STEP = 12_000  # picoseconds for a row to go down a tree


class Trees:
    """The routine of a tree ensemble. See `lower.library.Routine`."""

    checked = False
    scratch: tuple[Buffer, ...] = ()
    packs: tuple[Pack, ...] = ()

    def __init__(
        self, node: Node, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        op: Any = node.op
        self.op, self.sizes = op, Sizes(symbols)
        self.dtype = node.inputs[0].dtype
        self.rows, self.features = node.inputs[0].shape
        self.trees = node.inputs[2].shape[0]
        self.words = node.inputs[1].shape[1]
        self.inputs = [context.buffer(v) for v in node.inputs]
        self.reads: tuple[Buffer, ...] = tuple(dict.fromkeys(self.inputs))
        self.writes: tuple[Buffer, ...] = (context.buffer(node.output),)
        self.own: tuple[Buffer, ...] = (Buffer(float64, _ROWS * op.targets, "sums over trees"),)
        self.notes: tuple[str, ...] = (node_text(node, context.names),)
        self.tasks = (self.rows + (_ROWS - 1)) // _ROWS
        self.phases: tuple[Phase, ...] = (Phase("", self.tasks, self.rows * self.trees * _STEP),)
        self._lines = self._body()

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(self.sizes.used)

    def text(self, name: str) -> str:
        """The function that takes a range of blocks of rows."""
        names = {b: f"b{i}" for i, b in enumerate(self.reads)}
        parameters = [f"const {memory(b.dtype)} *restrict {n}" for b, n in names.items()]
        parameters.append(f"{memory(self.dtype)} *restrict y")
        parameters.append("f64 *restrict sums")
        parameters += [f"i64 {n}" for n in (*self.arguments, "first", "last")]
        operands = ("x", "nodes", "roots", "starts", "targets", "weights")
        aliases = "\n".join(
            f"  const {memory(b.dtype)} *const {n} = {names[b]};"
            for n, b in zip(operands, self.inputs, strict=True)
        )
        return f"static void {name}({', '.join(parameters)}) {{\n{aliases}\n{self._lines}\n}}"

    def _body(self) -> str:
        s, op = self.sizes, self.op
        rows, features, trees = s(self.rows), s(self.features), s(self.trees)
        none = {"sum": "0", "min": "__builtin_inf()", "max": "-__builtin_inf()"}[op.aggregate]
        return f"""\
  for (i64 task = first; task < last; task++) {{
    const i64 top = task * {_ROWS}, bottom = top + {_ROWS} < {rows} ? top + {_ROWS} : {rows};
    for (i64 i = 0; i < (bottom - top) * {op.targets}; i++) sums[i] = {none};
    i64 row = top;
    const i64 whole = bottom - (bottom - top) % {_SIDE};
    for (i64 tree = 0; tree < {trees}; tree++) {{
      for (row = top; row < whole; row += {_SIDE}) {{
        i32 at[{_SIDE}];
        for (int k = 0; k < {_SIDE}; k++) at[k] = roots[tree];
{self._descent(f"x + (row + k) * {features}", _SIDE)}
        for (int k = 0; k < {_SIDE}; k++) {{
          f64 *const own = sums + (row + k - top) * {op.targets};
{self._added()}
        }}
      }}
    }}
    for (row = whole; row < bottom; row++) {{
      f64 *const own = sums + (row - top) * {op.targets};
      for (i64 tree = 0; tree < {trees}; tree += {_SIDE}) {{
        const int n = {trees} - tree < {_SIDE} ? (int)({trees} - tree) : {_SIDE};
        i32 at[{_SIDE}];
        for (int k = 0; k < {_SIDE}; k++) at[k] = roots[k < n ? tree + k : tree];
{self._descent(f"x + row * {features}", _SIDE)}
        for (int k = 0; k < n; k++) {{
{self._added()}
        }}
      }}
    }}
    for (i64 i = 0; i < (bottom - top) * {op.targets}; i++)
      y[top * {op.targets} + i] = ({memory(self.dtype)})sums[i];
  }}"""

    def _descent(self, row: str, side: int) -> str:
        """All of `at` go down until each is at a leaf, which follows itself."""
        width = self.words - 3 - (self.words == 6)
        t, size = memory(self.dtype), self.dtype.itemsize
        return f"""\
        for (int open = {int(self.op.leaves > 0)}; open;) {{
          open = 0;
          for (int k = 0; k < {side}; k++) {{
            const i32 *const node = nodes + (i64)at[k] * {self.words};
            {t} split;
            memcpy(&split, node, {size});
            const i32 feature = node[{width}];
            const {t} value = ({row})[feature >> 1];
            const int yes = (value <= split) | ((value != value) & feature);
            at[k] = node[{width + 2} - yes];  // and no branch, which would be guessed wrong
            open |= at[k] >= {self.op.leaves};
          }}
        }}"""

    def _added(self) -> str:
        fold = {
            "sum": "own[targets[e]] += weights[e];",
            "min": "if (weights[e] < own[targets[e]]) own[targets[e]] = weights[e];",
            "max": "if (weights[e] > own[targets[e]]) own[targets[e]] = weights[e];",
        }[self.op.aggregate]
        return f"          for (i32 e = starts[at[k]]; e < starts[at[k] + 1]; e++) {fold}"
