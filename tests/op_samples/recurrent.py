"""Recurrent layers and padded sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError
from dualgraph_compiler.ops import gru, lstm, recurrent
from dualgraph_compiler.ops import sequence as sq

from . import FLOATS, INTS, OpSamples, Refused, Sample, rand, strided, t

STEPS, BATCH, INPUTS, HIDDEN = 3, 2, 2, 2
LENS = np.array([3, 1])
SOME_EMPTY = np.array([0, 2])
ZERO_LENGTH = "it gives zeros, not the initial state, for a sequence of length 0"


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def sequences(op: Any, x: Any, lens: Any, initial: Any, step: Any) -> tuple[Any, Any, Any]:
    """Every sequence by itself: y, the last states, and per step what `step` wants saved.

    `step(x_t, states) -> (states, saved)` works on vectors. `saved` is listed by number of the step
    taken, with zeros (or, for states, the last one) after the end.
    """
    total, batch, _ = x.shape
    y = np.zeros((total, batch, initial[0].shape[1]))
    last = [s.copy() for s in initial]
    saved: list[list[Any]] = [[] for _ in range(batch)]
    for b in range(batch):
        length = total if lens is None else int(lens[b])
        states = [s[b] for s in initial]
        for k in range(length):
            at = length - 1 - k if op.reverse else k
            states, kept = step(x[at, b], states)
            y[at, b] = states[0]
            saved[b].append((kept, states))
        for s, v in zip(last, states):
            s[b] = v
    return y, last, saved


def rnn(
    op: Any, x: Any, h0: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, lens: Any = None
) -> Any:
    def step(v: Any, states: Any) -> Any:
        pre = w_ih @ v + b_ih + w_hh @ states[0] + b_hh
        return [np.tanh(pre) if op.activation == "tanh" else np.maximum(pre, 0)], None

    y, last, _ = sequences(op, x, lens, [h0], step)
    return y, *last


def lstm_reference(
    op: Any, x: Any, h0: Any, c0: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, lens: Any = None
) -> Any:
    def step(v: Any, states: Any) -> Any:
        i, f, u, o = np.split(w_ih @ v + b_ih + w_hh @ states[0] + b_hh, 4)
        i, f, u, o = sigmoid(i), sigmoid(f), np.tanh(u), sigmoid(o)
        c = f * states[1] + i * u
        return [o * np.tanh(c), c], np.concatenate([i, f, u, o])

    y, last, saved = sequences(op, x, lens, [h0, c0], step)
    gates, cells = np.zeros((*y.shape[:2], 4 * h0.shape[1])), np.zeros(y.shape)
    for b, steps in enumerate(saved):
        cells[:, b] = last[1][b]
        for k, (kept, states) in enumerate(steps):
            gates[k, b], cells[k, b] = kept, states[1]
    return y, *last, gates, cells


def gru_reference(
    op: Any, x: Any, h0: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, lens: Any = None
) -> Any:
    def step(v: Any, states: Any) -> Any:
        (r, z, n), (rh, zh, q) = np.split(w_ih @ v + b_ih, 3), np.split(w_hh @ states[0] + b_hh, 3)
        r, z = sigmoid(r + rh), sigmoid(z + zh)
        n = np.tanh(n + r * q)
        return [(1 - z) * n + z * states[0]], np.concatenate([r, z, n, q])

    y, last, saved = sequences(op, x, lens, [h0], step)
    gates = np.zeros((*y.shape[:2], 4 * h0.shape[1]))
    for b, steps in enumerate(saved):
        for k, (kept, _) in enumerate(steps):
            gates[k, b] = kept
    return y, *last, gates


def operands(gates: int, states: int, dtype: Any = np.float64, steps: int = STEPS) -> Any:
    rows = gates * HIDDEN
    shapes = [(steps, BATCH, INPUTS), *[(BATCH, HIDDEN)] * states]
    shapes += [(rows, INPUTS), (rows, HIDDEN), (rows,), (rows,)]
    return tuple(rand(*s, dtype=dtype, seed=i) for i, s in enumerate(shapes))


def layer(cls: Any, reference: Any, gates: int, states: int, *first: Any) -> OpSamples:
    def op(reverse: bool = False) -> Any:
        return cls(*first, reverse)

    x, *rest = operands(gates, states)
    types = [t(f"f32[{', '.join(map(str, v.shape))}]") for v in (x, *rest)]
    tolerance = {"float16": 1e-2, "bfloat16": 1e-1}

    def wrong(position: int, text: str) -> tuple[Any, ...]:
        return (*types[:position], t(text), *types[position + 1 :])

    return OpSamples(
        cls,
        reference,
        [
            Sample(op(), (x, *rest), grad=True),
            Sample(op(True), (x, *rest), "from the end", grad=True),
            Sample(op(), (x, *rest, LENS), "lengths", grad=True),
            Sample(op(True), (x, *rest, LENS), "each from its end", grad=True),
            Sample(op(), (x, *rest, SOME_EMPTY), "an empty one", grad=True, runtime=ZERO_LENGTH),
            Sample(op(), operands(gates, states, np.float32)),
            Sample(op(True), (*operands(gates, states, np.float32), LENS)),
            Sample(op(), (strided(x), *map(strided, rest)), "not contiguous"),
            Sample(
                op(),
                operands(gates, states, np.float32, 0),
                "no steps",
                onnx="a sequence of no steps has no ONNX form",
            ),
            *(Sample(op(), operands(gates, states, d), tol=tolerance.get(d.name)) for d in FLOATS),
        ],
        [
            Refused(op(), wrong(0, "f32[3, 2]"), match="expected x \\[T, B, I\\]"),
            Refused(op(), wrong(0, "f32[3, 4, 2]"), match="expected \\[4, 2\\]"),
            Refused(op(), wrong(1 + states, "f32[3, 2]"), match=f"expected \\[{2 * gates}, 2\\]"),
            Refused(op(), wrong(1, "f64[2, 2]"), DTypeError, "one dtype"),
            Refused(op(), tuple(types[:-1]), match="operands"),
            Refused(op(), (*types, t("i64[3]")), match="lengths \\[2\\]"),
            Refused(op(), (*types, t("i32[2]")), DTypeError, "int64 lengths"),
            *(
                [Refused(cls("sin"), tuple(types), ArgumentError, "'tanh' or 'relu'")]
                if first
                else []
            ),
        ],
    )


# -- sequences -------------------------------------------------------------------------------------


def reverse(op: Any, x: Any, lens: Any) -> Any:
    y = x.copy()
    for b, n in enumerate(lens):
        y[:n, b] = x[:n, b][::-1]
    return y


REVERSE = OpSamples(
    sq.ReverseSequence,
    reverse,
    [
        Sample(
            sq.ReverseSequence(), (rand(4, 2, 3, dtype=np.float64), np.array([3, 1])), grad=True
        ),
        Sample(sq.ReverseSequence(), (rand(3, 2), np.array([3, 2]))),
        Sample(
            sq.ReverseSequence(),
            (rand(3, 2), np.array([0, 3])),
            "an empty one",
            runtime="from 1 on",
        ),
        *(
            Sample(sq.ReverseSequence(), (rand(3, 2, dtype=d), np.array([2, 3])))
            for d in (*FLOATS, *INTS)
        ),
    ],
    [
        Refused(sq.ReverseSequence(), (t("f32[3]"), t("i64[3]")), ShapeError, "T, B"),
        Refused(sq.ReverseSequence(), (t("f32[3, 2]"), t("i64[3]")), ShapeError, "lengths \\[2\\]"),
        Refused(sq.ReverseSequence(), (t("f32[3, 2]"), t("f32[2]")), DTypeError, "int64"),
    ],
)

MASK = OpSamples(
    sq.SequenceMask,
    lambda op, lens: np.array([[i < n for n in lens] for i in range(op.steps)]).reshape(
        op.steps, len(lens)
    ),
    [
        Sample(sq.SequenceMask(4), (np.array([0, 2, 4, 9]),)),
        Sample(sq.SequenceMask(0), (np.array([1, 2]),), "no steps"),
        Sample(sq.SequenceMask(2), (np.zeros(0, np.int64),), "no sequences"),
    ],
    [Refused(sq.SequenceMask(2), (t("i64[2, 2]"),), ShapeError, "lengths \\[B\\]")],
)

SAMPLES = [
    layer(recurrent.RNN, rnn, 1, 1, "tanh"),
    layer(lstm.LSTM, lstm_reference, 4, 2),
    layer(gru.GRU, gru_reference, 3, 1),
    REVERSE,
    MASK,
]
