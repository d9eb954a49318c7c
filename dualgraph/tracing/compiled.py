"""``dg.compile``: the same call, run as an optimised static graph.

A call is looked up by what the graph depends on: the structure of the arguments, the dtypes and
shapes of their tensors, the values of everything else, grad mode and the training flags of the
module. A call not seen before is traced and optimised.

Where nothing can require a gradient, the values of parameters are folded into the graph (batch norm
into convolutions, say), guarded by their versions: after an in-place change they are folded anew.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dualgraph_compiler.compile import optimize
from dualgraph_compiler.dims import evaluate
from dualgraph_compiler.errors import AutogradError
from dualgraph_compiler.graph import Graph, Interpreter, bind_shapes
from dualgraph_compiler.graph import gradients as graph_gradients
from dualgraph_compiler.ops.base import array_module

from .._dispatch import captures, current_fn, make
from .._tensor import Tensor
from ..autograd.grad_mode import local
from ..autograd.tape import CustomNode, Pick
from . import tree
from .trace import OutputIndex, Traced, trace_call


def compile(model: Callable[..., Any] | None = None, *, dynamic_shapes: Any = None) -> Any:
    """A callable that runs `model` (a module or function) as an optimised graph.

    Usable as a decorator. Results, gradients and writes to buffers are those of the eager call.
    `dynamic_shapes` is as for :func:`trace`; dimensions it does not name are part of the lookup
    key.
    """
    if model is None:
        return functools.partial(compile, dynamic_shapes=dynamic_shapes)
    return CompiledFunction(model, dynamic_shapes)


class CompiledFunction:
    """What :func:`compile` returns; attributes not found here are the wrapped object's."""

    def __init__(self, function: Callable[..., Any], dynamic_shapes: Any = None) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._dynamic_shapes = dynamic_shapes
        self._entries: dict[Any, Entry] = {}
        self._lock = threading.Lock()
        self._modules = getattr(function, "modules", None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if captures.current is not None:  # being captured itself: inline
            return self._function(*args, **kwargs)
        key, tensors = self._key(args, kwargs)
        entry = self._entries.get(key)
        if entry is None:
            with self._lock:
                entry = self._entries.get(key)
                if entry is None:
                    traced = trace_call(
                        self._function, args, kwargs, dynamic_shapes=self._dynamic_shapes
                    )
                    entry = self._entries[key] = Entry(traced)
        return entry.run(tensors)

    def _key(self, args: Any, kwargs: Any) -> tuple[Any, list[Tensor]]:
        tensors: list[Tensor] = []
        parts: list[Any] = [local.grad]
        if kwargs or not all([isinstance(a, Tensor) for a in args]):  # the short way: tensors only
            parts.append(tree.structure((args, kwargs)))
            args = [leaf for _, leaf in tree.flatten((args, kwargs))]
        dynamic = self._dynamic_shapes is not None
        for leaf in args:
            if isinstance(leaf, Tensor):
                tensors.append(leaf)
                data = leaf._data
                wants = leaf._fn is not None if leaf._base is None else leaf.requires_grad
                parts.append((data.dtype, data.ndim if dynamic else data.shape, wants))
            else:
                parts.append((type(leaf), leaf))
        if self._modules is not None:
            parts.append(tuple([m.training for m in self._modules()]))
        return tuple(parts), tensors

    @property
    def graphs(self) -> list[Graph]:
        """The traced graphs, one for each kind of call so far."""
        return [e.traced.graph for e in self._entries.values()]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_function"], name)

    def __repr__(self) -> str:
        return f"compiled({self._function!r})"


class Program:
    """An optimised graph ready to run, and which state tensors are its params."""

    def __init__(self, graph: Graph, traced: Traced, *, freeze: bool = False) -> None:
        by_name = {v.name: t for v, t in zip(traced.graph.params, traced.reads, strict=True)}
        small = optimize(graph, freeze=freeze)
        self._params = [by_name[v.name] for v in small.params]
        first = next(iter(traced.reads), None)
        self._interpreter = Interpreter(small, np if first is None else array_module(first._data))

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """Outputs for these inputs, with the state tensors' arrays of now."""
        return self._interpreter.run(arrays, [t._data for t in self._params])


class Entry:
    """One traced call, and the programs made from it."""

    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.n_results = sum(isinstance(x, OutputIndex) for _, x in tree.flatten(traced.result))
        result = traced.result
        self.flat = type(result) is tuple and all(isinstance(x, OutputIndex) for x in result)
        self.wanted: list[bool] = []  # which operands have a gradient
        self._frozen: tuple[Any, Program] | None = None
        self._open: Program | None = None
        self._backward: Program | None = None

    def run(self, tensors: Sequence[Tensor]) -> Any:
        """The result for these tensor arguments, with writes and gradients carried out."""
        traced = self.traced
        arrays = [t._data for t in tensors]
        operands = [*tensors, *traced.reads]
        edges = [t._fn if t._base is None else current_fn(t) for t in operands]
        taped = local.grad and any(e is not None for e in edges)
        program = self._unfrozen() if taped or traced.writes or traced.grads else self._folded()
        results = program.run(arrays)
        outputs = [make(r) for r in results]
        if taped and not traced.grads:
            node = CompiledNode(self, operands, edges)
            for i, out in enumerate(outputs[: self.n_results]):
                if out.dtype.is_differentiable:
                    out._fn = Pick(node, i)
        for t, index in traced.writes:
            t._data[...] = results[index]
            t._bump_version()
        for leaf, index in traced.grads:
            leaf.grad = make(results[index])
        if self.flat:
            return tuple(outputs[: self.n_results])
        return tree.map_leaves(
            lambda x: outputs[x.index] if isinstance(x, OutputIndex) else x, traced.result
        )

    def _unfrozen(self) -> Program:
        if self._open is None:
            self._open = Program(self.traced.graph, self.traced)
        return self._open

    def _folded(self) -> Program:
        """A program with the state's values folded in, made anew when a version has changed."""
        reads = self.traced.reads
        versions = [(id(t._data), t._ver[0]) for t in reads]
        if self._frozen is None or self._frozen[0] != versions:
            graph = self.traced.graph.copy()
            for v, t in zip(graph.params, reads, strict=True):
                v.data = t._data
            self._frozen = versions, Program(graph, self.traced, freeze=True)
        return self._frozen[1]

    def backward(self) -> Program:
        """From inputs, state and output gradients to the gradients of inputs and state."""
        if self._backward is None:
            graph = self.traced.graph.copy()
            ys = [v for v in graph.outputs[: self.n_results] if v.dtype.is_differentiable]
            xs = [*graph.inputs, *graph.params]
            given = [graph.add_input(y.type, f"grad_output{i}") for i, y in enumerate(ys)]
            found = graph_gradients(graph, ys, xs, given)
            self.wanted = [g is not None for g in found]
            graph.set_outputs([g for g in found if g is not None])
            self._backward = Program(graph, self.traced)
        return self._backward


class CompiledNode(CustomNode):
    """The tape entry of a compiled call; its gradients come from the compiled backward graph."""

    name = "CompiledBackward"

    def __init__(self, entry: Entry, operands: Sequence[Tensor], edges: Sequence[Any]) -> None:
        super().__init__(edges)
        self.n_outputs = entry.n_results
        self.entry = entry
        self.operands = [t.detach() for t in operands]
        self.version = sum(t._ver[0] for t in operands)

    def run(self, g: Sequence[Any], create_graph: bool) -> list[Any]:
        """Gradients of the operands, given those of the outputs (None where nothing flows).

        Raises:
            AutogradError: an operand was overwritten since, or higher derivatives are asked for.
        """
        if sum(t._ver[0] for t in self.operands) != self.version:
            raise AutogradError(
                "one of the variables needed for gradient computation has been modified by an "
                "inplace operation: an argument or parameter of a compiled function"
            )
        if create_graph:
            raise AutogradError(
                "create_graph=True does not reach through a compiled call: compile a function that "
                "computes the higher derivative inside, or call the model eagerly"
            )
        program = self.entry.backward()
        arrays = [t._data for t in self.operands]
        n = len(arrays) - len(self.entry.traced.reads)
        outputs = self.entry.traced.graph.outputs[: self.entry.n_results]
        xp = array_module(arrays[0])
        env = bind_shapes([(v.name, v.type) for v in self.entry.traced.graph.inputs], arrays[:n])
        given = [
            x if x is not None else xp.zeros([evaluate(d, env) for d in v.shape], v.dtype.np)
            for x, v in zip(g, outputs, strict=True)
            if v.dtype.is_differentiable
        ]
        found = iter(program.run([*arrays[:n], *given]))
        return [next(found) if wanted else None for wanted in self.entry.wanted]
