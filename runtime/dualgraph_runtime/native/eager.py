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
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np

from dualgraph_compiler.dims import Dim, DimLike
from dualgraph_compiler.dtypes import BY_NUMPY
from dualgraph_compiler.errors import DualGraphError
from dualgraph_compiler.graph import Graph, Value
from dualgraph_compiler.kernels.optimizers import Workspace
from dualgraph_compiler.ops.base import REGISTRY, Kind, Op
from dualgraph_compiler.ops.optimizer import OptimizerUpdate
from dualgraph_compiler.types import TensorType

from .background import Background
from .executable import Executable, compile_graph

_ndarray = np.ndarray
_TIMED = 3  # calls on NumPy, and then of the program, whose shortest times are compared
_WORTH = 8_000  # nanoseconds on NumPy: what takes less is left there
_CLEARLY = 0.9  # of NumPy's time: what a program must stay below
_MOST = 1024  # operations that are remembered
_VARIANTS = 8  # programs for one operation on operands of the same dtypes and ranks

# Shapes of operands; in a pattern, a name stands for any size.
_Shapes: TypeAlias = tuple[tuple[Any, ...], ...]


class _Work:
    """What is to be computed: an operation on arrays."""

    def __init__(self, op: Op, arrays: Sequence[Any]) -> None:
        self.op = op
        self.arrays = arrays

    def family(self) -> Any:
        """What it has in common with the same work on arrays of other sizes."""
        return (self.op, *[(a.ndim, a.dtype) for a in self.arrays])

    def reference(self) -> Any:
        """The results by NumPy."""
        return self.op.eager(np, *self.arrays)

    def results(self, found: Sequence[Any]) -> Any:
        """What the program has found, as `reference` would give it."""
        return found[0] if self.op.n_outputs == 1 else tuple(found)

    def make(self, pattern: _Shapes) -> Graph:
        """The graph of a program, for a pattern of the arrays' shapes."""
        graph = Graph(self.op.name)
        found = graph.call(self.op, self._inputs(graph, pattern))
        graph.set_outputs([found] if self.op.n_outputs == 1 else list(found))
        return graph

    def donated(self, graph: Graph) -> list[tuple[int, Value]]:
        """Outputs that may be written over inputs."""
        return []

    def _inputs(self, graph: Graph, pattern: _Shapes) -> list[Value]:
        return [
            graph.add_input(TensorType(BY_NUMPY[a.dtype], _sizes(s)))
            for a, s in zip(self.arrays, pattern, strict=True)
        ]


class _Update(_Work):
    """The step of an optimizer for one parameter, in place: see `ops.optimizer`."""

    op: OptimizerUpdate

    def __init__(self, op: OptimizerUpdate, arrays: Sequence[Any], workspace: Workspace) -> None:
        super().__init__(op, arrays)
        self.workspace = workspace
        n = 2 + len(op.state)
        self.targets = (arrays[0], *arrays[2:n])  # what is overwritten
        self.numbers = arrays[n:]

    def reference(self) -> None:
        param, grad = self.arrays[:2]
        numbers = [float(x) for x in self.numbers]
        self.op.update(np, self.workspace, param, grad, self.targets[1:], numbers)

    def results(self, found: Sequence[Any]) -> None:
        _write_back(self.targets, found)

    def donated(self, graph: Graph) -> list[tuple[int, Value]]:
        later = range(1, len(self.targets))
        return [(0, graph.inputs[0]), *((i, graph.inputs[i + 1]) for i in later)]


def _write_back(targets: Sequence[Any], found: Sequence[Any]) -> None:
    """Results that are not in the memory of what they replace already, written there."""
    for target, y in zip(targets, found, strict=True):
        if y is not target:
            np.copyto(target, y)


class _Gradients(_Work):
    """The gradient rule of an op, for those operands that are `wanted`.

    `g` is the gradient of the result `y`. What is no array of `y` and `inputs` has a shape and a
    dtype only. Of an op with several results both are tuples, with None for a missing gradient.
    """

    def __init__(self, op: Op, g: Any, y: Any, inputs: Sequence[Any], wanted: tuple[bool, ...]):
        self.g, self.y, self.inputs, self.wanted = g, y, inputs, wanted
        self.operands = _operands(op, g, y, inputs)
        super().__init__(op, [a for a in self.operands if type(a) is _ndarray])

    def family(self) -> Any:
        kinds = [(type(a), None if a is None else len(a.shape)) for a in self.operands]
        return (super().family(), self.wanted, *kinds)

    def reference(self) -> Any:
        return self._called(self.op.vjp(self.g, self.y, *self.inputs))

    def _called(self, found: Sequence[Any]) -> list[Any]:
        """Gradients that are wanted, and None for others."""
        wanted = zip(found, self.wanted, strict=False)
        return [(g() if type(g) is FunctionType else g) if w else None for g, w in wanted]

    def results(self, found: Sequence[Any]) -> Any:
        given = iter(found)
        return [next(given) if w else None for w in self.wanted]

    def make(self, pattern: _Shapes) -> Graph:
        graph = Graph(f"{self.op.name} backward")
        values = iter(self._inputs(graph, pattern))
        sizes = dict(zip(_joined(a.shape for a in self.arrays), _joined(pattern), strict=True))

        def value(a: Any) -> Any:
            if a is None:
                return None
            return next(values) if type(a) is _ndarray else _type(a, sizes)

        several = type(self.g) is tuple
        g = tuple(map(value, self.g)) if several else value(self.g)
        if not self.op.saves_output:  # what there is of it may be nothing at all
            y: Any = self.y if several else self.g
            y = tuple(_type(a, sizes) for a in y) if several else _type(y, sizes)
        else:
            y = tuple(map(value, self.y)) if several else value(self.y)
        found = self._called(self.op.vjp(g, y, *map(value, self.inputs)))
        found = [g for g, w in zip(found, self.wanted, strict=True) if w]
        if not all(isinstance(g, Value) for g in found):
            raise DualGraphError(f"{self.op.name}: a gradient that nothing is computed for")
        graph.set_outputs(found)
        return graph


def _operands(op: Op, g: Any, y: Any, inputs: Sequence[Any]) -> list[Any]:
    """Everything that a gradient rule reads, in a row."""
    found = [*g] if type(g) is tuple else [g]
    if op.saves_output:
        found += y if type(y) is tuple else (y,)
    return [*found, *inputs]


def _joined(shapes: Any) -> list[Any]:
    return [d for s in shapes for d in s]


def _type(a: Any, sizes: dict[int, Any]) -> TensorType:
    """The type of an operand that is no array, of which sizes are symbols as in the others."""
    if isinstance(a, TensorType):
        return a
    return TensorType(BY_NUMPY[a.dtype], _sizes([sizes.get(d, d) for d in a.shape]))


def _sizes(pattern: Sequence[Any]) -> tuple[DimLike, ...]:
    return tuple(Dim(d) if isinstance(d, str) else d for d in pattern)


class _Family:
    """The programs for one operation on operands of the same dtypes and ranks."""

    __slots__ = ("programs",)

    def __init__(self) -> None:
        self.programs: list[tuple[_Shapes, Background[Executable]]] = []

    def program(self, work: _Work) -> Background[Executable] | None:
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


def _generalised(known: _Shapes, shapes: _Shapes, indices: Sequence[bool]) -> _Shapes | None:
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


def _fits(pattern: _Shapes, shapes: _Shapes) -> bool:
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
            return self._tried(key, choice, _Work(op, arrays))
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
        operands = _operands(op, g, y, inputs)
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
            work = _Gradients(op, g, y, inputs, wanted)
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
            self._tried(key, choice, _Update(op, arrays, workspace))
        else:
            _write_back((param, *state), choice.run(arrays))

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

    def _tried(self, key: Any, choice: _Choice, work: _Work) -> Any:
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

    def _trial(self, key: Any, choice: _Choice, work: _Work, ready: Executable) -> Any:
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
