"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError, ShapeError
from dualgraph_compiler.ops import linalg as la

from . import COMPLEX, FLOATS, INTS, OpSamples, Refused, Sample, rand, strided, t

NUMBERS = (*INTS, *FLOATS, *COMPLEX)
# Sums of a few products: a rounding each, in the result's type.
TOL = {np.dtype(np.float16): 4e-3}


def _matmul(dtype: Any, a: tuple[int, ...], b: tuple[int, ...], **more: Any) -> Sample:
    x, y = rand(*a, dtype=dtype), rand(*b, dtype=dtype, seed=1)
    return Sample(la.Matmul(), (x, y), tol=TOL.get(np.dtype(dtype)), **more)


def _einsum(_op: Any, a: np.ndarray, b: np.ndarray) -> Any:
    return np.einsum("...ij,...jk->...ik", a, b)


BATCHES = [
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (4, 3, 2)),
    ((1, 2, 3), (5, 3, 1)),
]

MATMUL = OpSamples(
    la.Matmul,
    _einsum,
    [
        *(_matmul(d, (2, 3), (3, 4)) for d in NUMBERS),
        *(_matmul(np.float32, a, b) for a, b in BATCHES),
        *(_matmul(np.float64, a, b, grad=True) for a, b in BATCHES),
        *(_matmul(np.complex128, a, b, grad=True) for a, b in BATCHES[:2]),
        _matmul(np.float32, (0, 3), (3, 4), what="no rows"),
        _matmul(np.float32, (2, 0), (0, 4), what="sums of nothing"),
        Sample(la.Matmul(), (strided(rand(3, 2)).T, rand(4, 3).T), what="not contiguous"),
        Sample(la.Matmul(), (np.full((1, 3), 100, np.int8), np.full((3, 1), 100, np.int8))),
        Sample(la.Matmul(), (np.full((1, 4096), 1, np.float16), np.full((4096, 1), 1, np.float16))),
    ],
    [
        Refused(la.Matmul(), (t("f32[2, 3]"), t("f32[2, 3]")), ShapeError, "cannot be multiplied"),
        Refused(la.Matmul(), (t("f32[3]"), t("f32[3, 2]")), ShapeError, "two or more dimensions"),
        Refused(
            la.Matmul(), (t("f32[4, 2, 3]"), t("f32[5, 3, 2]")), ShapeError, "do not broadcast"
        ),
        Refused(la.Matmul(), (t("f32[2, 3]"), t("f64[3, 2]")), DTypeError, "one dtype"),
        Refused(la.Matmul(), (t("bool[2, 3]"), t("bool[3, 2]")), DTypeError, "numeric"),
    ],
)


def _linear(dtype: Any, shape: tuple[int, ...], bias: bool = True, **more: Any) -> Sample:
    inputs = [rand(*shape, dtype=dtype), rand(4, 3, dtype=dtype, seed=1)]
    inputs += [rand(4, dtype=dtype, seed=2)] if bias else []
    return Sample(la.Linear(), tuple(inputs), tol=TOL.get(np.dtype(dtype)), **more)


def _rows(_op: Any, x: np.ndarray, w: np.ndarray, *b: np.ndarray) -> Any:
    y = np.einsum("...i,oi->...o", x, w)
    return y + b[0] if b else y


LEADS = [(3,), (2, 3), (2, 5, 3)]

LINEAR = OpSamples(
    la.Linear,
    _rows,
    [
        *(_linear(d, (2, 3)) for d in NUMBERS),
        *(_linear(np.float32, s, bias) for s in LEADS for bias in (True, False)),
        *(_linear(np.float64, s, bias, grad=True) for s in LEADS for bias in (True, False)),
        _linear(np.complex128, (2, 3), grad=True),
        _linear(np.float32, (0, 3), what="no rows"),
        _linear(np.float32, (2, 0, 3), what="no rows"),
        Sample(la.Linear(), (strided(rand(3, 2)).T, rand(3, 4).T), what="not contiguous"),
    ],
    [
        Refused(la.Linear(), (t("f32[2, 3]"), t("f32[3, 4]")), ShapeError, "in_features"),
        Refused(la.Linear(), (t("f32[]"), t("f32[3, 4]")), ShapeError, "in_features"),
        Refused(
            la.Linear(), (t("f32[2, 3]"), t("f32[4, 3]"), t("f32[3]")), ShapeError, r"a bias \[4"
        ),
        Refused(la.Linear(), (t("f32[2, 3]"), t("f64[4, 3]")), DTypeError, "one dtype"),
        Refused(la.Linear(), (t("bool[2, 3]"), t("bool[4, 3]")), DTypeError, "numeric"),
    ],
)

SAMPLES = [MATMUL, LINEAR]
