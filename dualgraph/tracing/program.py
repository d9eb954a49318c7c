"""A graph that is ready to run on the state tensors it was traced with."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dualgraph_compiler.compile import Numerics, optimize
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.graph import Graph, Interpreter, Value
from dualgraph_compiler.graph.alias import Aliases
from dualgraph_compiler.graph.interpret import shared_outputs
from dualgraph_compiler.ops.base import array_module
from dualgraph_runtime.options import Execution, execution_of

from .._tensor import Tensor
from . import shortcut
from .strict import Strict

if TYPE_CHECKING:
    from dualgraph_runtime.native import Background, Executable

_Results: TypeAlias = tuple[Sequence[Any], bool]


@dataclass(frozen=True, slots=True)
class Mode:
    """How graphs are optimised and run: see :func:`dualgraph.compile`."""

    numerics: Numerics = "standard"
    execution: Execution = "interpreter"
    profile: bool = False

    @classmethod
    def of(cls, numerics: Any, execution: Any, profile: bool = False) -> Mode:
        """What `compile` was asked for; `execution` None is what DUALGRAPH_EXECUTION says.

        Raises:
            ArgumentError: there is no such mode.
        """
        if numerics not in ("standard", "strict"):
            raise ArgumentError(f"numerics: expected 'standard' or 'strict', got {numerics!r}")
        return cls(numerics, execution_of(execution), profile)

    @property
    def is_native(self) -> bool:
        """Whether graphs are compiled to native code, now or later, on a CPU."""
        return self.execution != "interpreter"


class Program:
    """A graph ready to run; `reads` says, by name, where its params come from.

    `donate` pairs an output that is the new value of some state with the argument's position or the
    read that state comes from. `shared` are outputs that may share memory with an operand or with
    another output.

    `params` are those that the graph needs, in the order `run` takes them; `inputs` the numbers of
    the inputs that it reads. `donates` says whether any output may be computed over old state.

    Where native code is built in the background, one that `swaps` uses it as soon as it is ready.
    Any other interprets its first call and waits at the second: what is learned from its results
    must not depend on how long compilers take.
    """

    def __init__(
        self,
        graph: Graph,
        reads: Mapping[str, Any],
        mode: Mode,
        donate: Sequence[tuple[int, Any]] = (),
        swaps: bool = False,
    ) -> None:
        self.params = [reads[v.name] for v in graph.params]
        needed = {v for node in graph.nodes for v in node.inputs} | set(graph.outputs)
        self.inputs = [i for i, v in enumerate(graph.inputs) if v in needed]
        self.shared = shared_outputs(Aliases(graph))
        target = {id(r): v for r, v in zip(self.params, graph.params, strict=True)}
        self._donate = [
            (i, graph.inputs[of] if type(of) is int else target[id(of)])
            for i, of in donate
            if type(of) is int or id(of) in target
        ]
        self.donates = bool(self._donate)
        self.graph = graph
        self.mode = mode
        self._interpreters: dict[Any, Interpreter] = {}  # by array module
        self._native: Native | None = None
        self._may_be_native = mode.is_native
        self._waits = mode.execution == "native"  # for native code, at the next call
        self._swaps = swaps
        self._building: Background[Native] | None = None
        self._lock = threading.Lock()
        self._strict: Strict | None = None
        if mode.is_native and mode.numerics == "strict":
            self._strict = Strict.of(graph)
            self._may_be_native = self._strict is not None

    @classmethod
    def optimised(
        cls,
        graph: Graph,
        reads: Mapping[str, Any],
        mode: Mode,
        *,
        freeze: bool = False,
        donate: Sequence[tuple[int, Any]] = (),
    ) -> Program:
        """The program of the optimised graph; `graph` itself stays as it is."""
        optimised = optimize(graph, freeze=freeze, numerics=mode.numerics)
        return cls(optimised, reads, mode, donate, swaps=freeze)

    def run(self, arrays: Sequence[Any], params: Sequence[Any] | None = None) -> Sequence[Any]:
        """Outputs for these inputs, with the state tensors' arrays of now unless given.

        They may share memory with operands and with each other.
        """
        return self._run(arrays, [t._data for t in self.params] if params is None else params)[0]

    def run_apart(
        self,
        arrays: Sequence[Any],
        params: Sequence[Any],
        count: int,
        *,
        shown: Collection[int] = (),
        known: Iterable[Any] = (),
        donate: bool = False,
    ) -> Sequence[Any]:
        """`run`, but the first `count` outputs are nobody else's memory, other than those `shown`.

        With `donate`, new state may be computed over the old: then the result is that very array.
        `known` are further arrays that an output must not share memory with.
        """
        results, own = self._run(arrays, params, donate)
        if not own:
            separate(results, self.shared, count, [*arrays, *params, *known], shown)
        return results

    @property
    def native(self) -> Native | None:
        """The graph compiled, once it has run so."""
        return self._native

    def tensors(self, arguments: Sequence[Tensor], params: Sequence[Any], count: int) -> Any:
        """`run_apart` for the arrays of tensors, the first `count` results as tensors.

        None where it takes more than the call of native code.
        """
        native = self._native
        return None if native is None else native.tensors(arguments, params, count)

    def _run(self, arrays: Sequence[Any], params: Sequence[Any], donate: bool = False) -> _Results:
        """The outputs, and whether each is memory of its own."""
        native, strict = self._native, self._strict
        if native is not None and (strict is None or strict.fits(arrays, params)):
            found = native.direct(arrays, params, donate)
            if found is not None:
                return found, True
        xp = np
        for a in arrays or params:  # operands on the CPU may stand beside them: seeds of random ops
            if type(a) is not np.ndarray and (xp := array_module(a)) is not np:
                break
        if self._may_be_native and xp is np:
            if strict is not None and strict.must_look(arrays, params):
                found = self._looked_at(strict, arrays, params)
                if found is not None:
                    return found, False
            elif strict is None or strict.fits(arrays, params):
                native = native or self._compiled()
                if native is not None:
                    return native.run(arrays, params, donate), strict is None
        interpreter = self._interpreters.get(xp)
        if interpreter is None:
            interpreter = self._interpreters[xp] = Interpreter(self.graph, xp, donate=self._donate)
        return interpreter.run(arrays, params, donate=donate), False

    def _looked_at(
        self, strict: Strict, arrays: Sequence[Any], params: Sequence[Any]
    ) -> Sequence[Any] | None:
        """The outputs of a run that shows how values lie, for which code is then compiled."""
        from dualgraph_runtime.native import Background

        with self._lock:
            results = strict.look(arrays, params)
            if self._building is None:
                make = partial(Native.exactly, strict, self.graph, self._donate)
                self._building = Background(make, f"graph {self.graph.name!r}")
        return results

    def _compiled(self) -> Native | None:
        """The graph compiled, once that is done."""
        from dualgraph_runtime.native import Background

        with self._lock:
            if self._building is None:
                make, what = (
                    partial(Native.of, self.graph, self._donate, profile=self.mode.profile),
                    f"graph {self.graph.name!r}",
                )
                # One call alone would not make up for the work.
                self._building = Background(make, what, after=1)
        building = self._building
        self._native = building.wait() if self._waits else building.get()
        self._waits = not self._swaps and self._strict is None
        if self._native is None and building.done:
            self._may_be_native = False
        return self._native

    @property
    def has_run(self) -> bool:
        """Whether calls have come to it."""
        return bool(self._building or self._interpreters)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for native code, if there is to be some; whether there is."""
        if self._building is not None:
            self._building.wait(timeout)
        return self._building is not None and self._building.ready is not None

    def report(self) -> str:
        """How the graph is run: kernels, what stands between them, what is interpreted, and why."""
        if self.mode.execution == "interpreter":
            return ""
        if self.mode.numerics == "strict" and self._strict is None:
            return "interpreted: strict, and only a run tells some of the sizes"
        if self._native is not None:
            return self._native.executable.report()
        building = self._building
        return f"interpreted: {'it has not run yet' if building is None else building.why}"


class Native:
    """A compiled program that takes a graph's params: of some, it may have found no use."""

    def __init__(self, executable: Executable, graph: Graph) -> None:
        self.executable = executable
        used = [name for name, _ in executable.program.params]
        given = [v.name for v in graph.params]
        self._chosen = None if used == given else [given.index(name) for name in used]
        self._donates = bool(executable.program.donated)
        # Whether sizes must be looked at before each call: how values lie may depend on them.
        self._looks = executable.program.laid is not None and bool(executable.program.symbols)
        shortcut.connect(executable.extension)

    @classmethod
    def of(
        cls,
        graph: Graph,
        donate: Sequence[tuple[int, Value]],
        profile: bool = False,
    ) -> Native:
        """A graph compiled; `donate` as for the interpreter. With `profile`, kernels are timed.

        Raises:
            NotCompiled: it is to be interpreted.
        """
        from dualgraph_runtime.native import compile_graph

        return cls(compile_graph(graph, donate=donate, timed=profile), graph)

    @classmethod
    def exactly(cls, strict: Strict, graph: Graph, donate: Sequence[tuple[int, Value]]) -> Native:
        """As `of`, for a graph of which every bit counts.

        Raises:
            NotCompiled: it is to be interpreted.
        """
        from dualgraph_runtime.native import compile_graph

        own = strict.donations(donate)
        made = cls(compile_graph(strict.graph, donate=own, exact=strict.exact), graph)
        made._looks |= strict.may_change
        return made

    def shortcut(self, params: Sequence[Any]) -> tuple[Any, Any, tuple[Any, ...]] | None:
        """What calls like the last one go through: an extension, its frame, the frame's params.

        None where it takes more than that.
        """
        frame, extension = self.executable.frame, self.executable.extension
        if frame is None or extension is None or self._donates or self._looks:
            return None
        chosen = params if self._chosen is None else [params[i] for i in self._chosen]
        return extension, frame, tuple(chosen)

    def direct(self, arrays: Sequence[Any], params: Sequence[Any], donate: bool) -> Any:
        """The outputs of a call like the last one; None where it takes more than that."""
        frame = self.executable.frame
        if frame is None or (self._donates and not donate):
            return None
        if self._chosen is not None:
            params = [params[i] for i in self._chosen]
        found = frame(*arrays, *params)
        return found if type(found) is tuple else None

    def tensors(self, arguments: Sequence[Tensor], params: Sequence[Any], count: int) -> Any:
        """See :meth:`Program.tensors`."""
        frame = self.executable.frame
        if frame is None or self._donates or self._looks:
            return None
        if self._chosen is not None:
            params = [params[i] for i in self._chosen]
        found = frame.tensors(arguments, params, count)
        return found if type(found) is tuple else None

    def run(self, arrays: Sequence[Any], params: Sequence[Any], donate: bool) -> list[Any]:
        """The outputs."""
        if self._chosen is not None:
            params = [params[i] for i in self._chosen]
        return self.executable.run(arrays, params, donate=donate)  # type: ignore[no-any-return,unused-ignore]


def separate(
    results: Any,
    shared: Iterable[int],
    count: int,
    operands: Sequence[Any],
    shown: Collection[int] = (),
) -> None:
    """Copy those of the first `count` results that are, or show, an operand or another result.

    Nobody would know of the writes to one that change the other. Those `shown` as views of an
    operand stay. What is kept for the backward, behind them, may share memory with other such.
    Only `shared` results are looked at.
    """
    taken = {id(a) for a in operands}
    for i in shared:
        r = results[i]
        if i >= count:
            owner = _owner(r)
            seen = any(owner is _owner(a) for a in (*operands, *results[:count]))
            if seen or owner.nbytes > r.nbytes:
                results[i] = r.copy()
        elif i not in shown and (r.base is not None or id(r) in taken):
            results[i] = r.copy()
        taken.add(id(r))


def _owner(a: Any) -> Any:
    """The array whose memory `a` shows."""
    while getattr(a, "base", None) is not None and hasattr(a.base, "nbytes"):
        a = a.base
    return a
