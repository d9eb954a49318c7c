"""What routines of blocked convolutions share: buffers, the text around a body, the epilogue."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from ...dims import Shape, product
from ...graph import Value
from ..fuse import Step
from ..index import Axis, Index, of_axis, unflatten
from ..loops import Buffer
from ..lower.library import Pack, Phase
from ..schedule import Context, Epilogue, _Nest
from ..views import array
from .ending import Ending
from .kernel import KernelText
from .places import cuts, places_function, tallest
from .prelude import Prelude
from .signature import parameters, sizes_used
from .types import Sizes, memory

WEIGHT_COST = 1000  # picoseconds to pack an element
# So many tasks there should be, for threads to finish at about the same time: blocks of rows are
# few and uneven, so that two threads would be left with 4/7 of the work for one of them.
TASKS = 16


class BlockedRoutine:
    """The routine of a blocked convolution and its epilogue. See `lower.library.Routine`.

    Subclasses give the body of the function and the call that packs weights, which happens once
    where they are constant. `sums` are where the epilogue finds the result's places, lane by lane.
    """

    checked = False
    phases: tuple[Phase, ...]  # set by subclasses

    def _set_up(
        self,
        step: Step,
        context: Context,
        prelude: Prelude,
        symbols: Mapping[str, int],
        weights: int,
        sums: Buffer,
        own: Sequence[Buffer],
        inside: bool = False,
    ) -> None:
        """Everything a routine has; `weights` is the number of packed elements.

        `inside`: weights that change are packed by the task that reads them, a panel at a time.
        """
        self.prelude = prelude
        self.lanes = prelude.vector_bytes // 4
        self.sizes = Sizes(symbols)
        x, w = step.nodes[0].inputs
        self.x, self.weights = context.buffer(x), array(w, context)
        self.w = self.weights.buffer
        self.packed = Buffer(w.dtype, weights, f"{context.names[w]} packed")
        self.sums = sums
        self.epilogue = BlockedEpilogue(step, context, sums, x, self.lanes)
        self.inner = KernelText(self.epilogue.kernel, prelude, symbols)
        others = [b for b in self.epilogue.kernel.reads if b is not sums]
        fixed = context.is_fixed(w)
        self.reads = tuple(dict.fromkeys((self.x, self.packed if fixed else self.w, *others)))
        self.writes = self.epilogue.kernel.writes
        self.inside = inside
        self.scratch: tuple[Buffer, ...] = () if fixed or inside else (self.packed,)
        self.ending = self._ending()
        kept = [sums] if self.ending is None else []
        self.own: tuple[Buffer, ...] = (*own, *kept, *([self.packed] if inside else []))
        self.notes = self.epilogue.kernel.notes
        self.packs: tuple[Pack, ...] = (self._pack_once(),) if fixed else ()
        self._driver()  # which finds out the sizes that the functions inside must be given
        self._body = self._driver()

    def _ending(self) -> Ending | None:
        """What tiles do with sums that they do not store; None where an epilogue reads them."""
        return None

    def _pack_once(self) -> Pack:
        call = self._pack_call("from", "0", str(self._panels()), "to")
        shape = (*self.weights.shape, self.packed.size, self.weights.offset, *self.weights.steps)
        name = f"{call.split('(')[0]}_{'_'.join(map(str, shape)).replace('-', 'm')}"
        t = memory(self.packed.dtype)
        text = f"static void {name}(const {t} *from, {t} *to) {{ {call} }}"
        return Pack(self.prelude.once(name, text), self.w, self.packed)

    def _with_packing(self, phase: Phase) -> tuple[Phase, ...]:
        packing = Phase("_pack", self._panels(), self.packed.size * WEIGHT_COST)
        return (packing, phase) if self.scratch else (phase,)

    def _weight_args(self, w: str) -> str:
        """The arguments for the weights at `w`: where they begin, steps of outputs and inputs, and
        a table of the window's taps."""
        out, in_, *steps = self.weights.steps
        taps = itertools.product(*map(range, self.weights.shape[2:]))
        at = (sum(i * step for i, step in zip(tap, steps, strict=True)) for tap in taps)
        table = f"(const i64[]){{{', '.join(map(str, at))}}}"
        return f"{w} + {self.weights.offset}, {out}, {in_}, {table}"

    def _panels(self) -> int:
        """How many panels of weights there are, which are packed one by one."""
        raise NotImplementedError

    def _pack_call(self, w: str, first: str, last: str, to: str) -> str:
        """The statement that packs panels `first` to `last` - 1."""
        raise NotImplementedError

    def _driver(self) -> str:
        """The body of the function that runs tasks `first` to `last` - 1."""
        raise NotImplementedError

    # -- text -------------------------------------------------------------------------------------

    @property
    def arguments(self) -> tuple[str, ...]:
        """The symbolic sizes it takes."""
        return sizes_used(self.sizes, self.inner.sizes)

    def text(self, name: str) -> str:
        """The epilogue, and the functions that pack weights and go over the tiles."""
        names = self._names()
        head = f"({parameters(self, names)}) {{\n"
        counters = [*map(str, self.epilogue.counters), "rows"]
        pack = ""
        if self.scratch:
            call = self._pack_call(names[self.w], "first", "last", names[self.packed])
            pack = f"static void {name}_pack{head}  {call}\n}}\n"
        epilogue = ""
        if self.ending is None:
            epilogue = f"{self.inner.text(f'{name}_epilogue', counters)}\n"
        return (
            f"{epilogue}{pack}"
            f"static void {name}{head}{self._body.replace('EPILOGUE', f'{name}_epilogue')}\n}}"
        )

    def _names(self) -> dict[Buffer, str]:
        buffers = (*self.reads, *self.writes, *self.scratch, *self.own)
        return {b: f"b{i}" for i, b in enumerate(buffers)}

    def _epilogue_call(self, sums: str) -> str:
        kernel, names = self.epilogue.kernel, {**self._names(), self.sums: sums}
        args = [names[b] for b in (*kernel.reads, *kernel.writes)]
        args += [a for a in self.inner.sizes.used if a != "rows"]
        args += [*map(str, self.epilogue.counters), "rows"]
        return f"EPILOGUE({', '.join(args)});"

    def _tiles_text(
        self, wide: int, unroll: int, total: str, known: Sequence[int], args: str
    ) -> list[str]:
        """Tiles of about the same height over `total` places, which are any of `known`; `args`
        are those of `places_function`, for the tile that begins at q."""
        t = memory(self.sums.dtype)
        most = tallest(self.prelude.vector_bytes, wide, t)
        heights = sorted({h for n in known for h in cuts(n, most)}) or range(1, most + 1)
        lines = [f"for (i64 q = 0, high; q < {total}; q += high) {{"]
        lines.append(f"  const i64 tiles = ({total} - q + {most - 1}) / {most};")
        lines.append(f"  high = ({total} - q + tiles - 1) / tiles;  // tiles of about a height")
        lines.append("  switch (high) {")
        for high in heights:
            name = places_function(self.prelude, high, wide, unroll, t)
            lines.append(f"    case {high}: {name}({args}); break;")
        return [*lines, "  }", "}"]


class BlockedEpilogue(Epilogue):
    """The epilogue of a blocked result: a tile is places by the lanes of one block."""

    def __init__(
        self, step: Step, context: Context, sums: Buffer, image: Value, lanes: int
    ) -> None:
        self._lanes = Axis(101, lanes)
        self._places: Shape = step.nodes[0].output.shape[2:-1]
        super().__init__(step, context, sums, lanes, [Axis(0, image.shape[0])])

    def _first_axes(self, step: Step, lead: int) -> tuple[Axis, ...]:
        """The counters of the block and of the first place."""
        return Axis(1, step.axes[1]), Axis(2, product(self._places))

    def _plain_nest(self) -> _Nest:
        self._columns = self._lanes
        block, first = self._first
        place = Index(((first, 1), (self._rows, 1)))
        sample = self.counters[0]
        coords = [of_axis(sample), of_axis(block)]
        coords += unflatten(place, self._places)
        coords.append(of_axis(self._lanes))
        return _Nest(coords, [self._rows], [self._lanes], self._lanes)


def copy_function(prelude: Prelude, plain: bool, lanes: int, t: str = "f32") -> str:
    """Copies a box of a blocked image, or of a plain one whose channels become a block.

    Along each spatial axis the box begins at `start`, which may lie outside of the image as its end
    may, and has `count` elements; what is outside is 0.
    """
    name = f"copy_{'plain' if plain else 'box'}_{lanes}_{t}"
    line = (
        f"""\
        for (i64 i = 0; i < inside; i++)
          for (i64 c = 0; c < {lanes}; c++) at[i * {lanes} + c] = row[c * channel + i];"""
        if plain
        else f"        memcpy(at, row, (size_t)inside * {lanes * 4});"
    )
    step = 1 if plain else lanes
    text = f"""
static void {name}(
    const {t} *x, i64 channel, i64 blocks, i64 size0, i64 start0, i64 count0,
    i64 size1, i64 start1, i64 count1, i64 size2, i64 start2, i64 count2, i64 step, {t} *to) {{
  const i64 before = start2 < 0 ? (-start2 < count2 ? -start2 : count2) : 0;
  const i64 from = start2 < 0 ? 0 : start2;
  const i64 room = size2 - from < count2 - before ? size2 - from : count2 - before;
  const i64 inside = room > 0 ? room : 0, after = count2 - before - inside;
  for (i64 b = 0; b < blocks; b++, x += channel, to += step) {{
    {t} *at = to;
    for (i64 i0 = start0; i0 < start0 + count0; i0++)
      for (i64 i1 = start1; i1 < start1 + count1; i1++) {{
        if (i0 < 0 || i0 >= size0 || i1 < 0 || i1 >= size1) {{
          memset(at, 0, (size_t)count2 * {lanes * 4});
          at += count2 * {lanes};
          continue;
        }}
        const {t} *row = x + ((i0 * size1 + i1) * size2 + from) * {step};
        memset(at, 0, (size_t)before * {lanes * 4});
        at += before * {lanes};
{line}
        at += inside * {lanes};
        memset(at, 0, (size_t)after * {lanes * 4});
        at += after * {lanes};
      }}
  }}
}}"""
    return prelude.once(name, text)
