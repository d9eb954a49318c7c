"""An LSTM layer whose output is projected to fewer features (Sak, Senior and Beaufays 2014).

It has no kernel of its own: one `scan` over steps written in operations, which differentiates,
traces and exports as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dualgraph_compiler.ops.sequence import ReverseSequence, SequenceMask

from ... import functions as fn
from ..._dispatch import apply
from ..._tensor import Tensor


def projected_lstm(
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    lens: Sequence[Tensor],
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer in one direction.

    Args:
        x: [T, B, I].
        states: h [B, P] and c [B, H].
        weights: w_ih [4 H, I], w_hh [4 H, P], b_ih and b_hh [4 H], w_hr [P, H].
        lens: empty, or int64 [B], the lengths of the sequences.
        reverse: from the last step (of each sequence) to the first.

    Returns:
        y [T, B, P], 0 after a sequence's end, and the last h and c.
    """
    from ...control import scan  # which imports what traces modules

    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    backward = bool(lens) and reverse
    x = apply(ReverseSequence(), x, lens[0]) if backward else x
    gates = x @ w_ih.t() + (b_ih + b_hh)

    def step(carry: Any, slices: Any) -> Any:
        h, c = carry
        gate, *inside = slices
        i, f, u, o = (gate + h @ w_hh.t()).chunk(4, 1)
        c_new = f.sigmoid() * c + i.sigmoid() * u.tanh()
        h_new = (o.sigmoid() * c_new.tanh()) @ w_hr.t()
        if not inside:
            return (h_new, c_new), h_new
        kept = fn.where(inside[0], h_new, h), fn.where(inside[0], c_new, c)
        return kept, fn.where(inside[0], h_new, 0.0)

    masks = [apply(SequenceMask(x.shape[0]), n).unsqueeze(-1) for n in lens]
    start = (states[0], states[1])
    (h, c), y = scan(step, start, (gates, *masks), reverse=reverse and not lens)
    return (apply(ReverseSequence(), y, lens[0]) if backward else y), h, c
