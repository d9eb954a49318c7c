"""Eager operations by compiled programs of one node, where those are faster than NumPy.

An operation, its gradient rule as a whole, or an optimizer's step is looked up by its attributes
and its operands' types. The first calls run on NumPy and are timed; if what they cost is worth it,
a program is built in the background. Once that is there it is timed as well, and from then on the
faster of the two runs. Where another batch of the same operands comes, the sizes of the batch
become symbols, so that one program serves every batch. Results change by rounding when a program
takes over, which depends on time: a training that is run again may differ by as much.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter_ns
from typing import Any

import numpy as np

from dualgraph_compiler.dtypes import BY_NUMPY
from dualgraph_compiler.errors import DualGraphError
from dualgraph_compiler.kernels.optimizers import Workspace
from dualgraph_compiler.ops.base import REGISTRY, Kind, Op
from dualgraph_compiler.ops.optimizer import OptimizerUpdate

from .background import Background
from .eager_work import Gradients, Shapes, Update, Work, operands_of, write_back
from .executable import Executable, compile_graph

_ndarray = np.ndarray
_TIMED = 3  # calls on NumPy, and then of the program, whose shortest times are compared
_WORTH = 8_000  # nanoseconds on NumPy: what takes less is left there
_CLEARLY = 0.9  # of NumPy's time: what a program must stay below
_MOST = 1024  # operations that are remembered
_VARIANTS = 8  # programs for one operation on operands of the same dtypes and ranks


class _Family:
    """The programs for one operation on operands of the same dtypes and ranks."""

    __slots__ = ("programs",)

    def __init__(self) -> None:
        self.programs: list[tuple[Shapes, Background[Executable]]] = []

    def program(self, work: Work) -> Background[Executable] | None:
        """A program for these shapes, which may have to be built; None where there is none."""
        shapes = tuple(a.shape for a in work.arrays)
        for pattern, program in self.programs:
            if _fits(pattern, shapes):
                return program
        if len(self.programs) >= _VARIANTS:
            return None
        indices = [a.dtype.kind in "iu" for a in work.arrays]
        patterns = (_generalised(known, shapes, indices) for known, _ in self.programs)
        pattern = next((p for p in patterns if p is not None), shapes)
        for tried in dict.fromkeys((pattern, shapes)):  # a rule may need to know its sizes
            try:
                graph = work.make(tried)
            except (DualGraphError, TypeError, ValueError, AttributeError):
                continue
            make = partial(compile_graph, graph, donate=work.donated(graph))
            made = Background(make, f"eager {graph.name}")
            self.programs.append((tried, made))
            return made
        return None


def _generalised(known: Shapes, shapes: Shapes, indices: Sequence[bool]) -> Shapes | None:
    """A pattern of both shapes, if only sizes of the batch differ.

    Those are the leading ones of the first array that is not 0-d, and of `indices`. Other sizes are
    worth a program for themselves.
    """
    names: dict[tuple[Any, Any], str] = {}
    first = next((i for i, s in enumerate(shapes) if s), 0)
    for i, (s, t) in enumerate(zip(known, shapes, strict=True)):
        leading = max(1, len(t) - 2) if i == first or indices[i] else 0
        for pair in [*zip(s, t, strict=True)][:leading]:
            if pair[0] != pair[1]:
                names.setdefault(pair, f"n{len(names)}")

    def size(pair: tuple[Any, Any]) -> Any:
        return pair[0] if pair[0] == pair[1] else names.get(pair)

    both = zip(known, shapes, strict=True)
    pattern = tuple(tuple(map(size, zip(s, t, strict=True))) for s, t in both)
    return None if any(None in s for s in pattern) else pattern


def _fits(pattern: Shapes, shapes: Shapes) -> bool:
    sizes: dict[str, int] = {}
    for p, s in zip(pattern, shapes, strict=True):
        for d, n in zip(p, s, strict=True):
            if n != (sizes.setdefault(d, n) if isinstance(d, str) else d):
                return False
    return True


class _Choice:
    """How one operation on operands of certain types is computed."""

    __slots__ = ("calls", "frame", "native", "program", "reference", "run", "trials")

    def __init__(self) -> None:
        self.frame: Any = None  # the program's, made for these types
        self.run: Callable[[Sequence[Any]], Sequence[Any]] | None = None  # if it is chosen
        self.program: Background[Executable] | None = None
        self.calls = self.trials = 0
        self.reference = self.native = 1 << 62  # the shortest times, in nanoseconds


class Accelerator:
    """Runs eager operations on NumPy arrays: by compiled code, where there is some and it pays.

    Safe to use from several threads: at worst a call is timed or counted twice.
    """

    def __init__(self) -> None:
        self._choices: dict[Any, _Choice | None] = {}  # None stands for NumPy
        self._families: dict[Any, _Family] = {}
        self._lock = threading.Lock()

    def __call__(self, op: Op, *arrays: Any) -> Any:
        """``op.eager(np, *arrays)``, or the same by compiled code."""
        try:
            key = (op, *[(a.shape, a.dtype) for a in arrays])
            choice = self._choices[key]
        except KeyError:
            choice = self._new(key, arrays)
        except (AttributeError, TypeError):  # operands or attributes of another kind
            choice = None
        if choice is None:
            return op.eager(np, *arrays)
        if choice.run is None:
            return self._tried(key, choice, Work(op, arrays))
        try:
            found = choice.run(arrays)
        except DualGraphError:
            return op.eager(np, *arrays)  # whose words are those of this operation
        return found[0] if op.n_outputs == 1 else tuple(found)

    def gradients(
        self, op: Op, g: Any, y: Any, inputs: Sequence[Any], edges: Sequence[Any]
    ) -> Sequence[Any]:
        """``op.vjp(g, y, *inputs)``, or the same by compiled code.

        Gradients whose place in `edges` is None may be missing or left to be computed. What is in
        `y` and `inputs` may be no array but something with a shape and a dtype only. Of an op with
        several results `g` and `y` are tuples; None stands for a gradient that there is not.
        """
        if isinstance(g, np.generic):  # as NumPy gives where an array would be 0-d
            g = np.asarray(g)
        operands = operands_of(op, g, y, inputs)
        wanted = tuple([e is not None for e in edges])
        try:
            types = [
                None if a is None else (type(a) is _ndarray, a.shape, a.dtype) for a in operands
            ]
            key = (op, wanted, *types)
            choice = self._choices[key]
        except KeyError:
            choice = self._new(key, operands)
        except (AttributeError, TypeError):
            choice = None
        if choice is None:
            return op.vjp(g, y, *inputs)
        if choice.run is None:
            work = Gradients(op, g, y, inputs, wanted)
            return self._tried(key, choice, work)  # type: ignore[no-any-return]
        try:
            given = iter(choice.run([a for a in operands if type(a) is _ndarray]))
        except DualGraphError:
            return op.vjp(g, y, *inputs)
        return [next(given) if w else None for w in wanted]

    def update(
        self,
        op: OptimizerUpdate,
        workspace: Workspace,
        param: Any,
        grad: Any,
        state: Sequence[Any],
        numbers: Sequence[float],
    ) -> None:
        """``op.update(np, ...)``, or the same by compiled code."""
        arrays = (param, grad, *state, *[np.array(x, np.float64) for x in numbers])
        key = (op, None, *[(a.shape, a.dtype) for a in arrays])
        choice = self._choices[key] if key in self._choices else self._new(key, arrays)
        if choice is None:
            op.update(np, workspace, param, grad, state, numbers)
        elif choice.run is None:
            self._tried(key, choice, Update(op, arrays, workspace))
        else:
            write_back((param, *state), choice.run(arrays))

    def wait(self) -> None:
        """Wait for the programs that are being built."""
        for family in list(self._families.values()):
            for _, program in family.programs:
                program.wait()

    def _new(self, key: Any, operands: Sequence[Any]) -> _Choice | None:
        known = all(a is None or a.dtype in BY_NUMPY for a in operands)
        with self._lock:
            if len(self._choices) >= _MOST:
                self._choices.clear()
            return self._choices.setdefault(key, _Choice() if known else None)

    def _tried(self, key: Any, choice: _Choice, work: Work) -> Any:
        """The results, by whatever is to be timed next."""
        program = choice.program
        ready = program.ready if program is not None else None
        if ready is not None:
            try:
                return self._trial(key, choice, work, ready)
            except DualGraphError:
                return work.reference()
        if program is not None and program.done:  # it could not be built
            self._choices[key] = None
        start = perf_counter_ns()
        found = work.reference()
        choice.reference = min(choice.reference, perf_counter_ns() - start)
        choice.calls += 1
        if program is None and choice.calls >= _TIMED:
            if choice.reference >= _WORTH:
                with self._lock:
                    family = self._families.setdefault(work.family(), _Family())
                    choice.program = family.program(work)
            if choice.program is None:
                self._choices[key] = None
        return found

    def _trial(self, key: Any, choice: _Choice, work: Work, ready: Executable) -> Any:
        """One more call of the program or, in turn, on NumPy: what else runs slows both alike."""
        choice.trials += 1
        if choice.trials == 1:  # the first call prepares much
            choice.reference = 1 << 62
            found = work.results(ready.run(work.arrays, donate=True))
            choice.frame = ready.frame
            return found
        run = _direct(choice.frame, ready)
        start = perf_counter_ns()
        if choice.trials % 2:
            found = work.reference()
            choice.reference = min(choice.reference, perf_counter_ns() - start)
        else:
            found = work.results(run(work.arrays))
            choice.native = min(choice.native, perf_counter_ns() - start)
        if choice.trials > 2 * _TIMED:
            if choice.native < _CLEARLY * choice.reference:
                choice.run = run
            else:
                self._choices[key] = None
        return found


def _direct(frame: Any, ready: Executable) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """`ready.run` for arrays of the types that `frame` is for."""

    def run(arrays: Sequence[Any]) -> Sequence[Any]:
        found = None if frame is None else frame(*arrays)
        return found if type(found) is tuple else ready.run(arrays, donate=True)

    return run


def _is_accelerated(op: type[Op]) -> bool:
    """Whether operations of a class take more than one pass over memory, or more than additions."""
    if not op.is_pure or op.reads_on_host or op.bodies or op.is_view or op.may_alias:
        return False
    heavy = op.kind in (Kind.COMPOSITE, Kind.CONTRACTION, Kind.LIBRARY)
    return heavy or (op.kind is Kind.POINTWISE and op.is_costly)


def accelerate() -> Accelerator:
    """From now on, eager operations on the CPU run by compiled code where that is faster."""
    accelerator = Accelerator()
    for op in REGISTRY.values():
        if _is_accelerated(op):
            op.accelerator = accelerator
    return accelerator
