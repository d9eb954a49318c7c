"""Max pooling that says where its maxima are, and its gradient, which is added there.

A task is one image: one channel of one sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...dims import product
from ...dtypes import float32
from ...graph.text import node_text
from ...types import is_static
from ..fuse import Step
from ..index import Axis, Index, of_axis, row_major, unflatten
from ..loops import Buffer
from ..lower.library import Pack, Phase
from ..schedule import Context, Epilogue
from .kernel import KernelText
from .prelude import Prelude
from .signature import parameters, sizes_used
from .types import Sizes, literal, memory


class MaxPoolIndices:
    """The routine of values and positions. See `lower.library.Routine`."""

    checked = False

    def __init__(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        node = step.nodes[0]
        op: Any = node.op
        self.op = op
        self.sizes = Sizes(symbols)
        x, (y, at) = node.inputs[0], node.outputs
        self.dtype = x.dtype
        self.prelude, self.lanes = prelude, prelude.vector_bytes // 4
        self.image, self.places = x.shape[2:], y.shape[2:]
        self.reads: tuple[Buffer, ...] = (context.buffer(x),)
        self.writes: tuple[Buffer, ...] = (context.buffer(y), context.buffer(at))
        self.scratch: tuple[Buffer, ...] = ()
        self.own: tuple[Buffer, ...] = ()
        self.packs: tuple[Pack, ...] = ()
        self.notes: tuple[str, ...] = (node_text(node, context.names),)
        self._body = self._text()
        images = x.shape[0] * x.shape[1]
        reads = product(self.places) * product(op.kernel)
        self.phases: tuple[Phase, ...] = (Phase("", images, images * reads * 1000),)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The symbolic sizes it takes."""
        return tuple(self.sizes.used)

    def text(self, name: str) -> str:
        """The function."""
        t = memory(self.dtype)
        parameters = [f"const {t} *restrict b0", f"{t} *restrict b1", "i64 *restrict b2"]
        parameters += [f"i64 {n}" for n in (*self.arguments, "first", "last")]
        return f"static void {name}({', '.join(parameters)}) {{\n{self._body}\n}}"

    def _text(self) -> str:
        s, op, t = self.sizes, self.op, memory(self.dtype)
        rank = len(self.image)
        lines: list[str] = []
        depth = 1

        def line(text: str) -> None:
            lines.append("  " * depth + text)

        line("for (i64 task = first; task < last; task++) {")
        depth += 1
        line(f"const {t} *x = b0 + task * {s(product(self.image))};")
        line(f"{t} *y = b1 + task * {s(product(self.places))};")
        line(f"i64 *at = b2 + task * {s(product(self.places))};")
        for d in range(rank):
            line(f"for (i64 p{d} = 0; p{d} < {s(self.places[d])}; p{d}++) {{")
            depth += 1
            # The taps of the window that are in the image.
            line(f"const i64 c{d} = p{d} * {op.stride[d]} - {s(op.padding[d][0])};")
            step = op.dilation[d]
            if d == rank - 1 and self._inner_places()[1]:
                for text in self._places_text():
                    line(text)
            line(f"const i64 k{d} = c{d} < 0 ? (-c{d} + {step - 1}) / {step} : 0;")
            line(f"i64 e{d} = ({s(self.image[d])} - c{d} + {step - 1}) / {step};")
            line(f"e{d} = e{d} < {op.kernel[d]} ? e{d} : {op.kernel[d]};")
        for text in self._place_text():
            line(text)
        while depth > 1:
            depth -= 1
            line("}")
        return "\n".join(lines)

    def _pixel(self, taps: Sequence[str]) -> str:
        """Where the element of these taps is in the image."""
        terms = zip(taps, self.op.dilation, row_major(self.image), strict=True)
        return " + ".join(
            f"(c{d} + {tap} * {dilation}) * {self.sizes(step)}"
            for d, (tap, dilation, step) in enumerate(terms)
        )

    def _place_text(self) -> list[str]:
        """One place, from the taps that are in the image."""
        rank, t = len(self.image), memory(self.dtype)
        return [
            f"{t} best = {literal(_least(self.dtype), self.dtype)};",
            f"i64 where = {self._pixel([f'k{d}' for d in range(rank)])};",
            *(f"for (i64 j{d} = k{d}; j{d} < e{d}; j{d}++)" for d in range(rank)),
            "{",
            f"  const i64 here = {self._pixel([f'j{d}' for d in range(rank)])};",
            f"  const {t} v = x[here];",
            "  const int wins = v > best || v != v;  // NaN wins, the last one",
            "  best = wins ? v : best, where = wins ? here : where;",
            "}",
            "*y++ = best, *at++ = where;",
        ]

    def _inner_places(self) -> tuple[int, int]:
        """The places along the last axis whose taps are all in the image: from, to; none where they
        are not computed side by side, which float32 is, with positions that fit the lanes."""
        op, pixels, n = self.op, product(self.image), self.places[-1]
        if self.dtype is not float32 or not (is_static((n, pixels)) and pixels < 2**31):
            return 0, 0
        size, before, stride = int(self.image[-1]), int(op.padding[-1][0]), op.stride[-1]
        begin = max(0, -(-before // stride))
        reach = (op.kernel[-1] - 1) * op.dilation[-1]
        end = min(int(n), (size - 1 - reach + before) // stride + 1)
        return (begin, end) if end - begin >= self.lanes else (0, 0)

    def _places_text(self) -> list[str]:
        """A vector of places whose taps along the last axis are all in the image; the last of them
        may be computed once more."""
        s, op, lanes, prelude = self.sizes, self.op, self.lanes, self.prelude
        first, end = self._inner_places()
        last, stride = len(self.image) - 1, op.stride[-1]
        v, i = prelude.vector("f32", lanes), prelude.vector("i32", lanes)
        store, splat = prelude.store("f32", lanes), prelude.splat("i32", lanes)
        sel, sel_at = prelude.sel("f32", lanes), prelude.sel("i32", lanes)
        elements = ", ".join(f"x[here + {j * stride}]" for j in range(lanes))
        ahead = ", ".join(str(j * stride) for j in range(lanes))
        begin = self._pixel([*(f"k{d}" for d in range(last)), "0"])
        inner = self._pixel([*(f"j{d}" for d in range(last)), f"j{last}"])
        return [
            f"if (p{last} >= {first} && p{last} < {end}) {{",
            f"  const i64 p = p{last} < {end - lanes} ? p{last} : {end - lanes};",
            f"  const i64 c{last} = p * {stride} - {s(op.padding[-1][0])}, back = p{last} - p;",
            f"  const {i} ahead = {{{ahead}}};",
            f"  {v} best = {prelude.splat('f32', lanes)}({literal(-math.inf, float32)});",
            f"  {i} where = {splat}((i32)({begin})) + ahead;",
            *(f"  for (i64 j{d} = k{d}; j{d} < e{d}; j{d}++)" for d in range(last)),
            f"  for (i64 j{last} = 0; j{last} < {op.kernel[-1]}; j{last}++) {{",
            f"    const i64 here = {inner};",
            f"    const {v} v = {{{elements}}};",
            f"    const {i} wins = ({i})(v > best) | ({i})(v != v);",
            f"    best = {sel}(wins, v, best);",
            f"    where = {sel_at}(wins, {splat}((i32)here) + ahead, where);",
            "  }",
            f"  {store}(y - back, best);",
            f"  for (int l = 0; l < {lanes}; l++) at[l - back] = where[l];",
            f"  y += {lanes} - back, at += {lanes} - back, p{last} += {lanes - 1} - back;",
            "  continue;",
            "}",
        ]


class MaxPoolGradient:
    """The routine of the gradient and its epilogue. See `lower.library.Routine`."""

    checked = True

    def __init__(
        self, step: Step, context: Context, prelude: Prelude, symbols: Mapping[str, int]
    ) -> None:
        node = step.nodes[0]
        self.sizes = Sizes(symbols)
        g, indices, out = node.inputs[0], node.inputs[1], node.output
        self.dtype = out.dtype
        self.pixels, self.places = product(out.shape[2:]), product(g.shape[2:])
        self.shape = out.shape
        self.sample, self.channel = Axis(0, out.shape[0]), Axis(1, out.shape[1])
        self.image = Buffer(out.dtype, self.pixels, "an image")
        self.epilogue = _Epilogue(step, context, self)
        self.inner = KernelText(self.epilogue.kernel, prelude, symbols)
        self.g, self.indices = context.buffer(g), context.buffer(indices)
        others = [b for b in self.epilogue.kernel.reads if b is not self.image]
        self.reads: tuple[Buffer, ...] = tuple(dict.fromkeys((self.g, self.indices, *others)))
        self.writes = self.epilogue.kernel.writes
        self.scratch: tuple[Buffer, ...] = ()
        self.own: tuple[Buffer, ...] = (self.image,)
        self.packs: tuple[Pack, ...] = ()
        self.notes = self.epilogue.kernel.notes
        message = "max_pool_grad: index {} is out of range"
        self.status = prelude.index_error(message)
        self._body = self._driver()
        images = self.sample.extent * self.channel.extent
        cost = images * (self.places * 1500 + self.pixels * 300)
        self.phases: tuple[Phase, ...] = (Phase("", images, cost),)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The symbolic sizes it takes."""
        return sizes_used(self.sizes, self.inner.sizes)

    def text(self, name: str) -> str:
        """The epilogue, and the function that adds what each place has to where it came from."""
        head = parameters(self, self._names())
        extra = [*map(str, self.epilogue.counters), "rows", "columns"]
        body = self._body.replace("EPILOGUE", f"{name}_epilogue")
        return (
            f"{self.inner.text(f'{name}_epilogue', extra)}\n"
            f"static int {name}({head}) {{\n{body}\n  return 0;\n}}"
        )

    def _names(self) -> dict[Buffer, str]:
        return {b: f"b{i}" for i, b in enumerate((*self.reads, *self.writes, *self.own))}

    def _driver(self) -> str:
        s, names, t = self.sizes, self._names(), memory(self.dtype)
        kernel = self.epilogue.kernel
        args = [names[b] for b in (*kernel.reads, *kernel.writes)]
        args += [a for a in self.inner.sizes.used if a not in ("rows", "columns")]
        args += ["i0", "i1", "0", "1", s(self.pixels)]
        pixels, places = s(self.pixels), s(self.places)
        return f"""\
  for (i64 task = first; task < last; task++) {{
    const i64 i0 = task / {s(self.channel.extent)}, i1 = task % {s(self.channel.extent)};
    const {t} *g = {names[self.g]} + task * {places};
    const i64 *at = {names[self.indices]} + task * {places};
    {t} *image = {names[self.image]};
    memset(image, 0, (size_t){pixels} * sizeof({t}));
    for (i64 p = 0; p < {places}; p++) {{
      const i64 i = at[p];
      if (i < 0 || i >= {pixels}) return refuse_index({self.status}, i);
      image[i] += g[p];
    }}
    EPILOGUE({", ".join(args)});
  }}"""


class _Epilogue(Epilogue):
    """The epilogue of a pool's gradient: a tile is a row of all pixels of one image."""

    def __init__(self, step: Step, context: Context, routine: MaxPoolGradient) -> None:
        self._routine = routine
        super().__init__(step, context, routine.image, routine.pixels, [routine.sample])

    def _first_axes(self, step: Step, lead: int) -> tuple[Axis, ...]:
        return self._routine.channel, Axis(2, self._routine.pixels)

    def _coordinates(self, row: Index, column: Index) -> list[Index]:
        routine = self._routine
        return [of_axis(routine.sample), row, *unflatten(column, routine.shape[2:])]


def _least(dtype: Any) -> float:
    return -math.inf if dtype.is_floating_point else int(np.iinfo(dtype.np).min)
