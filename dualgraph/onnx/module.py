"""``dg.onnx.load``: an ONNX file as a module that can be called, trained and exported again."""

from __future__ import annotations

import os
from typing import Any

from dualgraph_compiler import graph as ir
from dualgraph_compiler.dims import Dim
from dualgraph_compiler.errors import FeedError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.graph.nested import definitions
from dualgraph_compiler.ops import Op
from dualgraph_compiler.ops.batch_norm import BatchNorm

from .. import nn
from .._dispatch import apply_many, captures, make
from .._tensor import Tensor


class GraphModule(nn.Module):
    """A graph as a module: its floating-point params are parameters, the rest buffers.

    The running statistics of batch norm are buffers, too: an optimizer has no business with them.

    Called with one tensor for each graph input, it runs node by node through the same ops as any
    eager code, so it differentiates, traces and exports like any module.
    """

    def __init__(self, graph: ir.Graph) -> None:
        super().__init__()
        self.graph = graph
        self._attributes: dict[str, str] = {}  # param name in the graph -> attribute here
        for v in graph.params:
            attribute = v.name.replace(".", "_").replace("/", "_").replace(":", "_") or "param"
            while hasattr(self, attribute):
                attribute += "_"
            self._attributes[v.name] = attribute
            t = make(v.data.copy())  # the file's own bytes cannot be written to
            if v.dtype.is_floating_point and not _is_statistic(v):
                self.register_parameter(attribute, nn.Parameter(t))
            else:
                self.register_buffer(attribute, t)
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
        for v in self.graph.params:
            values[v] = getattr(self, self._attributes[v.name])
        for v in self.graph.constants:
            values[v] = self._constant(v)
        env = _bind(declared, inputs)
        for i, (op, operands, results) in enumerate(self._plan):
            defined = self._defined.get(i, ())
            if defined and captures.current is not None:  # a new symbol at each call
                count = len(captures.current.graph)
                op = op.resolve({name: Dim(f"{name}_{count}") for name, _, _ in defined})
            if i in self._symbolic:
                op = op.resolve(env)
            outs = apply_many(op, *(values[v] for v in operands)) if operands else (_create(op),)
            values.update(zip(results, outs, strict=True))
            for name, index, axis in defined:
                env[name] = values[results[index]].shape[axis]
        outputs = tuple(values[v] for v in self.graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _constant(self, v: Value) -> Tensor:
        if captures.current is not None:
            return make(captures.current.graph.constant(v.data))
        return make(v.data)

    def extra_repr(self) -> str:
        return f"{self.graph.name}, {len(self.graph)} nodes"


def _is_statistic(v: Value) -> bool:
    """Whether `v` is only ever the mean or variance of a batch norm."""
    return bool(v.uses) and all(
        isinstance(n.op, BatchNorm) and v in n.inputs[-2:] and v not in n.inputs[:-2]
        for n in v.uses
    )


def _create(op: Op) -> Tensor:
    """The result of an op without operands."""
    if captures.current is not None:
        return make(captures.current.add(op, ()))
    return make(op())


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
    return env


def load(path: str | os.PathLike[str] | bytes) -> GraphModule:
    """The model in an ONNX file (or its bytes) as a module whose weights are parameters.

    Raises:
        OnnxError: the file is no readable ONNX model, or uses an operator that is not supported.
    """
    from dualgraph_compiler.onnx import import_model

    return GraphModule(import_model(path, weights="param"))
