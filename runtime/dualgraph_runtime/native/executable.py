"""Compiled programs, made ready to run."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dims import evaluate
from dualgraph_compiler.errors import DeviceError
from dualgraph_compiler.feeds import bind_shapes
from dualgraph_compiler.native import Home, Interpreted, Program, Segment

from ..binding import write
from .frames import Frames, is_whole
from .laid import LaidSteps
from .launcher import being_built, extension, frame_type, trim
from .layouts import (
    Layout,
    arena_sizes,
    bytes_of,
    in_arena,
    is_known,
    layout_of,
    require_fits,
    resolved,
)
from .loading import has_code, load, packed_constants
from .sizes import grown
from .stages import Function, are_possible, evaluated, function_of
from .stored import Stored
from .threads import default_threads, team
from .toolchain import Compiler, find_compiler

if TYPE_CHECKING:
    from dualgraph_compiler.graph import Graph, Value
    from dualgraph_compiler.native import Exact

_log = logging.getLogger("dualgraph")

_SMALL = 64 * 1024  # bytes that are asked for without looking whether there are so many
_MAX_FRAMES = 64  # shapes come from callers: bounded


class NotCompiled(DeviceError):
    """A graph stays interpreted; the message says why."""


def compile_graph(
    graph: Graph,
    compiler: Compiler | None = None,
    num_threads: int | None = None,
    donate: Iterable[tuple[int, Value]] = (),
    exact: Exact | None = None,
    *,
    timed: bool = False,
) -> Executable:
    """Compile a graph for this machine. A call uses up to `num_threads` threads, see `threads`.

    `donate` are outputs that may be written over inputs or params, with `exact` results are those
    of the eager kernels: see :func:`dualgraph_compiler.native.build`. With `timed`, what is made is
    a :class:`.timed.TimedExecutable`.

    Raises:
        NotCompiled: there is no C compiler.
        DeviceError: the compiler failed.
    """
    from dualgraph_compiler.native import build

    compiler = compiler or find_compiler()
    if compiler is None:
        raise NotCompiled("no C compiler found; see the log for how to get one")
    program = build(graph, compiler.target, donate, exact, timed=timed)
    if timed:
        from .timed import TimedExecutable

        return TimedExecutable(program, compiler, num_threads)
    return Executable(program, compiler, num_threads)


def try_compile(graph: Graph, num_threads: int | None = None) -> Executable | None:
    """`compile_graph`, or None, with a word in the log, where the graph stays interpreted."""
    try:
        return compile_graph(graph, num_threads=num_threads)
    except NotCompiled as error:
        _log.info("graph %r is interpreted: %s", graph.name, error)
        return None


class Executable:
    """A program with its code loaded. Safe to call from several threads at once.

    `program` is the program; `report()` says what became of each node. A call uses up to
    `num_threads` threads. `frame` is called with arrays like those of the last call, inputs and
    params, and gives the tuple of outputs, or something else if it takes more than that; None where
    there is no such shortcut.
    """

    def __init__(
        self,
        program: Program,
        compiler: Compiler,
        num_threads: int | None = None,
        packed: Sequence[np.ndarray[Any, Any]] | None = None,
    ) -> None:
        self.program = program
        self._compiler = compiler
        threads = (num_threads or default_threads()) if program.shares else 1
        direct = is_whole(program) or are_possible(program)
        sources = {s.number for s in program.slots if s.home is Home.SOURCE}
        constants = [None if c is None else np.ascontiguousarray(c) for c in program.constants]
        self._entries: dict[str, Any] = {}
        if has_code(program):
            with being_built(compiler, launcher=direct, pool=threads > 1):
                library = self._library = load(program, compiler)
            self._entries = {
                s.entry: library[s.entry] for s in program.steps if isinstance(s, Segment)
            }
            if packed is None and program.packs:
                packed = packed_constants(library[program.packs], program, constants)
        self._packed = list(packed or ())
        self._team, self.num_threads = team(threads, compiler)
        # What was needed for packing only goes.
        self._constants = [None if i in sources else c for i, c in enumerate(constants)]
        kept = self._constants if program.laid is None else program.constants
        self.program = replace(program, constants=tuple(kept))
        self._types = [*program.inputs, *program.params]
        self._is_sized = program.defines_sizes
        self._bodies = _bodies(program, compiler, self.num_threads)
        self._asked: list[list[int]] | None = None
        self._layouts: dict[Any, Layout] = {}
        self.frame: Any = None
        self._lock = threading.Lock()
        self._frames: Frames | None = None
        kind = frame_type(compiler) if direct else None
        if kind is not None:
            memory = (self._constants, self._packed)
            team_of = (self._team, self.num_threads)
            self._frames = Frames(self.program, kind, self._entries, memory, team_of)
        self._wide: Layout | None = None

    def stored(self, about: Any) -> Stored:
        """Everything that another process needs to have this program again."""
        return Stored(self.program, tuple(self._packed), about)

    def trim(self) -> None:
        """Give the memory of intermediate values back; the next call asks for it anew."""
        with self._lock:
            self._layouts.clear()
            self._wide = None
        self.frame = None
        trim()

    @property
    def extension(self) -> Any:
        """The extension that `frame` is of, where there is one: see `launcher.extension`."""
        return None if self._frames is None else extension(self._compiler)

    def report(self) -> str:
        """Which nodes are compiled into which kernels, which are interpreted, and why."""
        return self.program.report()

    def run(
        self,
        inputs: Sequence[np.ndarray[Any, Any]],
        params: Sequence[Any] = (),
        *,
        donate: bool = False,
    ) -> list[np.ndarray[Any, Any]]:
        """The outputs for positional inputs and params.

        With `donate`, what the program writes over inputs and params is written there, if nothing
        else lies in that memory, and the result is that very array; if the run fails, nothing has
        been written. Without it, inputs and params stay as they are.

        Raises:
            FeedError: an array has another dtype, rank or size than declared.
            ArgumentError, IndexOutOfRange: an operation refuses the numbers it got.
        """
        frame = self.frame
        if frame is not None and (donate or not self.program.donated):
            found = frame(*inputs, *params)
            if type(found) is tuple:
                return list(found)
            if found is not NotImplemented:
                self._raise(found)
        return self._run([_native_order(a) for a in (*inputs, *params)], donate)

    def run_into(
        self,
        inputs: Sequence[np.ndarray[Any, Any]],
        outputs: Sequence[np.ndarray[Any, Any] | None],
    ) -> list[np.ndarray[Any, Any]]:
        """`run`, with the results written into arrays of the caller's, or new ones for None.

        Raises:
            FeedError: an array given for an output has another dtype or shape than the result.
        """
        frame = self.frame
        if frame is not None:
            found = frame(*inputs, *outputs)
            if type(found) is tuple:
                return list(found)
        results = self.run(inputs)
        return [write(y, given) for y, given in zip(results, outputs, strict=True)]

    # -- the general way --------------------------------------------------------------------------

    def _run(self, arrays: list[np.ndarray[Any, Any]], donate: bool) -> list[np.ndarray[Any, Any]]:
        is_open = self._is_sized and self._frames is None
        layout = None if is_open else self._layout(arrays)
        arrays = [np.require(a, requirements=("C", "A")) for a in arrays]
        if self.program.donated:
            alone = _alone(arrays) if donate else ()
            for i in self.program.donated.values():
                if i not in alone:
                    arrays[i] = arrays[i].copy()
        if layout is None:
            return self._run_sized(self._sizes(arrays), arrays)
        if layout.frame is not None:
            last, self.frame = self.frame, layout.frame
            if last is not None and last is not layout.frame:
                last.trim()  # sizes change: what was kept for the next call is not for this one
            found = layout.frame(*arrays)
            if type(found) is tuple:
                return list(found)
            if found is not NotImplemented:
                self._raise(found)
            if self._is_sized:
                return self._run_sized(self._sizes(arrays), arrays)
            if self._frames is not None and self._frames.told is not None:  # for other sizes, too
                layout = self._make_layout(self._sizes(arrays))
        if self.program.laid is not None:
            return self._laid_steps(layout).run(arrays, self._raise)
        return self._run_steps(layout, arrays)

    def _laid_steps(self, layout: Layout) -> LaidSteps:
        """The steps of a program that is exact, for the sizes of a layout."""
        steps = layout.steps
        if steps is None:
            steps = layout.steps = LaidSteps(
                self.program, layout, self._entries, self._constants, self._packed, self._team
            )
        return steps

    def _run_steps(
        self, layout: Layout, arrays: list[np.ndarray[Any, Any]]
    ) -> list[np.ndarray[Any, Any]]:
        """Step by step, in buffers of this call alone."""
        program = self.program
        arena = np.empty(layout.arena_bytes + 64, np.uint8)
        start = -arena.ctypes.data % 64
        buffers = self._given(arrays)
        for i, slot in enumerate(program.slots):
            if slot.home is Home.OUTPUT:
                buffers[i] = np.empty(layout.shapes[i], slot.dtype.np)
            elif slot.home is Home.ARENA:
                at = start + layout.offsets[i]
                size = bytes_of(slot, layout.shapes[i])
                flat = arena[at : at + size].view(slot.dtype.np)
                buffers[i] = flat if slot.own else flat.reshape(layout.shapes[i])
        dims = (ctypes.c_int64 * (len(layout.dims) + 1))(*layout.dims)
        for step, op in zip(program.steps, layout.ops, strict=True):
            if isinstance(step, Segment):
                self._call(step, buffers, dims)
            else:
                self._interpret(step, op, buffers)
        return self._outputs(layout.outputs, buffers, arrays)

    def _given(self, arrays: list[np.ndarray[Any, Any]]) -> list[Any]:
        """The table of buffers with what is there before a run."""
        n_inputs = len(self.program.inputs)
        buffers: list[Any] = [None] * len(self.program.slots)
        for i, slot in enumerate(self.program.slots):
            if slot.home is Home.INPUT:
                buffers[i] = arrays[slot.number]
            elif slot.home is Home.PARAM:
                buffers[i] = arrays[n_inputs + slot.number]
            elif slot.home is Home.CONSTANT:
                buffers[i] = self._constants[slot.number]
            elif slot.home is Home.PACKED:
                buffers[i] = self._packed[slot.number]
        return buffers

    def _run_sized(
        self, env: dict[str, int], arrays: list[np.ndarray[Any, Any]]
    ) -> list[np.ndarray[Any, Any]]:
        """Step by step, with memory asked for as sizes become known."""
        program = self.program
        buffers = self._given(arrays)
        for step, asked in zip(program.steps, self._asked_for(env), strict=True):
            if isinstance(step, Interpreted):
                self._interpret(step, resolved(step, env), buffers)
                env.update({name: buffers[slot].shape[axis] for name, slot, axis in step.defines})
                continue
            for i in asked:
                slot = program.slots[i]
                shape = tuple([evaluate(d, env) for d in slot.shape])
                size = bytes_of(slot, shape) * (self.num_threads if slot.own else 1)
                if size > _SMALL:
                    require_fits(size, ())
                flat = np.empty(size // slot.dtype.itemsize, slot.dtype.np)
                buffers[i] = flat if slot.own else flat.reshape(shape)
            sizes = [env.get(name, 0) for name in program.symbols]
            self._call(step, buffers, (ctypes.c_int64 * (len(sizes) + 1))(*sizes))
        shapes = [tuple(evaluate(d, env) for d in shape) for _, shape, _ in program.outputs]
        return self._outputs(shapes, buffers, arrays)

    def _asked_for(self, env: Mapping[str, int]) -> list[list[int]]:
        """For each step, the slots that get memory before it: when their sizes become known."""
        if self._asked is not None:
            return self._asked
        slots, known = self.program.slots, set(env)
        waiting = [i for i, s in enumerate(slots) if s.home in (Home.OUTPUT, Home.ARENA)]
        found: list[list[int]] = []
        for step in self.program.steps:
            ready = isinstance(step, Segment)
            found.append([i for i in waiting if ready and is_known(slots[i].shape, known)])
            waiting = [i for i in waiting if i not in found[-1]]
            known.update(name for name, _, _ in getattr(step, "defines", ()))
        self._asked = found
        return found

    def _call(self, step: Segment, buffers: list[Any], dims: Any) -> None:
        table = (ctypes.c_void_p * (len(buffers) + 1))(
            *[None if b is None else b.__array_interface__["data"][0] for b in buffers]
        )
        status = self._entries[step.entry](table, dims, ctypes.c_void_p(self._team))
        if status:
            self._raise(status)

    def _interpret(
        self, step: Interpreted, op: tuple[Any, list[tuple[int, ...]]], buffers: list[Any]
    ) -> None:
        """Run a node through its op's eager kernel."""
        kernel, shapes = op
        arrays = [buffers[i].reshape(s) for (i, _), s in zip(step.operands, shapes, strict=True)]
        results = evaluated(kernel, self._runs(step), *arrays)
        for slot, y in zip(step.results, results, strict=True):
            y = np.asarray(y)
            if any(np.may_share_memory(y, a) for a in arrays):
                buffers[slot] = np.array(y, order="C")
            else:
                buffers[slot] = np.require(y, requirements=("C", "A"))

    def _runs(self, step: Interpreted) -> Any:
        """What gives for a body of an interpreted node what runs it; None for nodes without."""
        if not step.bodies:
            return None
        op: Any = step.op
        return {body: self._bodies[body].run for body in op.graphs}.__getitem__

    def _outputs(
        self,
        shapes: list[tuple[int, ...]],
        buffers: list[Any],
        arrays: list[np.ndarray[Any, Any]],
    ) -> list[np.ndarray[Any, Any]]:
        given: set[int] = set()
        results = []
        donated = self.program.donated
        for i, ((slot, _, _), shape) in enumerate(zip(self.program.outputs, shapes, strict=True)):
            if i in donated:
                results.append(arrays[donated[i]])
                continue
            own = self.program.slots[slot].home is Home.OUTPUT and slot not in given
            given.add(slot)
            results.append(buffers[slot] if own else buffers[slot].reshape(shape).copy())
        return results

    def _raise(self, status: int) -> None:
        refused = 0
        if self.program.index_errors:
            last = self._library["last_refused_index"]
            last.restype = ctypes.c_int64
            refused = last()
        raise self.program.error(status, refused)

    # -- preparing --------------------------------------------------------------------------------

    def _sizes(self, arrays: Sequence[np.ndarray[Any, Any]]) -> dict[str, int]:
        """The sizes of the symbols that the arrays tell."""
        env = bind_shapes(self._types, arrays)
        if self.program.assumptions:
            from dualgraph_compiler.graph import check_assumptions

            check_assumptions(self.program.assumptions, env)
        return env

    def _layout(self, arrays: Sequence[np.ndarray[Any, Any]]) -> Layout:
        if self._frames is not None and self._frames.told is not None:
            return self._wide_layout(self._frames, self._sizes(arrays))
        key = tuple((a.dtype, a.shape) for a in arrays)
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._make_layout(self._sizes(arrays))
            with self._lock:
                if len(self._layouts) >= _MAX_FRAMES:
                    self._layouts.clear()
                self._layouts[key] = layout
        return layout

    def _wide_layout(self, frames: Frames, env: dict[str, int]) -> Layout:
        """A layout whose frame has room for these sizes."""
        found = self._wide
        if found is None:
            found = self._wide = self._make_layout(env, {})
            return found
        needed = arena_sizes(self.program, env, self.num_threads, frames.placed)
        if any(n > found.room[i] for i, n in needed.items()):
            least = {i: max(n, found.room[i]) for i, n in needed.items()}
            found = self._wide = self._make_layout(grown(env, found.env), least)
        return found

    def _make_layout(self, env: dict[str, int], least: Mapping[int, int] | None = None) -> Layout:
        """A layout for these sizes; with a frame for varying ones that has `least` room at least,
        or one for these alone."""
        frames = self._frames
        if frames is None:
            placed = in_arena(self.program)
            return layout_of(self.program, env, self.num_threads, placed, least)
        layout = layout_of(self.program, env, self.num_threads, frames.placed, least)
        if (frames.told is None) == (least is None):
            layout.frame = frames.make(layout, self._functions())
        return layout

    def _functions(self) -> dict[int, Function]:
        """What computes the nodes, by the number of the step."""
        steps = enumerate(self.program.steps)
        return {i: self._function(s) for i, s in steps if isinstance(s, Interpreted)}

    def _function(self, step: Interpreted) -> Function:
        """What computes a node. The frame has it, so it must not refer to this object."""
        return function_of(step, self.program.symbols, self._runs(step))


def _bodies(program: Program, compiler: Compiler, num_threads: int) -> dict[Graph, Executable]:
    """The compiled bodies of interpreted control flow, by the graphs that they are of."""
    found: dict[Graph, Executable] = {}
    for step in program.steps:
        if isinstance(step, Interpreted) and step.bodies:
            op: Any = step.op
            for graph, body in zip(op.graphs, step.bodies, strict=True):
                found[graph] = Executable(body, compiler, num_threads)
    return found


def _native_order(array: Any) -> np.ndarray[Any, Any]:
    """An array whose numbers have this machine's byte order."""
    given: np.ndarray[Any, Any] = np.asarray(array)
    return given if given.dtype.isnative else given.astype(given.dtype.newbyteorder("="))


def _alone(arrays: Sequence[np.ndarray[Any, Any]]) -> set[int]:
    """Those that can be written to and share memory with none of the others; all lie in C order."""
    starts = [a.__array_interface__["data"][0] for a in arrays]
    spans = sorted((start, start + a.nbytes, i) for i, (start, a) in enumerate(zip(starts, arrays)))
    alone = {i for i, a in enumerate(arrays) if a.flags.writeable}
    furthest, last = -1, -1  # how far what came before reaches, and which of it does
    for start, stop, i in spans:
        if start < furthest:
            alone -= {i, last}
        if stop > furthest:
            furthest, last = stop, i
    return alone
