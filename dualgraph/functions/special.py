"""Special functions: what :mod:`dualgraph.special` gathers, and the names that stand at the top."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops import bessel
from dualgraph_compiler.ops import special as sp

from .._dispatch import apply
from .._promote import Defaults, cast, float_operands, float_unary
from .basics import finish
from .pointwise import erfc, of_float

if TYPE_CHECKING:
    from .._tensor import Tensor

# -- the error function's relatives ---------------------------------------------------------------

entr = of_float("entr", "-input log(input); 0 at 0, -inf below.")
erfcx = of_float("erfcx", "exp(input**2) erfc(input), which does not underflow.")
erfinv = of_float("erfinv", "The inverse of erf, on [-1, 1].")
log_ndtr = of_float("log_ndtr", "log(ndtr(input)), accurate where ndtr underflows.")
ndtri = of_float("ndtri", "The inverse of ndtr, on [0, 1].")


def ndtr(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The standard normal distribution function. Integers become floats."""
    x = input if input.dtype.category == dt.FLOAT else cast(input, Defaults.dtype)
    return finish(erfc(x * -math.sqrt(0.5)) * 0.5, out)


def xlog1py(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """Input * log1p(other), and 0 where input is 0 and `other` is not NaN."""
    a, b = float_operands(input, other)
    # Where the product would be 0 * inf, in value or gradient, the logarithm is never taken.
    unsafe = (a == 0) & ((b <= -1) | b.isinf())
    return finish(a * b.masked_fill(unsafe, 0).log1p(), out)


# -- gamma functions ------------------------------------------------------------------------------

lgamma = of_float("lgamma", "log |gamma(input)|.")
_DIGAMMA = sp.Polygamma(0)


def digamma(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The derivative of lgamma; -inf at 0 and NaN at -1, -2, ... Integers become floats.

    Shapes: any -> the same.
    """
    return finish(float_unary(_DIGAMMA, input), out)


def polygamma(n: int, input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The n-th derivative of digamma. Integers become floats.

    Shapes: any -> the same.
    """
    if n < 0:
        raise ArgumentError("polygamma(n, x) does not support negative n.")
    return finish(float_unary(sp.Polygamma(n), input), out)


def polygamma_method(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of digamma."""
    return polygamma(n, self)


def mvlgamma(input: Tensor, p: int, *, out: Tensor | None = None) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension `p`.

    Raises ArgumentError unless p is positive. Integers become floats.
    """
    if p < 1:
        raise ArgumentError("p has to be greater than or equal to 1")
    x = input if input.dtype.category == dt.FLOAT else cast(input, Defaults.dtype)
    total = lgamma(x)
    for j in range(1, p):
        total = total + lgamma(x - 0.5 * j)
    return finish(total + p * (p - 1) / 4 * math.log(math.pi), out)


def _without(what: str, x: Tensor, result: Tensor) -> Tensor:
    """`result`, of which there is no derivative by `x`: a backward pass that asks for it raises."""
    if not x.requires_grad:
        return result
    from ..autograd.function import Function

    class NoDerivative(Function):
        @staticmethod
        def forward(ctx: Any, result: Tensor, x: Tensor) -> Tensor:
            return result.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            raise NotImplementedError(f"the derivative for '{what}' is not implemented.")

    found: Tensor = NoDerivative.apply(result, x)
    return found


def igamma(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """The regularised lower incomplete gamma function P(input, other); gradient of `other` only.

    Shapes: any that broadcast -> the broadcast one.
    """
    a, x = float_operands(input, other)
    return finish(_without("igamma: input", a, apply(sp.Igamma(), a, x)), out)


def igammac(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """The regularised upper incomplete gamma function Q(input, other); gradient of `other` only.

    Shapes: any that broadcast -> the broadcast one.
    """
    a, x = float_operands(input, other)
    return finish(_without("igammac: input", a, apply(sp.Igammac(), a, x)), out)


def zeta(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """Hurwitz's zeta function: the sum of (other + k)**-input over k; gradient of `other` only."""
    s, q = float_operands(input, other)
    return finish(_without("zeta", s, apply(sp.Zeta(), s, q)), out)


# -- Bessel functions -----------------------------------------------------------------------------


def _bessel(op: Any, name: str, doc: str) -> Callable[..., Tensor]:
    """A function without a gradient, as in PyTorch; integers become floats."""

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        return finish(float_unary(op, input.detach()), out)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc} Not differentiable. Integers become floats."
    return function


i0 = of_float("i0", "The modified Bessel function of the first kind of order 0.")
i0e = of_float("i0e", "exp(-|input|) i0(input).")
i1 = of_float("i1", "The modified Bessel function of the first kind of order 1.")
i1e = of_float("i1e", "exp(-|input|) i1(input).")

airy_ai = _bessel(bessel.AiryAi(), "airy_ai", "The Airy function Ai.")
bessel_j0 = _bessel(bessel.BesselJ0(), "bessel_j0", "The Bessel function J of order 0.")
bessel_j1 = _bessel(bessel.BesselJ1(), "bessel_j1", "The Bessel function J of order 1.")
bessel_y0 = _bessel(bessel.BesselY0(), "bessel_y0", "The Bessel function Y of order 0.")
bessel_y1 = _bessel(bessel.BesselY1(), "bessel_y1", "The Bessel function Y of order 1.")
modified_bessel_i0 = _bessel(bessel.I0(), "modified_bessel_i0", "The Bessel function I of order 0.")
modified_bessel_i1 = _bessel(bessel.I1(), "modified_bessel_i1", "The Bessel function I of order 1.")
modified_bessel_k0 = _bessel(
    bessel.BesselK0(), "modified_bessel_k0", "The Bessel function K of order 0."
)
modified_bessel_k1 = _bessel(
    bessel.BesselK1(), "modified_bessel_k1", "The Bessel function K of order 1."
)
scaled_modified_bessel_k0 = _bessel(
    bessel.BesselK0(True), "scaled_modified_bessel_k0", "exp(input) K_0(input)."
)
scaled_modified_bessel_k1 = _bessel(
    bessel.BesselK1(True), "scaled_modified_bessel_k1", "exp(input) K_1(input)."
)


def spherical_bessel_j0(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """sin(input) / input; 1 at 0, 0 at infinity. Not differentiable. Integers become floats."""
    x = cast(input.detach(), input.dtype if input.is_floating_point() else Defaults.dtype)
    zero = x == 0
    ratio = x.sin() / x.masked_fill(zero, 1)
    return finish(ratio.masked_fill(zero, 1).masked_fill(x.isinf(), 0), out)


# -- orthogonal polynomials -----------------------------------------------------------------------


def _polynomial(name: str, family: str, doc: str) -> Callable[..., Tensor]:
    op = sp.Polynomial(family)

    def function(input: Any, n: Any, *, out: Tensor | None = None) -> Tensor:
        x, degree = float_operands(input, n)
        return finish(apply(op, x, degree), out)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"{doc} of degree `n` at `input`, element by element: 0 for n < 0; fractions of n are cut "
        "off. Not differentiable."
    )
    return function


def _chebyshev(kind: str, shifted: bool) -> Callable[..., Tensor]:
    start = "shifted_" if shifted else ""
    doc = f"The {'shifted ' * shifted}Chebyshev polynomial {kind.upper()}"
    return _polynomial(f"{start}chebyshev_polynomial_{kind}", f"{start}chebyshev_{kind}", doc)


chebyshev_polynomial_t = _chebyshev("t", False)
chebyshev_polynomial_u = _chebyshev("u", False)
chebyshev_polynomial_v = _chebyshev("v", False)
chebyshev_polynomial_w = _chebyshev("w", False)
shifted_chebyshev_polynomial_t = _chebyshev("t", True)
shifted_chebyshev_polynomial_u = _chebyshev("u", True)
shifted_chebyshev_polynomial_v = _chebyshev("v", True)
shifted_chebyshev_polynomial_w = _chebyshev("w", True)
hermite_polynomial_h = _polynomial(
    "hermite_polynomial_h", "hermite_h", "The physicists' Hermite polynomial"
)
hermite_polynomial_he = _polynomial(
    "hermite_polynomial_he", "hermite_he", "The probabilists' Hermite polynomial"
)
laguerre_polynomial_l = _polynomial(
    "laguerre_polynomial_l", "laguerre_l", "The Laguerre polynomial"
)
legendre_polynomial_p = _polynomial(
    "legendre_polynomial_p", "legendre_p", "The Legendre polynomial"
)
