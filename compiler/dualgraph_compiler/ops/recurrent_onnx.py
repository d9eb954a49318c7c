"""Recurrent layers to and from ONNX, whose gates stand in another order and directions in one node.

ONNX: X [T, B, I], W [D, G H, I], R [D, G H, H], B [D, 2 G H], states [D, B, H] for D directions.
The activations that our ops save for their gradient have no ONNX output: where they are read, the
loop is written out step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dtypes import int32, int64
from ..errors import OnnxError
from . import f
from .derive import export_formula
from .gru import GRU
from .lstm import LSTM
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import carrier
from .recurrent import RNN, Recurrent

# Position in our order of each gate in ONNX's order.
_LSTM = (0, 3, 1, 2)  # i f u o -> i o f u
_GRU = (1, 0, 2)  # r z n -> z r n
_RNN = (0,)


def export_lstm(ctx: Export, op: LSTM, *inputs: str) -> Any:
    """LSTM-14, or the loop written out."""
    if ctx.is_used(3) or ctx.is_used(4):
        return export_formula(ctx, op, *inputs)
    return (*_export(ctx, op, "LSTM", _LSTM, inputs), "", "")


def export_gru(ctx: Export, op: GRU, *inputs: str) -> Any:
    """GRU-14, or the loop written out."""
    if ctx.is_used(2):
        return export_formula(ctx, op, *inputs)
    return (*_export(ctx, op, "GRU", _GRU, inputs, linear_before_reset=1), "")


def export_rnn(ctx: Export, op: RNN, *inputs: str) -> Any:
    """RNN-14."""
    activation = "Tanh" if op.activation == "tanh" else "Relu"
    return _export(ctx, op, "RNN", _RNN, inputs, activations=(activation,))


def _export(
    ctx: Export,
    op: Recurrent,
    name: str,
    order: tuple[int, ...],
    inputs: Sequence[str],
    **attributes: Any,
) -> tuple[str, ...]:
    x, *rest = inputs
    states, (w_ih, w_hh, b_ih, b_hh, *lens) = rest[: op.states], rest[op.states :]
    hidden = ctx.type(w_hh).shape[1]
    if not isinstance(hidden, int):
        raise OnnxError(f"{op.name}: ONNX needs a known hidden size, got {hidden}")
    zero, dtype = ctx.ints(0), ctx.type(x).dtype
    wide = carrier(ctx, dtype, name)

    def reordered(w: str) -> str:
        if len(order) == 1:
            return w
        sizes = ctx.ints(*(hidden,) * len(order))
        parts = ctx.emit("Split", w, sizes, outputs=len(order), axis=0)
        return ctx.emit("Concat", *(parts[i] for i in order), axis=0)  # type: ignore[no-any-return]

    biases = ctx.emit("Concat", reordered(b_ih), reordered(b_hh), axis=0)
    operands = [ctx.emit("Unsqueeze", v, zero) for v in (reordered(w_ih), reordered(w_hh), biases)]
    operands += [ctx.emit("Unsqueeze", s, zero) for s in states]
    if wide is not dtype:
        x, *operands = (ctx.emit("Cast", v, to=wide) for v in (x, *operands))
    operands.insert(3, ctx.emit("Cast", lens[0], to=int32) if lens else "")
    if op.reverse:
        attributes["direction"] = "reverse"
    results = ctx.emit(name, x, *operands, outputs=1 + op.states, hidden_size=hidden, **attributes)
    if wide is not dtype:
        results = [ctx.emit("Cast", v, to=dtype) for v in results]
    y, *last = results
    return ctx.emit("Squeeze", y, ctx.ints(1)), *(ctx.emit("Squeeze", s, zero) for s in last)


# -- import ---------------------------------------------------------------------------------------

_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def _refuse(ctx: Import, name: str, defaults: tuple[str, ...]) -> tuple[str, ...]:
    """The activations; OnnxError for options that our ops do not have."""
    directions = _DIRECTIONS.get(ctx.attr("direction", "forward"), ())
    given = tuple(ctx.attr("activations", defaults * len(directions)))
    if ctx.attr("clip") is not None or ctx.attr("input_forget", 0):
        raise OnnxError(f"{name}: clip and input_forget are not supported")
    if name != "RNN" and tuple(a.lower() for a in given) != tuple(
        a.lower() for a in defaults * len(directions)
    ):
        raise OnnxError(f"{name}: expected the activations {defaults}, got {given}")
    return given


def _import(
    ctx: Import, ops: Sequence[Recurrent], order: tuple[int, ...], operands: Sequence[Any]
) -> Any:
    x, w, r, b, lens, *initial = operands
    by_batch = ctx.attr("layout", 0)
    if by_batch:
        x = f.permute(x, (1, 0, 2))
    hidden, gates = r.shape[2], len(order)
    ours = tuple(order.index(i) for i in range(gates))
    lens = [] if lens is None else [f.cast(lens, int64)]

    def reordered(v: Any) -> Any:
        parts = [f.slice_axis(v, 0, i * hidden, (i + 1) * hidden) for i in ours]
        return parts[0] if gates == 1 else f.concat(parts, 0)

    def state(v: Any, d: int) -> Any:
        if v is None:
            return f.zeros(x, (x.shape[1], hidden))
        return f.select(v, 1 if by_batch else 0, d)

    found = []
    for d, op in enumerate(ops):
        if b is None:
            biases = [f.zeros(x, (gates * hidden,))] * 2
        else:
            both, rows = f.select(b, 0, d), gates * hidden
            biases = [reordered(f.slice_axis(both, 0, k * rows, (k + 1) * rows)) for k in (0, 1)]
        weights = [reordered(f.select(v, 0, d)) for v in (w, r)]
        states = [state(v, d) for v in initial]
        found.append(op(x, *states, *weights, *biases, *lens))
    y = f.stack([v[0] for v in found], 1)
    last = [f.stack([v[k] for v in found], 0) for k in range(1, 1 + len(initial))]
    if by_batch:
        y = f.permute(y, (2, 0, 1, 3))
        last = [f.permute(v, (1, 0, 2)) for v in last]
    results = (y, *last)[: ctx.n_outputs]
    return results if len(results) > 1 else results[0]


@from_onnx("LSTM")
def _import_lstm(
    ctx: Import,
    x: Any,
    w: Any,
    r: Any,
    b: Any = None,
    lens: Any = None,
    h0: Any = None,
    c0: Any = None,
    peepholes: Any = None,
) -> Any:
    _refuse(ctx, "LSTM", ("Sigmoid", "Tanh", "Tanh"))
    if peepholes is not None:
        raise OnnxError("LSTM: peepholes are not supported")
    ops = [LSTM(reverse) for reverse in _DIRECTIONS[ctx.attr("direction", "forward")]]
    return _import(ctx, ops, _LSTM, (x, w, r, b, lens, h0, c0))


@from_onnx("GRU")
def _import_gru(
    ctx: Import, x: Any, w: Any, r: Any, b: Any = None, lens: Any = None, h0: Any = None
) -> Any:
    _refuse(ctx, "GRU", ("Sigmoid", "Tanh"))
    if not ctx.attr("linear_before_reset", 0):
        raise OnnxError("GRU: linear_before_reset=0 is not supported")
    ops = [GRU(reverse) for reverse in _DIRECTIONS[ctx.attr("direction", "forward")]]
    return _import(ctx, ops, _GRU, (x, w, r, b, lens, h0))


@from_onnx("RNN")
def _import_rnn(
    ctx: Import, x: Any, w: Any, r: Any, b: Any = None, lens: Any = None, h0: Any = None
) -> Any:
    activations = _refuse(ctx, "RNN", ("Tanh",))
    ops = []
    for reverse, activation in zip(
        _DIRECTIONS[ctx.attr("direction", "forward")], activations, strict=True
    ):
        if activation.lower() not in ("tanh", "relu"):
            raise OnnxError(f"RNN: expected Tanh or Relu, got {activation}")
        ops.append(RNN(activation.lower(), reverse))
    return _import(ctx, ops, _RNN, (x, w, r, b, lens, h0))
