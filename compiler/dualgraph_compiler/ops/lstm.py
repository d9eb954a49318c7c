"""Long short-term memory. See :mod:`.recurrent` for operands and conventions."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, op
from .onnx_rules import Export
from .recurrent import (
    Recurrent,
    add,
    backward_in_time,
    chunks,
    keep,
    of_no_steps,
    per_gate,
    shifted,
    sigmoid_into,
    stacked,
)


@op
class LSTM(Recurrent):
    """Gates i, f, o = sigmoid(.), u = tanh(.); ``c = f c + i u``, ``h = o tanh(c)``.

    Operands: x, h0, c0, w_ih, w_hh, b_ih, b_hh[, lens], gates in the order i, f, u, o. Results: y
    [T, B, H], the last h and c [B, H], and for the gradient, in the order of the steps, the gates
    [T, B, 4 H] (0 after a sequence's end) and the cell states [T, B, H].
    Source: Hochreiter and Schmidhuber 1997; torch.nn.LSTM, ONNX LSTM-22.
    """

    reverse: bool = False
    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2
    n_outputs: ClassVar[int] = 5

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        y, state = self.check(*inputs)
        gates = y.with_shape((*y.shape[:2], y.shape[2] * 4))
        return y, state, state, gates, y

    def eager(
        self,
        xp: Any,
        x: Array,
        h0: Array,
        c0: Array,
        w_ih: Array,
        w_hh: Array,
        b_ih: Array,
        b_hh: Array,
        *lens: Array,
    ) -> tuple[Array, ...]:
        dtype, n = x.dtype, h0.shape[1]
        x, h, c, w_ih, w_hh, b_ih, b_hh = map(widen, (x, h0, c0, w_ih, w_hh, b_ih, b_hh))
        gates, mask = self.prepare(xp, x, w_ih, b_ih + b_hh, lens)
        y = xp.empty((*x.shape[:2], n), x.dtype)
        cells = xp.empty_like(y)
        with np.errstate(all="ignore"):
            for t in range(x.shape[0]):
                gate = gates[t]
                gate += xp.matmul(h, w_hh.T)
                sigmoid_into(xp, gate[:, : 2 * n])
                xp.tanh(gate[:, 2 * n : 3 * n], out=gate[:, 2 * n : 3 * n])
                sigmoid_into(xp, gate[:, 3 * n :])
                new = gate[:, n : 2 * n] * c
                new += gate[:, :n] * gate[:, 2 * n : 3 * n]
                out = xp.tanh(new)
                out *= gate[:, 3 * n :]
                if mask is None:
                    y[t], h, c = out, out, new
                else:
                    y[t] = xp.where(mask[t], out, 0)
                    h, c = xp.where(mask[t], out, h), xp.where(mask[t], new, c)
                cells[t] = c
        if mask is not None:
            gates = xp.where(mask, gates, 0)
        y = xp.ascontiguousarray(self.ordered_array(xp, y, lens))
        return tuple(narrow(v, dtype) for v in (y, xp.array(h), xp.array(c), gates, cells))

    def decompose(
        self,
        x: Array,
        h: Array,
        c: Array,
        w_ih: Array,
        w_hh: Array,
        b_ih: Array,
        b_hh: Array,
        *lens: Array,
    ) -> tuple[Array, ...]:
        steps, outside = self.steps(x), self.outside(x, lens)
        pre = f.matmul(self.ordered(x, lens), f.transpose(w_ih)) + (b_ih + b_hh)
        ys, gates, cells = [], [], []
        for t in range(steps):
            i, forget, u, o = chunks(f.select(pre, 0, t) + f.matmul(h, f.transpose(w_hh)), 4)
            i, forget, u, o = f.sigmoid(i), f.sigmoid(forget), f.tanh(u), f.sigmoid(o)
            new = forget * c + i * u
            h, out = keep(o * f.tanh(new), h, outside, t)
            c, _ = keep(new, c, outside, t)
            gate = f.concat([i, forget, u, o], 1)
            gates.append(keep(gate, gate, outside, t)[1])
            ys.append(out)
            cells.append(c)
        n = h.shape[1]
        y = self.ordered(stacked(ys, x, n), lens)
        return y, h, c, stacked(gates, x, 4 * n), stacked(cells, x, n)

    def vjp(
        self,
        g: tuple[Array, ...],
        y: tuple[Array, ...],
        x: Array,
        h0: Array,
        c0: Array,
        w_ih: Array,
        w_hh: Array,
        _b_ih: Array,
        _b_hh: Array,
        *lens: Array,
    ) -> tuple[Grad, ...]:
        if x.shape[0] == 0:
            found = of_no_steps((g[1], g[2]), x, h0, c0, w_ih, w_hh, _b_ih, _b_hh)
            return *found, *(None for _ in lens)
        outside = self.outside(x, lens)
        x, out, cells = self.ordered(x, lens), self.ordered(y[0], lens), y[4]
        gy = None if g[0] is None else self.ordered(g[0], lens)
        state, before = tuple(h0.shape), shifted(c0, cells)
        i, forget, u, o = chunks(y[3], 4)
        one, tanh = f.like(x, 1), f.tanh(cells)
        slopes = [i * (one - i), forget * (one - forget), one - u * u, o * (one - o)]
        # dc and dh times these are the gradients of the gates before activation ...
        on_cell = f.stack([u * slopes[0], before * slopes[1], i * slopes[2]], 2)
        on_hidden, through = tanh * slopes[3], o * (one - tanh * tanh)
        if outside is not None:
            forget = forget + outside  # gates are 0 after the end
        extra = None
        if g[3] is not None:
            parts = [a * b for a, b in zip(chunks(g[3], 4), slopes, strict=True)]
            if outside is not None:
                parts[2] = parts[2] * (one - outside)
            extra = f.concat(parts, 2)
        dh = f.zeros(x, state) if g[1] is None else g[1]
        dc = f.zeros(x, state) if g[2] is None else g[2]
        slices = [forget, on_cell, on_hidden, through, gy, g[4], extra, outside]
        (dh, dc), (grad,) = backward_in_time(_step_back, [dh, dc], [w_hh], slices)
        gx, *rest = self.parameter_grads(grad, grad, x, shifted(h0, out), w_ih, lens)
        return gx, dh, dc, *rest, *(None for _ in lens)

    def to_onnx(self, ctx: Export, *inputs: str) -> Any:
        from .recurrent_onnx import export_lstm

        return export_lstm(ctx, self, *inputs)


def _step_back(
    dh: Array,
    dc: Array,
    w_hh: Array,
    forget: Array,
    on_cell: Array,
    on_hidden: Array,
    through: Array,
    gy: Array | None,
    gcell: Array | None,
    extra: Array | None,
    kept: Array | None,
) -> Any:
    """The gradients of the states before a step, and of the gates before activation."""
    total = add(dh, gy)
    dc = add(dc, gcell) + total * through
    gate = add(f.concat([per_gate(dc, on_cell), total * on_hidden], 1), extra)
    back = f.matmul(gate, w_hh)
    return (back if kept is None else back + dh * kept, dc * forget), (gate,)
