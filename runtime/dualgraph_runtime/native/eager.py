"""Eager operations by compiled programs of one node, where those are faster than NumPy.

An operation, its gradient rule as a whole, or an optimizer's step is looked up by its attributes
and its operands' types. What pays is told by them alone (`_pays`), never by a clock, and a program
that is not in the cache is built before the first call returns: what an operation gives depends on
its operands, and on nothing that happened before (unless it comes in more shapes than `_VARIANTS`).
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from dualgraph_compiler.dtypes import BY_NUMPY
from dualgraph_compiler.errors import DualGraphError
from dualgraph_compiler.kernels.optimizers import Workspace
from dualgraph_compiler.native.plan import Segment
from dualgraph_compiler.ops.base import REGISTRY, Kind, Op
from dualgraph_compiler.ops.eager_steps import operands_of
from dualgraph_compiler.ops.optimizer import OptimizerUpdate

from .eager_work import (
    CONVOLUTIONS,
    POOLING,
    RECURRENT,
    Gradients,
    Shapes,
    Update,
    Work,
    write_back,
)
from .executable import Executable, NotCompiled, compile_graph

_log = logging.getLogger("dualgraph")
_ndarray = np.ndarray
_MOST = 1024  # operations that are remembered
_VARIANTS = 8  # programs for one operation on operands of the same dtypes and ranks
_NOTICEABLE = 3.0  # seconds of building in one process, of which the user should know


# What is faster compiled by a clear margin, apart from functions and composite ops (norms,
# activations, losses, optimizers' steps). NumPy's own sorts and selections are about as fast.
_PRODUCTS = frozenset(("linear", "matmul"))
_SUMS = ("nll_loss", "cumsum", "cumprod", "scatter_add", "index_add")
_SYSTEMS = ("lu_factor", "solve_triangular")
_ROUTINES = frozenset((*CONVOLUTIONS, *POOLING, *RECURRENT, *_SUMS, *_SYSTEMS))
# Of functions these are not: one by one in float64, as NumPy has them.
_BESSEL = frozenset(("i0", "i0e", "i1", "i1e"))
# Of these only the gradient is, which adds where the operation reads...
_SELECTIONS = frozenset(("embedding", "index_select"))
# ... and of these only the operation, whose gradient is one product.
_OWN_GRADIENTS = frozenset(("exp", "exp2", "log"))


def _is_accelerated(op: type[Op]) -> bool:
    """Whether there are operands for which operations of a class are faster compiled."""
    if not op.is_pure or op.reads_on_host or op.bodies or op.is_view or op.may_alias:
        return False
    if op.kind is Kind.POINTWISE:
        return op.is_costly and op.name not in _BESSEL
    named = (_PRODUCTS, _ROUTINES, _SELECTIONS)
    return op.kind is Kind.COMPOSITE or any(op.name in names for names in named)


ACCELERATED = frozenset(op for op in REGISTRY.values() if _is_accelerated(op))


def _pays(op: Op, operands: Sequence[Any]) -> bool:
    """Whether `op` on operands of these shapes and dtypes is faster compiled, or its gradient.

    Double precision and complex numbers are left to NumPy: half as many fit a vector.
    """
    given = [a for a in operands if a is not None and a.shape]
    if any(a.dtype.kind == "c" or a.dtype == np.float64 for a in given):
        return False
    if op.name in _PRODUCTS:  # large ones NumPy's BLAS computes as well, with nothing to build
        return _multiplications(op, operands) <= 1 << 20
    if op.name in CONVOLUTIONS:
        return _multiplications(op, operands) >= 1 << 17
    if op.kind is Kind.POINTWISE:
        return operands[0].dtype.kind in "fV" and math.prod(operands[0].shape) >= 1 << 12
    return True


def _multiplications(op: Op, operands: Sequence[Any]) -> int:
    """About how many multiplications a product or a convolution takes."""
    x, w = (a.shape for a in operands[:2])
    if op.name == "matmul":
        each = w[-1] if len(w) > 1 else 1
    elif op.name == "linear":
        each = w[0]
    else:
        each = math.prod(w) // max(1, x[1])
    return int(math.prod(x) * each)


_Run: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]


class Accelerator:
    """Runs eager operations on NumPy arrays: by compiled code, where that pays.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._runs: dict[Any, _Run | None] = {}  # None stands for NumPy
        self._programs: dict[Any, dict[Shapes, Executable | None]] = {}  # of a family, by pattern
        self._building = 0.0  # seconds
        self._lock = threading.RLock()

    def __call__(self, op: Op, *arrays: Any) -> Any:
        """``op.eager(np, *arrays)``, or the same by compiled code."""
        try:
            key = (op, *[(a.shape, a.dtype) for a in arrays])
            run = self._runs[key]
        except KeyError:
            wanted = op.name not in _SELECTIONS and _pays(op, arrays)
            run = self._new(key, Work(op, arrays) if wanted else None)
        except (AttributeError, TypeError):  # operands or attributes of another kind
            run = None
        if run is None:
            return op.eager(np, *arrays)
        try:
            found = run(arrays)
        except DualGraphError:
            return op.eager(np, *arrays)  # whose words are those of this operation
        return found[0] if op.n_outputs == 1 else tuple(found)

    def takes(self, op: Op, operands: Sequence[Any]) -> bool:
        """Whether `op` on operands of these shapes and dtypes, or its rule, may be compiled."""
        return _pays(op, operands)

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
            run = self._runs[key]
        except KeyError:
            pays = op.name not in _OWN_GRADIENTS and _pays(op, inputs)
            run = self._new(key, Gradients(op, g, y, inputs, wanted) if pays else None)
        except (AttributeError, TypeError):
            run = None
        if run is None:
            return op.vjp(g, y, *inputs)
        try:
            given = iter(run([a for a in operands if type(a) is _ndarray]))
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
        if key in self._runs:
            run = self._runs[key]
        else:
            run = self._new(key, Update(op, arrays) if _pays(op, arrays) else None)
        if run is None:
            op.update(np, workspace, param, grad, state, numbers)
        else:
            write_back((param, *state), run(arrays))

    def forked(self) -> None:
        """In a forked child: threads that held the lock are not there."""
        self._lock = threading.RLock()

    def _new(self, key: Any, work: Work | None) -> _Run | None:
        """How what is seen for the first time is computed from now on."""
        if work is not None and not all(a.dtype in BY_NUMPY for a in work.arrays):
            work = None
        with self._lock:
            if key not in self._runs:
                if len(self._runs) >= _MOST:
                    self._runs.clear()
                program = None if work is None else self._program(work)
                self._runs[key] = None if program is None else _direct(program)
            return self._runs[key]

    def _program(self, work: Work) -> Executable | None:
        """A program for this work, which may have to be built; None where there is none."""
        programs = self._programs.setdefault(work.family(), {})
        for opened in (True, False):  # a rule may need to know its sizes
            pattern = work.pattern(opened)
            if pattern not in programs:
                if len(programs) >= _VARIANTS:
                    return None
                programs[pattern] = self._built(work, opened)
            if programs[pattern] is not None:
                return programs[pattern]
        return None

    def _built(self, work: Work, opened: bool) -> Executable | None:
        started = perf_counter()
        try:
            graph = work.make(opened)
            made = compile_graph(graph, donate=work.donated(graph))
        except NotCompiled:  # there is no compiler, which the log has said
            return None
        except (DualGraphError, TypeError, ValueError, AttributeError) as error:
            _log.debug("eager %s is left to NumPy: %s", work.op.name, error)
            return None
        seconds = perf_counter() - started
        if self._building < _NOTICEABLE <= self._building + seconds:
            _log.warning("compiling eager operations that are new on this machine; they are kept")
        self._building += seconds
        return made if all(isinstance(s, Segment) for s in made.program.steps) else None


def _direct(program: Executable) -> _Run:
    """``program.run`` for arrays of always the same types."""
    frame: Any = None

    def run(arrays: Sequence[Any]) -> Sequence[Any]:
        nonlocal frame
        found = None if frame is None else frame(*arrays)
        if type(found) is tuple:
            return found
        results = program.run(arrays, donate=True)
        frame = program.frame
        return results

    return run


_accelerator = Accelerator()
if hasattr(os, "register_at_fork"):  # another thread may be building
    os.register_at_fork(after_in_child=lambda: _accelerator.forked())


def enable(enabled: bool = True) -> None:
    """Whether eager operations on the CPU run by compiled code from now on, where that pays."""
    for op in ACCELERATED:
        op.accelerator = _accelerator if enabled else None


def is_enabled() -> bool:
    """What `enable` was last told."""
    return any(op.accelerator is not None for op in ACCELERATED)
