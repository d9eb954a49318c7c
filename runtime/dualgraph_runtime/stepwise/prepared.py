"""A graph made ready to run: interpreted, or compiled once it has been called often enough."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.graph import Graph, Interpreter
from dualgraph_compiler.onnx.stepwise.segment import Sizes, sizes_of

from ..device import Device, to_device
from ..memory import usable_memory
from ..options import Execution, SessionOptions
from ..preparing import optimized

if TYPE_CHECKING:
    from ..native import Background, Executable

_CALLS = 2  # interpreted before compiling pays: sizes and contents may never come again


class Prepared:
    """A graph, its inputs NumPy arrays. Safe to call from several threads.

    `sizes` is what is known of the sizes of its outputs.
    """

    def __init__(
        self, graph: Graph, options: SessionOptions, device: Device, execution: Execution
    ) -> None:
        self.sizes: list[Sizes] = sizes_of(graph)
        self._graph = optimized(graph, options)
        self._device = device
        self._interpreter: Interpreter | None = None
        self._native: Background[Executable] | None = None
        self._lock = threading.Lock()
        self._waits = execution == "native"
        if execution != "interpreter":
            from ..native import Background, compile_graph

            make = partial(compile_graph, self._graph, num_threads=options.intra_op_num_threads)
            self._native = Background(make, f"graph {graph.name!r}", after=_CALLS)

    def run(self, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The graph's outputs."""
        native = self._native
        if native is not None:
            executable = native.wait() if self._waits else native.get()
            if executable is not None:
                return executable.run(list(arrays))
        interpreter = self._interpreted()
        if self._device.type == "cpu":
            return [np.asarray(y) for y in interpreter.run(arrays)]
        with self._device.active():
            results = interpreter.run([to_device(a, self._device) for a in arrays])
        return [np.asarray(to_device(y, "cpu")) for y in results]

    def _interpreted(self) -> Interpreter:
        with self._lock:
            if self._interpreter is None:
                limit = usable_memory() if self._device.type == "cpu" else None
                with self._device.active():
                    self._interpreter = Interpreter(self._graph, self._device.xp, max_bytes=limit)
            return self._interpreter

    @property
    def executable(self) -> Executable | None:
        """What runs it, if it is compiled."""
        return None if self._native is None else self._native.ready

    @property
    def way(self) -> str:
        """How it runs now."""
        return "interpreted" if self.executable is None else "compiled"

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for compiled code, `timeout` seconds at most; whether it is there."""
        return self._native is not None and self._native.wait(timeout) is not None

    def trim(self) -> None:
        """Give back the memory that runs keep for intermediate values."""
        for runner in (self.executable, self._interpreter):
            if runner is not None:
                runner.trim()
