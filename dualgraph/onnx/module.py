"""``dg.onnx.load``: an ONNX file as a module that can be called, trained and exported again."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from dualgraph_compiler import graph as ir
from dualgraph_compiler.dims import Dim, as_linear
from dualgraph_compiler.errors import ArgumentError, FeedError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.graph.nested import definitions
from dualgraph_compiler.ops import Op
from dualgraph_compiler.ops.batch_norm import BatchNorm

from .._dispatch import captures, make
from .._tensor import Tensor
from .code import INLINE, python_code
from .parts import Part, fresh_size, run, tensor_at

if TYPE_CHECKING:
    from dualgraph_compiler.onnx.load import ModelSource

# Which parameters train: all or none, some by name or pattern, or those a function picks.
Trainable: TypeAlias = bool | str | Iterable[str] | Callable[[str, Tensor], bool]


class GraphModule(Part):
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
        self._plan: list[tuple[Op, tuple[Value, ...], tuple[Value, ...]]] = [
            (n.op, n.inputs, n.outputs) for n in graph.nodes
        ]
        # Sizes that only running a node tells: by node, the symbol, which result, which axis.
        self._defined: dict[int, list[tuple[str, int, int]]] = {}
        at = {node: i for i, node in enumerate(graph.nodes)}
        for name, (v, axis) in definitions(graph).items():
            assert v.node is not None
            self._defined.setdefault(at[v.node], []).append((name, v.index, axis))
        self._symbolic = {i for i, (op, _, _) in enumerate(self._plan) if op.symbols()}

    def forward(self, *inputs: Tensor) -> Any:
        """The graph's outputs (the only one, or a tuple)."""
        declared = self.graph.inputs
        if len(inputs) != len(declared):
            raise FeedError(
                f"expected {len(declared)} inputs ({', '.join(v.name for v in declared)}), "
                f"got {len(inputs)}"
            )
        values: dict[Value, Any] = dict(zip(declared, inputs, strict=True))
        for v, name in self._held.items():
            values[v] = tensor_at(self, name)
        for v in self.graph.constants:
            if v not in values:
                values[v] = _constant(v)
        env = _bind(declared, inputs)
        for i, (op, operands, results) in enumerate(self._plan):
            defined = self._defined.get(i, ())
            if defined:
                op = op.resolve({name: fresh_size(name) for name, _, _ in defined})
            if i in self._symbolic:
                op = op.resolve(env)
            outs = run(op, *(values[v] for v in operands))
            values.update(zip(results, outs, strict=True))
            for name, index, axis in defined:
                env[name] = values[results[index]].shape[axis]
        outputs = tuple(values[v] for v in self.graph.outputs)
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

    def train_only(self, which: Trainable) -> None:
        """Let only these parameters require gradients.

        Args:
            which: True or False for all or none; names (of a parameter, or of a part for all in
                it) or patterns such as ``"*.bias"``; or a function of name and parameter.

        Raises:
            ArgumentError: a name or pattern fits no parameter.
        """
        parameters = dict(self.named_parameters())
        chosen = set(parameters)
        if which is False:
            chosen = set()
        elif callable(which):
            chosen = {n for n, p in parameters.items() if which(n, p)}
        elif which is not True:
            chosen = set()
            for wish in [which] if isinstance(which, str) else which:
                fits = {
                    n
                    for n in parameters
                    if n == wish or n.startswith(f"{wish}.") or fnmatch.fnmatchcase(n, wish)
                }
                if not fits:
                    listed = ", ".join(list(parameters)[:8])
                    raise ArgumentError(
                        f"trainable: no parameter is called {wish!r}; there are {listed}, ..."
                    )
                chosen |= fits
        for n, p in parameters.items():
            p.requires_grad_(n in chosen)

    def extra_repr(self) -> str:
        return f"{self.graph.name}, {len(self.graph)} nodes"


def _is_statistic(v: Value) -> bool:
    """Whether `v` is only ever the mean or variance of a batch norm."""
    return bool(v.uses) and all(
        isinstance(n.op, BatchNorm) and v in n.inputs[-2:] and v not in n.inputs[:-2]
        for n in v.uses
    )


def _constant(v: Value) -> Tensor:
    if captures.current is not None:
        return make(captures.current.graph.constant(v.data))
    return make(v.data)


def _bind(declared: list[Value], inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """Sizes of the symbolic dims (themselves symbolic inside another trace)."""
    env: dict[str, Any] = {}
    for v, t in zip(declared, inputs, strict=True):
        if len(t.shape) != v.ndim or t.dtype is not v.dtype:
            raise FeedError(f"input {v.name!r}: expected {v.type}, got {t._type()}")
        for d, n in zip(v.shape, t.shape, strict=True):
            if isinstance(d, Dim) and d.name is not None:
                known = env.setdefault(d.name, n)
                if known != n:
                    raise FeedError(f"input {v.name!r}: {d.name} is {known} elsewhere, {n} here")
            elif isinstance(d, int) and d != n:
                raise FeedError(f"input {v.name!r}: expected {v.type}, got {t._type()}")
    for v, t in zip(declared, inputs, strict=True):
        for d, n in zip(v.shape, t.shape, strict=True):
            if isinstance(d, Dim) and (linear := as_linear(d)) is not None:
                symbol, factor, constant = linear  # of a size such as 2*frames + 1
                env.setdefault(symbol.name, (n - constant) // factor)
    return env


def load(source: ModelSource, *, trainable: Trainable = True) -> GraphModule:
    """The model in an ONNX file as a module whose weights are parameters.

    Args:
        source: a path, bytes, a binary file or a ModelProto.
        trainable: which parameters require gradients; see :meth:`GraphModule.train_only`.

    Raises:
        OnnxError: the file is no readable ONNX model, or uses an operator that is not supported.
        ArgumentError: `trainable` names what is not there.
    """
    from dualgraph_compiler.onnx import import_model

    net = GraphModule(import_model(source, weights="param"))
    net.train_only(trainable)
    return net
