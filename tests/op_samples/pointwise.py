"""Arithmetic, division that rounds, magnitude and order."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError
from dualgraph_compiler.ops import extremum as ex
from dualgraph_compiler.ops import pointwise as pw
from dualgraph_compiler.ops import quotient as qt

from . import BOOL, FLOATS, INTS, OpSamples, Refused, Sample, rand, t
from ._elementwise import edge, record

NUMBERS = (*INTS, *FLOATS)
nan, inf = math.nan, math.inf


def _power(a: np.ndarray, b: np.ndarray) -> Any:
    """Python's own powers, so that integer bases with negative exponents are seen to."""
    if a.dtype.kind not in "iu":
        return np.power(a, b)

    def one(x: int, n: int) -> int:
        if n >= 0:
            return int(x) ** int(n)
        return 0 if abs(int(x)) != 1 else int(x) ** (int(n) % 2)

    wide = np.vectorize(one, otypes=[object])(a, b) if a.size else a
    bits = 8 * a.dtype.itemsize
    return (
        np.vectorize(lambda v: int(v) % 2**bits, otypes=[np.uint64])(wide).astype(
            f"u{a.dtype.itemsize}"
        )
        if a.size
        else a
    )


# Operands of quotients: neither 0 nor infinite, with signs and rounding that matter.
FINITE = (0.5, -0.5, 1.0, -1.0, 3.0, -7.0, 0.1, -2.5, 1e6)


def _exactly(rounded: Callable[[Fraction], int], *, remainder: bool = False) -> Any:
    """A quotient `rounded` in exact arithmetic, or what it leaves of the dividend."""

    def one(a: Any, b: Any) -> Any:
        a, b = Fraction(a), Fraction(b)
        q = rounded(a / b)
        return a - b * q if remainder else q

    def apply(a: np.ndarray, b: np.ndarray) -> Any:
        exact = np.vectorize(lambda x, y: float(one(x, y)), otypes=[np.float64])
        return exact(a, b) if a.size else a + b

    return apply


def _ties(op: Any) -> Sample:
    a, b = [1.0, nan, 2.0, inf, 3.0], [1.0, 1.0, nan, inf, 4.0]
    ga = [0.5, 1.0, 1.0, 0.5, 0.0] if type(op) is ex.Maximum else [0.5, 1.0, 1.0, 0.5, 1.0]
    gb = [0.5, 1.0, 1.0, 0.5, 1.0] if type(op) is ex.Maximum else [0.5, 1.0, 1.0, 0.5, 0.0]
    return edge(op, (a, b), ga, gb)


def _sgn(x: np.ndarray) -> Any:
    if x.dtype.kind == "c":
        return np.where(x == 0, 0, x / np.where(x == 0, 1, np.abs(x)))
    if x.dtype.kind in "bu":
        return x != 0
    return (x > 0) * 1.0 - (x < 0) * 1.0


def _clip(op: ex.Clip, x: np.ndarray) -> Any:
    low = -inf if op.min is None else op.min
    high = inf if op.max is None else op.max
    wide = x.astype(np.float64)
    return np.where(wide > high, high, np.where(wide < low, min(low, high), wide))


CLIP = OpSamples(
    ex.Clip,
    _clip,
    [
        *(Sample(ex.Clip(-0.5, 1.25), (rand(2, 3, dtype=d),)) for d in FLOATS),
        *(Sample(ex.Clip(1, 3), (rand(2, 3, dtype=d, low=-5, high=5),)) for d in INTS),
        Sample(ex.Clip(-300.0, 300.0), (rand(4, dtype=np.int8, low=-120, high=120),)),
        Sample(ex.Clip(None, 0.5), (rand(2, 3),)),
        Sample(ex.Clip(-0.5, None), (rand(),), what="0-d"),
        Sample(ex.Clip(), (rand(2, 0),), what="open, no elements"),
        Sample(ex.Clip(2.0, 1.0), (rand(5, low=0, high=3),), what="min above max"),
        Sample(ex.Clip(-1.0, 1.0), (np.array([nan, inf, -inf], np.float32),), what="NaN"),
        Sample(ex.Clip(-0.5, 1.25), (rand(3, 4, dtype=np.float64),), grad=True),
        Sample(ex.Clip(None, 0.5), (rand(3, 4, dtype=np.float64),), grad=True),
        edge(ex.Clip(0.0, 6.0), ([0.0, 6.0, 1.0, nan, 7.0],), [1.0, 1.0, 1.0, 0.0, 0.0]),
    ],
    [
        Refused(ex.Clip(0.0, 1.0), (t("c64[2]"),), DTypeError, "got complex64"),
        Refused(ex.Clip(0.0, 1.0), (t("bool[2]"),), DTypeError, "got bool"),
    ],
)

POW_EDGES = edge(
    pw.Pow(),
    ([0.0, 0.0, 0.0, -2.0, 2.0, 0.0], [0.0, 2.0, -1.0, 2.0, 0.0, 0.5]),
    [0.0, 0.0, -inf, -4.0, 0.0, inf],
    [0.0, 0.0, -inf, nan, math.log(2), 0.0],
)


def _constant_power(exponent: float, dtype: Any, low: float = 0.1, **more: Any) -> Sample:
    x = rand(2, 3, dtype=dtype, low=low, high=3)
    return Sample(pw.Pow(), (x, np.array(exponent, dtype)), what=f"power {exponent}", **more)


SAMPLES = [
    record(pw.Add, lambda a, b: a + b, 2, dtypes=(BOOL, *NUMBERS), complex=True),
    record(pw.Sub, lambda a, b: a - b, 2, dtypes=NUMBERS, complex=True, refuse=["bool"]),
    record(pw.Mul, lambda a, b: a * b, 2, dtypes=(BOOL, *NUMBERS), complex=True),
    record(
        pw.Neg,
        lambda x: -x,
        dtypes=NUMBERS,
        complex=True,
        refuse=["bool"],
    ),
    record(
        pw.Div,
        lambda a, b: a / b,
        2,
        complex=True,
        low=0.5,
        refuse=["bool", "i32"],
        more=[edge(pw.Div(), ([1.0, 0.0], [0.0, 0.0]), [inf, inf], [-inf, nan])],
    ),
    record(
        pw.Reciprocal,
        lambda x: 1 / x,
        complex=True,
        low=0.5,
        refuse=["i32"],
        more=[edge(pw.Reciprocal(), ([0.0],), [-inf])],
    ),
    record(
        pw.Pow,
        _power,
        2,
        dtypes=NUMBERS,
        complex=True,
        low=0.25,
        high=3,
        refuse=["bool"],
        tol={np.dtype(np.complex64): 1e-4},
        more=[
            *(_constant_power(e, np.float32) for e in (2.0, 0.5, 1.0, 3.0, -1.0, 0.0)),
            *(_constant_power(e, np.float64, grad=True) for e in (2.0, 0.5, 1.0, 3.0, -1.0)),
            _constant_power(2, np.int32, -3),
            _constant_power(3, np.int8, -7),
            Sample(
                pw.Pow(),
                (np.array([2, -1, 1, 0, -1, 3]), np.array([-1, -1, -2, -1, -4, 2])),
                what="negative exponents of integers",
                onnx="ONNX leaves negative powers of integers open",
            ),
            POW_EDGES,
        ],
    ),
    record(
        qt.FloorDiv,
        _exactly(math.floor),
        2,
        dtypes=NUMBERS,
        positive=(1,),
        high=4,
        special=FINITE,
        refuse=["bool", "c64"],
        more=[
            Sample(qt.FloorDiv(), (np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2]))),
        ],
    ),
    record(
        qt.TruncDiv,
        _exactly(math.trunc),
        2,
        dtypes=NUMBERS,
        positive=(1,),
        high=4,
        special=(),
        refuse=["bool", "c64"],
        more=[Sample(qt.TruncDiv(), (np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2])))],
    ),
    record(
        qt.Remainder,
        _exactly(math.floor, remainder=True),
        2,
        dtypes=NUMBERS,
        positive=(1,),
        high=4,
        special=FINITE,
        refuse=["bool", "c64"],
        more=[
            Sample(qt.Remainder(), (np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2]))),
            Sample(qt.Remainder(), (np.array([7.5, -7.5]), np.array([-2.0, 2.0]))),
            edge(qt.Remainder(), ([5.0, -5.0], [3.0, 3.0]), [1.0, 1.0], [-1.0, 2.0]),
        ],
    ),
    record(
        qt.Fmod,
        _exactly(math.trunc, remainder=True),
        2,
        dtypes=NUMBERS,
        positive=(1,),
        high=4,
        special=FINITE,
        refuse=["bool", "c64"],
        more=[
            Sample(qt.Fmod(), (np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2]))),
            edge(qt.Fmod(), ([5.0, -5.0], [3.0, 3.0]), [1.0, 1.0], [-1.0, 1.0]),
        ],
    ),
    record(
        ex.Abs,
        np.abs,
        dtypes=NUMBERS,
        complex=True,
        refuse=["bool"],
        more=[
            edge(ex.Abs(), ([0.0, nan, -0.0],), [0.0, 0.0, 0.0]),
            edge(ex.Abs(), ([0j, 3 + 4j],), [0j, 0.6 + 0.8j], dtype=np.complex128),
        ],
    ),
    record(
        ex.Sign,
        _sgn,
        dtypes=(BOOL, *NUMBERS),
        complex=True,
        special_runtime="the sign of NaN",
        more=[
            edge(ex.Sign(), ([0.0, -0.0, -3.0],), [0.0, 0.0, 0.0]),
            edge(ex.Sign(), ([0j],), [0j], dtype=np.complex128),
        ],
    ),
    record(
        ex.Maximum,
        np.maximum,
        2,
        dtypes=(BOOL, *NUMBERS),
        refuse=["c64"],
        more=[_ties(ex.Maximum())],
    ),
    record(
        ex.Minimum,
        np.minimum,
        2,
        dtypes=(BOOL, *NUMBERS),
        refuse=["c64"],
        more=[_ties(ex.Minimum())],
    ),
    CLIP,
]
