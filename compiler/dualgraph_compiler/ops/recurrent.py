"""What the recurrent layers share, and the plain one.

One layer, one direction. Operands: x [T, B, I], initial state (or states) [B, H], w_ih [G H, I],
w_hh [G H, H], b_ih and b_hh [G H] with G gates in PyTorch's order, and optionally lens int64 [B].
With `lens` a sequence's state stays as it is after its end, and y is 0 there. `reverse` runs from
the last step (of each sequence) to the first; y keeps the order of x.

Gradients run over the steps in reverse with the activations that the forward pass saved: one after
the other where their number is known, and in a graph of unknown sizes as a scan. Everything that
needs no loop is one product over all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from .. import graph as _graph  # which imports ops in turn: for use in functions only
from ..dims import Dim
from ..dtypes import dtype_of
from ..errors import ArgumentError, ShapeError, TraceError
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, Op, op, shape_text
from .norm import check_float
from .onnx_rules import Export
from .sequence import ReverseSequence, SequenceMask, check_lens, check_range


class Recurrent(Op):
    """See the module. `gates` is G, `states` the number of initial states."""

    __slots__ = ()
    gates: ClassVar[int]
    states: ClassVar[int] = 1
    reverse: bool

    def check(self, *inputs: TensorType) -> tuple[TensorType, TensorType]:
        """The types of y and of a state; raises for operands that do not fit together."""
        fixed = 5 + self.states
        if len(inputs) not in (fixed, fixed + 1):
            raise ShapeError(
                f"{self.name}: expected {fixed} operands, and lengths at most, got {len(inputs)}"
            )
        x, *rest = inputs[:fixed]
        check_float(self.name, x, *rest)
        state = rest[0]
        if x.ndim != 3 or state.ndim != 2:
            raise ShapeError(
                f"{self.name}: expected x [T, B, I] and a state [B, H], got {shape_text(x.shape)} "
                f"and {shape_text(state.shape)}"
            )
        (_, batch, features), (_, hidden) = x.shape, state.shape
        rows = hidden * self.gates
        wanted = [(batch, hidden)] * self.states
        wanted += [(rows, features), (rows, hidden)]
        for t, shape in zip(rest, [*wanted, (rows,), (rows,)], strict=True):
            if t.shape != shape:
                raise ShapeError(
                    f"{self.name}: expected {shape_text(shape)} for x {shape_text(x.shape)} and "
                    f"{hidden} hidden features, got {shape_text(t.shape)}"
                )
        if len(inputs) > fixed:
            check_lens(self.name, inputs[fixed], batch)
        return x.with_shape((*x.shape[:2], hidden)), state

    # -- arrays ---------------------------------------------------------------------------------

    def prepare(
        self, xp: Any, x: Array, w_ih: Array, bias: Array, lens: Sequence[Array]
    ) -> tuple[Array, Any]:
        """X's part of all gates [T, B, G H], in the order of the steps, and the mask [T, B, 1]."""
        steps, batch, features = x.shape
        mask = None
        if lens:
            check_range(self.name, xp, lens[0], steps)
            mask = SequenceMask(steps).eager(xp, lens[0])[..., None]
        x = self.ordered_array(xp, x, lens)
        pre = xp.matmul(x.reshape(steps * batch, features), w_ih.T)
        pre += bias
        return pre.reshape(steps, batch, w_ih.shape[0]), mask

    def ordered_array(self, xp: Any, x: Array, lens: Sequence[Array]) -> Array:
        """An array [T, B, ...] in the order of the steps, or back."""
        if not self.reverse:
            return x
        return ReverseSequence().eager(xp, x, lens[0]) if lens else x[::-1]

    # -- gradient rules -------------------------------------------------------------------------

    def ordered(self, x: Array, lens: Sequence[Array]) -> Array:
        """`ordered_array` in ops."""
        if not self.reverse:
            return x
        return ReverseSequence()(x, lens[0]) if lens else f.flip(x, (0,))

    def steps(self, x: Array) -> int:
        """The number of steps.

        Raises:
            TraceError: it is symbolic.
        """
        n = x.shape[0]
        if isinstance(n, Dim):
            raise TraceError(
                f"{self.name} cannot be taken apart into its time steps, whose number {n} is "
                "symbolic; trace with this dimension static"
            )
        return int(n)

    def outside(self, x: Array, lens: Sequence[Array]) -> Array | None:
        """1 after a sequence's end, else 0: [T, B, 1] in x's dtype; None without `lens`."""
        if not lens:
            return None
        mask = SequenceMask(x.shape[0])(lens[0])
        mask = f.reshape(mask, (*mask.shape, 1))
        return f.where(mask, f.like(x, 0), f.like(x, 1))

    def parameter_grads(
        self,
        on_input: Array,
        on_hidden: Array,
        x: Array,
        before: Array,
        w_ih: Array,
        lens: Sequence[Array],
    ) -> tuple[Grad, ...]:
        """Gradients of x, and of w_ih, w_hh, b_ih and b_hh.

        `on_input` and `on_hidden` [T, B, G H] are those of the two halves of the gates before
        activation; `x` and `before`, the states, are in the order of the steps.
        """
        rows = x.shape[0] * x.shape[1]
        one = f.reshape(on_input, (rows, on_input.shape[2]))
        two = one if on_hidden is on_input else f.reshape(on_hidden, (rows, on_hidden.shape[2]))

        def product(g: Array, v: Array) -> Array:
            return f.matmul(f.transpose(g), f.reshape(v, (rows, v.shape[2])))

        return (
            lambda: self.ordered(f.reshape(f.matmul(one, w_ih), tuple(x.shape)), lens),
            lambda: product(one, x),
            lambda: product(two, before),
            lambda: f.sum(one, (0,)),
            lambda: f.sum(two, (0,)),
        )


def sigmoid_into(xp: Any, x: Array) -> None:
    """The logistic function in place."""
    xp.negative(x, out=x)
    xp.exp(x, out=x)
    x += 1
    xp.reciprocal(x, out=x)


def unstack(x: Array) -> list[Array]:
    """The slices of `x` along its first axis."""
    return list(x) if type(x) is np.ndarray else [f.select(x, 0, t) for t in range(x.shape[0])]


def stacked(xs: Sequence[Array], x: Array, features: Any) -> Array:
    """What the steps gave, [B, features] each, as one [T, B, features]; `x` says of what dtype."""
    return f.stack(xs, 0) if xs else f.zeros(x, (0, x.shape[1], features))


def chunks(x: Array, n: int) -> list[Array]:
    """`x` in `n` equal parts along its last axis."""
    size, last = x.shape[-1] // n, x.ndim - 1
    return [f.slice_axis(x, last, i * size, (i + 1) * size) for i in range(n)]


def shifted(first: Array, rest: Array) -> Array:
    """The states before each step: `first` [B, H], then `rest` [T, B, H] but its last."""
    start = f.reshape(first, (1, *first.shape))
    # In this order the size is T for every T, so that a symbolic one is seen to be.
    return f.slice_axis(f.concat([start, rest], 0), 0, 0, rest.shape[0])


def per_gate(v: Array, factors: Array) -> Array:
    """V [B, H] times each of the gates' factors [B, G, H] -> [B, G H]."""
    batch, hidden = v.shape
    product = f.reshape(v, (batch, 1, hidden)) * factors
    return f.reshape(product, (batch, factors.shape[1] * hidden))


def add(a: Array | None, b: Array | None) -> Array:
    """The sum of what is not None."""
    return b if a is None else a if b is None else a + b


Step = Callable[..., tuple[tuple[Array, ...], tuple[Array, ...]]]


def backward_in_time(
    step: Step,
    state: Sequence[Array],
    shared: Sequence[Array],
    slices: Sequence[Array | None],
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Runs ``state, found = step(*state, *shared, *slices_t)`` from the last step to the first.

    `slices` are [T, ...] each, or None, which `step` then sees as None. Returns the state at the
    end, and for each thing found the stack [T, ...] of it.
    """
    present = [x for x in slices if x is not None]
    if isinstance(present[0], _graph.Value):
        return _scanned_backward(step, state, shared, slices, present)
    columns = [None if x is None else unstack(x) for x in slices]
    found: list[tuple[Array, ...]] = []
    for t in reversed(range(present[0].shape[0])):
        now = [None if column is None else column[t] for column in columns]
        state, out = step(*state, *shared, *now)
        found.append(out)
    return tuple(state), tuple(f.stack(outs[::-1], 0) for outs in zip(*found, strict=True))


def _scanned_backward(
    step: Step,
    state: Sequence[Array],
    shared: Sequence[Array],
    slices: Sequence[Array | None],
    present: Sequence[Array],
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """`backward_in_time` as one node of a graph."""
    from ..graph import Graph
    from .scan import Scan

    body = Graph("body")

    def inside(x: Array, shape: Any) -> Array:
        return body.add_input(TensorType(dtype_of(x), tuple(shape)))

    own = [inside(x, x.shape) for x in state]
    parts = [None if x is None else inside(x, x.shape[1:]) for x in slices]
    whole = [inside(x, x.shape) for x in shared]
    after, found = step(*own, *whole, *parts)
    body.set_outputs([*after, *found])
    scan = Scan(body, len(own), len(present), present[0].shape[0], reverse=True)
    results = scan(*state, *present, *shared)
    return tuple(results[: len(own)]), tuple(results[len(own) :])


@op
class RNN(Recurrent):
    """``h_t = act(w_ih x_t + b_ih + w_hh h_{t-1} + b_hh)``, act "tanh" or "relu".

    Results: y [T, B, H] and the last state [B, H]. Source: torch.nn.RNN, ONNX RNN-22.
    """

    activation: str = "tanh"
    reverse: bool = False
    gates: ClassVar[int] = 1
    n_outputs: ClassVar[int] = 2

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        if self.activation not in ("tanh", "relu"):
            raise ArgumentError(f"rnn: expected 'tanh' or 'relu', got {self.activation!r}")
        return self.check(*inputs)

    def eager(
        self,
        xp: Any,
        x: Array,
        h0: Array,
        w_ih: Array,
        w_hh: Array,
        b_ih: Array,
        b_hh: Array,
        *lens: Array,
    ) -> tuple[Array, ...]:
        dtype = x.dtype
        x, h, w_ih, w_hh, b_ih, b_hh = map(widen, (x, h0, w_ih, w_hh, b_ih, b_hh))
        y, mask = self.prepare(xp, x, w_ih, b_ih + b_hh, lens)
        with np.errstate(all="ignore"):
            for t in range(y.shape[0]):
                y[t] += xp.matmul(h, w_hh.T)
                new = xp.tanh(y[t]) if self.activation == "tanh" else xp.maximum(y[t], 0)
                y[t] = new if mask is None else xp.where(mask[t], new, 0)
                h = new if mask is None else xp.where(mask[t], new, h)
        y = xp.ascontiguousarray(self.ordered_array(xp, y, lens))
        return narrow(y, dtype), narrow(xp.array(h), dtype)

    def decompose(
        self,
        x: Array,
        h: Array,
        w_ih: Array,
        w_hh: Array,
        b_ih: Array,
        b_hh: Array,
        *lens: Array,
    ) -> tuple[Array, ...]:
        steps, outside = self.steps(x), self.outside(x, lens)
        pre = f.matmul(self.ordered(x, lens), f.transpose(w_ih)) + (b_ih + b_hh)
        ys = []
        for t in range(steps):
            new = f.select(pre, 0, t) + f.matmul(h, f.transpose(w_hh))
            new = f.tanh(new) if self.activation == "tanh" else f.clip(new, 0, None)
            h, out = keep(new, h, outside, t)
            ys.append(out)
        return self.ordered(stacked(ys, x, h.shape[1]), lens), h

    def vjp(
        self,
        g: tuple[Array, ...],
        y: tuple[Array, ...],
        x: Array,
        h0: Array,
        w_ih: Array,
        w_hh: Array,
        _b_ih: Array,
        _b_hh: Array,
        *lens: Array,
    ) -> tuple[Grad, ...]:
        if x.shape[0] == 0:
            found = of_no_steps((g[1],), x, h0, w_ih, w_hh, _b_ih, _b_hh)
            return *found, *(None for _ in lens)
        outside = self.outside(x, lens)
        out, x = self.ordered(y[0], lens), self.ordered(x, lens)
        gy = None if g[0] is None else self.ordered(g[0], lens)
        one, zero = f.like(x, 1), f.like(x, 0)
        slope = one - out * out if self.activation == "tanh" else f.where(out > zero, one, zero)
        if outside is not None:
            slope = f.where(outside > zero, zero, slope)

        def step(dh: Array, w_hh: Array, slope: Array, gy: Array, kept: Array) -> Any:
            found = add(dh, gy) * slope
            before = f.matmul(found, w_hh)
            return (before if kept is None else before + dh * kept,), (found,)

        dh = f.zeros(x, tuple(h0.shape)) if g[1] is None else g[1]
        (dh,), (grad,) = backward_in_time(step, [dh], [w_hh], [slope, gy, outside])
        gx, *rest = self.parameter_grads(grad, grad, x, shifted(h0, out), w_ih, lens)
        return gx, dh, *rest, *(None for _ in lens)

    def to_onnx(self, ctx: Export, *inputs: str) -> Any:
        from .recurrent_onnx import export_rnn

        return export_rnn(ctx, self, *inputs)


def of_no_steps(states: tuple[Grad, ...], x: Array, *others: Array) -> list[Grad]:
    """Gradients of empty sequences: of the first states what arrives, of all else zeros."""
    arrived = (None, *states, *(None for _ in others[len(states) :]))
    pairs = zip(arrived, (x, *others), strict=True)
    return [f.zeros(x, tuple(a.shape)) if g is None else g for g, a in pairs]


def keep(new: Array, old: Array, outside: Array | None, t: int) -> tuple[Array, Array]:
    """The state after step `t` and what y shows of it, given the mask of ended sequences."""
    return (new, new) if outside is None else keep_where(new, old, f.select(outside, 0, t))


def keep_where(new: Array, old: Array, outside: Array) -> tuple[Array, Array]:
    """`keep` given the mask of the step itself."""
    ended = outside > f.like(new, 0)
    return f.where(ended, old, new), f.where(ended, 0, new)
