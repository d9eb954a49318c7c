"""The loop over a known number of steps: carried values, scanned operands, stacked results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import graph as _graph  # which imports ops in turn: for use in functions only
from ..dims import DimLike, evaluate, symbols
from ..dtypes import bool_, int64
from ..errors import GraphError, ShapeError
from ..types import TensorType
from . import f
from .base import Array, Grad, op, shape_text
from .control import Control, Runs, output_grads, owned, require_results, results
from .onnx_rules import Export

if TYPE_CHECKING:
    from ..graph import Graph, Value


def type_change(name: str, before: Value, after: Value) -> ShapeError:
    """The error for a carried value whose type is another after a step."""
    return ShapeError(
        f"{name}: a carried value must keep its type, but {before.name or 'one'} is {before.type} "
        f"before a step and {after.type} after it"
    )


def empty_results(
    xp: Any, body: Graph, outputs: Sequence[Value], operands: Sequence[Array]
) -> list[Array]:
    """What `outputs` stack to over no steps; `operands` are of the shapes a step would see."""
    declared = [(v.name, v.type) for v in body.inputs]
    env = _graph.bind_shapes(declared, operands)
    inner = dict.fromkeys(_graph.nested.inner_names(body), 0)
    shapes = [tuple(evaluate(d, inner | env) for d in y.shape) for y in outputs]
    return [xp.zeros((0, *s), y.dtype.np) for s, y in zip(shapes, outputs, strict=True)]


@op
class Scan(Control):
    """Runs `body` `length` times, on values carried from step to step and slices along axis 0.

    Operands: `carried` values, `scanned` ones with a first axis of size `length`, and any number
    that every step sees whole. The body takes them in this order, the scanned ones without their
    first axis, and gives the next carried values, then what the steps' results are stacked of.
    Shapes: -> the carried types, then [length, ...] for each further output of the body. With
    `reverse` steps go from the last slice to the first, and results stand where their slices do.
    Source: ONNX Scan-25, jax.lax.scan.
    """

    body: Graph
    carried: int
    scanned: int
    length: DimLike
    reverse: bool = False
    bodies = ("body",)

    @property
    def first_shared(self) -> int:
        return self.carried + self.scanned

    @property
    def first_optional(self) -> int:
        return self.carried

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return len(self.body.outputs)

    def symbols(self) -> set[Any]:
        return Control.symbols(self) | symbols(self.length)

    def infer(self, *operands: TensorType) -> Any:
        n, m = self.carried, self.scanned
        require_results("scan", self.body)
        if len(self.body.outputs) < n or len(operands) < n + m:
            raise GraphError(f"scan: expected {n} carried and {m} scanned operands at least")
        slices = []
        for x in operands[n : n + m]:
            if x.ndim == 0 or x.shape[0] != self.length:
                raise ShapeError(
                    f"scan: expected a scanned operand of {self.length} slices, got "
                    f"{shape_text(x.shape)}"
                )
            slices.append(x.with_shape(x.shape[1:]))
        given = (*operands[:n], *slices, *operands[n + m :])
        env = _graph.nested.match_types("scan", self.body.inputs, given)
        for v, y in zip(self.body.inputs, self.body.outputs[:n], strict=False):
            if v.type != y.type:
                raise type_change("scan", v, y)
        inner = _graph.nested.inner_names(self.body)
        types = [_graph.nested.sized(y.type, env) for y in self.body.outputs]
        for t in types[n:]:
            if any(s.name in inner for d in t.shape for s in symbols(d)):
                raise ShapeError(f"scan: the size of {t} may differ from step to step")
        stacked = [t.with_shape((self.length, *t.shape)) for t in types[n:]]
        return results([*operands[:n], *stacked])

    def evaluate(self, xp: Any, runs: Runs, operands: Sequence[Array]) -> Any:
        n, m = self.carried, self.scanned
        run = runs(self.body)
        state, rest = list(operands[:n]), operands[n + m :]
        xs = operands[n : n + m]
        stacks: list[list[Array]] = [[] for _ in self.body.outputs[n:]]
        length = int(self.length)
        for i in range(length - 1, -1, -1) if self.reverse else range(length):
            out = run([*state, *(x[i] for x in xs), *rest])
            state = list(out[:n])
            for stack, y in zip(stacks, out[n:], strict=True):
                stack.append(y)
        if length == 0:
            slices = [xp.zeros(x.shape[1:], x.dtype) for x in xs]
            ys = empty_results(xp, self.body, self.body.outputs[n:], [*state, *slices, *rest])
        else:
            ys = [xp.stack(s[::-1] if self.reverse else s) for s in stacks]
        return results([*owned(xp, state, operands), *ys])

    def vjp(self, g: Any, _y: Any, *operands: Array) -> tuple[Grad, ...]:
        """A scan the other way, over the carried values of every step.

        Another scan first finds those, and each step backward computes its step again, so that
        what is kept between the two is the carried values only.
        """
        gs = output_grads(g)
        present = tuple(x is not None for x in gs)
        key = ("gradient", self.carried, self.scanned, self.length, self.reverse, present)
        plan = _graph.nested.derived(self.body, key, partial(_gradient, self, present))
        return plan(operands, gs)

    def to_onnx(self, ctx: Export, *operands: str) -> Any:
        n, m = self.carried, self.scanned
        if m == 0:
            return self._as_onnx_loop(ctx, operands)
        ways = {
            "scan_input_directions": (1,) * m,
            "scan_output_directions": (1,) * (self.n_outputs - n),
        }
        return ctx.emit(
            "Scan",
            *operands[: n + m],
            outputs=self.n_outputs,
            body=ctx.subgraph(self.body, operands[n + m :]),
            num_scan_inputs=m,
            **(ways if self.reverse else {}),
        )

    def _as_onnx_loop(self, ctx: Export, operands: Sequence[str]) -> Any:
        """ONNX's Scan takes its length from a scanned operand; without one it is a Loop."""
        body = self.body.copy()
        for name, t in (("cond", TensorType(bool_, ())), ("i", TensorType(int64, ()))):
            body.add_input(t, name)
            body.inputs.insert(0, body.inputs.pop())
        going = body.constant(np.True_)
        body.set_outputs([going, *body.outputs], ["going", *body.output_names])
        out = ctx.emit(
            "Loop",
            ctx.dim(self.length),
            "",
            *operands[: self.carried],
            outputs=self.n_outputs,
            body=ctx.subgraph(body, operands[self.carried :]),
        )
        if not self.reverse:
            return out
        names = list(output_grads(out))
        at = (ctx.ints(-1), ctx.ints(-(2**63)), ctx.ints(0), ctx.ints(-1))
        names[self.carried :] = [ctx.emit("Slice", y, *at) for y in names[self.carried :]]
        return results(names)


# -- gradients ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Backward:
    """The scans that compute a scan's gradients, and which of its values they concern.

    `smooth` are the carried values with gradients, `shared` the operands that every step sees and
    that gradients reach, `sliced` the scanned ones; each an index into its own kind.
    """

    carried: int
    scanned: int
    save: Scan | None
    back: Scan | None
    smooth: tuple[int, ...]
    shared: tuple[int, ...]
    sliced: tuple[int, ...]

    def __call__(self, operands: Sequence[Array], gs: Sequence[Array | None]) -> tuple[Grad, ...]:
        n, m = self.carried, self.scanned
        grads: list[Grad] = [None] * len(operands)
        if self.back is None:
            return tuple(grads)
        saved: tuple[Array, ...] = ()
        if self.save is not None:
            saved = output_grads(self.save(*operands))[n:]
        state = [f.zeros_like(operands[i]) if gs[i] is None else gs[i] for i in self.smooth]
        sums = [f.zeros_like(operands[n + m + i]) for i in self.shared]
        given = [x for x in gs[n:] if x is not None]
        found = output_grads(
            self.back(*state, *sums, *saved, *operands[n : n + m], *given, *operands[n + m :])
        )
        places = [*self.smooth, *(n + m + i for i in self.shared), *(n + i for i in self.sliced)]
        for i, gx in zip(places, found, strict=True):
            grads[i] = gx
        return tuple(grads)


def _gradient(scan: Scan, present: Sequence[bool]) -> _Backward:
    """The plan for those results of `scan` whose gradients are `present`."""
    n, m = scan.carried, scan.scanned
    back = _graph.Graph("body")
    copies = [back.add_input(v.type, v.name) for v in scan.body.inputs]
    outputs = _graph.inline(scan.body, back, copies)
    smooth = [i for i in range(n) if copies[i].dtype.is_differentiable]
    state = [back.add_input(copies[i].type) for i in smooth]
    stacked = [y for y, wanted in zip(outputs[n:], present[n:], strict=True) if wanted]
    given = [back.add_input(y.type) for y in stacked]
    wanted = [x for x in copies if x.dtype.is_differentiable]
    ys = [*(outputs[i] for i in smooth), *stacked]
    pairs = zip(wanted, _graph.gradients(back, ys, wanted, [*state, *given]), strict=True)
    found = {x: g for x, g in pairs if g is not None}
    shared = [i for i, x in enumerate(copies[n + m :]) if x in found]
    sliced = [i for i, x in enumerate(copies[n : n + m]) if x in found]
    sums = [back.add_input(copies[n + m + i].type) for i in shared]
    following = [found[x] if x in found else f.zeros_like(x) for x in (copies[i] for i in smooth)]
    following += [s + found[copies[n + m + i]] for s, i in zip(sums, shared, strict=True)]
    back.set_outputs([*following, *(found[copies[n + i]] for i in sliced)])
    back.output_names = [f"grad{i}" for i in range(len(back.outputs))]
    back.inputs = [*state, *sums, *copies[: n + m], *given, *copies[n + m :]]
    _graph.prune(back)
    made = Scan(back, len(state) + len(sums), n + m + len(given), scan.length, not scan.reverse)
    return _Backward(
        n,
        m,
        _saving(scan) if n else None,
        made if back.outputs else None,
        tuple(smooth),
        tuple(shared),
        tuple(sliced),
    )


def _saving(scan: Scan) -> Scan:
    """`scan` with the carried values that each step starts from as its stacked results."""
    body = scan.body.copy()
    n = scan.carried
    names = [f"carried{i}" for i in range(n)]
    body.set_outputs([*body.outputs[:n], *body.inputs[:n]], [*body.output_names[:n], *names])
    _graph.prune(body)
    return Scan(body, n, scan.scanned, scan.length, scan.reverse)
