"""Convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError
from dualgraph_compiler.ops import conv as cv
from dualgraph_compiler.ops import conv_transpose as ct

from . import COMPLEX, FLOATS, OpSamples, Refused, Sample, rand, strided, t

TYPES = (np.dtype(np.int64), *FLOATS, *COMPLEX)
NO_PADS = ((0, 0), (0, 0))


def f64(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return rand(*shape, dtype=np.float64, seed=seed)


def runs(d: Any) -> bool | str:
    return "it convolves in float32 only" if d != np.float32 else True


def apply(op: Any, x: Any, w: Any, visit: Any, out_sizes: Any) -> None:
    """Call `visit(n, o, p, c, s, k)` for every product x[n, c, s] w[o, c', k] -> y[n, o, p]."""
    rank = len(op.stride)
    per_group = w.shape[0] // op.groups
    for n, o, c in np.ndindex(x.shape[0], w.shape[0], w.shape[1]):
        channel = o // per_group * w.shape[1] + c
        for p in np.ndindex(*out_sizes):
            for k in np.ndindex(*w.shape[2:]):
                s = tuple(
                    p[i] * op.stride[i] - op.padding[i][0] + k[i] * op.dilation[i]
                    for i in range(rank)
                )
                if all(0 <= v < d for v, d in zip(s, x.shape[2:])):
                    visit((n, o, *p), (n, channel, *s), (o, c, *k))


def sizes_of(op: Any, x: Any, w: Any) -> tuple[int, ...]:
    return tuple(
        (n + sum(pad) - d * (k - 1) - 1) // s + 1
        for n, k, s, pad, d in zip(x.shape[2:], w.shape[2:], op.stride, op.padding, op.dilation)
    )


def conv(op: Any, x: Any, w: Any, b: Any = None) -> Any:
    out = sizes_of(op, x, w)
    y = np.zeros((x.shape[0], w.shape[0], *out), x.dtype)

    def visit(at: Any, of: Any, by: Any) -> None:
        y[at] += x[of] * w[by]

    apply(op, x, w, visit, out)
    return y if b is None else y + b.reshape(-1, *(1,) * len(out))


def input_grad(op: Any, g: Any, w: Any) -> Any:
    gx = np.zeros((g.shape[0], w.shape[1] * op.groups, *op.sizes), g.dtype)

    def visit(at: Any, of: Any, by: Any) -> None:
        gx[of] += g[at] * w[by]

    apply(op, gx, w, visit, g.shape[2:])
    return gx


def weight_grad(op: Any, g: Any, x: Any) -> Any:
    gw = np.zeros((g.shape[1], x.shape[1] // op.groups, *op.kernel), g.dtype)

    def visit(at: Any, of: Any, by: Any) -> None:
        gw[by] += g[at] * x[of]

    apply(op, x, gw, visit, g.shape[2:])
    return gw


def transposed(op: Any, x: Any, w: Any, b: Any = None) -> Any:
    """Every x spreads w over the output; then the padding is cut off."""
    n, _, *sizes = x.shape
    full = [
        (d - 1) * s + (k - 1) * e + 1 + extra
        for d, s, k, e, extra in zip(sizes, op.stride, w.shape[2:], op.dilation, op.output_padding)
    ]
    y = np.zeros((n, w.shape[1] * op.groups, *full), x.dtype)
    per_group = x.shape[1] // op.groups
    for i, c, o in np.ndindex(n, x.shape[1], w.shape[1]):
        for s in np.ndindex(*sizes):
            for k in np.ndindex(*w.shape[2:]):
                at = tuple(a * st + b * e for a, st, b, e in zip(s, op.stride, k, op.dilation))
                y[(i, c // per_group * w.shape[1] + o, *at)] += x[(i, c, *s)] * w[(c, o, *k)]
    inside = tuple(slice(lo, d - hi) for d, (lo, hi) in zip(full, op.padding))
    y = y[(slice(None), slice(None), *inside)]
    return y if b is None else y + b.reshape(-1, *(1,) * len(sizes))


# stride, padding, dilation, groups; the sizes of x and w
CALLS: list[tuple[Any, tuple[int, ...], tuple[int, ...]]] = [
    (((1, 1), NO_PADS, (1, 1), 1), (2, 2, 4, 5), (3, 2, 3, 2)),
    (((2, 1), ((1, 1), (2, 0)), (1, 2), 2), (2, 4, 5, 4), (4, 2, 3, 2)),
    (((2,), ((2, -1),), (1,), 1), (2, 2, 7), (3, 2, 3)),
    (((1, 2, 1), ((0, 1), (1, 1), (0, 0)), (1, 1, 2), 1), (1, 2, 3, 3, 4), (2, 2, 2, 3, 2)),
    (((1,), ((1, 1),), (1,), 3), (2, 3, 5), (3, 1, 3)),
    (((3, 3), NO_PADS, (1, 1), 1), (1, 1, 3, 5), (2, 1, 1, 1)),
]


def with_output(shape: tuple[int, ...], w: tuple[int, ...], call: Any) -> tuple[int, ...]:
    stride, padding, dilation, _ = call
    out = tuple(
        (n + sum(pad) - d * (k - 1) - 1) // s + 1
        for n, k, s, pad, d in zip(shape[2:], w[2:], stride, padding, dilation)
    )
    return (shape[0], w[0], *out)


CONV = OpSamples(
    cv.Conv,
    conv,
    [
        *(Sample(cv.Conv(*c), (f64(*x), f64(*w, seed=1)), grad=True) for c, x, w in CALLS),
        Sample(cv.Conv(*CALLS[1][0]), (f64(2, 4, 5, 4), f64(4, 2, 3, 2), f64(4)), grad=True),
        Sample(cv.Conv((1,), ((0, 0),), (1,)), (rand(0, 2, 3), rand(1, 2, 2)), "no samples"),
        Sample(
            cv.Conv((1,), ((0, 0),), (1,)),
            (strided(rand(2, 3, 4)), strided(rand(2, 3, 2)), rand(2)),
            "not contiguous",
        ),
        *(
            Sample(
                cv.Conv((1,), ((1, 0),), (1,)),
                (rand(2, 2, 4, dtype=d), rand(2, 2, 2, dtype=d, seed=1), rand(2, dtype=d)),
                runtime=runs(d),
                onnx="no integer operator" if d == np.int64 else True,
                tol=5e-3 if d == np.float16 else 6e-2 if d.name == "bfloat16" else None,
            )
            for d in TYPES
        ),
    ],
    [
        Refused(
            cv.Conv((1,), ((0, 0),), (1,)), (t("f32[2, 3, 4]"), t("f32[2, 2, 2]")), match="2 input"
        ),
        Refused(
            cv.Conv((1,), ((0, 0),), (1,)), (t("f32[2, 3, 4]"), t("f32[2, 3, 5]")), match="larger"
        ),
        Refused(
            cv.Conv((1,), ((0, 0),), (1,), 2),
            (t("f32[2, 4, 4]"), t("f32[3, 2, 2]")),
            match="divide",
        ),
        Refused(cv.Conv((1,), ((0, 0),), (1,)), (t("f32[3, 4]"), t("f32[2, 3]")), match="N, C"),
        Refused(
            cv.Conv((1,), ((0, 0),), (1,)), (t("f32[1, 1, 4]"), t("f32[1, 1, 2, 2]")), match="axes"
        ),
        Refused(
            cv.Conv((1, 1), NO_PADS, (1, 1)), (t("f32[1, 1, 4]"), t("f32[1, 1, 2]")), match="stride"
        ),
        Refused(
            cv.Conv((0,), ((0, 0),), (1,)), (t("f32[1, 1, 4]"), t("f32[1, 1, 2]")), match="positive"
        ),
        Refused(
            cv.Conv((1,), ((0, 0),), (1,)),
            (t("f32[1, 1, 4]"), t("f32[2, 1, 2]"), t("f32[1]")),
            match="bias \\[2\\]",
        ),
        Refused(
            cv.Conv((1,), ((0, 0),), (1,)),
            (t("f32[1, 1, 4]"), t("f64[1, 1, 2]")),
            DTypeError,
            "one dtype",
        ),
        Refused(
            cv.Conv((1,), ((0, 0),), (1,)),
            (t("bool[1, 1, 4]"), t("bool[1, 1, 2]")),
            DTypeError,
            "numeric",
        ),
    ],
)

INPUT_GRAD = OpSamples(
    cv.ConvInputGrad,
    input_grad,
    [
        *(
            Sample(
                cv.ConvInputGrad(*c, x[2:]),
                (f64(*with_output(x, w, c)), f64(*w, seed=1)),
                grad=True,
            )
            for c, x, w in CALLS
        ),
        Sample(
            cv.ConvInputGrad((1,), ((0, 0),), (1,), 1, (3,)),
            (rand(1, 2, 2, dtype=np.complex64), rand(2, 1, 2, dtype=np.complex64)),
        ),
    ],
    [
        Refused(
            cv.ConvInputGrad((1,), ((0, 0),), (1,), 1, (5,)),
            (t("f32[1, 2, 3]"), t("f32[2, 1, 2]")),
            match="expected a gradient",
        )
    ],
)

WEIGHT_GRAD = OpSamples(
    cv.ConvWeightGrad,
    weight_grad,
    [
        *(
            Sample(
                cv.ConvWeightGrad(*c, w[2:]),
                (f64(*with_output(x, w, c)), f64(*x, seed=1)),
                grad=True,
            )
            for c, x, w in CALLS
        ),
        Sample(
            cv.ConvWeightGrad((1,), ((0, 0),), (1,), 1, (2,)),
            (rand(1, 2, 2, dtype=np.complex64), rand(1, 2, 3, dtype=np.complex64)),
        ),
    ],
    [
        Refused(
            cv.ConvWeightGrad((1,), ((0, 0),), (1,), 1, (2,)),
            (t("f32[1, 2, 3]"), t("f32[1, 1, 3]")),
            match="expected a gradient",
        )
    ],
)

# stride, padding, output padding, dilation, groups; the sizes of x and w
BACKWARDS: list[tuple[Any, tuple[int, ...], tuple[int, ...]]] = [
    (((1, 1), NO_PADS, (0, 0), (1, 1), 1), (2, 2, 3, 2), (2, 3, 2, 3)),
    (((2, 1), ((1, 1), (0, 1)), (1, 0), (1, 2), 2), (2, 4, 3, 3), (4, 2, 3, 2)),
    (((1,), ((0, 1),), (1,), (2,), 1), (1, 2, 4), (2, 1, 3)),
    (((3,), ((0, 0),), (2,), (1,), 1), (1, 1, 3), (1, 2, 2)),
]

TRANSPOSE = OpSamples(
    ct.ConvTranspose,
    transposed,
    [
        *(
            Sample(ct.ConvTranspose(*c), (f64(*x), f64(*w, seed=1)), grad=True)
            for c, x, w in BACKWARDS
        ),
        Sample(
            ct.ConvTranspose(*BACKWARDS[1][0]),
            (f64(2, 4, 3, 3), f64(4, 2, 3, 2), f64(4)),
            "bias",
            grad=True,
        ),
        *(
            Sample(
                ct.ConvTranspose((2,), ((0, 0),), (0,), (1,)),
                (rand(2, 2, 3, dtype=d), rand(2, 1, 3, dtype=d, seed=1), rand(1, dtype=d)),
                runtime=runs(d),
                onnx="no integer operator" if d == np.int64 else True,
                tol=5e-3 if d == np.float16 else 6e-2 if d.name == "bfloat16" else None,
            )
            for d in (*FLOATS, *COMPLEX)
        ),
    ],
    [
        Refused(
            ct.ConvTranspose((1,), ((0, 0),), (1,), (1,)),
            (t("f32[1, 2, 3]"), t("f32[2, 1, 2]")),
            match="smaller than either",
        ),
        Refused(
            ct.ConvTranspose((1,), ((0, 0),), (0,), (1,)),
            (t("f32[1, 3, 3]"), t("f32[2, 1, 2]")),
            match="2 input channels",
        ),
        Refused(
            ct.ConvTranspose((1,), ((3, 3),), (0,), (1,)),
            (t("f32[1, 2, 3]"), t("f32[2, 1, 2]")),
            match="too small",
        ),
        Refused(
            ct.ConvTranspose((1,), ((0, 0),), (), (1,)),
            (t("f32[1, 2, 3]"), t("f32[2, 1, 2]")),
            match="output_padding",
        ),
    ],
)

SAMPLES = [CONV, INPUT_GRAD, WEIGHT_GRAD, TRANSPOSE]
