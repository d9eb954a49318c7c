"""Where the time of runs goes: a file for the trace viewers of Chrome and Perfetto."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dtypes import dtype_of
from dualgraph_compiler.errors import ArgumentError

from .device import Device, to_device
from .model import type_name
from .profile import Part, Tally

if TYPE_CHECKING:
    from dualgraph_compiler.graph import Graph, Node
    from dualgraph_compiler.ops.base import Op


class Profiler:
    """Collects events from any number of threads and writes them as one JSON list.

    `start` is when it was made, in nanoseconds of the system's clock.
    """

    def __init__(self, prefix: str) -> None:
        self.start = time.time_ns()
        self._begin = time.perf_counter_ns()
        self._events: list[dict[str, Any]] = []
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        self._path = Path(f"{prefix}_{stamp}_{self.start % 10**9 // 10**3:06}.json")

    def event(
        self, category: str, name: str, begin: int, end: int | None = None, **about: Any
    ) -> None:
        """Note something that began at `begin` (of ``time.perf_counter_ns``), and ends now."""
        end = time.perf_counter_ns() if end is None else end
        self._events.append(
            {
                "cat": category,
                "pid": os.getpid(),
                "tid": threading.get_native_id(),
                "dur": (end - begin) // 1000,
                "ts": (begin - self._begin) // 1000,
                "ph": "X",
                "name": name,
                "args": about,
            }
        )

    def parts(self, parts: Sequence[Part], times: Sequence[tuple[int, int]]) -> None:
        """Note a run of compiled code: each kernel, and each node between them."""
        for i, (part, (begin, end)) in enumerate(zip(parts, times, strict=True)):
            name = f"{'+'.join(part.ops)}_kernel_time"
            about = {"op_name": "+".join(part.ops), "node_index": str(i), "nodes": part.nodes}
            self.event("Node", name, begin, end, **about)

    def write(self) -> str:
        """Write what was noted so far; returns the name of the file.

        Raises:
            ArgumentError: the file cannot be written.
        """
        text = ",\n".join(json.dumps(e) for e in self._events)
        try:
            self._path.write_text(f"[\n{text}\n]\n")
        except OSError as error:
            raise ArgumentError(f"cannot write {self._path}: {error.strerror or error}") from error
        return str(self._path)


class Timed:
    """A graph that runs node by node and notes the time of each with a profiler."""

    def __init__(self, graph: Graph, device: Device, profiler: Profiler) -> None:
        from dualgraph_compiler.graph.text import Namer, node_text

        self._graph = graph
        self._device = device
        self._profiler = profiler
        self._about = {n: _described(n, i) for i, n in enumerate(graph.nodes)}
        self._index = {n: i for i, n in enumerate(graph.nodes)}
        names = Namer(graph)
        self.tally = Tally(
            [Part(node_text(n, names), (n.op.name,), interpreted=True) for n in graph.nodes]
        )

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """The outputs for positional inputs."""
        from dualgraph_compiler.graph.observed import run_observed

        begin = time.perf_counter_ns()
        xp = self._device.xp
        arrays = [to_device(a, self._device) for a in arrays]
        times = [(0, 0)] * len(self._index)
        results = run_observed(self._graph, arrays, partial(self._compute, times), xp)
        self.tally.note(time.perf_counter_ns() - begin, times)
        return results

    def trim(self) -> None:
        """Nothing: no memory is kept between runs."""

    def _compute(
        self, times: list[tuple[int, int]], node: Node, op: Op, operands: list[Any]
    ) -> Any:
        begin = time.perf_counter_ns()
        found = op.eager(self._device.xp, *operands)
        self._device.synchronize()
        end = time.perf_counter_ns()
        times[self._index[node]] = begin, end
        results = found if isinstance(found, tuple | list) else (found,)
        name, about = self._about[node]
        types = {
            "input_type_shape": [_type_and_shape(x) for x in operands],
            "output_type_shape": [_type_and_shape(y) for y in results],
        }
        self._profiler.event("Node", f"{name}_kernel_time", begin, end, **about, **types)
        return found


def _described(node: Node, index: int) -> tuple[str, dict[str, Any]]:
    """The name of a node in a profile, and what does not change from run to run."""
    name = node.outputs[0].name or f"{node.op.name}_{index}"
    about = {"op_name": node.op.name, "node_index": str(index)}
    if node.loc is not None:
        about["source"] = f"{node.loc.file}:{node.loc.line}"
    return name, about


def _type_and_shape(x: Any) -> dict[str, list[int]]:
    name = type_name(dtype_of(np.asarray(x) if np.isscalar(x) else x))
    return {name.removeprefix("tensor(").removesuffix(")"): list(np.shape(x))}
