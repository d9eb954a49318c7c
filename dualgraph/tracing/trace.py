"""Tracing: running Python code once on symbolic tensors to get its graph."""

from __future__ import annotations

import functools
import inspect
import itertools
import random
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, TypeAlias

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
from dualgraph_compiler.ops import Op
from dualgraph_compiler.types import TensorType

from .._dispatch import current_fn, make
from .._tensor import Tensor
from ..autograd.grad_mode import local
from ..autograd.tape import Leaf
from ..functions import linalg
from . import tree
from .attributes import Change, Held, changes_of, hold, restore
from .capture import Capture, Source
from .declared import DeclaredDims
from .failure import CaptureFailure, place_of
from .loose import add_loose
from .objects import target_of
from .outputs import OutputIndex, Results
from .replay import GradSlot, Slot
from .snapshots import Snapshot
from .watch import Watch

# What a trace says of a tensor outside: the position of a tensor argument, the tensor itself, or
# the slot that it is found in.
Holder: TypeAlias = "int | Tensor | Held"
# Where a param comes from: a tensor, a slot, or the number of that name.
Read: TypeAlias = "Tensor | Slot | str"


@dataclass
class Traced:
    """What a trace found.

    `reads` are where the params come from, in the order of ``graph.params``; `writes` say what was
    overwritten: with the output of that index, and whether the tape leads there; outputs that are
    `replaced` become the tensor's data, and what shared memory with it keeps the old. `slots` are
    those that the trace depends on, `slot_writes` pairs of a slot and of the output that it was
    overwritten with, `grads` pairs of a leaf's slot and what became its gradient: an output, a
    tensor from outside, or None. `result` is the nested result with indices of graph outputs in
    place of tensors. `views` are outputs that are (views of) an argument, of state or of another
    output: of which, and by what ops. `changes` are those of Python data. The first `n_results`
    outputs are the result's. `sized` says that sizes of the arguments are in the result or changes.

    For differentiation: `fns`, the tape entry of every output that has one, and `sources`, the
    tensors gradients lead to, with their entries. The tape lives as long as `capture` does.
    """

    graph: Graph
    capture: Capture
    reads: list[Read]
    result: Any = None
    writes: list[tuple[Holder, int, bool]] = field(default_factory=list)
    replaced: set[int] = field(default_factory=set)
    slots: list[Slot] = field(default_factory=list)
    slot_writes: list[tuple[Slot, int]] = field(default_factory=list)
    grads: list[tuple[GradSlot, int | Tensor | None]] = field(default_factory=list)
    views: dict[int, tuple[Holder | OutputIndex, tuple[Op, ...]]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    sized: bool = False
    n_results: int = 0
    checks: list[tuple[int, Exception]] = field(default_factory=list)
    fns: dict[int, Any] = field(default_factory=dict)
    sources: list[tuple[Holder, Any]] = field(default_factory=list)

    def require_gradients(self) -> None:
        """Raise if calls are to be differentiated, and what was captured cannot be.

        Raises:
            CaptureFailure: a loop whose number of steps depends on data may get a gradient, or an
                ``if`` would give zeros where eager code gives no gradient.
        """
        failure = self.capture.no_gradient if self.fns else None
        if failure is None and (self.fns or self.grads):
            failure = self.capture.uneven
        if failure is not None:
            failure.capture = self.capture
            raise failure

    @property
    def is_step(self) -> bool:
        """Whether a call changes or reads more than arguments and tensors of the state."""
        return bool(
            self.slots or self.slot_writes or self.grads or self.changes or self.capture.replay
        )


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
    leaves = [(label, leaf) for label, leaf in _labelled(traced.result)]
    kept = [(label, graph.outputs[x.index]) for label, x in leaves if isinstance(x, OutputIndex)]
    graph.set_outputs([v for _, v in kept], [label for label, _ in kept])
    return graph


def _labelled(result: Any) -> list[tuple[str, Any]]:
    """The leaves of a result with names for them: output, output0, output.key, ..."""
    leaves = list(tree.flatten(result, ""))
    if len(leaves) == 1:
        return [("output", leaves[0][1])]
    return [
        (f"output{path if not path or path[0].isdigit() else '.' + path}", leaf)
        for path, leaf in leaves
    ]


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
) -> Traced:
    """`trace`, with everything the trace found.

    Where Python asks for the data of a traced tensor, the function is traced once more with its
    control flow rewritten.

    `sizes` are further dimensions that may vary, by the number of the tensor argument and the axis.
    With `aliases`, one tensor given for two parameters is one tensor, and one input, in the trace.
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
    converting: bool = False,
) -> Traced:
    bound = _bind(function, args, kwargs)
    shapes = _dynamic(dynamic_shapes, list(bound))
    declared = DeclaredDims(shapes)
    graph = Graph(name or _name_of(function))
    capture = Capture(graph, _state_names(function), whole=True)
    capture.converting = converting
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
            axes = _spec_for(shapes.get(key), next(counter))
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

    call_args, call_kwargs = _unbind(function, symbolic_args, args, kwargs)
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
                return _finish(capture, result, inputs, sources, changes)
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


def _finish(
    capture: Capture,
    result: Any,
    inputs: list[Tensor],
    sources: list[tuple[int, Any]],
    changes: Sequence[Change],
) -> Traced:
    """Declare the graph's outputs: the result's tensors, then what was written, then gradients."""
    graph = capture.graph
    outputs: list[Value] = []
    names: list[str] = []

    def declare(value: Value, name: str) -> int:
        outputs.append(value)
        names.append(name)
        return len(outputs) - 1

    traced = Traced(graph, capture, [])
    results = Results(capture, inputs, declare)
    traced.result = results.take(result, [label for label, _ in _labelled(result)])
    traced.n_results = len(outputs)
    for change in changes:
        change.what = results.take(change.what, itertools.repeat(change.place.name))
    traced.changes = list(changes)
    traced.views, traced.fns, traced.sized = results.views, results.fns, results.sized
    traced.checks = [
        (declare(ok, f"check{i}"), error) for i, (ok, error) in enumerate(capture.checks)
    ]

    def write(holder: Holder, value: Value, name: str, fn: Any) -> None:
        index = declare(value, name)
        traced.writes.append((holder, index, fn is not None))
        if fn is not None:
            traced.fns[index] = fn

    before = dict(sources)
    for i, (t, v) in enumerate(zip(inputs, graph.inputs, strict=True)):
        if t._data is not v:
            fn = t._fn if t._fn is not before.get(i) else None
            if id(t) in capture.replaced:
                traced.replaced.add(len(outputs))
            write(i, t._data, f"{v.name}.new", fn)
    for w in capture.writes.values():
        data = w.tensor._data
        if id(w.tensor) in capture.replaced:
            if capture.writes.get(id(data)) is w:
                traced.replaced.add(len(outputs))
            data = capture.replaced[id(w.tensor)][1]
        name = capture.names.get(id(data), f"state{len(outputs)}")
        write(w.tensor, w.value, f"{name}.new", w.tensor._fn if w.tensor._fn is not w.fn else None)
    for slot in capture.slots.values():
        _finish_slot(capture, traced, slot, declare)
    graph.set_outputs(outputs, names)
    traced.sources = [*sources, *capture.sources.values()]
    traced.slots = [slot for slot in capture.slots.values() if slot.observed]
    idle = {id(slot.value) for slot in capture.slots.values() if not slot.observed}
    graph.params = [v for v in graph.params if id(v) not in idle]
    traced.reads = reads_of(capture)
    return traced


def _finish_slot(
    capture: Capture, traced: Traced, slot: Slot, declare: Callable[[Value, str], int]
) -> None:
    """Note what a slot is overwritten with; for a gradient, what takes its place."""
    name = slot.value.name if slot.value is not None else f"grad{len(traced.grads)}"
    if type(slot) is GradSlot:
        grad = slot.leaf.grad
        if grad is not slot.proxy or (grad is None and slot.overwritten):
            if grad is not None and (type(grad._data) is Value or id(grad._data) in capture.writes):
                label = name if slot.value is None else f"{name}.new"
                index = declare(capture.value_of(grad), label)
                traced.grads.append((slot, index))
                if grad._fn is not None:  # recorded by backward(create_graph=True)
                    traced.fns[index] = grad._fn
            else:
                traced.grads.append((slot, grad))
            return
    if slot.proxy is not None and slot.proxy._data is not slot.value:
        traced.slot_writes.append((slot, declare(capture.value_of(slot.proxy), f"{name}.new")))


def reads_of(capture: Capture) -> list[Read]:
    """Where the params of a capture's graph come from, in their order."""
    found: dict[int, Read] = {id(v): t for t, v in capture.reads.values()}
    found.update((id(slot.value), slot) for slot in capture.slots.values())
    return [found.get(id(v), v.name) for v in capture.graph.params]


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


def _spec_for(spec: Any, index: int) -> Mapping[int, Any]:
    """Dimension names by axis for the `index`-th tensor under one parameter."""
    if spec is None:
        return {}
    if isinstance(spec, Mapping):
        return spec
    if spec and isinstance(spec[0], Mapping | tuple | list):
        return _spec_for(spec[index] if index < len(spec) else None, 0)
    return {i: d for i, d in enumerate(spec) if d is not None and not isinstance(d, int)}


def _dynamic(
    spec: Mapping[str, Any] | Sequence[Any] | None, parameters: list[str]
) -> Mapping[str, Any]:
    if spec is None:
        return {}
    if not isinstance(spec, Mapping):
        spec = dict(zip(parameters, spec, strict=False))
    unknown = [k for k in spec if k not in parameters]
    if unknown:
        raise ArgumentError(
            f"dynamic_shapes names {', '.join(map(repr, unknown))}; the parameters are "
            f"{', '.join(map(repr, parameters))}"
        )
    return spec


def _bind(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by parameter name; positional-only and unnamed ones as arg0, arg1, ..."""
    target = target_of(function)
    try:
        bound = inspect.signature(target).bind(*args, **kwargs)
    except ValueError:  # a builtin without a signature
        return {**{f"arg{i}": a for i, a in enumerate(args)}, **kwargs}
    except TypeError:  # a decorator may take other arguments than what it wraps
        bound = inspect.signature(target, follow_wrapped=False).bind(*args, **kwargs)
    out: dict[str, Any] = {}
    for key, value in bound.arguments.items():
        kind = bound.signature.parameters[key].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            out.update({f"{key}{i}": v for i, v in enumerate(value)})
        elif kind is inspect.Parameter.VAR_KEYWORD:
            out.update(value)
        else:
            out[key] = value
    return out


def argument_names(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """What the graph's inputs for the tensors among these arguments are called."""
    found: dict[int, str] = {}
    for key, value in _bind(function, args, kwargs).items():
        for path, leaf in tree.flatten(value, key):
            if isinstance(leaf, Tensor):
                found.setdefault(id(leaf), path)
    return list(found.values())


def _unbind(
    function: Any, named: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The symbolic arguments in the positions and under the keywords of the original call."""
    positional = [v for k, v in named.items() if k not in kwargs][: len(args)]
    return positional, {k: named[k] for k in kwargs}


def _name_of(function: Any) -> str:
    name = getattr(function, "__name__", None) or type(function).__name__
    return "".join(c if c.isalnum() or c == "_" else "_" for c in name).strip("_") or "graph"


def _state_names(function: Any) -> dict[int, str]:
    """Dotted names of a module's tensors; of the modules in a function's closure as well.

    By the identity of the tensors' arrays.
    """
    names: dict[int, str] = {}
    found = [("", function)]
    closure = getattr(function, "__closure__", None) or ()
    variables = getattr(getattr(function, "__code__", None), "co_freevars", ())
    found += list(zip(variables, [_cell(c) for c in closure], strict=True))
    if hasattr(function, "__self__"):
        found.append(("", function.__self__))
        if not hasattr(type(function.__self__), "named_parameters"):
            found += list(getattr(function.__self__, "__dict__", {}).items())
    code = getattr(function, "__code__", None)
    if code is not None:
        found += [(n, function.__globals__.get(n)) for n in code.co_names]
    several = sum(hasattr(type(x), "named_parameters") for _, x in found) > 1
    for prefix, x in found:
        if isinstance(x, Tensor):
            names.setdefault(id(x._data), prefix)
        if hasattr(type(x), "named_parameters"):
            for items in (x.named_parameters(), x.named_buffers()):
                for key, t in items:
                    names.setdefault(id(t._data), f"{prefix}.{key}" if several and prefix else key)
    return names


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


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


def wrap(array: Any) -> Tensor:
    """A tensor around a result array."""
    return make(array)
