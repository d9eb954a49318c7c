"""Recurrent layers as scans: one product for all inputs, then a step for each time.

See `ops.recurrent` for operands and conventions.
"""

from __future__ import annotations

from typing import Any

from ..dtypes import float32
from ..graph import Graph, Node, Value
from ..ops import f
from ..ops.recurrent import chunks
from ..ops.scan import Scan


def recurrent(node: Node, shown: set[Value]) -> tuple[Value, ...] | None:
    """The results of a recurrent layer by a scan; None where `node` is none.

    Results that nobody reads, and that are not among `shown`, are zeros.
    """
    op: Any = node.op
    if op.name not in ("lstm", "gru", "rnn") or node.inputs[0].dtype is not float32:
        return None
    count = 5 + op.states
    x, *operands = node.inputs[:count]
    lens = node.inputs[count:]
    states, (w_ih, w_hh, b_ih, b_hh) = operands[: op.states], operands[op.states :]
    wanted = [bool(v.uses) or v in shown for v in node.outputs]
    outside = op.outside(x, lens)
    bias = b_ih if op.name == "gru" else b_ih + b_hh
    pre = f.matmul(op.ordered(x, lens), f.transpose(w_ih)) + bias
    slices = [pre] if outside is None else [pre, outside]
    shared = [w_hh, b_hh] if op.name == "gru" else [w_hh]
    body = Graph("step")
    own = [body.add_input(v.type) for v in states]
    now = [body.add_input(v.type.with_shape(v.shape[1:])) for v in slices]
    fixed = [body.add_input(v.type) for v in shared]
    step = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}[op.name]
    after, found = step(op, own, now[0], fixed, now[1] if outside is not None else None)
    # The results: y, the last states, and what the gradient needs.
    kept = [0, *range(1 + len(states), len(node.outputs))]
    body.set_outputs([*after, *(v for k, v in zip(kept, found, strict=True) if wanted[k])])
    scan = Scan(body, len(states), len(slices), x.shape[0])
    made = scan(*states, *slices, *shared)
    results = iter(made if isinstance(made, tuple | list) else (made,))
    last = [next(results) for _ in states]
    stacks = {k: next(results) for k in kept if wanted[k]}
    out: list[Value] = []
    for k, v in enumerate(node.outputs):
        if 1 <= k <= len(states):
            out.append(last[k - 1])
        elif k not in stacks:
            out.append(f.zeros(x, v.shape))
        else:
            out.append(op.ordered(stacks[k], lens) if k == 0 else stacks[k])
    return tuple(out)


def _kept(new: Value, old: Value, outside: Value | None) -> tuple[Value, Value]:
    """The state after a step and what the step shows: `old` and 0 after a sequence's end."""
    if outside is None:
        return new, new
    ended = f.greater(outside, f.like(outside, 0))
    return f.where(ended, old, new), f.where(ended, f.like(new, 0), new)


def _lstm(
    op: Any, state: list[Value], pre: Value, fixed: list[Value], outside: Value | None
) -> tuple[list[Value], list[Value]]:
    h, c = state
    i, forget, u, o = chunks(pre + f.matmul(h, f.transpose(fixed[0])), 4)
    i, forget, u, o = f.sigmoid(i), f.sigmoid(forget), f.tanh(u), f.sigmoid(o)
    new = forget * c + i * u
    gates = f.concat([i, forget, u, o], 1)
    h, y = _kept(o * f.tanh(new), h, outside)
    c, _ = _kept(new, c, outside)
    return [h, c], [y, _kept(gates, gates, outside)[1], c]


def _gru(
    op: Any, state: list[Value], pre: Value, fixed: list[Value], outside: Value | None
) -> tuple[list[Value], list[Value]]:
    (h,) = state
    r, z, n = chunks(pre, 3)
    r_h, z_h, q = chunks(f.matmul(h, f.transpose(fixed[0])) + fixed[1], 3)
    r, z = f.sigmoid(r + r_h), f.sigmoid(z + z_h)
    n = f.tanh(n + r * q)
    gates = f.concat([r, z, n, q], 1)
    h, y = _kept(n + z * (h - n), h, outside)
    return [h], [y, _kept(gates, gates, outside)[1]]


def _rnn(
    op: Any, state: list[Value], pre: Value, fixed: list[Value], outside: Value | None
) -> tuple[list[Value], list[Value]]:
    (h,) = state
    total = pre + f.matmul(h, f.transpose(fixed[0]))
    new = f.tanh(total) if op.activation == "tanh" else f.clip(total, 0, None)
    h, y = _kept(new, h, outside)
    return [h], [y]
