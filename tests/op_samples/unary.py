"""Functions of one operand, trigonometry, changes of type, and complex parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import DTypeError, GraphError
from dualgraph_compiler.ops import convert as cv
from dualgraph_compiler.ops import trigonometry as tg
from dualgraph_compiler.ops import unary as un

from . import BOOL, COMPLEX, FLOATS, INTS, OpSamples, Refused, Sample, bfloat16, rand, t
from ._elementwise import NEAR, edge, elementwise, record

nan, inf = math.nan, math.inf
# Narrow floats where the function is steep: one rounding of the operand, many of the result.
COMPLEX_TOL = {np.dtype(np.complex64): 1e-4}


def _erf(x: np.ndarray) -> Any:
    return np.vectorize(math.erf, otypes=[np.float64])(x) if x.size else x


def _small(op: Any, scale: float = 1e-6) -> Sample:
    return Sample(op, (rand(5, low=-scale, high=scale),), what="near 0", tol=1e-10)


def _float(op: Any, reference: Any, **options: Any) -> OpSamples:
    """The record of a function of floating-point and complex numbers."""
    options.setdefault("complex", True)
    refuse = ["i32", "bool"] if options["complex"] else ["i32", "bool", "c64"]
    return record(op, reference, refuse=refuse, **{"tol": COMPLEX_TOL, **options})


def _rounding(op: Any, reference: Any) -> OpSamples:
    halves = Sample(op(), (np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5], np.float32),))
    flat = edge(op(), ([0.0, 0.5, -1.25],), [0.0, 0.0, 0.0])
    return record(
        op,
        reference,
        dtypes=(*INTS, *FLOATS),
        refuse=["bool", "c64"],
        high=9,
        low=-9,
        grad=False,
        more=[halves, flat],
    )


ROOTS = [
    _float(
        un.Sqrt,
        np.sqrt,
        low=0.1,
        more=[edge(un.Sqrt(), ([0.0, -1.0],), [inf, nan])],
    ),
    _float(
        un.Rsqrt,
        lambda x: 1 / np.sqrt(x),
        low=0.1,
        more=[edge(un.Rsqrt(), ([0.0],), [-inf])],
    ),
    _float(un.Exp, np.exp),
    _float(un.Exp2, np.exp2),
    _float(un.Expm1, np.expm1, more=[_small(un.Expm1())]),
    _float(un.Log, np.log, low=0.1, more=[edge(un.Log(), ([0.0],), [inf])]),
    _float(un.Log2, np.log2, low=0.1),
    _float(un.Log10, np.log10, low=0.1),
    _float(un.Log1p, np.log1p, low=-0.9, more=[_small(un.Log1p())]),
    _float(un.Erf, _erf, complex=False),
]

TRIGONOMETRY = [
    _float(tg.Sin, np.sin, special=NEAR),
    _float(tg.Cos, np.cos, special=NEAR),
    _float(tg.Tan, np.tan, special=NEAR, high=1.2, low=-1.2),
    _float(tg.Asin, np.arcsin, low=-0.9, high=0.9),
    _float(tg.Acos, np.arccos, low=-0.9, high=0.9),
    _float(tg.Atan, np.arctan),
    _float(tg.Sinh, np.sinh),
    _float(tg.Cosh, np.cosh),
    _float(tg.Tanh, np.tanh),
    _float(tg.Asinh, np.arcsinh),
    _float(tg.Acosh, np.arccosh, low=1.2, high=3),
    _float(tg.Atanh, np.arctanh, low=-0.9, high=0.9),
    record(
        tg.Atan2,
        np.arctan2,
        2,
        refuse=["i32", "bool", "c64"],
        special=(),
        more=[
            edge(
                tg.Atan2(), ([0.0, 0.0, 1.0], [0.0, -1.0, 0.0]), [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]
            )
        ],
    ),
]

ROUNDING = [
    _rounding(un.Floor, np.floor),
    _rounding(un.Ceil, np.ceil),
    _rounding(un.Round, np.rint),
    _rounding(un.Trunc, np.trunc),
]


# -- conversion ----------------------------------------------------------------------------------


def _cast(op: cv.Cast, x: np.ndarray) -> Any:
    target = op.dtype.np
    if target.kind == "b":
        return x != 0
    if x.dtype.kind == "c" and target.kind != "c":
        x = x.real
    if target.kind in "iu" and x.dtype.kind == "f":
        return np.trunc(x).astype(np.int64)
    return x


STOP_GRADIENT = record(cv.StopGradient, lambda x: x, dtypes=(BOOL, *INTS, *FLOATS), grad=False)


def _casts() -> list[Sample]:
    kinds = (BOOL, *INTS, *FLOATS, *COMPLEX)
    found = []
    for source in kinds:
        for target in kinds:
            low = 0 if target.kind == "u" else -3
            x = rand(2, 3, dtype=source, low=low, high=3)
            found.append(Sample(cv.Cast(dt.BY_NUMPY[target]), (x,)))
    return found


_OPSET = "needs a newer opset than the default (see tests/onnx/test_narrow.py)"


def _narrow_casts() -> list[Sample]:
    """From and to numbers of less than a byte and 8-bit floats, in range and exact."""
    kinds = [d for d in dt.NARROW if d is not dt.float8_e8m0fnu]
    x = np.array([[0, 1, 1], [1, 0, 1]], np.float32)
    plain = [dt.bool_, dt.int8, dt.uint64, dt.float16, dt.bfloat16, dt.float32, dt.float64]
    samples = [
        Sample(cv.Cast(b), (x.astype(a.np),), onnx=_OPSET)
        for a in (*kinds, *plain)
        for b in (*kinds, *plain)
        if a.is_narrow or b.is_narrow
    ]
    powers = np.array([2.0**-127, 0.25, 1, 2.0**127], np.float32)
    samples.append(Sample(cv.Cast(dt.float8_e8m0fnu), (powers,), onnx=_OPSET))
    powers = powers.astype(dt.float8_e8m0fnu.np)
    samples.append(Sample(cv.Cast(dt.float32), (powers,), onnx=_OPSET))
    ends = np.array([-8, 7, 3], np.int8)
    samples.append(Sample(cv.Cast(dt.int4), (ends,), what="ends", onnx=_OPSET))
    over = np.array([1e9, -1e9, inf, -inf, nan], np.float32)
    samples.append(Sample(cv.Cast(dt.float8_e5m2), (over,), what="infinite out of range"))
    return samples


def _float8(op: cv.Float8Cast, x: np.ndarray) -> Any:
    """The nearest of all numbers of the type, of two the one with the even code."""
    every = np.arange(256, dtype=np.uint8).view(op.dtype.np).astype(np.float64)
    codes = np.flatnonzero(np.isfinite(every))
    below, top = np.sort(every[codes])[-2:]
    out = np.empty(x.shape)
    for place, v in np.ndenumerate(x.astype(np.float64)):
        if op.dtype is dt.float8_e8m0fnu:
            out[place] = _power(op, v, every[codes])
            continue
        distance = np.abs(every[codes] - np.clip(v, -top, top)) if v == v else 0
        best = codes[np.flatnonzero(distance == np.min(distance))]
        out[place] = every[min(best, key=lambda c: (c % 2, c))] if v == v else nan
        if not op.saturate and abs(v) >= top + (top - below) / 2:
            out[place] = np.asarray(v * inf).astype(op.dtype.np)
    return out


def _power(op: cv.Float8Cast, v: float, every: np.ndarray) -> float:
    outside = not every.min() <= v <= every.max()
    if v != v or (outside and not op.saturate):
        return nan
    v = np.clip(v, every.min(), every.max())
    down, up = every[every <= v].max(), every[every >= v].min()
    nearest = up if up - v <= v - down else down
    return float({"up": up, "down": down, "nearest": nearest}[op.round_mode])


_EDGES = np.array([0, 1e-9, 0.3, 1, 1.06, 17.0, -240, 250, 447, 6e4, -6e4, inf, -inf, nan])
FLOAT8_CAST = OpSamples(
    cv.Float8Cast,
    _float8,
    [
        *(
            Sample(cv.Float8Cast(d, saturate), (_EDGES.astype(a),))
            for d in sorted(cv.FLOAT8 - {dt.float8_e8m0fnu}, key=str)
            for saturate in (True, False)
            for a in (np.float32, np.float16, bfloat16)
        ),
        Sample(cv.Float8Cast(dt.float8_e4m3fn), (np.array([0, 1, 17, 255], np.uint8),)),
        Sample(cv.Float8Cast(dt.float8_e4m3fnuz), (np.array([-(2**40), 100], np.int64),)),
        Sample(cv.Float8Cast(dt.float8_e4m3fn), (rand(),), what="0-d"),
        Sample(cv.Float8Cast(dt.float8_e5m2), (rand(0, 2),), what="no elements"),
        Sample(
            cv.Float8Cast(dt.float8_e4m3fn),
            (np.array([0.5, 2.0], np.float32),),
            expected_grads=([1.0, 1.0],),
        ),
        *(
            Sample(
                cv.Float8Cast(dt.float8_e8m0fnu, saturate, mode),
                (np.array([0, 1e-40, 0.124, 0.75, 1, 1.5, 1.51, 1e39, inf, nan]),),
                onnx=_OPSET,
            )
            for saturate in (True, False)
            for mode in ("up", "down", "nearest")
        ),
    ],
    [
        Refused(cv.Float8Cast(dt.float16), (t("f32[2]"),), DTypeError, "an 8-bit float"),
        Refused(cv.Float8Cast(dt.float8_e5m2), (t("c64[2]"),), DTypeError, "a real operand"),
        Refused(cv.Float8Cast(dt.float8_e5m2, True, "odd"), (t("f32[2]"),), GraphError, "odd"),
    ],
)


BIT_CAST = OpSamples(
    cv.BitCast,
    lambda op, x: np.frombuffer(x.tobytes(), op.dtype.np).reshape(x.shape),
    [
        Sample(cv.BitCast(b), (x.astype(a.np),))
        for x in (np.array([[1, -2, 3]]), np.array([1, 0, 2, 1])[::2], np.array(1))
        for a, b in (
            (dt.float32, dt.int32),
            (dt.int32, dt.float32),
            (dt.int8, dt.uint8),
            (dt.float16, dt.int16),
            (dt.int64, dt.float64),
            (dt.bool_, dt.uint8),
        )
    ],
    [Refused(cv.BitCast(dt.int16), (t("f32[2]"),), DTypeError, "of 32 bits")],
    widen=False,
    onnx="needs a newer opset than the default (see the official suite)",
)


CAST = OpSamples(
    cv.Cast,
    _cast,
    [
        *_casts(),
        *_narrow_casts(),
        Sample(cv.Cast(dt.float16), (rand(),), what="0-d"),
        Sample(cv.Cast(dt.float64), (rand(0, 2),), what="no elements"),
        Sample(cv.Cast(dt.float64), (rand(4, 4).T[::2],), what="not contiguous"),
        Sample(cv.Cast(dt.bool_), (np.array([nan, 0.0, -0.0, 0.1, inf], np.float32),)),
        Sample(cv.Cast(dt.complex128), (rand(2, 3, dtype=np.float64),), grad=True),
        Sample(cv.Cast(dt.float64), (rand(2, 3, dtype=np.complex128),), grad=True),
        Sample(cv.Cast(dt.float32), (rand(3, dtype=bfloat16),), expected_grads=([1.0, 1.0, 1.0],)),
    ],
)


def _complex(real: np.ndarray, imag: np.ndarray) -> Any:
    return real + 1j * imag


COMPLEX_PARTS = [
    record(cv.Conj, np.conj, dtypes=(*INTS, *FLOATS), complex=True, special=()),
    OpSamples(
        cv.Real,
        lambda _op, x: x.real,
        [
            *elementwise(cv.Real(), dtypes=COMPLEX, grad=False),
            Sample(cv.Real(), (rand(2, 3, dtype=np.complex128),), grad=True),
        ],
        [Refused(cv.Real(), (t("f32[2]"),), DTypeError, "expected a complex operand")],
    ),
    OpSamples(
        cv.Imag,
        lambda _op, x: x.imag,
        [
            *elementwise(cv.Imag(), dtypes=COMPLEX, grad=False),
            Sample(cv.Imag(), (rand(2, 3, dtype=np.complex128),), grad=True),
        ],
        [Refused(cv.Imag(), (t("f32[2]"),), DTypeError, "expected a complex operand")],
    ),
    record(
        cv.Complex,
        _complex,
        2,
        dtypes=FLOATS[2:],
        special=(),
        onnx="ONNX cannot make complex numbers",
        more_refused=[
            Refused(cv.Complex(), (t("f16[2]"), t("f16[2]")), DTypeError, "float32 or float64"),
            Refused(cv.Complex(), (t("f32[2]"), t("f64[2]")), DTypeError, "one dtype"),
        ],
    ),
]

SAMPLES = [
    *ROOTS,
    *TRIGONOMETRY,
    *ROUNDING,
    CAST,
    FLOAT8_CAST,
    BIT_CAST,
    STOP_GRADIENT,
    *COMPLEX_PARTS,
]
