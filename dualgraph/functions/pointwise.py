"""Functions of one operand, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Dim, SizeNumber
from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops import REGISTRY, composite, convert, extremum

from .._dispatch import apply, apply1
from .._promote import Defaults, cast, float_unary, is_number, result_type, unify
from .basics import axis_of, finish

if TYPE_CHECKING:
    from .._tensor import Tensor

Unary: TypeAlias = "Callable[..., Tensor]"


def of_float(name: str, doc: str) -> Unary:
    """A function of floats; integers and bools enter as the default float type."""
    op = REGISTRY[name]()

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        if out is not None:
            return finish(float_unary(op, input), out)
        return float_unary(op, input)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc} Integers become floats.\n\nShapes: any -> the same."
    return function


def _of_any(name: str, doc: str) -> Unary:
    """A function of every dtype the op takes, which stays."""
    op = REGISTRY[name]()

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        if out is not None:
            return finish(apply1(op, input), out)
        return apply1(op, input)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc}\n\nShapes: any -> the same."
    return function


sqrt = of_float("sqrt", "The square root.")
rsqrt = of_float("rsqrt", "1 / sqrt(input).")
reciprocal = of_float("reciprocal", "1 / input.")
exp = of_float("exp", "e to the input.")
exp2 = of_float("exp2", "2 to the input.")
expm1 = of_float("expm1", "exp(input) - 1, exact near 0.")
log = of_float("log", "The natural logarithm.")
log2 = of_float("log2", "The logarithm to base 2.")
log10 = of_float("log10", "The logarithm to base 10.")
log1p = of_float("log1p", "log(1 + input), exact near 0.")
sin = of_float("sin", "The sine.")
cos = of_float("cos", "The cosine.")
tan = of_float("tan", "The tangent.")
asin = of_float("asin", "The angle with this sine.")
acos = of_float("acos", "The angle with this cosine.")
atan = of_float("atan", "The angle with this tangent.")
sinh = of_float("sinh", "The hyperbolic sine.")
cosh = of_float("cosh", "The hyperbolic cosine.")
tanh = of_float("tanh", "The hyperbolic tangent.")
asinh = of_float("asinh", "The inverse hyperbolic sine.")
acosh = of_float("acosh", "The inverse hyperbolic cosine.")
atanh = of_float("atanh", "The inverse hyperbolic tangent.")
erf = of_float("erf", "The error function.")
erfc = of_float("erfc", "1 - erf(input), accurate where that is small.")
sigmoid = of_float("sigmoid", "1 / (1 + exp(-input)).")

neg = _of_any("neg", "-input.")
relu = _of_any("relu", "max(input, 0).")
floor = _of_any("floor", "The largest whole number not above.")
ceil = _of_any("ceil", "The smallest whole number not below.")
trunc = _of_any("trunc", "The input without its fraction.")
_abs = _of_any("abs", "The magnitude.")
_sign = _of_any("sign", "-1, 0 or 1.")
_round = REGISTRY["round"]()

arcsin, arccos, arctan = asin, acos, atan
arcsinh, arccosh, arctanh = asinh, acosh, atanh
negative = neg
fix = trunc
expit = sigmoid


def abs(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The magnitude; real where the input is complex.

    Shapes: any -> the same.
    """
    return _abs(input, out=out)


absolute = abs


def sign(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """-1, 0 or 1.

    Shapes: any -> the same.
    """
    return _sign(input, out=out)


def sgn(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """sign(input); input / |input| where it is complex.

    Shapes: any -> the same.
    """
    return _sign(input, out=out)


def positive(input: Tensor) -> Tensor:
    """The input itself.

    Shapes: any -> the same.
    """
    if input.dtype is dt.bool_:
        raise ArgumentError("The `+` operator, on a bool tensor is not supported.")
    return input


def square(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Input * input; int64 for bools.

    Shapes: any -> the same.
    """
    if input.dtype is dt.bool_:
        return finish(input.to(dt.int64), out)
    return finish(input * input, out)


def frac(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The fraction, with the sign of the input.

    Shapes: any -> the same.
    """
    return finish(input - trunc(input), out)


def round(input: Tensor, *, decimals: int = 0, out: Tensor | None = None) -> Tensor:
    """The nearest whole number, halves to the even one; or rounded to `decimals` places.

    Shapes: any -> the same.
    """
    if decimals == 0:
        return finish(apply(_round, input), out)
    scale = 10.0 ** math.fabs(decimals)
    if decimals > 0:
        return finish(apply(_round, input * scale) / scale, out)
    return finish(apply(_round, input / scale) * scale, out)


def logit(input: Tensor, eps: float | None = None, *, out: Tensor | None = None) -> Tensor:
    """log(x / (1 - x)), of the input clamped to [eps, 1 - eps] where `eps` is given."""
    x = input if eps is None else clamp(input, eps, 1 - eps)
    return finish(log(x / (1 - x)), out)


def deg2rad(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Degrees as radians.

    Shapes: any -> the same.
    """
    return finish(input * (math.pi / 180), out)


def rad2deg(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Radians as degrees.

    Shapes: any -> the same.
    """
    return finish(input * (180 / math.pi), out)


def sinc(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """sin(pi x) / (pi x), and 1 at 0.

    Shapes: any -> the same.
    """
    zero = input == 0
    angle = (input * math.pi).masked_fill(zero, 1)
    return finish((sin(angle) / angle).masked_fill(zero, 1), out)


def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`."""
    x = input if dtype is None else cast(input, dt.as_dtype(dtype))
    if x.dtype.category < dt.FLOAT:
        x = cast(x, Defaults.dtype)
    return apply(composite.Softmax(axis_of("softmax", dim, x._data.ndim)), x)


def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """log(softmax(input)) along `dim`, without overflow."""
    x = input if dtype is None else cast(input, dt.as_dtype(dtype))
    if x.dtype.category < dt.FLOAT:
        x = cast(x, Defaults.dtype)
    return apply(composite.LogSoftmax(axis_of("log_softmax", dim, x._data.ndim)), x)


# -- limits ---------------------------------------------------------------------------------------


def clamp(input: Tensor, min: Any = None, max: Any = None, *, out: Tensor | None = None) -> Tensor:
    """The input limited to [min, max], numbers or tensors; NaN stays, max wins over min."""
    if min is None and max is None:
        raise ArgumentError("torch.clamp: At least one of 'min' or 'max' must not be None")
    ends = [v for v in (min, max) if v is not None]
    x = cast(input, result_type(input, *ends))
    plain = all(is_number(v) and not isinstance(v, Dim | SizeNumber) for v in ends)
    if plain and x.dtype.category in (dt.INT, dt.FLOAT):
        low, high = (None if v is None else _plain(v, x.dtype) for v in (min, max))
        return finish(apply(extremum.Clip(low, high), x), out)
    if min is not None:
        x, low_end = unify((x, min), dtype=x.dtype)
        x = apply(extremum.Maximum(), x, low_end)
    if max is not None:
        x, high_end = unify((x, max), dtype=x.dtype)
        x = apply(extremum.Minimum(), x, high_end)
    return finish(x, out)


def _plain(v: Any, dtype: dt.DType) -> Any:
    v = v.item() if hasattr(v, "item") else v
    return int(v) if dtype.category == dt.INT else v


clip = clamp


def clamp_min(input: Tensor, min: Any) -> Tensor:
    """The input, or `min` where that is larger.

    Shapes: any -> the same.
    """
    return clamp(input, min=min)


def clamp_max(input: Tensor, max: Any) -> Tensor:
    """The input, or `max` where that is smaller.

    Shapes: any -> the same.
    """
    return clamp(input, max=max)


def nan_to_num(
    input: Tensor,
    nan: float = 0.0,
    posinf: float | None = None,
    neginf: float | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """NaN and infinities replaced by numbers: 0 and the dtype's largest and smallest by default.

    Shapes: any -> the same.
    """
    if input.dtype.category != dt.FLOAT:
        return finish(input.clone(), out)
    from .info import finfo

    limits = finfo(input.dtype)
    x = input.masked_fill(input.isnan(), nan)
    x = x.masked_fill(x == math.inf, limits.max if posinf is None else posinf)
    return finish(x.masked_fill(x == -math.inf, limits.min if neginf is None else neginf), out)


# -- complex --------------------------------------------------------------------------------------


def conj(input: Tensor) -> Tensor:
    """The complex conjugate; the input itself where it is real.

    Shapes: any -> the same.
    """
    return apply(convert.Conj(), input) if input.dtype.is_complex else input


conj_physical = conj


def resolve_conj(input: Tensor) -> Tensor:
    """The input itself: conjugates are computed at once here.

    Shapes: any -> the same.
    """
    return input


def resolve_neg(input: Tensor) -> Tensor:
    """The input itself: negatives are computed at once here.

    Shapes: any -> the same.
    """
    return input


def real(input: Tensor) -> Tensor:
    """The real part; the input itself where it is real.

    Shapes: any -> the same.
    """
    return apply(convert.Real(), input) if input.dtype.is_complex else input


def imag(input: Tensor) -> Tensor:
    """The imaginary part of a complex tensor.

    Shapes: any -> the same.
    """
    if not input.dtype.is_complex:
        raise ArgumentError("imag is not implemented for tensors with non-complex dtypes.")
    return apply(convert.Imag(), input)


def angle(input: Tensor) -> Tensor:
    """The angle of a complex number; 0 or pi of a real one, NaN of NaN.

    Shapes: any -> the same.
    """
    if input.dtype.is_complex:
        from .arithmetic import atan2

        return atan2(imag(input), real(input))
    x = input if input.dtype.category == dt.FLOAT else cast(input, Defaults.dtype)
    turned = (x * 0).masked_fill(x < 0, math.pi)
    return turned.masked_fill(x.isinf() & (x > 0), 0)
