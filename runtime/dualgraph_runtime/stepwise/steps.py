"""What a session runs where its model is no single graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        compiled = special.runnable.way == "compiled"  # whose results are nobody else's
        results = special.run(values)
        return results if compiled else [_own(value) for value in results]

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
