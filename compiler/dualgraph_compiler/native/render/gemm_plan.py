"""How a matrix product is computed: which operand is read how, and in what blocks."""

from __future__ import annotations

import itertools
from dataclasses import replace

from ...dims import DimLike, product
from ...dims import Shape as DimShape
from ...dtypes import int16
from ...graph import Value
from ..fuse import Step
from ..index import Axis, Index
from ..schedule import Context, strided
from .tile import Shape, product_shape

_DEPTH = 384  # steps of k: a panel of them takes most of the first-level cache
_BLOCK = 256 * 1024  # bytes of A that are gone over panel by panel: they should stay in L2
_COLUMNS = 64  # columns of a task at least; those of a task that packs A, four times as many
_FEW = 16  # rows that do not pay for packing B
_APART = 128  # columns of one row's task, whose halves are read side by side
_MANY = 256  # rows that share the packing of more columns
_AHEAD = 50_000_000  # picoseconds of a product whose operands are packed before it
_AHEAD_BYTES = 64 * 1024 * 1024  # of what is packed then
_TASKS = 32  # of such a product at least, so that no thread waits long for another
_PACKS = 8  # tasks that pack columns of B, at least where it has as many panels
_TILES = 4  # below each other in a task of it at least, which share what they read of B
_PANELS = 256 * 1024  # bytes of B in panels: they should stay in L2
_SUMS = 64 * 1024  # bytes of sums that an epilogue goes over


class GemmPlan:
    """C = A B in blocks. `m`, `n`, `k` are sizes, `a_steps` and `b_steps` the steps of a row and of
    a column, `batch` the axes of the result that count products.

    `fixed`: B is in panels before the first call; `in_place`: it is read as it lies. `turned`: A
    and B have changed places. `direct`: tiles are stored where the result belongs. `ahead`: what
    is to be packed at a call is packed as a whole before the first block, and not by blocks:
    `pack_columns` of B by a task. A block has `block_rows` by `block_columns`; `depth` steps of k
    are taken at a time. There are `down` blocks below each other, `across` beside each other.
    """

    def __init__(self, step: Step, context: Context, vector_bytes: int) -> None:
        self.vector_bytes = vector_bytes
        node = step.nodes[0]
        a, b, out = node.inputs[0], node.inputs[1], node.output
        self.m, self.n, self.k = out.shape[-2], out.shape[-1], a.shape[-1]
        self.batch = [Axis(i, d) for i, d in enumerate(out.shape[:-2])]
        self.a, self.a_steps = strided(a, self.batch, context)
        self.b, self.b_steps = strided(b, self.batch, context)
        self.lead = self._join_rows(out.shape[:-1])
        self.words = a.dtype is int16  # two numbers of a row of A make an element
        self.type = "i32" if self.words else "f32"
        if self.words:
            self.k, self.a_steps = b.shape[-2], (self.a_steps[0] // 2, 1)
        self.fixed = self._is_fixed(self.b.buffer_value, context)
        self.step = context.step if self.fixed and self._is_large() else None
        self.dots = self._dots()
        few = isinstance(self.m, int) and self.m <= _FEW
        self.in_place = self.dots is not None or (not self.fixed and few and self.b_steps[1] == 1)
        if self.dots is not None:
            self.fixed, self.step = False, None
        self.row, self.column = Axis(len(self.batch), self.m), Axis(len(self.batch) + 1, self.n)
        self.turned = self._turns()
        if self.turned:
            self.m, self.n = self.n, self.m
            self.a, self.b = self.b, self.a
            self.a_steps, self.b_steps = self.b_steps[::-1], self.a_steps[::-1]
        self.shape = self._tile_shape()
        self.packs_rows = self.a_steps[1] != 1
        self.direct = len(step.nodes) == 1 and step.stores == [out] and not self.turned
        self.cost = self._cost()
        self.narrow = self._narrow()
        self.ahead = self.narrow is None and self._packs_ahead()
        self._plan_blocks()
        self.pack_columns = self._pack_columns()
        self.across = (self.n + (self.block_columns - 1)) // self.block_columns
        self.down = (self.m + (self.block_rows - 1)) // self.block_rows

    def _is_fixed(self, b: Value | None, context: Context) -> bool:
        """Whether B is packed once: a constant, or the same in all steps of a loop."""
        if b is None or self.b.at.terms:
            return False
        sizes = (self.k, self.n, *self.b_steps, self.b.at.offset)
        return b.is_constant or (b in context.constant and all(isinstance(d, int) for d in sizes))

    def _is_large(self) -> bool:
        """Whether B is too large for the second-level cache to hold it from one step to the next.

        Half of it is still there where every other step goes over it backwards.
        """
        size = self.k * self.n
        return isinstance(size, int) and 4 * size > _PANELS

    def _join_rows(self, lead: DimShape) -> DimShape:
        """Make one matrix of a batch that shares B, if A's rows are evenly spaced throughout.

        Gives the axes of the result that its rows count.
        """
        axes = [*self.batch, Axis(len(self.batch), self.m)]
        steps = [*(self.a.at.stride(a) for a in self.batch), self.a_steps[0]]
        real = [(a.extent, step) for a, step in zip(axes, steps, strict=True) if a.extent != 1]
        even = all(
            step is not None and after is not None and step == after * extent
            for (_, step), (extent, after) in itertools.pairwise(real)
        )
        if not even or self.b.at.axes():
            return lead[-1:]
        self.m = product(lead)
        step = real[-1][1] if real else 0
        self.a_steps = (0 if step is None else step, self.a_steps[1])
        begin = self.a.at.substitute({a: Index() for a in self.batch})
        self.a = replace(self.a, at=begin)
        self.batch = []
        return lead

    def _dots(self) -> tuple[int, int] | None:
        """Rows and columns of a tile of dot products, where those are the better way.

        They are where few rows, or a single column, are multiplied along contiguous memory, and B
        need not be read in another order for it.
        """
        if self.a_steps[1] != 1 or self.b_steps[0] != 1:
            return None
        if self.n == 1:
            return 8, 1
        if self.fixed or not isinstance(self.m, int):
            return None
        return {1: (1, 8), 2: (2, 4), 3: (3, 3), 4: (4, 2)}.get(self.m)

    def _turns(self) -> bool:
        """Whether C' = B' A' packs less: see above."""
        if self.fixed or self.in_place or self.a_steps[1] != 1 or self.b_steps[0] != 1:
            return False
        if not isinstance(self.m, int) or not isinstance(self.n, int):
            return False
        return 2 * self.m <= self.n

    def _tile_shape(self) -> Shape:
        """A tile is wider than usual where a row or two of B as it lies are all it has to read."""
        usual = product_shape(self.n, self.vector_bytes, self.type)
        if not self.in_place or self.m not in (1, 2) or not isinstance(self.n, int):
            return usual
        rows = 1 if self.m == 1 else 2
        vectors = 8 // rows
        while vectors > usual.vectors and vectors * usual.lanes > self.n:
            vectors //= 2
        return Shape(rows, vectors, usual.lanes, self.type)

    def _cost(self) -> DimLike:
        """Picoseconds, very roughly: 200 for each vector of products."""
        batch = product(tuple(a.extent for a in self.batch))
        return batch * self.m * self.n * self.k * 200 // self.shape.lanes

    def _narrow(self) -> int | None:
        """Columns of a block that has all rows, where those are few enough; else None.

        B is then packed block by block: no panel is read by another task than that which has packed
        it, so panels need not leave its caches, and there are blocks enough for all threads.
        """
        if not self._packs_block() or self.batch or self.packs_rows:
            return None
        m, n, k, width = self.m, self.n, self.k, self.shape.width
        if not (isinstance(m, int) and isinstance(n, int) and isinstance(k, int)):
            return None
        columns = width * max(1, min(_COLUMNS // width, n // (width * _TASKS)))
        fits = 4 * m * k <= _BLOCK and 4 * m * columns <= _SUMS
        return columns if fits and n >= width * _TASKS else None

    def _packs_ahead(self) -> bool:
        """Whether packing is worth a phase of its own, which threads share.

        Packed by blocks, operands are packed by each thread that needs them, and small blocks, such
        as keep threads equally busy, would not pay for it.
        """
        if not self._packs_block() or self.batch:
            return False
        packed = 4 * self.k * (self.n + (self.m if self.packs_rows else 0))
        short = isinstance(self.cost, int) and self.cost < _AHEAD
        return not short and not (isinstance(packed, int) and packed > _AHEAD_BYTES)

    def _plan_blocks(self) -> None:
        """How far blocks reach in each direction."""
        k, n = self.k, self.n
        parts = max(1, -(-k // _DEPTH)) if isinstance(k, int) and not self._reads_once() else 1
        self.depth = max(1, -(-k // parts)) if isinstance(k, int) else _DEPTH
        wanted = _COLUMNS * (4 if self.packs_rows and not self.ahead else 1)
        if isinstance(k, int) and isinstance(self.m, int) and self.m >= _MANY:
            wanted = max(wanted, _PANELS // (4 * max(1, k)))
        if self._is_row():
            wanted = _APART
        wanted = self.narrow or wanted
        self.block_columns = -(-wanted // self.shape.width) * self.shape.width
        if isinstance(n, int):
            whole = max(1, -(-n // self.shape.width)) * self.shape.width
            self.block_columns = min(self.block_columns, whole)
        tiles = max(1, _BLOCK // (4 * self.depth * self.shape.rows))
        if not self.direct:
            tiles = min(tiles, max(1, _SUMS // (4 * self.block_columns * self.shape.rows)))
        if self.ahead and isinstance(self.m, int) and isinstance(n, int):
            down = -(-_TASKS * self.block_columns // max(1, n))
            tiles = min(tiles, max(_TILES, -(-self.m // (down * self.shape.rows))))
        self.block_rows = tiles * self.shape.rows
        if isinstance(self.m, int):
            self.block_rows = min(self.block_rows, max(1, self.m))

    def _pack_columns(self) -> int:
        """Columns that a task packs before the first block: rows of B are read in long pieces."""
        width = self.shape.width
        panels = max(1, _COLUMNS // width)
        if isinstance(self.n, int):
            panels = max(1, min(panels, -(-self.n // width) // _PACKS))
        return panels * width

    def _is_row(self) -> bool:
        """Whether A is a single row, and all the time goes to reading panels of B."""
        return self.fixed and self.m == 1

    def _reads_once(self) -> bool:
        """Whether one tile has all rows, so that no part of B need stay in a cache for another."""
        return isinstance(self.m, int) and self.m <= self.shape.rows

    def _has_edge(self) -> bool:
        """Whether the last panel may be narrower than the others."""
        if self.dots is not None:
            return False
        return not isinstance(self.n, int) or self.n % self.shape.width != 0

    def _packs_columns(self) -> bool:
        """Whether a call packs columns of B: all, or those behind the last whole panel."""
        return not self.in_place or self._has_edge()

    def _packs_block(self) -> bool:
        """Whether a call packs all columns of B."""
        return not self.fixed and not self.in_place

    def _height(self) -> int:
        """Rows of a block, where their number is known: as the driver's text finds it."""
        if not isinstance(self.m, int) or self.m == 0:
            return self.block_rows
        down = -(-self.m // self.block_rows)
        tall = self.shape.rows
        return ((self.m + down - 1) // down + tall - 1) // tall * tall
