"""A compiled graph: C text, the buffers it works on, and the order of what is not C.

Plain data, to be kept on disk and run without the ops and passes that made it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..dims import DimLike, Shape, product
from ..dtypes import DType
from ..errors import ArgumentError, DualGraphError, IndexOutOfRange

if TYPE_CHECKING:
    from ..graph import Assumption
    from ..ops.base import Op

# What a kernel's status says went wrong.
ERRORS: dict[int, tuple[type[DualGraphError], str]] = {
    1: (ArgumentError, "floor_div: integer division by zero"),
    2: (ArgumentError, "trunc_div: integer division by zero"),
    3: (ArgumentError, "remainder: integer division by zero"),
    4: (ArgumentError, "fmod: integer division by zero"),
}


FIRST_INDEX_ERROR = 16  # the status of the first index error


class Home(enum.Enum):
    """Whose memory a slot is."""

    INPUT = "input"
    PARAM = "param"
    CONSTANT = "constant"
    OUTPUT = "output"  # made for each call, given to the caller
    ARENA = "arena"  # shared by values whose lives do not overlap
    HOST = "host"  # the result of an interpreted node
    SOURCE = "source"  # a constant that is read only to make packed ones
    PACKED = "packed"  # a constant in another order, made when the program is loaded


@dataclass(frozen=True, slots=True)
class Slot:
    """An entry of the table of buffers: `number` counts the slots of one home.

    Arena slots are alive from step `first` to step `last`. Of an `own` slot each thread has one:
    the first at the slot's address, each following one behind it, at a multiple of 64 bytes.
    """

    home: Home
    number: int
    dtype: DType
    shape: Shape
    first: int = 0
    last: int = 0
    own: bool = False

    @property
    def elements(self) -> DimLike:
        return product(self.shape)


@dataclass(frozen=True, slots=True)
class Segment:
    """A function of the text: one call runs several steps."""

    entry: str


@dataclass(frozen=True, slots=True)
class Interpreted:
    """A node run by its op's eager kernel, on arrays over slots.

    `defines`: the sizes that only its run tells, by name, and the slot and axis where they are.
    `bodies`: of control flow, the graphs that it holds, compiled.
    """

    op: Op
    operands: tuple[tuple[int, Shape], ...]
    results: tuple[int, ...]
    reason: str
    text: str
    defines: tuple[tuple[str, int, int], ...] = ()
    bodies: tuple[Program, ...] = ()


@dataclass(frozen=True, slots=True)
class Laid:
    """Of a program that is exact: interpreted nodes see arrays as NumPy lays them out.

    `dead` has for each step the results of interpreted nodes that nothing behind it reads; `given`
    are those that compiled code reads, for which they must lie in C order. All are slots.
    """

    dead: tuple[tuple[int, ...], ...]
    given: frozenset[int]


@dataclass(frozen=True, slots=True)
class Work:
    """What a kernel does at the least.

    `ops` names its nodes' operations, `bytes` counts what is read and written, each buffer once,
    `flops` arithmetic (see ``Op.flops``), None where that is not known.
    """

    ops: tuple[str, ...]
    bytes: DimLike
    flops: DimLike | None


@dataclass(frozen=True, slots=True)
class Program:
    """What a runtime needs to run a graph.

    `symbols` are the sizes passed to the text, in order. `outputs` gives for each output its slot
    and shape; an output whose slot is of home HOST is copied from it. One in `donated` is the array
    that was passed as that input or param (counted on behind the inputs), which the run overwrites.
    `laid` is there where results are to be those of the eager kernels, to the last bit.
    """

    text: str
    symbols: tuple[str, ...]
    slots: tuple[Slot, ...]
    steps: tuple[Segment | Interpreted, ...]
    inputs: tuple[tuple[str, Any], ...]
    params: tuple[tuple[str, Any], ...]
    constants: tuple[Any, ...]
    outputs: tuple[tuple[int, Shape, DType], ...]
    packs: str = ""  # the function that fills the packed slots; "" where there are none
    kernels: tuple[str, ...] = ()
    boundaries: tuple[str, ...] = field(default=())
    assumptions: tuple[Assumption, ...] = ()
    shares: bool = False  # whether any step may be shared among threads
    index_errors: tuple[str, ...] = ()
    donated: Mapping[int, int] = field(default_factory=dict)
    laid: Laid | None = None
    work: tuple[Work, ...] = ()  # of each kernel, where the text notes when they begin and end

    @property
    def defines_sizes(self) -> bool:
        """Whether there are sizes that are known only when some steps have run."""
        return any(isinstance(s, Interpreted) and s.defines for s in self.steps)

    def error(self, status: int, index: int) -> DualGraphError:
        """What a status means; `index` is what the text says it has refused."""
        if status in ERRORS:
            error, message = ERRORS[status]
            return error(message)
        return IndexOutOfRange(
            self.index_errors[status - FIRST_INDEX_ERROR].replace("{}", str(index), 1)
        )

    def report(self) -> str:
        """What is fused, what is interpreted, and why."""
        lines = [f"{len(self.kernels)} kernels"]
        lines += [f"  {k}" for k in self.kernels]
        interpreted = [s for s in self.steps if isinstance(s, Interpreted)]
        if interpreted:
            lines.append(f"{len(interpreted)} interpreted nodes")
            lines += [f"  {s.text}: {s.reason}" for s in interpreted]
        if self.donated:
            names = [name for name, _ in (*self.inputs, *self.params)]
            lines.append("written over the old value")
            lines += [f"  {names[i]}" for i in self.donated.values()]
        if self.boundaries:
            lines.append("boundaries between kernels")
            lines += [f"  {b}" for b in self.boundaries]
        return "\n".join(lines)
