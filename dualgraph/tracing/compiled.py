"""``dg.compile``: the same call, run as an optimised static graph.

A call is looked up by what the graph depends on: the structure of the arguments, the dtypes and
sizes of their tensors, the values of everything else, grad mode (`arguments`), and the Python data
and state that the code reads (`guards`). A call not seen before is traced and optimised (`cache`).
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

from dualgraph_compiler.compile import Numerics
from dualgraph_compiler.errors import TraceError
from dualgraph_compiler.graph import Assumption, Graph
from dualgraph_runtime.options import Execution

from .._dispatch import captures
from .._tensor import Tensor
from ..transforms.levels import transforms
from . import tree
from .arguments import taken_apart
from .binding import argument_names, bind
from .cache import Cached, Kind
from .capture import Capture
from .checks import Guards
from .entry import Entry
from .failure import CaptureFailure, EagerFallbackWarning, Place, current_place
from .guards import Guard, guards_of
from .keys import CallForm, Unkeyed
from .objects import target_of
from .places import MISSING, Method, is_module
from .program import Mode
from .replay import Call
from .report import CompileReport, report_on
from .shortcut import has_shortcuts
from .sizes import Answers, Pattern, Position, Shapes, Sizes, assumed, dimensions
from .trace import trace_call
from .traced import Traced


def compile(
    model: Callable[..., Any] | None = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    dynamic_shapes: Any = None,
    numerics: Numerics = "standard",
    execution: Execution | None = None,
    recompile_limit: int = 8,
    profile: bool = False,
    backend: Any = None,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
    disable: bool = False,
) -> Any:
    """A callable that runs `model` (a module or function) as an optimised graph.

    Usable as a decorator. Results, gradients and writes to arguments and state are those of the
    eager call. A call that cannot be captured runs eagerly, with one :class:`EagerFallbackWarning`
    that names the line.

    Args:
        model: the module or function.
        fullgraph: raise :class:`CaptureFailure` instead of running eagerly.
        dynamic: None: a size is fixed in the graph until a call has another one, then one graph
            serves all. True: all sizes of arguments may vary from the start. False: each has a
            graph of its own.
        dynamic_shapes: sizes that may vary by parameter, as for :func:`trace`.
        numerics: "standard" lets results differ from eager ones by rounding; "strict" keeps every
            bit: of native code, only what gives the bits of eager code is used, and the first call
            of sizes that were not met before is interpreted. Interpreted training steps keep every
            bit of eager code on NumPy either way (see :mod:`dualgraph.backends.native`).
        execution: how graphs run on a CPU. "interpreter": node by node. "native": as C code, built
            when first needed (docs/native.md); where there is no C compiler they are interpreted.
            "auto": interpreted until the C code, built in the background, is ready; calls that
            record gradients or train wait for it at the second call, so that what is learned does
            not depend on when it is ready. Default: what
            the variable ``DUALGRAPH_EXECUTION`` says, else "auto".
        recompile_limit: how many graphs one kind of call may have; calls that need yet another one
            run eagerly, with one warning that says what kept changing.
        profile: time each kernel of native code in each call; `report` then has a table of it. With
            strict numerics nothing is timed.
        backend, mode, options: which compiler of PyTorch's, and how; here there is one.
        disable: leave `model` as it is.

    Source: ``torch.compile``.
    """
    given = {
        "fullgraph": fullgraph,
        "dynamic": dynamic,
        "dynamic_shapes": dynamic_shapes,
        "numerics": numerics,
        "execution": execution,
        "recompile_limit": recompile_limit,
        "profile": profile,
    }
    Mode.of(numerics, execution)
    if model is None:
        return functools.partial(compile, **given, disable=disable)
    # `is_disabled`: see ``dualgraph.compiler``.
    if disable or getattr(target_of(model), "is_disabled", False):
        return model
    return CompiledFunction(model, **given)


@has_shortcuts
class CompiledFunction:
    """What :func:`compile` returns; attributes not found here are the wrapped object's."""

    __slots__ = ("__dict__", "__weakref__", "_shortcuts")

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._options = options
        self._mode = Mode.of(options["numerics"], options["execution"], options["profile"])
        self._form = CallForm()
        self._kinds: dict[Hashable, Kind] = {}
        self._last: Cached | None = None  # what fitted the last call
        self._shortcuts: tuple[Any, ...] = ()
        self._warned: set[Any] = set()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if captures.current is not None or captures.disabled:  # being captured itself: inline
            if captures.current is not None or captures.autocast or transforms.autocast is None:
                return self._function(*args, **kwargs)
            last = None  # which is no judge of the precision that autocast asks for
        else:
            last = self._last
        if last is not None and not kwargs:
            again = last.again(args)
            if again is not None:
                return self._run(last, again, args, kwargs, repeated=True)
        if kwargs:
            ordered = self._form.ordered(target_of(self._function), args, kwargs)
            if ordered is None:
                return self._function(*args, **kwargs)  # which says what is wrong with them
            args, kwargs = ordered
        try:
            key, values, shapes, tensors = taken_apart(args, kwargs)
        except Unkeyed as why:
            return self._eagerly(why, args, kwargs)
        kind = self._kinds.get(key)
        found = None if kind is None else kind.find(values, shapes, tensors)
        if found is None:
            found = self._miss(key, values, shapes, tensors, args, kwargs)
        cached, call = found
        entry = cached.entry
        if entry is None or call is True:
            return self._function(*args, **kwargs)
        assert isinstance(call, Call)
        if kwargs or captures.disabled:
            return self._run(cached, call, args, kwargs)
        cached.learn(args)
        self._last = cached
        return self._run(cached, call, args, kwargs, repeated=cached.is_repeated(shapes))

    def _run(
        self, cached: Cached, call: Call, args: Any, kwargs: Any, *, repeated: bool = False
    ) -> Any:
        entry = cached.entry
        assert entry is not None
        if entry.effects and entry.entangled(call):  # left to eager code
            call.roll_back()
            return self._function(*args, **kwargs)
        result = entry.run(call)
        if repeated and entry.is_plain:
            self._shortcuts = cached.shorten(args, self._shortcuts)
        return result

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a function in a class is: the method of `instance`."""
        if instance is None or not isinstance(self._function, FunctionType):
            return self
        return MethodType(self, instance)

    # -- tracing ----------------------------------------------------------------------------------

    def _miss(
        self,
        key: Hashable,
        values: Hashable,
        shapes: Shapes,
        tensors: list[Tensor],
        args: Any,
        kwargs: Any,
    ) -> tuple[Cached, Call | bool]:
        """A new trace and the call begun with it; True instead for a call that is to run eagerly.

        Raises:
            CaptureFailure: with `fullgraph`, where the call would run eagerly.
        """
        kind = self._kinds.get(key)
        if kind is None:
            names = argument_names(self._function, args, kwargs)
            sizes = Sizes(self._options["dynamic"], names)
            labels = _labels(self._function, args, kwargs)
            kind = self._kinds.setdefault(key, Kind(sizes, labels))
        with kind.lock:
            found = kind.find(values, shapes, tensors)  # another thread may have been here first
            if found is not None:
                return found
            why = kind.compare(values, shapes)
            if len(kind.entries) >= self._options["recompile_limit"]:
                return self._limited(kind), True
            kind.sizes.note(shapes)
            start = time.perf_counter()
            try:
                entry, pattern = self._traced(kind, shapes, args, kwargs)
            except CaptureFailure as failure:
                if self._options["fullgraph"] or failure.capture is None:
                    raise
                self._warn(failure.place, f"runs eagerly: {failure}")
                guards = _guards_of(failure.capture, hooked=True)
                cached = Cached(values, Pattern(shapes), guards, None, why, str(failure))
                kind.entries = [cached, *kind.entries]
                return cached, True
            cached = Cached(
                values,
                pattern,
                _guards_of(entry.traced.capture, hooked=bool(entry.traced.grads)),
                entry,
                why,
            )
            cached.seconds = time.perf_counter() - start
            call = entry.begin(tensors)
            if call is None:
                raise TraceError(
                    "the Python data that the function depends on changes while it is traced"
                )
            kind.entries = [cached, *kind.entries]
            return cached, call

    def _traced(self, kind: Kind, shapes: Shapes, args: Any, kwargs: Any) -> tuple[Entry, Pattern]:
        """The trace of a call, with sizes that may vary as symbols as far as the code allows."""
        trace_with = functools.partial(self._trace_with, kind, shapes, args, kwargs)
        unfit: set[str] = set()  # symbols of which a graph would assume what this call is not like
        while True:
            used = {p: name for p, name in kind.sizes.symbols().items() if name not in unfit}
            try:
                traced, answers = trace_with(used)
            except Exception as error:
                if not used:
                    raise
                kind.sizes.fix(error, used, trace_with)
                continue
            traced.require_gradients()
            entry = Entry(traced, self._mode)
            entry.require_backward()
            # Of the capture's graph, too: what gradients assume of sizes stands there.
            assumptions = [*assumed(traced.graph), *traced.capture.graph.assumptions]
            pattern = Pattern.of(traced.graph, answers.given, assumptions)
            failing = pattern.failing(shapes)
            if failing is not None:
                names = failing.names() & set(used.values())
                if not names:
                    raise _unassumed(failing, traced)
                unfit |= names
                continue
            for position in _vanished(traced.graph, used):
                kind.sizes.fixed[position] = "the graph has another size"
            return entry, pattern

    def _trace_with(
        self, kind: Kind, shapes: Shapes, args: Any, kwargs: Any, used: Mapping[Position, str]
    ) -> tuple[Traced, Answers]:
        """The trace of a call with these sizes as symbols, and what it asked of them."""
        with Answers({name: shapes[i][axis] for (i, axis), name in used.items()}) as answers:
            traced = trace_call(
                self._function,
                args,
                kwargs,
                dynamic_shapes=self._options["dynamic_shapes"],
                looked_up=kind.looked_up,
                sizes=dimensions(used),
                aliases=True,
                keeps_steps=self._mode.numerics == "strict",
            )
        return traced, answers

    def _limited(self, kind: Kind) -> Cached:
        """What stands for calls beyond the bound on traces, announced once."""
        text = (
            f"has been traced {len(kind.entries)} times for one kind of call, and again something "
            f"is different ({kind.summary()}). Other calls run eagerly from now on. Pass what "
            "changes as a tensor, or allow more with recompile_limit="
        )
        if self._options["fullgraph"]:
            raise CaptureFailure(f"{self._called()} {text}")
        if not kind.full:
            kind.full = True
            self._warn(kind, text)
        return Cached(None, Pattern(()), Guards(()), None)

    # -- running eagerly --------------------------------------------------------------------------

    def _warn(self, about: Any, text: str) -> None:
        """Say once for each place why calls run eagerly."""
        key = id(about) if isinstance(about, Kind) else about
        if key not in self._warned:
            self._warned.add(key)
            message = f"compiled {self._called()} {text}"
            warnings.warn(EagerFallbackWarning(message), stacklevel=4)

    def _eagerly(self, why: Unkeyed, args: Any, kwargs: Any) -> Any:
        failure = CaptureFailure(
            f"an argument is {why}", current_place(), "Pass a tensor, or something immutable."
        )
        if self._options["fullgraph"]:
            raise failure
        self._warn(str(why), f"runs eagerly: {failure}")
        return self._function(*args, **kwargs)

    def _called(self) -> str:
        function = self._function
        name = getattr(function, "__qualname__", None) or type(function).__name__
        return str(name)

    # -- what there is ----------------------------------------------------------------------------

    @property
    def _entries(self) -> list[Entry]:
        found = [c.entry for kind in self._kinds.values() for c in reversed(kind.entries)]
        return [entry for entry in found if entry is not None]

    @property
    def graphs(self) -> list[Graph]:
        """The traced graphs, one for each kind of call so far."""
        return [entry.traced.graph for entry in self._entries]

    def report(self) -> CompileReport:
        """What was captured, specialised, baked in, guarded, and what runs eagerly; print it."""
        return report_on(self._called(), list(self._kinds.values()))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for native code of what has run, `timeout` seconds at most for each program.

        Returns whether all of it is native code from now on; `report` says what is not.
        """
        programs = [p for entry in self._entries for _, p in entry.programs()]
        return [p.wait(timeout) for p in programs].count(False) == 0

    def __getattr__(self, name: str) -> Any:
        if name == "_function":  # not there yet: while being copied or unpickled
            raise AttributeError(name)
        return getattr(self._function, name)

    def __getstate__(self) -> Any:
        return self._function, self._options

    def __setstate__(self, state: Any) -> None:
        self.__init__(state[0], **state[1])  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"compiled({self._function!r})"


def _labels(function: Any, args: Any, kwargs: Any) -> list[str]:
    """The names of the arguments that are no tensors."""
    named = bind(function, args, kwargs)
    leaves = [leaf for name, value in named.items() for leaf in tree.flatten(value, name)]
    return [path for path, leaf in leaves if not isinstance(leaf, Tensor)]


def _unassumed(failing: Assumption, traced: Traced) -> CaptureFailure:
    """Why a call does not fit a graph with the sizes that dynamic_shapes declares."""
    failure = CaptureFailure(
        f"{failing.why} needs {failing} of sizes that dynamic_shapes declares",
        None if failing.loc is None else Place(failing.loc.file, failing.loc.line),
        "Give the sizes bounds, as in dg.Dim(name, min=...), or leave them out of dynamic_shapes.",
    )
    failure.capture = traced.capture
    return failure


def _vanished(graph: Graph, used: dict[Position, str]) -> list[Position]:
    """Sizes that were to be symbols and are not, since they were declared otherwise."""
    return [(i, a) for i, a in used if isinstance(graph.inputs[i].type.shape[a], int)]


def _guards_of(capture: Capture, *, hooked: bool) -> Guards:
    """What a trace, or a failed attempt at one, took for granted: with `hooked`, tensors' hooks."""
    watch = capture.watch
    assert watch is not None
    read = {id(t) for t, _ in capture.reads.values()}
    read |= {id(w.tensor) for w in capture.writes.values()}
    slots = capture.slots.keys()
    guards = [
        guard
        for seen in watch.seen.values()
        if watch.is_outside(seen.place) and seen.place.key not in slots
        for guard in guards_of(seen, lambda t: id(t) in read)
    ]
    guards += _aliases(capture, read)
    guards += [
        Guard(Method(cls, name), "v is value", found, value=found)
        for (cls, name), found in watch.methods.items()
    ]
    modules = dict(capture.modules)
    modules |= {i: x for i, (x, _) in watch.objects.items() if is_module(x) and i not in watch.made}
    for module in list(modules.values()):  # those never called, such as a ParameterList, as well
        modules.update((id(m), m) for m in module.modules())
    for cls in {type(m): None for m in modules.values()}:  # of layers, which are no user's
        forward = Method(cls, "forward")
        if (cls, "forward") not in watch.methods and (found := forward.get()) is not MISSING:
            guards.append(Guard(forward, "v is value", found, value=found))
    state = [t for t, _ in capture.reads.values()]
    return Guards(guards, state, modules.values(), hooked=hooked)


def _aliases(capture: Capture, read: set[int]) -> Iterator[Guard]:
    """That tensors found outside share one array still with the one that is read for both."""
    assert capture.watch is not None
    by_array = {id(t._data): t for t, _ in capture.reads.values()}
    for seen in capture.watch.seen.values():
        value = seen.before.value
        if isinstance(value, Tensor) and id(value) not in read:
            t = by_array.get(id(value._data))
            if t is not None and capture.watch.is_outside(seen.place):
                test = "v is value and v._data is t._data"
                yield Guard(seen.place, test, value, inside=True, value=value, t=t)
