"""Recurrent layers to and from ONNX, whose gates stand in another order and directions in one node.

ONNX: X [T, B, I], W [D, G H, I], R [D, G H, H], B [D, 2 G H], states [D, B, H] for D directions.
The activations that our ops save for their gradient have no ONNX output: where they are read, the
loop is written out step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from ..dtypes import int32, int64
from ..errors import OnnxError
from . import f
from .derive import export_formula
from .gru import GRU
from .lstm import LSTM
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import carrier
from .recurrent import RNN, Recurrent
from .recurrent_cells import Cell, activations, run

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

# One direction: of x, the states, both weights, both biases and lengths, as our ops take them.
_Layer: TypeAlias = Callable[..., Any]

_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


# Activations of the layers that are ops of their own.
_LSTM_DEFAULTS = ("Sigmoid", "Tanh", "Tanh")
_GRU_DEFAULTS = ("Sigmoid", "Tanh")


def _directions(ctx: Import) -> tuple[bool, ...]:
    """For each direction of a node whether it is reversed."""
    direction = ctx.attr("direction", "forward")
    if direction not in _DIRECTIONS:
        raise OnnxError(f"expected one of the directions {list(_DIRECTIONS)}, got {direction!r}")
    return _DIRECTIONS[direction]


def _activations(ctx: Import, defaults: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a node's activations, of all directions, in small letters."""
    given = ctx.attr("activations") or defaults * len(_directions(ctx))
    return tuple(a.lower() for a in given)


def _is_plain(ctx: Import, defaults: tuple[str, ...]) -> bool:
    """Whether a node has these activations and none of the rarer options."""
    expected = tuple(a.lower() for a in defaults) * len(_directions(ctx))
    rare = ctx.attr("clip") is not None or ctx.attr("input_forget", 0)
    return not rare and _activations(ctx, defaults) == expected


def _cells(
    ctx: Import, name: str, defaults: tuple[str, ...], peepholes: Any = None
) -> list[_Layer]:
    """The directions of a node as compositions."""
    ways = _directions(ctx)
    functions, n = activations(ctx, name, defaults, len(ways)), len(defaults)
    found: list[_Layer] = []
    for d, reverse in enumerate(ways):
        cell = Cell(
            name,
            functions[d * n : (d + 1) * n],
            ctx.attr("clip"),
            bool(ctx.attr("input_forget", 0)),
            bool(ctx.attr("linear_before_reset", 0)),
        )
        p = None if peepholes is None else f.select(peepholes, 0, d)
        found.append(partial(_run_cell, cell, p, reverse))
    return found


def _run_cell(cell: Cell, peepholes: Any, reverse: bool, x: Any, *operands: Any) -> tuple[Any, ...]:
    states = 2 if cell.name == "LSTM" else 1
    (w, r, b_w, b_r, *lens) = operands[states:]
    return run(cell, x, operands[:states], (w, r), (b_w, b_r), peepholes, lens, reverse)


def _import(
    ctx: Import, layers: Sequence[_Layer], order: Sequence[int], operands: Sequence[Any]
) -> Any:
    """The results of a node; each of `layers` is a direction and has gates in this `order`."""
    x, w, r, b, lens, *initial = operands
    by_batch = ctx.attr("layout", 0)
    if by_batch:
        x = f.permute(x, (1, 0, 2))
    hidden, gates = r.shape[2], len(order)
    ours = tuple(order.index(i) for i in range(gates))
    lens = [] if lens is None else [f.cast(lens, int64)]

    def reordered(v: Any) -> Any:
        if ours == tuple(range(gates)):
            return v
        parts = [f.slice_axis(v, 0, i * hidden, (i + 1) * hidden) for i in ours]
        return f.concat(parts, 0)

    def state(v: Any, d: int) -> Any:
        if v is None:
            return f.zeros(x, (x.shape[1], hidden))
        return f.select(v, 1 if by_batch else 0, d)

    found = []
    for d, layer in enumerate(layers):
        if b is None:
            biases = [f.zeros(x, (gates * hidden,))] * 2
        else:
            both, rows = f.select(b, 0, d), gates * hidden
            biases = [reordered(f.slice_axis(both, 0, k * rows, (k + 1) * rows)) for k in (0, 1)]
        weights = [reordered(f.select(v, 0, d)) for v in (w, r)]
        states = [state(v, d) for v in initial]
        found.append(layer(x, *states, *weights, *biases, *lens))
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
    operands = (x, w, r, b, lens, h0, c0)
    if peepholes is not None or not _is_plain(ctx, _LSTM_DEFAULTS):
        return _import(ctx, _cells(ctx, "LSTM", _LSTM_DEFAULTS, peepholes), range(4), operands)
    return _import(ctx, [LSTM(reverse) for reverse in _directions(ctx)], _LSTM, operands)


@from_onnx("GRU")
def _import_gru(
    ctx: Import, x: Any, w: Any, r: Any, b: Any = None, lens: Any = None, h0: Any = None
) -> Any:
    operands = (x, w, r, b, lens, h0)
    if not ctx.attr("linear_before_reset", 0) or not _is_plain(ctx, _GRU_DEFAULTS):
        return _import(ctx, _cells(ctx, "GRU", _GRU_DEFAULTS), range(3), operands)
    return _import(ctx, [GRU(reverse) for reverse in _directions(ctx)], _GRU, operands)


@from_onnx("RNN")
def _import_rnn(
    ctx: Import, x: Any, w: Any, r: Any, b: Any = None, lens: Any = None, h0: Any = None
) -> Any:
    operands = (x, w, r, b, lens, h0)
    ways, given = _directions(ctx), _activations(ctx, ("Tanh",))
    plain = len(given) == len(ways) and set(given) <= {"tanh", "relu"}
    if not plain or ctx.attr("clip") is not None:
        return _import(ctx, _cells(ctx, "RNN", ("Tanh",)), _RNN, operands)
    layers = [RNN(a, reverse) for a, reverse in zip(given, ways, strict=True)]
    return _import(ctx, layers, _RNN, operands)
