"""Gated recurrent unit. See :mod:`.recurrent` for operands and conventions."""

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
class GRU(Recurrent):
    """Gates r, z = sigmoid(.); ``n = tanh(w_in x + b_in + r q)``, ``h = (1 - z) n + z h``.

    Here q = w_hn h + b_hn: the reset gate acts after the product, as in PyTorch and cuDNN.
    Operands: x, h0, w_ih, w_hh, b_ih, b_hh[, lens], gates in the order r, z, n. Results: y
    [T, B, H], the last state [B, H], and for the gradient, in the order of the steps, r, z, n and q
    [T, B, 4 H] (0 after a sequence's end).
    Source: Cho et al. 2014; torch.nn.GRU, ONNX GRU-22 with linear_before_reset.
    """

    reverse: bool = False
    gates: ClassVar[int] = 3
    n_outputs: ClassVar[int] = 3

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        y, state = self.check(*inputs)
        return y, state, y.with_shape((*y.shape[:2], y.shape[2] * 4))

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
        dtype, m = x.dtype, h0.shape[1]
        x, h, w_ih, w_hh, b_ih, b_hh = map(widen, (x, h0, w_ih, w_hh, b_ih, b_hh))
        pre, mask = self.prepare(xp, x, w_ih, b_ih, lens)
        y = xp.empty((*x.shape[:2], m), x.dtype)
        gates = xp.empty((*x.shape[:2], 4 * m), x.dtype)
        with np.errstate(all="ignore"):
            for t in range(x.shape[0]):
                part = xp.matmul(h, w_hh.T)
                part += b_hh
                gate = gates[t]
                xp.add(pre[t, :, : 2 * m], part[:, : 2 * m], out=gate[:, : 2 * m])
                sigmoid_into(xp, gate[:, : 2 * m])
                gate[:, 3 * m :] = part[:, 2 * m :]
                n = gate[:, :m] * part[:, 2 * m :]
                n += pre[t, :, 2 * m :]
                xp.tanh(n, out=n)
                gate[:, 2 * m : 3 * m] = n
                new = n + gate[:, m : 2 * m] * (h - n)
                y[t] = new if mask is None else xp.where(mask[t], new, 0)
                h = new if mask is None else xp.where(mask[t], new, h)
        if mask is not None:
            gates = xp.where(mask, gates, 0)
        y = xp.ascontiguousarray(self.ordered_array(xp, y, lens))
        return tuple(narrow(v, dtype) for v in (y, xp.array(h), gates))

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
        pre = f.matmul(self.ordered(x, lens), f.transpose(w_ih)) + b_ih
        ys, gates = [], []
        for t in range(steps):
            r, z, n = chunks(f.select(pre, 0, t), 3)
            r_h, z_h, q = chunks(f.matmul(h, f.transpose(w_hh)) + b_hh, 3)
            r, z = f.sigmoid(r + r_h), f.sigmoid(z + z_h)
            n = f.tanh(n + r * q)
            h, out = keep(n + z * (h - n), h, outside, t)
            gate = f.concat([r, z, n, q], 1)
            gates.append(keep(gate, gate, outside, t)[1])
            ys.append(out)
        m = h.shape[1]
        return self.ordered(stacked(ys, x, m), lens), h, stacked(gates, x, 4 * m)

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
        x, out = self.ordered(x, lens), self.ordered(y[0], lens)
        gy = None if g[0] is None else self.ordered(g[0], lens)
        before = shifted(h0, out)
        r, z, n, q = chunks(y[2], 4)
        one = f.like(x, 1)
        slope_r, slope_z, slope_n = r * (one - r), z * (one - z), one - n * n
        if outside is not None:
            slope_n = slope_n * (one - outside)
        # dh times these are the gradients of the gates before activation ...
        on_n = (one - z) * slope_n
        on_rzq = f.stack([on_n * q * slope_r, (before - n) * slope_z, on_n * r], 2)
        extra, extra_n = None, None
        if g[2] is not None:  # ... plus what comes from the saved gates themselves
            gr, gz, gn, gq = chunks(g[2], 4)
            extra_n = gn * slope_n
            gq = gq if outside is None else gq * (one - outside)
            parts = [(extra_n * q + gr) * slope_r, gz * slope_z, extra_n * r + gq]
            extra = f.concat(parts, 2)
        dh = f.zeros(x, tuple(h0.shape)) if g[1] is None else g[1]
        slices = [z, on_rzq, gy, extra, outside]
        (dh,), (totals, on_hidden) = backward_in_time(_step_back, [dh], [w_hh], slices)
        of_n = add(totals * on_n, extra_n)
        two = 2 * h0.shape[1]
        on_input = f.concat([f.slice_axis(on_hidden, 2, 0, two), of_n], 2)
        gx, *rest = self.parameter_grads(on_input, on_hidden, x, before, w_ih, lens)
        return gx, dh, *rest, *(None for _ in lens)

    def to_onnx(self, ctx: Export, *inputs: str) -> Any:
        from .recurrent_onnx import export_gru

        return export_gru(ctx, self, *inputs)


def _step_back(
    dh: Array,
    w_hh: Array,
    update: Array,
    on_rzq: Array,
    gy: Array | None,
    extra: Array | None,
    kept: Array | None,
) -> Any:
    """The gradient of the state before a step; those of the state after it and of r, z and q."""
    total = add(dh, gy)
    gate = add(per_gate(total, on_rzq), extra)
    back = total * update + f.matmul(gate, w_hh)
    return (back if kept is None else back + dh * kept,), (total, gate)
