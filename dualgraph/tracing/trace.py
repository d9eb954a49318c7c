"""Tracing: running Python code once on symbolic tensors to get its graph."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from dualgraph_compiler.dims import Dim, DimLike
from dualgraph_compiler.errors import (
    ArgumentError,
    AutogradError,
    FeedError,
    TraceError,
    UndecidedSize,
)
from dualgraph_compiler.graph import Graph, Value, bind_shapes
from dualgraph_compiler.types import TensorType

from .._dispatch import current_fn
from .._tensor import Tensor
from ..autograd.grad_mode import local
from ..autograd.tape import Leaf
from ..functions import linalg
from . import tree
from .attributes import changes_of, hold, restore
from .binding import bind, dynamic, name_of, spec_for, state_names, unbind
from .capture import Capture, Source
from .declared import DeclaredDims
from .failure import CaptureFailure, place_of
from .loose import add_loose
from .outputs import OutputIndex
from .snapshots import Snapshot
from .traced import Traced, finish, labelled
from .watch import Watch


def trace(
    function: Callable[..., Any],
    *args: Any,
    dynamic_shapes: Mapping[str, Any] | Sequence[Any] | None = None,
    name: str | None = None,
    **kwargs: Any,
) -> Graph:
    """The graph of ``function(*args, **kwargs)``; `function` is a module or any callable.

    Given a tensor instead, its trace, as ``torch.trace`` (the two names meet here).

    Tensors among the (nested) arguments become inputs. Parameters, buffers and other tensors that
    the function reads become ``graph.params``. `dynamic_shapes` names dimensions that may vary, by
    parameter: ``{"x": {0: "batch"}}`` or ``{"x": ("batch", None)}``; a name stands for one size
    wherever it occurs.

    Raises:
        TraceError: the function needs the data of a symbolic tensor (``.item()``, ``if x > 0``,
            ...).
    """
    if isinstance(function, Tensor):
        return linalg.trace(function)
    traced = trace_call(function, args, kwargs, dynamic_shapes=dynamic_shapes, name=name)
    if traced.checks:
        error = traced.checks[0][1]
        raise CaptureFailure(
            f"the function raises {type(error).__name__} ({error}) where a tensor says so; a graph "
            "cannot raise"
        )
    graph = traced.graph
    leaves = [(label, leaf) for label, leaf in labelled(traced.result)]
    kept = [(label, graph.outputs[x.index]) for label, x in leaves if isinstance(x, OutputIndex)]
    graph.set_outputs([v for _, v in kept], [label for label, _ in kept])
    return graph


def trace_call(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    dynamic_shapes: Mapping[str, Any] | Sequence[Any] | None = None,
    name: str | None = None,
    looked_up: Set[Any] = frozenset(),
    sizes: Mapping[int, Mapping[int, Dim]] | None = None,
    aliases: bool = False,
    keeps_steps: bool = False,
) -> Traced:
    """`trace`, with everything the trace found.

    Where Python asks for the data of a traced tensor, the function is traced once more with its
    control flow rewritten.

    `sizes` are further dimensions that may vary, by the number of the tensor argument and the axis.
    With `aliases`, one tensor given for two parameters is one tensor, and one input, in the trace.
    With `keeps_steps` the graph says what eager code may leave to kernels, see `ops.eager_steps`.
    `looked_up` are places of state (see ``attributes.described``) where another tensor may be at
    every call.

    Raises:
        CaptureFailure: the function does what a graph cannot do again; even if it caught the error.
    """
    once = functools.partial(
        _trace_call,
        function,
        args,
        kwargs,
        dynamic_shapes=dynamic_shapes,
        name=name,
        looked_up=looked_up,
        sizes=sizes,
        aliases=aliases,
        keeps_steps=keeps_steps,
    )
    drawn = random.getstate(), np.random.get_state()  # noqa: NPY002 - of whoever draws from it
    try:
        return once()
    except (CaptureFailure, UndecidedSize) as failure:
        first = failure
    try:
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])  # noqa: NPY002
        return once(converting=True)
    except (CaptureFailure, UndecidedSize) as failure:
        random.setstate(drawn[0])  # for the eager call
        np.random.set_state(drawn[1])  # noqa: NPY002
        if isinstance(first, UndecidedSize):
            raise first from failure
        raise failure from first


def _trace_call(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    dynamic_shapes: Mapping[str, Any] | Sequence[Any] | None,
    name: str | None,
    looked_up: Set[Any],
    sizes: Mapping[int, Mapping[int, Dim]] | None,
    aliases: bool,
    keeps_steps: bool,
    converting: bool = False,
) -> Traced:
    bound = bind(function, args, kwargs)
    shapes = dynamic(dynamic_shapes, list(bound))
    declared = DeclaredDims(shapes)
    graph = Graph(name or name_of(function))
    capture = Capture(graph, state_names(function), whole=True)
    capture.converting = converting
    capture.keeps_steps = keeps_steps
    symbolic_args = {}
    inputs: list[Tensor] = []
    examples: list[Any] = []
    known: dict[int, Tensor] = {}
    containers: dict[int, Any] = {}
    for key, value in bound.items():
        counter = itertools.count()
        paths = iter([p for p, _ in tree.flatten(value, key)])

        def symbolize(leaf: Any, key: str = key, counter: Any = counter, paths: Any = paths) -> Any:
            path = next(paths)
            if not isinstance(leaf, Tensor):
                return leaf
            axes = spec_for(shapes.get(key), next(counter))
            if aliases and id(leaf) in known:
                return known[id(leaf)]
            dims = {**(sizes or {}).get(len(inputs), {}), **axes}
            made = known[id(leaf)] = _symbolic(capture, leaf, path, dims, declared)
            inputs.append(made)
            examples.append(leaf._data)
            if type(made._fn) is Leaf:
                made._fn.grad = leaf.grad
                capture.track(made._fn, leaf, len(inputs) - 1)
            return made

        symbolic_args[key] = tree.map_leaves(symbolize, value, containers)
    if shapes:
        _check_examples(graph, examples)
    from .convert import call

    call_args, call_kwargs = unbind(function, symbolic_args, args, kwargs)
    sources = [(i, t._fn) for i, t in enumerate(inputs) if t._fn is not None]
    given = Snapshot(symbolic_args)
    watch = capture.watch = Watch(function)
    recording = local.grad
    with capture:
        try:
            with watch:
                result = call(function, *call_args, **call_kwargs)
            if local.grad is not recording:
                raise capture.failure(
                    "the compiled function leaves gradient recording switched "
                    f"{'on' if local.grad else 'off'}",
                    "Use `with dg.no_grad():` or `with dg.enable_grad():`.",
                )
            if not capture.failures:
                watch.resolve()
                _refuse_random(capture, watch)
                _refuse_changed(capture, symbolic_args, given)
                changes = changes_of(watch, capture)
                hold(watch, changes, capture, looked_up)
                return finish(capture, result, inputs, sources, changes)
        except Exception as error:
            if (why := capture.why_unset(error)) is not None:
                capture.failures.append(CaptureFailure(why, place_of(error)))
            if isinstance(error, TraceError) and not isinstance(error, CaptureFailure):
                # What a graph cannot hold, said by the code that was asked for it.
                capture.failures.append(CaptureFailure(str(error), place_of(error)))
            if isinstance(error, AutogradError) and capture.no_gradient is not None:
                capture.failures.append(capture.no_gradient)  # it was differentiated inside
            # Whatever became of a failure (it may have been caught), it is why this cannot work.
            if not capture.failures or error is capture.failures[0]:
                raise
            raise capture.failures[0] from error
        finally:
            local.grad = recording
            watch.resolve()
            restore(watch)
            if watch.ambiguous:
                watch.restore_cells()
            add_loose(watch)
            capture.restore()
            capture.close()
            for failure in capture.failures:
                failure.capture = capture
    raise capture.failures[0]


def _refuse_random(capture: Capture, watch: Watch) -> None:
    for name in watch.ambiguous:
        raise capture.failure(
            f"the compiled function assigns to {name} in one of several closures of one function",
            "Keep it in an attribute of an object, or in a list.",
        )
    if watch.random:
        raise capture.failure(
            "the compiled function draws random numbers of NumPy or Python, which would be the "
            "same at every call",
            "Draw with dg.rand, dg.randn, ... instead, or pass the numbers as an argument.",
        )


def _refuse_changed(capture: Capture, arguments: Any, given: Snapshot) -> None:
    for x in given.changed():
        raise capture.failure(
            f"the compiled function changes a {type(x).__name__} that it was passed",
            "Return the new content instead.",
        )


def _symbolic(
    capture: Capture, t: Tensor, name: str, dims: Mapping[int, Any], declared: DeclaredDims
) -> Tensor:
    """A new graph input that stands for argument `t`."""
    shape: list[DimLike] = list(t.shape)
    for axis, d in dims.items():
        if not -len(shape) <= axis < len(shape):
            raise ArgumentError(
                f"dynamic_shapes names dimension {axis} of {name!r}, which has {len(shape)}"
            )
        if d is not None:
            shape[axis] = declared.size(d)
    out = capture.input(TensorType(t.dtype, tuple(shape)), name)
    fn = t._fn if t._base is None else current_fn(t)
    if fn is not None:
        out._fn = Leaf() if type(fn) is Leaf else Source()
        capture.outside[out._fn] = fn
    return out


def _check_examples(graph: Graph, examples: Sequence[Any]) -> None:
    """Raise ArgumentError if the sizes of the example arguments are not as declared."""
    if any(type(data) is Value for data in examples):
        return
    try:
        bind_shapes([(v.name, v.type) for v in graph.inputs], examples)
    except FeedError as error:
        raise ArgumentError(f"the example arguments contradict dynamic_shapes: {error}") from None


def as_array(data: Any, dtype: Any) -> Any:
    """`data` (Tensor, array, list or number) as an array; numbers and lists take `dtype`."""
    if isinstance(data, Tensor):
        return data._concrete("feeding a graph")
    if hasattr(data, "dtype") and hasattr(data, "shape"):
        return np.asarray(data) if isinstance(data, np.generic) else data
    try:
        return np.asarray(data, dtype)
    except (TypeError, ValueError) as error:
        raise TraceError(f"cannot make an array of {type(data).__name__}: {error}") from error
