"""Programs that tell how long each of their kernels takes.

They are compiled from a text of their own, which notes the time around each kernel (see
``dualgraph_compiler.native.timing``); programs that are not timed have no trace of it.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dualgraph_compiler.dims import DimLike, evaluate, symbols
from dualgraph_compiler.feeds import bind_shapes
from dualgraph_compiler.native import Interpreted, Program
from dualgraph_compiler.native.timing import TIMES

from ..profile import Part, Profile, Tally
from .executable import Executable
from .loading import has_code
from .stages import Function
from .toolchain import Compiler

# Called after a run with the parts and, for each, when it began and ended, in nanoseconds of
# ``time.perf_counter_ns``.
Observer = Callable[[Sequence[Part], Sequence[tuple[int, int]]], None]


class TimedExecutable(Executable):
    """An executable of a timed program: `tally` adds up what its kernels and nodes take.

    One run at a time: the times of a kernel lie in one place. `observer`, if set, is told of each.
    """

    def __init__(
        self, program: Program, compiler: Compiler, num_threads: int | None = None
    ) -> None:
        self._shortcut: Any = None
        super().__init__(program, compiler, num_threads)
        kernels = [Part(k, w.ops) for k, w in zip(program.kernels, program.work, strict=True)]
        nodes = [s for s in program.steps if isinstance(s, Interpreted)]
        self.tally = Tally(
            [*kernels, *(Part(s.text, (s.op.name,), interpreted=True) for s in nodes)]
        )
        self.observer: Observer | None = None
        self._nodes = {id(s): i for i, s in enumerate(nodes)}
        self._node_times = [(0, 0)] * len(nodes)
        self._times: Any = None
        if has_code(program):
            self._times = (ctypes.c_int64 * (2 * len(kernels))).in_dll(self._library, TIMES)
        self._one_at_a_time = threading.RLock()

    @property
    def frame(self) -> Any:
        """None: every call goes through `run`, or it would not be counted."""
        return None

    @frame.setter
    def frame(self, value: Any) -> None:
        self._shortcut = value

    def run(
        self,
        inputs: Sequence[np.ndarray[Any, Any]],
        params: Sequence[Any] = (),
        *,
        donate: bool = False,
    ) -> list[np.ndarray[Any, Any]]:
        """See :meth:`Executable.run`."""
        with self._one_at_a_time:
            begin = time.perf_counter_ns()
            direct = self._shortcut is not None and (donate or not self.program.donated)
            found = self._shortcut(*inputs, *params) if direct else None
            if type(found) is tuple:
                results = list(found)
            else:
                results = super().run(inputs, params, donate=donate)
            taken = time.perf_counter_ns() - begin
            flat = list(self._times) if self._times is not None else []
            times = [*zip(flat[::2], flat[1::2], strict=True), *self._node_times]
            self.tally.note(taken, times, self._work([*inputs, *params]))
            if self.observer is not None:
                self.observer(self.tally.parts, times)
            return results

    def profile(self) -> Profile:
        """Where the time of all runs so far went."""
        return self.tally.profile()

    def report(self) -> str:
        """Which nodes form which kernels, and what each has taken so far."""
        return f"{super().report()}\n{self.profile()}"

    def _interpret(
        self, step: Interpreted, op: tuple[Any, list[tuple[int, ...]]], buffers: list[Any]
    ) -> None:
        begin = time.perf_counter_ns()
        super()._interpret(step, op, buffers)
        self._node_times[self._nodes[id(step)]] = begin, time.perf_counter_ns()

    def _function(self, step: Interpreted) -> Function:
        function, times, i = super()._function(step), self._node_times, self._nodes[id(step)]

        def evaluate(*operands: Any) -> Sequence[Any]:
            begin = time.perf_counter_ns()
            results = function(*operands)
            times[i] = begin, time.perf_counter_ns()
            return results

        return evaluate

    def _work(self, arrays: Sequence[Any]) -> list[tuple[int | None, int | None]]:
        """Flops and bytes of each part, for the sizes of these arrays."""
        env = bind_shapes(self._types, arrays) if self.program.symbols else {}
        found = [(_known(w.flops, env), _known(w.bytes, env)) for w in self.program.work]
        return [*found, *((None, None) for _ in self._node_times)]


def _known(amount: DimLike | None, env: dict[str, int]) -> int | None:
    if amount is None or isinstance(amount, int):
        return amount
    return evaluate(amount, env) if all(s.name in env for s in symbols(amount)) else None
