"""The loop that decides after every step whether to go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import graph as _graph  # which imports ops in turn: for use in functions only
from ..dims import Dim, DimLike, Shape, substitute, symbols
from ..dtypes import bool_, int64
from ..errors import AutogradError, DTypeError, GraphError, ShapeError
from ..stopping import raise_if_stopped
from ..types import TensorType
from .base import Array, Grad, op
from .control import (
    Control,
    Runs,
    owned,
    require_condition,
    results,
)
from .onnx_rules import Export
from .scan import Scan, empty_results, type_change

if TYPE_CHECKING:
    from ..graph import Graph

NO_LIMIT = 2**63 - 1


@op
class Loop(Control):
    """Runs `body` while it says so, at most `limit` times, on values carried from step to step.

    Operands: limit int64 [], cond bool [] (whether to begin), `carried` values, and any number that
    every step sees. The body takes the step's number (int64 []), then those but the first two, and
    gives whether to go on, the next carried values, and what the steps' results are stacked of.
    Shapes: -> the carried types, then [trips, ...] for each further output of the body. `trips` is
    the number of steps where that is known, else a symbol that nothing else defines. A carried
    value may change a size from step to step where the body takes any size there; the result's is
    the next one of `sizes`, such symbols too. Source: ONNX Loop-25.
    """

    body: Graph
    carried: int
    trips: DimLike = 0
    sizes: Shape = ()
    bodies = ("body",)

    @property
    def first_shared(self) -> int:
        return 2 + self.carried

    @property
    def first_optional(self) -> int:
        return self.carried

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return len(self.body.outputs) - 1

    @property
    def defines_sizes(self) -> bool:  # type: ignore[override]
        return bool(self.sizes) or isinstance(self.trips, Dim)

    def infer(self, limit: TensorType, cond: TensorType, *operands: TensorType) -> Any:
        if limit.dtype is not int64 or limit.shape != ():
            raise DTypeError(f"loop: expected an int64 limit of no dimensions, got {limit}")
        require_condition("loop", cond)
        return results(self.result_types(operands, iter(self.sizes)))

    def result_types(
        self, operands: Sequence[TensorType], sizes: Iterator[DimLike]
    ) -> list[TensorType]:
        """The types of the results, those sizes that change taken from `sizes`."""
        n = self.carried
        if len(self.body.outputs) < max(n, 1) + 1 or len(operands) < n:
            raise GraphError(f"loop: expected a condition and {n} carried operands and results")
        require_condition("loop", self.body.outputs[0].type)
        given = (TensorType(int64, ()), *operands)
        env = _graph.nested.match_types("loop", self.body.inputs, given)
        inner = _graph.nested.inner_names(self.body)
        varying = self._varying() | inner
        types = []
        for i, y in enumerate(self.body.outputs[1:]):
            shape = []
            for d in y.shape:
                if any(s.name in varying for s in symbols(d)):
                    size = next(sizes, None) if i < n else None
                    if size is None:
                        raise ShapeError(f"loop: the size of {y.type} may differ between steps")
                    shape.append(size)
                else:
                    shape.append(substitute(d, env))
            types.append(y.type.with_shape(shape if i < n else (self.trips, *shape)))
        return types

    def _varying(self) -> set[str]:
        """Symbols of the body's inputs that stand for another size at each step."""
        varying: set[str] = set()
        outputs = self.body.outputs[1 : 1 + self.carried]
        for v, y in zip(self.body.inputs[1:], outputs, strict=False):
            changed = [d for d, e in zip(v.shape, y.shape, strict=False) if d != e]
            names = [d.name for d in changed if isinstance(d, Dim) and d.name is not None]
            if v.dtype is not y.dtype or v.ndim != y.ndim or len(names) != len(changed):
                raise type_change("loop", v, y)
            varying.update(names)
        return varying

    def evaluate(self, xp: Any, runs: Runs, operands: Sequence[Array]) -> Any:
        limit, cond, *operands = operands
        n = self.carried
        run = runs(self.body)
        state, rest = list(operands[:n]), operands[n:]
        stacks: list[list[Array]] = [[] for _ in self.body.outputs[1 + n :]]
        i, last, going = 0, int(limit), bool(cond)
        while going and i < last:
            raise_if_stopped()  # it may be an endless one
            more, *out = run([xp.asarray(i, np.int64), *state, *rest])
            going = bool(more)
            state = out[:n]
            for stack, y in zip(stacks, out[n:], strict=True):
                stack.append(y)
            i += 1
        if i == 0:
            given = [xp.asarray(0, np.int64), *state, *rest]
            ys = empty_results(xp, self.body, self.body.outputs[1 + n :], given)
        else:
            ys = [xp.stack(s) for s in stacks]
        return results([*owned(xp, state, operands), *ys])

    def vjp(self, g: Any, _y: Any, limit: Array, cond: Array, *operands: Array) -> tuple[Grad, ...]:
        """That of the scan over as many steps.

        Raises:
            AutogradError: the number of steps is not known.
        """
        trips = known_trips(self, limit, cond)
        if trips is None:
            raise AutogradError(
                "the gradient of a loop needs its number of steps, which here depends on data; use "
                "dg.scan, with dg.where to keep what steps past the end must not change"
            )
        scan, numbers = as_scan(self, trips)
        n, m = self.carried, len(numbers)
        found = scan.vjp(g, None, *operands[:n], *numbers, *operands[n:])
        return (None, None, *found[:n], *found[n + m :])

    def to_onnx(self, ctx: Export, limit: str, cond: str, *operands: str) -> Any:
        body = self.body.copy()
        body.add_input(TensorType(bool_, ()), "cond")
        body.inputs.insert(1, body.inputs.pop())
        return ctx.emit(
            "Loop",
            limit,
            cond,
            *operands[: self.carried],
            outputs=self.n_outputs,
            body=ctx.subgraph(body, operands[self.carried :]),
        )


# -- loops that are scans -------------------------------------------------------------------------


def never_stops(body: Graph) -> bool:
    """Whether the body of a loop says to go on whatever happens."""
    return body.outputs[0].is_constant and bool(body.outputs[0].data)


def known_trips(loop: Loop, limit: Array, cond: Array) -> int | None:
    """The number of steps, where the operands (arrays or Values) tell it before a run."""
    known = [_data(limit), _data(cond)]
    if known[1] is not None and not known[1]:
        return 0
    if known[0] is None or known[1] is None or not never_stops(loop.body):
        return None
    return max(int(known[0]), 0)


def _data(x: Array) -> Any:
    """The array behind an operand; None where there is none, or it may change."""
    if isinstance(x, np.ndarray | np.generic):
        return x
    if isinstance(x, _graph.Value):
        return x.data if x.is_constant else None
    inner = getattr(x, "_data", x)  # a Tensor's
    return _data(inner) if inner is not x else x


def as_scan(loop: Loop, length: DimLike) -> tuple[Scan, list[Array]]:
    """The scan over `length` steps that equals a loop which never stops, and its scanned operands.

    Those (the steps' numbers, unless the body does not ask) stand after the carried operands. For a
    symbolic length they are to be made in a graph: an op instead of an array.
    """
    from .creation import Arange

    body = loop.body.copy()
    n = loop.carried
    number, *others = body.inputs
    body.set_outputs(body.outputs[1:], body.output_names[1:])
    body.drop_unused()
    asked = bool(number.uses) or any(v is number for v in body.outputs)
    body.inputs = [*others[:n], *([number] if asked else []), *others[n:]]
    numbers = [Arange(0, length, 1, int64)] if asked else []
    known = not isinstance(length, Dim)
    return Scan(body, n, len(numbers), length), [x() if known else x for x in numbers]
