"""Models that are no single graph, as modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import dualgraph as dg
from dualgraph_compiler.errors import ArgumentError, FeedError, OnnxError
from dualgraph_compiler.graph import Graph
from dualgraph_compiler.onnx.stepwise.segment import sizes_of
from dualgraph_compiler.onnx.stepwise.weights import weights_of
from dualgraph_runtime import InferenceSession
from dualgraph_runtime.stepwise import Walker

from .._dispatch import make
from .._tensor import Tensor
from .loaded import LoadedModule
from .parts import tensor_at
from .running import GraphRunner
from .verify import difference

if TYPE_CHECKING:
    import onnx

    from dualgraph_compiler.onnx import ModelFile


class SteppedModule(LoadedModule):
    """A model of a file that runs in steps (see ``docs/onnx.md``), as a module.

    Floating-point initializers are parameters, statistics of batch norm buffers, under the names
    that they have in the file. Called with one value for each input: tensors, and lists, dicts or
    arrays of strings where the model takes those. Gradients flow through all that computes with
    tensors and through sequences and control flow.

    It cannot be traced, for its steps depend on values: ``dg.compile`` runs it eagerly, and
    ``dg.onnx.export`` writes the file anew with the weights as they are now.

    Raises:
        OnnxError: `error`, which is why the model is no single graph, if steps do not help.
    """

    def __init__(self, file: ModelFile, error: OnnxError) -> None:
        super().__init__()
        self._file = file
        self._walker = _TensorWalker(file, error, self._find)
        self._names: dict[str, str] = {}  # of tensors here, by those of initializers
        own = {t.name: t for t in file.proto.graph.initializer}
        for name, is_statistic in weights_of(self._walker.nodes, own).items():
            t = make(file.initializer(own[name]).copy())  # the file's own cannot be written to
            self._names[name] = self.add(name, t, is_parameter=not is_statistic)

    def forward(self, *inputs: Any) -> Any:
        """The model's outputs (the only one, or a tuple)."""
        names = self.input_names
        if len(inputs) != len(names):
            raise FeedError(f"expected {len(names)} inputs ({', '.join(names)}), got {len(inputs)}")
        checked = self._walker.inputs.values(dict(zip(names, map(_as_arrays, inputs), strict=True)))
        values = [_restored(a, b) for a, b in zip(inputs, checked, strict=True)]
        outputs = self._walker.run(values)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    @property
    def input_names(self) -> list[str]:
        """The names of the model's inputs, in the order that the module takes them."""
        return self._walker.inputs.names

    @property
    def output_names(self) -> list[str]:
        """The names of what the module gives."""
        return [info.name for info in self._file.proto.graph.output]

    def report(self) -> str:
        """How every node runs, as far as calls have told."""
        return self._walker.report()

    def to_model(self) -> onnx.ModelProto:
        """The file's model with the weights as they are now."""
        from dualgraph_compiler.onnx.rewriting import with_weights

        file = self._file.with_proto(self._file.proto)
        file.replace_initializers(
            {n: tensor_at(self, own).detach().cpu().numpy() for n, own in self._names.items()}
        )
        return with_weights(file)

    def extra_repr(self) -> str:
        return f"{self._file.proto.graph.name}, in steps, {len(self._walker.nodes)} nodes"

    def _find(self, name: str) -> Tensor | None:
        """The tensor of an initializer that is a weight."""
        own = self._names.get(name)
        return None if own is None else tensor_at(self, own)


class _TensorWalker(Walker):
    """Carries out a model's steps on tensors, its weights those of a module."""

    xp = dg

    def __init__(self, file: ModelFile, error: OnnxError, find: Any) -> None:
        super().__init__(file, error, {}, "param")
        self._find = find

    @property
    def nodes(self) -> Sequence[onnx.NodeProto]:
        """The nodes of the model's graph, in operators that have rules."""
        return self._plan.nodes

    def make(self, graph: Graph) -> _Segment:
        """A segment's graph, to be run node by node."""
        return _Segment(graph, self._find)

    def is_tensor(self, value: Any) -> bool:
        """Whether a value is a tensor."""
        return isinstance(value, Tensor)

    def array(self, tensor: Any) -> np.ndarray[Any, Any]:
        """The elements of a tensor, for what must be known of them."""
        return _array(tensor)

    def with_tensors(self, value: Any) -> Any:
        """A value with tensors in the place of arrays of numbers."""
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in "OUS":
            return make(np.asarray(value))
        if isinstance(value, list):
            return [self.with_tensors(v) for v in value]
        return value

    def with_arrays(self, value: Any) -> Any:
        """A value with arrays in the place of tensors; these are constants then."""
        return _as_arrays(value)

    def initializer(self, tensor: onnx.TensorProto) -> Any:
        """The module's tensor of an initializer, or else what the file says."""
        found = self._find(tensor.name)
        return super().initializer(tensor) if found is None else found


class _Segment:
    """The graph of a segment on tensors."""

    way = "on tensors"

    def __init__(self, graph: Graph, find: Any) -> None:
        self.sizes = sizes_of(graph)
        self._runner = GraphRunner(graph)
        self._find = find

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The graph's outputs."""
        held = {}
        for v in self._runner.graph.params:
            found = self._find(v.name)
            held[v] = make(v.data) if found is None else found
        return self._runner.run(tensors, held)


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A tensor's elements in the host's memory.

    Raises:
        TraceError: the tensor is symbolic.
    """
    return tensor._on_host("a model that runs in steps")  # type: ignore[no-any-return]


def _as_arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _array(value)
    if isinstance(value, list | tuple):
        return [_as_arrays(v) for v in value]
    return value


def _restored(given: Any, checked: Any) -> Any:
    """What was checked as arrays, with the caller's own tensors."""
    if isinstance(given, Tensor):
        return given
    if isinstance(given, list | tuple) and isinstance(checked, list):
        return [_restored(a, b) for a, b in zip(given, checked, strict=True)]
    if isinstance(checked, np.ndarray) and checked.dtype.kind not in "OUS":
        return make(checked)
    return checked


def export_stepped(
    model: SteppedModule, args: Sequence[Any] | None, wishes: Mapping[str, Any]
) -> onnx.ModelProto:
    """The model of a file that runs in steps, with its present weights.

    Args:
        args: what to run it on, and compare what a session gives with the module; None: do not.
        wishes: what was asked for that needs a trace; nothing of it may be given.

    Raises:
        ArgumentError: something of it is.
        OnnxError: the session gives something else.
    """
    refused = [name for name, given in wishes.items() if given]
    if refused:
        raise ArgumentError(
            f"{', '.join(refused)}: a model that runs in steps cannot be traced; it is written as "
            "it was in its file, with its present weights"
        )
    proto = model.to_model()
    if args is not None:
        feeds = dict(zip(model.input_names, map(_as_arrays, args), strict=True))
        found = InferenceSession(proto).run(None, feeds)
        outputs = model(*args)
        wanted = outputs if isinstance(outputs, tuple) else (outputs,)
        for name, a, b in zip(model.output_names, wanted, found, strict=True):
            if isinstance(a, Tensor) and (problem := difference(_array(a), b)):
                raise OnnxError(f"a session gives something else: output {name!r} {problem}")
    return proto
