"""``dg.compile``: the same call, run as an optimised static graph.

A call is looked up by what the graph depends on: the structure of the arguments, the dtypes and
shapes of their tensors, the values of everything else, and grad mode. What was traced is used as
long as its guard holds (see :class:`Guard`); a call not seen before is traced and optimised.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Sequence
from types import FunctionType, MethodType
from typing import Any

from dualgraph_compiler.errors import TraceError
from dualgraph_compiler.graph import Graph
from dualgraph_compiler.ops.base import array_module

from .._dispatch import captures
from .._tensor import Tensor
from ..autograd.grad_mode import local
from . import tree
from .capture import Capture
from .entry import Entry
from .failure import CaptureFailure, EagerFallbackWarning, current_place
from .guards import Guards, guards_of
from .keys import CallForm, Unkeyed, key_of
from .replay import Call
from .trace import target_of, trace_call

# Traces kept for one kind of call whose guards differ (a module trained and evaluated in turn).
_KEPT = 8


def compile(
    model: Callable[..., Any] | None = None,
    *,
    fullgraph: bool = False,
    dynamic_shapes: Any = None,
) -> Any:
    """A callable that runs `model` (a module or function) as an optimised graph.

    Usable as a decorator. Results, gradients and writes to arguments and state are those of the
    eager call. `dynamic_shapes` is as for :func:`trace`; dimensions it does not name are part of
    the lookup key.

    A call that cannot be captured runs eagerly, with one :class:`EagerFallbackWarning` that names
    the line; with `fullgraph` it raises :class:`CaptureFailure` instead.
    """
    if model is None:
        return functools.partial(compile, fullgraph=fullgraph, dynamic_shapes=dynamic_shapes)
    return CompiledFunction(model, fullgraph=fullgraph, dynamic_shapes=dynamic_shapes)


class CompiledFunction:
    """What :func:`compile` returns; attributes not found here are the wrapped object's."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        fullgraph: bool = False,
        dynamic_shapes: Any = None,
    ) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._fullgraph = fullgraph
        self._dynamic_shapes = dynamic_shapes
        # An entry of None: calls of this kind run eagerly.
        self._entries: dict[Any, list[tuple[Guards, Entry | None]]] = {}
        self._warned: set[Any] = set()
        self._form = CallForm()
        self._lock = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if captures.current is not None:  # being captured itself: inline
            return self._function(*args, **kwargs)
        if kwargs:
            ordered = self._form.ordered(target_of(self._function), args, kwargs)
            if ordered is None:
                return self._function(*args, **kwargs)  # which says what is wrong with them
            args, kwargs = ordered
        try:
            key, tensors = self._key(args, kwargs)
            found = self._entries.get(key)
        except Unkeyed as reason:
            return self._eagerly(reason, args, kwargs)
        for guard, entry in reversed(found or ()):
            if guard.hold():
                if entry is None:
                    return self._function(*args, **kwargs)
                if (call := entry.begin(tensors)) is not None:
                    break
        else:
            traced = self._trace(key, args, kwargs, tensors)
            if traced is None:
                return self._function(*args, **kwargs)
            entry, call = traced
        if entry.effects and (_overlapping(tensors) or entry.reads_any(tensors)):
            # Which of them sees a write to another one depends on the memory: left to eager code.
            call.roll_back()
            return self._function(*args, **kwargs)
        return entry.run(call)

    def _trace(
        self, key: Any, args: Any, kwargs: Any, tensors: Sequence[Tensor]
    ) -> tuple[Entry, Call] | None:
        """A new entry and the call begun with it; None for a call that is to run eagerly."""
        with self._lock:
            kept = self._entries.setdefault(key, [])
            for guard, entry in kept:  # another thread may have been here first
                if guard.hold():
                    if entry is None:
                        return None
                    if (call := entry.begin(tensors)) is not None:
                        return entry, call
            try:
                traced = trace_call(
                    self._function,
                    args,
                    kwargs,
                    dynamic_shapes=self._dynamic_shapes,
                    aliases=True,
                )
            except CaptureFailure as failure:
                if self._fullgraph or failure.capture is None:
                    raise
                self._warn(failure)
                self._entries[key] = [*kept[-_KEPT + 1 :], (_guards_of(failure.capture), None)]
                return None
            entry = Entry(traced)
            begun = entry.begin(tensors)
            if begun is None:
                raise TraceError(
                    "the Python data that the function depends on changes while it is traced"
                )
            self._entries[key] = [*kept[-_KEPT + 1 :], (_guards_of(traced.capture), entry)]
            return entry, begun

    def _warn(self, failure: CaptureFailure) -> None:
        """Say once for each place why calls run eagerly."""
        if failure.place not in self._warned:
            self._warned.add(failure.place)
            warnings.warn(EagerFallbackWarning(f"{self!r} runs eagerly: {failure}"), stacklevel=4)

    def _eagerly(self, reason: Unkeyed, args: Any, kwargs: Any) -> Any:
        failure = CaptureFailure(
            f"an argument is {reason}", current_place(), "Pass a tensor, or something immutable."
        )
        if self._fullgraph:
            raise failure
        self._warn(failure)
        return self._function(*args, **kwargs)

    def _key(self, args: Any, kwargs: Any) -> tuple[Any, list[Tensor]]:
        tensors: list[Tensor] = []
        parts: list[Any] = [local.grad]
        if kwargs or not all([isinstance(a, Tensor) for a in args]):  # noqa: C419 - faster
            parts.append(tree.structure((args, kwargs)))
            args = [leaf for _, leaf in tree.flatten((args, kwargs))]
        dynamic = self._dynamic_shapes is not None
        for leaf in args:
            if isinstance(leaf, Tensor):
                tensors.append(leaf)
                data = leaf._data
                wants: Any = leaf._fn is not None if leaf._base is None else leaf.requires_grad
                if wants and not leaf.is_leaf:
                    wants = "non-leaf"  # in-place operations on it are legal
                parts.append((data.dtype, data.ndim if dynamic else data.shape, wants))
            else:
                parts.append(key_of(leaf))
        if len(tensors) > 1 and len(met := {id(t): i for i, t in enumerate(tensors)}) < len(
            tensors
        ):
            parts.append(tuple([met[id(t)] for t in tensors]))  # which are one tensor
        return tuple(parts), tensors

    @property
    def graphs(self) -> list[Graph]:
        """The traced graphs, one for each kind of call so far."""
        entries = [entry for kept in self._entries.values() for _, entry in kept]
        return [entry.traced.graph for entry in entries if entry is not None]

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a function in a class is: the method of `instance`."""
        if instance is None or not isinstance(self._function, FunctionType):
            return self
        return MethodType(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name == "_function":  # not there yet: while being copied or unpickled
            raise AttributeError(name)
        return getattr(self._function, name)

    def __repr__(self) -> str:
        return f"compiled({self._function!r})"


def _overlapping(tensors: Sequence[Tensor]) -> bool:
    arrays = [t._data for t in {id(t): t for t in tensors}.values()]
    return any(
        type(a) is type(b) and array_module(a).may_share_memory(a, b)
        for i, a in enumerate(arrays)
        for b in arrays[:i]
    )


def _guards_of(capture: Capture) -> Guards:
    """What a trace, or a failed attempt at one, took for granted."""
    watch = capture.watch
    assert watch is not None
    read = {id(t) for t, _ in capture.reads.values()} | {
        id(w.tensor) for w in capture.writes.values()
    }
    slots = capture.slots.keys()
    guards = [
        guard
        for seen in watch.seen.values()
        if watch.is_outside(seen.place) and seen.place.key not in slots
        for guard in guards_of(seen, lambda t: id(t) in read)
    ]
    modules = dict(capture.modules)
    for module in list(modules.values()):  # those never called, such as a ParameterList, as well
        modules.update((id(m), m) for m in module.modules())
    return Guards(guards, [t for t, _ in capture.reads.values()], modules.values())
