"""Define-and-run, written out: a graph, placeholders, gradients, and a session that runs it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler import graph as ir
from dualgraph_compiler.compile import optimize
from dualgraph_compiler.dims import Dim, DimLike, parse_dim
from dualgraph_compiler.errors import FeedError, TraceError
from dualgraph_compiler.graph import Interpreter, Value
from dualgraph_compiler.types import TensorType
from dualgraph_runtime.device import Device, to_device

from .._dispatch import captures, make
from .._tensor import Tensor
from . import tree
from .capture import Capture
from .trace import as_array


class Graph(ir.Graph):
    """A static graph built by code in a ``with`` block.

    Inside, `placeholder` makes inputs, and every operation on tensors appends a node instead of
    computing. Tensors from outside (weights) become params, which a Session reads afresh at each
    run.
    """

    def __init__(self, name: str = "graph") -> None:
        super().__init__(name)
        self.capture: Capture = Capture(self)

    def __enter__(self) -> Graph:
        self.capture.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.capture.__exit__(*exception)
        self.capture.restore()


def placeholder(
    shape: Sequence[int | str | Dim | None], dtype: Any = dt.float32, name: str | None = None
) -> Tensor:
    """An input of the graph whose ``with`` block encloses the call.

    Args:
        shape: sizes; a string or Dim names a symbolic size. None leaves a size open: in the first
            dimension it is the graph's ``batch``, one size for all placeholders, elsewhere its own.
        dtype: the element type fed.
        name: the key for feeding; default ``input0``, ``input1``, ...

    Raises:
        TraceError: there is no enclosing graph.
    """
    capture = captures.current
    if capture is None:
        raise TraceError("placeholder() needs a graph: call it inside `with dg.Graph() as g:`")
    graph = capture.graph
    name = name or f"input{len(graph.inputs)}"
    if any(v.name == name for v in graph.inputs):
        raise TraceError(f"the graph already has a placeholder named {name!r}")
    dims: list[DimLike] = []
    for axis, d in enumerate(shape):
        if d is None:
            d = "batch" if axis == 0 else f"{name}_{axis}"
        dims.append(parse_dim(d) if isinstance(d, str) else d)
    return capture.input(TensorType(dt.as_dtype(dtype), tuple(dims)), name)


def gradients(ys: Any, xs: Any, grad_ys: Any = None) -> list[Any]:
    """d(sum of ys)/dx for each x, as new tensors of their graph; None where no y depends on x.

    Args:
        ys: tensors of one graph (one, or several), or values of a finished one: of a trace, or of
            an imported model. Then the gradients are values, too, for ``graph.set_outputs``.
        xs: placeholders, other tensors of the graph, or outside tensors it reads; or values.
        grad_ys: gradients of the ys, each of its y's shape; default ones.
    """
    ys, xs = _listed(ys), _listed(xs)
    if ys and all(isinstance(v, Value) for v in (*ys, *xs)):
        return ir.gradients(ys[0].graph, ys, xs, None if grad_ys is None else _listed(grad_ys))
    owners = [t._data.graph.capture for t in ys if t.is_symbolic]
    if not owners or owners[0] is None:
        raise TraceError(
            "dg.gradients works on tensors of an open graph; for eager tensors use dg.autograd.grad"
        )
    capture: Capture = owners[0]
    given = None
    if grad_ys is not None:
        given = [None if g is None else capture.value_of(g) for g in _listed(grad_ys)]
    found = ir.gradients(
        capture.graph, [capture.value_of(y) for y in ys], [capture.value_of(x) for x in xs], given
    )
    return [None if g is None else make(g) for g in found]


def _listed(x: Any) -> list[Any]:
    return list(x) if isinstance(x, list | tuple) else [x]


class Session:
    """Runs a graph: ``with dg.Session(g) as s: s.run(fetches, feed_dict={x: array})``.

    Each set of fetches is pruned to what it needs, optimised once, and kept.
    """

    def __init__(self, graph: ir.Graph, *, device: str | Device = "cpu") -> None:
        self.graph = graph
        self.device = Device(device)
        self._plans: dict[tuple[int, ...], tuple[Interpreter, list[Value], list[Value]]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self._plans.clear()

    def run(self, fetches: Any, feed_dict: Mapping[Any, Any] | None = None) -> Any:
        """Arrays for `fetches`, in its structure.

        Args:
            fetches: tensors of the graph, or names of its outputs or placeholders, nested at will.
            feed_dict: data by placeholder or by its name. Arrays must have the placeholder's dtype;
                numbers and lists take it.

        Raises:
            FeedError: an unknown key, a placeholder that is needed but not fed, a wrong dtype or
                shape.
        """
        leaves = [leaf for _, leaf in tree.flatten(fetches)]
        values = [self._fetched(x) for x in leaves]
        key = (*map(id, values), len(self.graph))
        with self._lock:
            if key not in self._plans:
                self._plans[key] = self._plan(values)
            interpreter, inputs, params = self._plans[key]
        feeds = self._feeds(feed_dict or {})
        missing = [v for v in inputs if v not in feeds]
        if missing:
            raise FeedError(
                "the fetches need these placeholders, which feed_dict does not give: "
                + ", ".join(f"{v.name!r} ({v.type})" for v in missing)
            )
        arrays = [to_device(as_array(feeds[v], v.dtype.np), self.device) for v in inputs]
        results = iter(interpreter.run(arrays, [self._param(v) for v in params]))
        return tree.map_leaves(lambda _: next(results), fetches)

    def _fetched(self, x: Any) -> Value:
        if isinstance(x, Tensor) and x.is_symbolic and x._data.graph is self.graph:
            return self.graph.capture.value_of(x) if self.graph.capture else x._data  # type: ignore[no-any-return]
        if isinstance(x, Value) and x.graph is self.graph:
            return x
        if isinstance(x, str):
            for name, v in zip(self.graph.output_names, self.graph.outputs, strict=True):
                if name == x:
                    return v
            for v in self.graph.inputs:
                if v.name == x:
                    return v
        raise FeedError(
            f"cannot fetch {x!r}: it is no tensor or output of graph {self.graph.name!r}"
        )

    def _plan(self, values: list[Value]) -> tuple[Interpreter, list[Value], list[Value]]:
        """The graph pruned to `values`, optimised; and the inputs and params it still needs."""
        copy, new = self.graph.copy_with_map()
        copy.set_outputs([new[v] for v in values], [f"fetch{i}" for i in range(len(values))])
        small = optimize(copy, freeze=False)
        needed = {v for node in small.nodes for v in node.inputs} | set(small.outputs)
        old_inputs = dict(zip(small.inputs, self.graph.inputs, strict=True))
        small.inputs = [v for v in small.inputs if v in needed]
        by_name = {v.name: v for v in self.graph.params}
        params = [by_name[v.name] for v in small.params]
        interpreter = Interpreter(small, self.device.xp)
        return interpreter, [old_inputs[v] for v in small.inputs], params

    def _feeds(self, feed_dict: Mapping[Any, Any]) -> dict[Value, Any]:
        by_name = {v.name: v for v in self.graph.inputs}
        out: dict[Value, Any] = {}
        for key, data in feed_dict.items():
            v = key._data if isinstance(key, Tensor) else by_name.get(key, key)
            if not isinstance(v, Value) or v not in self.graph.inputs:
                raise FeedError(
                    f"feed_dict names {key!r}, which is no placeholder of graph "
                    f"{self.graph.name!r}; it has {', '.join(map(repr, by_name)) or 'none'}"
                )
            out[v] = data
        return out

    def _param(self, v: Value) -> Any:
        """A param's array now: of the tensor it was read from, or as imported."""
        if self.graph.capture is not None:
            for t, value in self.graph.capture.reads.values():
                if value is v:
                    return to_device(t._data, self.device)
        return to_device(v.data, self.device)
