"""What a session runs where its model is no single graph."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import Graph

from ..device import Device
from ..model import Model, metadata, overridable
from ..options import Execution, SessionOptions
from ..preparing import fixed_shapes
from .declared import argument
from .prepared import Prepared
from .walker import Walker

if TYPE_CHECKING:
    from dualgraph_compiler.onnx import ModelFile

    from ..native import Executable
    from .specialized import Special


@dataclass(frozen=True, slots=True)
class _Last:
    """Names, types, shapes, and elements if they count, of what code takes that gives outputs."""

    expected: tuple[tuple[str, np.dtype[Any], tuple[int, ...], bytes | None], ...]
    executable: Executable


def _last(
    special: Special, executable: Executable, names: Sequence[str], values: Sequence[Any]
) -> _Last | None:
    if special.outputs is not None or not all(isinstance(v, np.ndarray) for v in values):
        return None
    expected = [
        (name, v.dtype, v.shape, v.tobytes() if i in special.known else None)
        for i, (name, v) in enumerate(zip(names, values, strict=True))
    ]
    return _Last(tuple(expected), executable)


class Steps(Walker):
    """A model in steps on arrays, its graphs interpreted or compiled.

    Args:
        file: the model.
        error: why it is no single graph.

    Raises:
        OnnxError: `error`, if steps do not help.
    """

    def __init__(
        self,
        file: ModelFile,
        error: OnnxError,
        options: SessionOptions,
        device: Device,
        execution: Execution,
    ) -> None:
        if options.optimized_model_filepath:  # which is for a single graph
            raise error
        self._options, self._device = options, device
        self._execution: Execution = execution
        self._last: _Last | None = None
        shapes = fixed_shapes(file, options)
        super().__init__(file, error, shapes)
        given = {*self.inputs.names}
        self.model = Model(
            inputs=[argument(i, shapes) for i in file.proto.graph.input if i.name in given],
            outputs=[argument(info, shapes) for info in file.proto.graph.output],
            meta=metadata(file.proto),
            types={},
            shared=[],
            overridable=overridable(file.proto),
        )

    def make(self, graph: Graph) -> Prepared:
        """A segment's graph, to be interpreted and, if it is called often, compiled."""
        return Prepared(graph, self._options, self._device, self._execution)

    def feeds(self, feed: Mapping[str, Any]) -> list[Any]:
        """The values of a feed, in the order of the inputs.

        Raises:
            FeedError: other names, or one of another kind, element type, rank or size.
        """
        return self.inputs.values(feed)

    def run(self, values: Sequence[Any]) -> list[Any]:
        """Every output; tensors are arrays of the caller's own."""
        special = None if self.specialized is None else self.specialized.find(values)
        if special is None:
            return [_own(value) for value in self.run_in_steps(values)]
        assert isinstance(special.runnable, Prepared)
        executable = special.runnable.executable
        results = special.run(values)
        if executable is None:
            return [_own(value) for value in results]
        if self._last is None or self._last.executable is not executable:
            self._last = _last(special, executable, self.inputs.names, values)
        return results  # nobody else's

    def again(self, feed: Any) -> tuple[Executable, list[np.ndarray[Any, Any]]] | None:
        """The code for a feed of the last call's kind, and what it takes; None for another."""
        last = self._last
        if last is None or type(feed) is not dict or len(feed) != len(last.expected):
            return None
        arrays = []
        for name, dtype, shape, elements in last.expected:
            array = feed.get(name)
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
                return None
            if elements is None:
                arrays.append(array)
            elif array.tobytes() != elements:
                return None
        return last.executable, arrays

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the code of kinds of calls met so far, `timeout` seconds at most.

        Says whether it is there, for all of them and for one at least.
        """
        specials = [] if self.specialized is None else self.specialized.programs
        end = None if timeout is None else time.monotonic() + timeout
        done = [
            s.runnable.wait(None if end is None else max(0.0, end - time.monotonic()))
            for s in specials
            if isinstance(s.runnable, Prepared)
        ]
        return bool(done) and all(done)

    def trim(self) -> None:
        """Give back the memory that runs keep for intermediate values."""
        specials = [] if self.specialized is None else self.specialized.programs
        for prepared in [*self._graphs.values(), *(s.runnable for s in specials)]:
            assert isinstance(prepared, Prepared)
            prepared.trim()


def _own(value: Any) -> Any:
    """A result that is the caller's alone."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [_own(v) for v in value]
    return value
