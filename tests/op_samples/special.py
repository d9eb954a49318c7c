"""Special functions, against series and integrals of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev, hermite, hermite_e, laguerre, legendre

from dualgraph_compiler.errors import ArgumentError, DTypeError
from dualgraph_compiler.ops import bessel as bs
from dualgraph_compiler.ops import random_counts as rc
from dualgraph_compiler.ops import special as sp

from . import OpSamples, Refused, Sample, t
from ._elementwise import edge, elementwise, record

inf, nan = math.inf, math.nan
_NONE = "ONNX has no such operator"
_REFUSE = ["i32", "bool", "c64"]


def by_element(function: Callable[..., float]) -> Callable[..., Any]:
    """`function` of Python floats for arrays, without operands of other sizes."""
    return np.vectorize(function, otypes=[np.float64])


def _special(op: Any, reference: Callable[..., Any], arity: int = 1, **options: Any) -> OpSamples:
    options = {"refuse": _REFUSE, "special": (), "onnx": _NONE, **options}
    return record(op, by_element(reference), arity, **options)


# -- the error function's relatives ---------------------------------------------------------------

_NORMAL = NormalDist()


def _quantile(p: float) -> float:
    return _NORMAL.inv_cdf(p) if 0 < p < 1 else {0: -inf, 1: inf}.get(p, nan)


ERROR_FUNCTIONS = [
    _special(sp.Erfc, math.erfc, onnx=True),
    _special(sp.Erfcx, lambda x: math.exp(x * x) * math.erfc(x)),
    _special(sp.Erfinv, lambda x: _quantile((x + 1) / 2) / math.sqrt(2), low=-0.9, high=0.9),
    _special(
        sp.Ndtri,
        _quantile,
        low=0.05,
        high=0.95,
        more=[Sample(sp.Ndtri(), (np.array([0.0, 1.0, -1.0, 2.0, nan]),), what="edges")],
    ),
    _special(sp.LogNdtr, lambda x: math.log(_NORMAL.cdf(x))),
    _special(
        sp.Entr,
        lambda x: -x * math.log(x) if x > 0 else (-inf if x < 0 else abs(x)),
        low=0.1,
        more=[edge(sp.Entr(), ([0.0, -1.0, inf],), [inf, nan, -inf])],
    ),
]


# -- gamma functions ------------------------------------------------------------------------------


def zeta(s: float, q: float) -> float:
    """A thousand terms, and the integral from there on."""
    a = q + 1000
    terms = ((q + k) ** -s for k in range(1000))
    return math.fsum(terms) + a**-s * (a / (s - 1) + 0.5 + s / a / 12)


def digamma(x: float) -> float:
    """By recurrence from x + 1000."""
    a = x + 1000
    terms = (1 / (x + k) for k in range(1000))
    return math.log(a) - 0.5 / a - 1 / (12 * a * a) - math.fsum(terms)


def _polygamma(n: int, x: float) -> float:
    return digamma(x) if n == 0 else (-1) ** (n + 1) * math.factorial(n) * zeta(n + 1, x)


def gamma_p(a: float, x: float) -> float:
    """The alternating series of the lower incomplete gamma function."""
    terms = ((-1) ** k * x ** (a + k) / math.factorial(k) / (a + k) for k in range(60))
    return math.fsum(terms) / math.gamma(a)


def _polygammas() -> OpSamples:
    samples = [
        s for n in range(4) for s in elementwise(sp.Polygamma(n), low=0.2, special=(), tol={})
    ]
    reference = by_element(_polygamma)
    negative = Sample(sp.Polygamma(1), (np.array([-0.5, -1.5]),), what="negative")
    return OpSamples(
        sp.Polygamma,
        lambda op, x: reference(op.n, x),
        [*samples, negative],
        [Refused(sp.Polygamma(-1), (t("f32[2]"),), ArgumentError, "negative n")],
        onnx=_NONE,
    )


def _positive(op: Any, reference: Any) -> OpSamples:
    made = _special(op, reference, 2, low=1.3, high=3.0)
    made.no_grad = (0,)
    return made


GAMMA_FUNCTIONS = [
    _special(sp.Lgamma, math.lgamma, low=0.2),
    _polygammas(),
    _positive(sp.Zeta, zeta),
    _positive(sp.Igamma, gamma_p),
    _positive(sp.Igammac, lambda a, x: 1 - gamma_p(a, x)),
]


# -- Bessel functions, by their integrals (DLMF 10.9, 10.32) ---------------------------------------

_CIRCLE = np.arange(64) * (2 * math.pi / 64)
_LINE, _STEP = np.linspace(0, 8, 4001, retstep=True)
_WEIGHTS = np.where(
    (np.arange(4001) == 0) | (np.arange(4001) == 4000), 1, 2 + 2 * (np.arange(4001) % 2)
)


def _around(f: Any) -> float:
    return float(np.mean(f))


def _along(f: Any) -> float:
    """Simpson's rule."""
    return float(np.dot(f, _WEIGHTS) * _STEP / 3)


def j(n: int, x: float) -> float:
    """J_n."""
    return _around(np.cos(n * _CIRCLE - x * np.sin(_CIRCLE)))


def y(n: int, x: float) -> float:
    """Y_n."""
    theta = np.linspace(0, math.pi, 4001)
    first = float(np.dot(np.sin(x * np.sin(theta) - n * theta), _WEIGHTS)) / 12000
    growth = np.exp(n * _LINE) + (-1) ** n * np.exp(-n * _LINE)
    return first - _along(growth * np.exp(-x * np.sinh(_LINE))) / math.pi


def i(n: int, x: float) -> float:
    """I_n."""
    return _around(np.exp(x * np.cos(_CIRCLE)) * np.cos(n * _CIRCLE))


def k(n: int, x: float) -> float:
    """K_n."""
    return _along(np.exp(-x * np.cosh(_LINE)) * np.cosh(n * _LINE))


def airy(x: float) -> float:
    """Ai by its Maclaurin series (DLMF 9.4.1)."""
    f = g = 0.0
    a, b = 1.0, x
    for m in range(40):
        f, g = f + a, g + b
        a *= x**3 / ((3 * m + 2) * (3 * m + 3))
        b *= x**3 / ((3 * m + 3) * (3 * m + 4))
    return f / (3 ** (2 / 3) * math.gamma(2 / 3)) - g / (3 ** (1 / 3) * math.gamma(1 / 3))


def _scaled(op: Any, kind: int) -> OpSamples:
    plain = elementwise(op(), low=0.2, special=())
    reference = by_element(lambda x, scaled: k(kind, x) * (math.exp(x) if scaled else 1))
    return OpSamples(
        op,
        lambda op, x: reference(x, op.scaled),
        [*plain, *elementwise(op(True), low=0.2, high=4.0, special=())],
        onnx=_NONE,
    )


BESSEL_FUNCTIONS = [
    _special(bs.I0, lambda x: i(0, x), more=[edge(bs.I0(), ([0.0],), [0.0])]),
    _special(bs.I0e, lambda x: i(0, x) * math.exp(-abs(x))),
    _special(bs.I1, lambda x: i(1, x), more=[edge(bs.I1(), ([0.0],), [0.5])]),
    _special(
        bs.I1e,
        lambda x: i(1, x) * math.exp(-abs(x)),
        more=[edge(bs.I1e(), ([0.0],), [0.5])],
    ),
    _special(bs.BesselJ0, lambda x: j(0, x)),
    _special(bs.BesselJ1, lambda x: j(1, x)),
    _special(bs.BesselY0, lambda x: y(0, x), low=0.2),
    _special(bs.BesselY1, lambda x: y(1, x), low=0.2),
    _scaled(bs.BesselK0, 0),
    _scaled(bs.BesselK1, 1),
    _special(bs.AiryAi, airy),
]


# -- polynomials ----------------------------------------------------------------------------------


def _second(x: float, n: int) -> float:
    """Chebyshev's U_n, the derivative of T_{n+1} over n + 1."""
    if n < 0:
        return 0.0
    return float(chebyshev.chebval(x, chebyshev.chebder(_unit(n + 1)))) / (n + 1)


def _unit(n: int) -> list[float]:
    return [0.0] * n + [1.0]


_FAMILIES: dict[str, Callable[[float, int], float]] = {
    "chebyshev_t": lambda x, n: chebyshev.chebval(x, _unit(n)),
    "chebyshev_u": _second,
    "chebyshev_v": lambda x, n: _second(x, n) - _second(x, n - 1),
    "chebyshev_w": lambda x, n: _second(x, n) + _second(x, n - 1),
    "hermite_h": lambda x, n: hermite.hermval(x, _unit(n)),
    "hermite_he": lambda x, n: hermite_e.hermeval(x, _unit(n)),
    "laguerre_l": lambda x, n: laguerre.lagval(x, _unit(n)),
    "legendre_p": lambda x, n: legendre.legval(x, _unit(n)),
}


def _polynomial(op: sp.Polynomial, x: Any, n: Any) -> Any:
    family = op.family.removeprefix("shifted_")
    inner = 2 * x - 1 if op.family != family else x
    value = by_element(
        lambda x, n: float(_FAMILIES[family](x, int(n))) if n > -1 else 0.0,
    )
    return value(inner, n)


def _polynomials() -> list[Sample]:
    found = []
    for family in (*_FAMILIES, *(f"shifted_chebyshev_{kind}" for kind in "tuvw")):
        op = sp.Polynomial(family)
        found += elementwise(op, 2, low=-1.5, high=4.9, special=(), tol={})
        x, n = np.meshgrid([-1.0, -0.7, 0.0, 0.3, 1.0, 1.2], [-1.0, 0.0, 1.0, 6.0, 7.0, 12.0])
        found.append(Sample(op, (x, n), what="degrees", tol=1e-9))
    return found


POLYNOMIAL = OpSamples(
    sp.Polynomial,
    _polynomial,
    _polynomials(),
    [
        Refused(sp.Polynomial("jacobi"), (t("f32[2]"),) * 2, ArgumentError, "no family"),
        Refused(sp.Polynomial("legendre_p"), (t("f32[2]"), t("f32[3]")), match="do not broadcast"),
    ],
    onnx=_NONE,
)


# -- random variables of uniform numbers ----------------------------------------------------------


def _taken_from_the_mode(u: float, probabilities: list[float], mode: int) -> float:
    """The place at which probabilities, taken off u from the mode outwards, use it up."""
    order = sorted(range(len(probabilities)), key=lambda k: (abs(k - mode), -k))
    for k in order:
        u -= probabilities[k]
        if u < 0:
            return float(k)
    return float(mode)


def _poisson(u: float, rate: float) -> float:
    if not rate >= 0:
        return nan
    probabilities = [math.exp(-rate) * rate**k / math.factorial(k) for k in range(60)]
    return _taken_from_the_mode(u, probabilities, int(rate))


def _binomial(u: float, count: float, p: float) -> float:
    if not (count >= 0 and 0 <= p <= 1):
        return nan
    n = int(count)
    probabilities = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    return _taken_from_the_mode(u, probabilities, min(int((n + 1) * p), n))


def _slope(a: float, x: float) -> float:
    """By differences of another step than the kernel's."""
    h = 1e-3
    p = [gamma_p(a + d * h, x) for d in (-2, -1, 1, 2)]
    change = (p[0] - 8 * p[1] + 8 * p[2] - p[3]) / (12 * h)
    return -change / (x ** (a - 1) * math.exp(-x) / math.gamma(a))


_U = np.linspace(0.01, 0.99, 12).reshape(3, 4)
RANDOM_VARIABLES = [
    OpSamples(
        rc.PoissonOf,
        lambda op, *xs: by_element(_poisson)(*xs),
        [
            *(Sample(rc.PoissonOf(), (_U.astype(d), (_U * 5).astype(d))) for d in ("f4", "f8")),
            Sample(rc.PoissonOf(), (_U, np.array([0.0, 0.5, 7.0, 20.0])), what="broadcast"),
            Sample(rc.PoissonOf(), (np.array(0.5), np.array(3.0)), what="0-d"),
            Sample(rc.PoissonOf(), (_U[:0], _U[:0]), what="no elements"),
            Sample(rc.PoissonOf(), (_U[0], np.array([nan, -1.0, 0.0, 1.0])), what="no rate"),
            edge(rc.PoissonOf(), ([0.3, 0.7], [1.0, 2.0]), [0.0, 0.0], [0.0, 0.0]),
        ],
        [Refused(rc.PoissonOf(), (t("i32[2]"),) * 2, DTypeError, "expected")],
        onnx=_NONE,
    ),
    OpSamples(
        rc.BinomialOf,
        lambda op, *xs: by_element(_binomial)(*xs),
        [
            Sample(rc.BinomialOf(), (_U, np.full((3, 4), 9.0), _U.T.copy().reshape(3, 4))),
            Sample(rc.BinomialOf(), (_U, np.array(6.7), np.array([0.0, 1.0, 0.5, 0.1]))),
            Sample(rc.BinomialOf(), (_U[0], np.array([-1.0, 0.0, 3.0, nan]), np.array(1.5))),
            edge(rc.BinomialOf(), ([0.3], [4.0], [0.5]), [0.0], [0.0], [0.0]),
        ],
        [Refused(rc.BinomialOf(), (t("i32[2]"),) * 3, DTypeError, "expected")],
        onnx=_NONE,
    ),
    _special(rc.StandardGammaSlope, _slope, 2, low=1.3, high=3.0, tol={np.dtype("f8"): 1e-7}),
]


SAMPLES = [*RANDOM_VARIABLES, *ERROR_FUNCTIONS, *GAMMA_FUNCTIONS, *BESSEL_FUNCTIONS, POLYNOMIAL]
