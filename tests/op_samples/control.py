"""Samples of the ops that hold graphs."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError, GraphError, ShapeError
from dualgraph_compiler.graph import Graph, parse_graph
from dualgraph_compiler.ops.control import If
from dualgraph_compiler.ops.loop import Loop
from dualgraph_compiler.ops.scan import Scan

from . import OpSamples, Refused, Sample, rand, t

YES, NO = np.array(True), np.array(False)
f64 = np.float64
EMPTY = "it gives results of no steps the shape [0, 0]"


def body(*lines: str) -> Graph:
    """A graph from the lines of its text."""
    head, *rest = lines
    return parse_graph("\n".join([f"graph body({head}):", *rest]))


# -- If -------------------------------------------------------------------------------------------

SQUARE = body("%x: f64[n]", "%1: f64[n] = mul(%x, %x)", "return %1 as y")
SINE = body("%x: f64[n]", "%1: f64[n] = sin(%x)", "return %1 as y")
PAIR = body("%x: f64[n], %y: f64[n]", "%1: f64[n] = mul(%x, %y)", "return %1 as a, %x as b")
SWAP = body("%x: f64[n], %y: f64[n]", "return %y as a, %x as b")


def if_reference(op: Any, cond: Any, *xs: Any) -> Any:
    if op.then_branch is SQUARE:
        return xs[0] * xs[0] if cond else np.sin(xs[0])
    return (xs[0] * xs[1], xs[0]) if cond else (xs[1], xs[0])


IF = OpSamples(
    If,
    if_reference,
    [
        Sample(If(SQUARE, SINE), (YES, rand(3, dtype=f64)), grad=True),
        Sample(If(SQUARE, SINE), (NO, rand(3, dtype=f64)), grad=True),
        Sample(If(PAIR, SWAP), (YES, rand(4, dtype=f64), rand(4, dtype=f64, seed=1)), grad=True),
        Sample(If(PAIR, SWAP), (NO, rand(4, dtype=f64), rand(4, dtype=f64, seed=1)), grad=True),
        Sample(If(SQUARE, SINE), (NO, rand(0, dtype=f64)), "no elements"),
    ],
    [
        Refused(If(SQUARE, SINE), (t("f32[]"), t("f64[3]")), DTypeError, "bool condition"),
        Refused(If(SQUARE, SINE), (t("bool[1]"), t("f64[3]")), ShapeError, "no dimensions"),
        Refused(If(SQUARE, SINE), (t("bool[]"), t("f32[3]")), DTypeError, "f64"),
        Refused(If(SQUARE, SINE), (t("bool[]"), t("f64[3, 3]")), ShapeError, "f64"),
        Refused(If(SQUARE, SINE), (t("bool[]"),), ShapeError, "1 operands"),
        Refused(
            If(SQUARE, body("%x: f64[n]", "return %x as a, %x as b")),
            (t("bool[]"), t("f64[3]")),
            GraphError,
            "equally many",
        ),
        Refused(
            If(
                SQUARE,
                body("%x: f64[n]", "%1: f64[2*n] = concat(%x, %x, axis=0)", "return %1 as y"),
            ),
            (t("bool[]"), t("f64[3]")),
            ShapeError,
            "differ: f64.3. and f64.6.",
        ),
    ],
)

# -- Scan -----------------------------------------------------------------------------------------

RNN = body(
    "%h: f64[b, n], %x: f64[b, n], %w: f64[n, n]",
    "%1: f64[b, n] = matmul(%h, %w)",
    "%2: f64[b, n] = add(%1, %x)",
    "%3: f64[b, n] = tanh(%2)",
    "%4: f64[b, n] = mul(%3, %x)",
    "return %3 as h, %4 as y",
)
POWERS = body("%x: f64[n]", "%1: f64[n] = mul(%x, %x)", "return %1 as x, %x as y")
MAPPED = body("%x: f64[n], %k: f64[n]", "%1: f64[n] = mul(%x, %k)", "return %1 as y")
MIXED = body(
    "%i: i64[], %x: f64[n]",
    "const %one: i64[] = 1",
    "%1: i64[] = add(%i, %one)",
    "return %1 as i, %i as at",
)


def scan_reference(op: Any, *xs: Any) -> Any:
    if op.body is POWERS:
        ys = [xs[0] ** (2**i) for i in range(op.length + 1)]
        return ys[-1], np.array(ys[:-1][:: -1 if op.reverse else 1]).reshape(-1, *xs[0].shape)
    if op.body is MAPPED:
        return xs[0] * xs[1]
    if op.body is MIXED:
        return xs[0] + op.length, xs[0] + np.arange(op.length)
    h, x, w = xs
    ys = np.zeros_like(x)
    for i in range(op.length)[:: -1 if op.reverse else 1]:
        h = np.tanh(h @ w + x[i])
        ys[i] = h * x[i]
    return h, ys


RNN_INPUTS = (rand(2, 3, dtype=f64), rand(4, 2, 3, dtype=f64), rand(3, 3, dtype=f64, seed=2))
SCAN = OpSamples(
    Scan,
    scan_reference,
    [
        Sample(Scan(RNN, 1, 1, 4), RNN_INPUTS, grad=True),
        Sample(Scan(RNN, 1, 1, 4, reverse=True), RNN_INPUTS, grad=True),
        Sample(Scan(POWERS, 1, 0, 3), (rand(3, dtype=f64, low=0.5),), "nothing scanned", grad=True),
        Sample(Scan(POWERS, 1, 0, 3, True), (rand(3, dtype=f64, low=0.5),), grad=True),
        Sample(Scan(POWERS, 1, 0, 0), (rand(3, dtype=f64),), "no steps", runtime=EMPTY),
        Sample(Scan(MAPPED, 0, 1, 5), (rand(5, 2, dtype=f64), rand(2, dtype=f64)), grad=True),
        Sample(
            Scan(MIXED, 1, 1, 4),
            (np.array(3), rand(4, 2, dtype=f64)),
            "results without gradients",
        ),
    ],
    [
        Refused(Scan(POWERS, 1, 1, 3), (t("f64[3]"),), GraphError, "1 scanned"),
        Refused(Scan(MAPPED, 0, 1, 5), (t("f64[4, 2]"), t("f64[2]")), ShapeError, "5 slices"),
        Refused(Scan(MAPPED, 0, 1, 5), (t("f64[]"), t("f64[2]")), ShapeError, "5 slices"),
        Refused(Scan(MAPPED, 0, 1, 5), (t("f64[5, 2]"), t("f64[3]")), ShapeError, "expected f64.2"),
        Refused(
            Scan(body("%x: f64[n]", "%1: f32[n] = cast(%x, dtype=f32)", "return %1 as y"), 1, 0, 3),
            (t("f64[3]"),),
            ShapeError,
            "keep its type",
        ),
    ],
)

# -- Loop -----------------------------------------------------------------------------------------

GROWTH = body(  # at most `limit` times: x *= w
    "%i: i64[], %x: f64[n], %w: f64[n]",
    "const %go: bool[] = True",
    "%1: f64[n] = mul(%x, %w)",
    "return %go as go, %1 as x, %x as y",
)
COLLATZ = body(
    "%i: i64[], %n: i64[], %k: i64[]",
    "const %one: i64[] = 1",
    "const %two: i64[] = 2",
    "const %three: i64[] = 3",
    "%1: i64[] = remainder(%n, %two)",
    "%2: bool[] = equal(%1, %one)",
    "%3: i64[] = mul(%n, %three)",
    "%4: i64[] = add(%3, %one)",
    "%5: i64[] = floor_div(%n, %two)",
    "%6: i64[] = where(%2, %4, %5)",
    "%7: i64[] = add(%k, %one)",
    "%8: bool[] = greater(%6, %one)",
    "return %8 as go, %6 as n, %7 as k",
)


def loop_reference(op: Any, limit: Any, cond: Any, *xs: Any) -> Any:
    if op.body is GROWTH:
        x, w = xs
        ys = []
        for _ in range(int(limit) if cond else 0):
            ys.append(x)
            x = x * w
        return x, np.array(ys).reshape(-1, *x.shape)
    n, k = map(int, xs)
    while cond and k < int(limit):
        n, k = (3 * n + 1, k + 1) if n % 2 else (n // 2, k + 1)
        cond = n > 1
    return np.array(n), np.array(k)


THREE, MANY = np.array(3), np.array(2**62)
PAIR_OF_POWERS = (np.array([2.0, 3.0]), np.array([0.5, 2.0]))
LOOP = OpSamples(
    Loop,
    loop_reference,
    [
        Sample(
            Loop(GROWTH, 1, trips=3),
            (THREE, YES, *PAIR_OF_POWERS),
            expected_grads=(
                None,
                None,
                [1 + 0.5 + 0.25 + 0.125, 15.0],
                # d/dw (x w^3 + x w^2 + x w + x)
                [2 * (3 * 0.25 + 2 * 0.5 + 1), 3 * (12 + 4 + 1.0)],
            ),
        ),
        Sample(
            Loop(GROWTH, 1, trips=0), (THREE, NO, *PAIR_OF_POWERS), "does not begin", runtime=EMPTY
        ),
        Sample(Loop(COLLATZ, 2), (MANY, YES, np.array(27), np.array(0)), "stops by itself"),
        Sample(Loop(COLLATZ, 2), (np.array(5), YES, np.array(27), np.array(0)), "is stopped"),
    ],
    [
        Refused(
            Loop(COLLATZ, 2), (t("i32[]"), t("bool[]"), t("i64[]"), t("i64[]")), DTypeError, "limit"
        ),
        Refused(
            Loop(COLLATZ, 2), (t("i64[]"), t("i64[]"), t("i64[]"), t("i64[]")), DTypeError, "bool"
        ),
        Refused(Loop(COLLATZ, 2), (t("i64[]"), t("bool[]"), t("i64[]")), GraphError, "2 carried"),
        Refused(
            Loop(
                body(
                    "%i: i64[], %x: f64[2]",
                    "const %go: bool[] = True",
                    "%1: f64[4] = concat(%x, %x, axis=0)",
                    "return %go as go, %1 as x",
                ),
                1,
            ),
            (t("i64[]"), t("bool[]"), t("f64[2]")),
            ShapeError,
            "f64.2. before a step and f64.4. after",
        ),
    ],
)

SAMPLES = [IF, SCAN, LOOP]
