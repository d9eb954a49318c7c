"""``dg.onnx.load``: an ONNX file as a module that can be called, trained and exported again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler import graph as ir
from dualgraph_compiler.dims import Dim
from dualgraph_compiler.errors import FeedError, OnnxError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.ops.batch_norm import BatchNorm

from .._dispatch import make
from .._tensor import Tensor
from .code import INLINE, python_code
from .loaded import LoadedModule, Trainable
from .parts import tensor_at
from .running import GraphRunner

if TYPE_CHECKING:
    from dualgraph_compiler.onnx.load import ModelSource

    from .stepped import SteppedModule


class GraphModule(LoadedModule):
    """A graph as a module: its floating-point params are parameters, large constants buffers.

    A param named ``features.0.weight`` is ``self.features[0].weight``. The running statistics of
    batch norm are buffers, too: an optimizer has no business with them.

    Called with one tensor for each graph input, it runs node by node through the same ops as any
    eager code, so it differentiates, traces and exports like any module. `code` is that as Python.
    """

    def __init__(self, graph: ir.Graph) -> None:
        super().__init__()
        self.graph = graph
        self._held: dict[Value, str] = {}  # what the graph owns, and its name here
        for v in graph.params:
            is_parameter = v.dtype.is_floating_point and not _is_statistic(v)
            # The file's own bytes cannot be written to.
            self._held[v] = self.add(v.name, make(v.data.copy()), is_parameter=is_parameter)
        large = [v for v in graph.constants if v.size > INLINE]
        for i, v in enumerate(large):
            t = make(v.data.copy())
            self._held[v] = self.add(v.name or f"constants.c{i}", t, is_parameter=False)
        self._runner = GraphRunner(graph)

    def forward(self, *inputs: Tensor) -> Any:
        """The graph's outputs (the only one, or a tuple)."""
        declared = self.graph.inputs
        if len(inputs) != len(declared):
            raise FeedError(
                f"expected {len(declared)} inputs ({', '.join(v.name for v in declared)}), "
                f"got {len(inputs)}"
            )
        held = {v: tensor_at(self, name) for v, name in self._held.items()}
        outputs = tuple(self._runner.run(inputs, held))
        return outputs[0] if len(outputs) == 1 else outputs

    @property
    def input_names(self) -> list[str]:
        """The names of the graph's inputs, in the order that the module takes them."""
        return [v.name for v in self.graph.inputs]

    @property
    def output_names(self) -> list[str]:
        """The names of what the module gives."""
        return list(self.graph.output_names)

    @property
    def dynamic_shapes(self) -> list[dict[int, Dim]]:
        """The sizes that may vary, by axis, for each input: as ``dg.trace`` takes them."""
        return [
            {axis: d for axis, d in enumerate(v.shape) if isinstance(d, Dim)}
            for v in self.graph.inputs
        ]

    @property
    def code(self) -> str:
        """The module as Python source; see :meth:`to_python`."""
        return self.to_python()

    def to_python(self, name: str = "Net") -> str:
        """Python source that defines this module as a class `name`, in this framework's functions.

        An instance of it takes this module's ``state_dict``, and then computes the same.
        """
        return python_code(self.graph, self._held, name)

    def extra_repr(self) -> str:
        return f"{self.graph.name}, {len(self.graph)} nodes"


def _is_statistic(v: Value) -> bool:
    """Whether `v` is only ever the mean or variance of a batch norm."""
    return bool(v.uses) and all(
        isinstance(n.op, BatchNorm) and v in n.inputs[-2:] and v not in n.inputs[:-2]
        for n in v.uses
    )


def load(source: ModelSource, *, trainable: Trainable = True) -> GraphModule | SteppedModule:
    """The model in an ONNX file as a module whose weights are parameters.

    Where something must be known that only a run tells, or values are sequences, strings and the
    like, the model is no single graph, and the module a :class:`SteppedModule`.

    Args:
        source: a path, bytes, a binary file or a ModelProto.
        trainable: which parameters require gradients; see :meth:`LoadedModule.train_only`.

    Raises:
        OnnxError: the file is no readable ONNX model, or uses an operator that is not supported.
        ArgumentError: `trainable` names what is not there.
    """
    from dualgraph_compiler.onnx import import_model, load_model

    file = load_model(source)
    net: GraphModule | SteppedModule
    try:
        net = GraphModule(import_model(file, weights="param"))
    except OnnxError as error:
        from .stepped import SteppedModule

        net = SteppedModule(file, error)
    net.train_only(trainable)
    return net
