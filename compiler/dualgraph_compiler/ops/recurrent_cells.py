"""Recurrent layers of any ONNX form, as a scan over a step written in ops.

:mod:`.recurrent_onnx` uses them where the layers of :mod:`.lstm`, :mod:`.gru` and
:mod:`.recurrent`, which have kernels of their own, do not have an option: other activations,
clipping, peepholes, coupled gates, a reset gate that acts before the product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import graph as _graph  # which imports ops in turn: for use in functions only
from ..dtypes import dtype_of
from ..errors import OnnxError
from . import f
from .composite import Softsign
from .norm import widened
from .onnx_rules import Import
from .recurrent import add, chunks, keep_where
from .scan import Scan
from .sequence import ReverseSequence, SequenceMask

Function = Callable[[Any], Any]


# -- activations ----------------------------------------------------------------------------------


def _hard_sigmoid(x: Any, alpha: float, beta: float) -> Any:
    return f.clip(x * f.like(x, alpha) + f.like(x, beta), 0, 1)


def _elu(x: Any, alpha: float) -> Any:
    below = (f.exp(f.clip(x, None, 0)) - f.like(x, 1)) * f.like(x, alpha)
    return f.where(f.greater_equal(x, 0), x, below)


def _scaled_tanh(x: Any, alpha: float, beta: float) -> Any:
    return f.tanh(x * f.like(x, beta)) * f.like(x, alpha)


# The function of x, alpha and beta, and the defaults of those parameters that it has.
_ACTIVATIONS: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "relu": (lambda x: f.clip(x, 0, None), ()),
    "tanh": (f.tanh, ()),
    "sigmoid": (f.sigmoid, ()),
    "softsign": (lambda x: Softsign()(x), ()),
    "softplus": (f.softplus, ()),
    "leakyrelu": (lambda x, a: f.where(f.greater_equal(x, 0), x, x * f.like(x, a)), (0.01,)),
    "thresholdedrelu": (lambda x, a: f.where(f.greater_equal(x, a), x, 0), (1.0,)),
    "elu": (_elu, (1.0,)),
    "affine": (lambda x, a, b: x * f.like(x, a) + f.like(x, b), (1.0, 0.0)),
    "scaledtanh": (_scaled_tanh, (1.0, 1.0)),
    "hardsigmoid": (_hard_sigmoid, (0.2, 0.5)),
}


def activations(ctx: Import, name: str, defaults: Sequence[str], count: int) -> list[Function]:
    """The activations of `count` directions, in order.

    Alphas, and betas, are consumed in the order of those functions that take one.

    Raises:
        OnnxError: an unknown function, or not as many as the layer has.
    """
    given = ctx.attr("activations") or tuple(defaults) * count
    if len(given) != len(defaults) * count:
        raise OnnxError(f"{name}: expected {len(defaults) * count} activations, got {len(given)}")
    parameters = [iter(ctx.attr(f"activation_{k}", ())) for k in ("alpha", "beta")]
    found = []
    for activation in given:
        known = _ACTIVATIONS.get(activation.lower())
        if known is None:
            raise OnnxError(f"{name}: unknown activation {activation!r}")
        function, values = known
        own = [next(p, v) for p, v in zip(parameters, values, strict=False)]
        found.append(_bound(function, own))
    return found


def _bound(function: Callable[..., Any], parameters: Sequence[float]) -> Function:
    return lambda x: function(x, *parameters)


# -- cells ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """What a step computes. Gates and weights are in ONNX's order."""

    name: str
    activations: Sequence[Function]
    clip: float | None = None
    couple: bool = False  # LSTM: the forget gate is 1 - input gate
    linear_before_reset: bool = False  # GRU

    @property
    def gates(self) -> int:
        return {"LSTM": 4, "GRU": 3, "RNN": 1}[self.name]

    def step(self, state: Sequence[Any], pre: Any, shared: Sequence[Any]) -> list[Any]:
        """The next state; `pre` [B, G H] is what x and the input's bias contribute."""
        function = {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self.name]
        return function(state, pre, *shared)

    def _clipped(self, x: Any) -> Any:
        return x if self.clip is None else f.clip(x, -self.clip, self.clip)

    def _rnn(self, state: Sequence[Any], pre: Any, r: Any, bias: Any) -> list[Any]:
        total = pre + bias + f.matmul(state[0], f.transpose(r))
        return [self.activations[0](self._clipped(total))]

    def _lstm(
        self, state: Sequence[Any], pre: Any, r: Any, bias: Any, peepholes: Any = None
    ) -> list[Any]:
        squash, squash_cell, squash_hidden = self.activations
        h, c = state
        i, o, forget, u = chunks(pre + bias + f.matmul(h, f.transpose(r)), 4)
        p = [None] * 3 if peepholes is None else chunks(peepholes, 3)
        i = squash(self._clipped(add(i, None if p[0] is None else p[0] * c)))
        if self.couple:
            forget = f.like(i, 1) - i
        else:
            forget = squash(self._clipped(add(forget, None if p[2] is None else p[2] * c)))
        c = forget * c + i * squash_cell(self._clipped(u))
        o = squash(self._clipped(add(o, None if p[1] is None else p[1] * c)))
        return [o * squash_hidden(c), c]  # the cell state itself is not clipped, as in ONNX Runtime

    def _gru(self, state: Sequence[Any], pre: Any, r: Any, bias: Any) -> list[Any]:
        squash, squash_hidden = self.activations
        (h,) = state
        n = h.shape[1]
        both, rest = f.slice_axis(r, 0, 0, 2 * n), f.slice_axis(r, 0, 2 * n, 3 * n)
        bias_both, bias_rest = f.slice_axis(bias, 0, 0, 2 * n), f.slice_axis(bias, 0, 2 * n, 3 * n)
        gates = f.slice_axis(pre, 1, 0, 2 * n) + bias_both + f.matmul(h, f.transpose(both))
        z, reset = (squash(g) for g in chunks(self._clipped(gates), 2))
        if self.linear_before_reset:
            part = reset * (f.matmul(h, f.transpose(rest)) + bias_rest)
        else:
            part = f.matmul(reset * h, f.transpose(rest)) + bias_rest
        new = squash_hidden(self._clipped(f.slice_axis(pre, 1, 2 * n, 3 * n) + part))
        return [(f.like(z, 1) - z) * new + z * h]


def run(
    cell: Cell,
    x: Any,
    states: Sequence[Any],
    weights: Sequence[Any],
    biases: Sequence[Any],
    peepholes: Any,
    lens: Sequence[Any],
    reverse: bool,
) -> tuple[Any, ...]:
    """One layer in one direction: y [T, B, H] and the last states [B, H].

    `weights` and `biases` are those of x and of the state, [G H, I], [G H, H] and [G H] twice;
    `lens` is empty or one int64 [B]. See :mod:`.recurrent` for what they mean.
    """
    dtype = dtype_of(x)
    x, *states = (widened(v) for v in (x, *states))
    (w, r), biases = [widened(v) for v in weights], [widened(v) for v in biases]

    def ordered(v: Any) -> Any:
        if not reverse:
            return v
        return ReverseSequence()(v, lens[0]) if lens else f.flip(v, (0,))

    slices = [f.matmul(ordered(x), f.transpose(w)) + biases[0]]
    if lens:
        inside = SequenceMask(x.shape[0])(lens[0])
        inside = f.reshape(inside, (*inside.shape, 1))
        slices.append(f.where(inside, f.like(x, 0), f.like(x, 1)))
    shared = [r, biases[1], *([] if peepholes is None else [widened(peepholes)])]
    body = _graph.Graph("step")
    own = [body.add_input(v.type) for v in states]
    now = [body.add_input(v.type.with_shape(v.shape[1:])) for v in slices]
    fixed = [body.add_input(v.type) for v in shared]
    after = cell.step(own, now[0], fixed)
    shown = after[0]
    if lens:
        kept = [keep_where(new, old, now[1]) for new, old in zip(after, own, strict=True)]
        after, shown = [state for state, _ in kept], kept[0][1]
    body.set_outputs([*after, shown])
    scan = Scan(body, len(states), len(slices), x.shape[0])
    *last, y = scan(*states, *slices, *shared)
    return tuple(f.cast(v, dtype) for v in (ordered(y), *last))
