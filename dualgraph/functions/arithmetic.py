"""Arithmetic of two operands, with PyTorch's promotion, as functions and as operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, DTypeError
from dualgraph_compiler.ops import REGISTRY, extremum, numeric, pointwise, quotient

from .._dispatch import apply, apply_many
from .._promote import binary, cast, float_operands, is_number, operator, result_type, unify
from .basics import finish
from .results import MantissaExponent, named

if TYPE_CHECKING:
    from .._tensor import Tensor

_ADD, _SUB, _MUL, _DIV = pointwise.Add(), pointwise.Sub(), pointwise.Mul(), pointwise.Div()
_NEG, _POW = pointwise.Neg(), pointwise.Pow()
_FLOOR_DIV, _TRUNC_DIV = quotient.FloorDiv(), quotient.TruncDiv()
_REMAINDER, _FMOD = quotient.Remainder(), quotient.Fmod()
_MAXIMUM, _MINIMUM = extremum.Maximum(), extremum.Minimum()
_ATAN2 = REGISTRY["atan2"]()
_GCD, _LCM = numeric.Gcd(), numeric.Lcm()
_FREXP, _NEXTAFTER = numeric.Frexp(), numeric.Nextafter()
_frexp_result = named("frexp", MantissaExponent)

# -- operators ------------------------------------------------------------------------------------

operator_add = operator(_ADD)
operator_radd = operator(_ADD, reflected=True)
operator_mul = operator(_MUL)
operator_rmul = operator(_MUL, reflected=True)
operator_sub = operator(_SUB)
operator_rsub = operator(_SUB, reflected=True)
operator_truediv = operator(_DIV, at_least_float=True)
operator_rtruediv = operator(_DIV, reflected=True, at_least_float=True)
operator_floordiv = operator(_FLOOR_DIV)
operator_rfloordiv = operator(_FLOOR_DIV, reflected=True)
operator_mod = operator(_REMAINDER)
operator_rmod = operator(_REMAINDER, reflected=True)


def operator_pow(self: Tensor, other: Any) -> Any:
    """Self ** other."""
    if other.__class__ is int and other == 2:
        return apply(_MUL, self, self)
    return pow(self, other) if is_number(other) or hasattr(other, "_data") else NotImplemented


def operator_rpow(self: Tensor, other: Any) -> Any:
    """Other ** self."""
    return pow(other, self) if is_number(other) or hasattr(other, "_data") else NotImplemented


# -- functions ------------------------------------------------------------------------------------


def _scaled(other: Any, alpha: Any) -> Any:
    return other if alpha == 1 else other * alpha


def add(input: Any, other: Any, *, alpha: Any = 1, out: Tensor | None = None) -> Tensor:
    """Input + alpha * other.

    Shapes: any that broadcast -> the broadcast one.
    """
    return finish(binary(_ADD, input, _scaled(other, alpha)), out)


def sub(input: Any, other: Any, *, alpha: Any = 1, out: Tensor | None = None) -> Tensor:
    """Input - alpha * other.

    Shapes: any that broadcast -> the broadcast one.
    """
    return finish(binary(_SUB, input, _scaled(other, alpha)), out)


def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """Other - alpha * input.

    Shapes: any that broadcast -> the broadcast one.
    """
    return binary(_SUB, other, _scaled(input, alpha))


def mul(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """Input * other.

    Shapes: any that broadcast -> the broadcast one.
    """
    return finish(binary(_MUL, input, other), out)


def div(
    input: Any, other: Any, *, rounding_mode: str | None = None, out: Tensor | None = None
) -> Tensor:
    """Input / other, in the default float type for integers.

    `rounding_mode` "trunc" rounds the quotient towards zero, "floor" downwards; both keep integers.

    Shapes: any that broadcast -> the broadcast one.
    """
    if rounding_mode is None:
        return finish(apply(_DIV, *float_operands(input, other)), out)
    if rounding_mode not in ("trunc", "floor"):
        raise ArgumentError(
            "div expected rounding_mode to be one of None, 'trunc', or 'floor' but found "
            f"{rounding_mode!r}"
        )
    return finish(_whole(_FLOOR_DIV if rounding_mode == "floor" else _TRUNC_DIV, input, other), out)


def true_divide(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """Input / other.

    Shapes: any that broadcast -> the broadcast one.
    """
    return div(input, other, out=out)


def _whole(op: Any, input: Any, other: Any) -> Tensor:
    return binary(op, input, other)


def floor_divide(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """Input / other rounded downwards; integers stay integers and refuse a divisor of zero.

    Shapes: any that broadcast -> the broadcast one.
    """
    return finish(_whole(_FLOOR_DIV, input, other), out)


def remainder(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """What floor division leaves: the sign of `other`, as Python's ``%``.

    Shapes: any that broadcast -> the broadcast one.
    """
    return finish(_whole(_REMAINDER, input, other), out)


def fmod(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """What division rounded towards zero leaves: the sign of `input`, as C's fmod.

    Shapes: any that broadcast -> the broadcast one.
    """
    return finish(_whole(_FMOD, input, other), out)


def pow(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """Input ** exponent; either may be a number.

    Raises ArgumentError for an integer tensor to a negative whole power.

    Shapes: any that broadcast -> the broadcast one.
    """
    if isinstance(exponent, int) and exponent < 0 and result_type(input, exponent).category < 2:
        raise ArgumentError("Integers to negative integer powers are not allowed.")
    operands = unify((input, exponent))
    if operands[0].dtype is dt.bool_:
        operands = [cast(t, dt.int64) for t in operands]
        return finish(cast(apply(_POW, *operands), dt.bool_), out)
    return finish(apply(_POW, *operands), out)


def float_power(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """Input ** exponent in float64 (complex128 if either is complex).

    Shapes: any that broadcast -> the broadcast one.
    """
    wide = dt.complex128 if result_type(input, exponent).is_complex else dt.float64
    return finish(apply(_POW, *unify((input, exponent), dtype=wide)), out)


def maximum(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """The larger of two, element by element; NaN where either is."""
    return finish(binary(_MAXIMUM, input, other), out)


def minimum(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """The smaller of two, element by element; NaN where either is."""
    return finish(binary(_MINIMUM, input, other), out)


def fmax(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """The larger of two; the other one where one is NaN.

    Shapes: any that broadcast -> the broadcast one.
    """
    a, b = unify((input, other))
    if a.dtype.category < dt.FLOAT:
        return finish(apply(_MAXIMUM, a, b), out)
    keep_a = (a >= b) | b.isnan()
    return finish(a.where(keep_a, b), out)


def fmin(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """The smaller of two; the other one where one is NaN.

    Shapes: any that broadcast -> the broadcast one.
    """
    a, b = unify((input, other))
    if a.dtype.category < dt.FLOAT:
        return finish(apply(_MINIMUM, a, b), out)
    keep_a = (a <= b) | b.isnan()
    return finish(a.where(keep_a, b), out)


def atan2(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The angle of the point (other, input), in [-pi, pi]."""
    return finish(apply(_ATAN2, *float_operands(input, other)), out)


def hypot(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """sqrt(input**2 + other**2), without overflow in between.

    Shapes: any that broadcast -> the broadcast one.
    """
    a, b = float_operands(input, other)
    big, small = maximum(a.abs(), b.abs()), minimum(a.abs(), b.abs())
    ratio = (small / big).where(big != small, (big != 0).to(big.dtype))
    root = big * (ratio * ratio + 1).sqrt()
    return finish(root.where(~big.isinf(), big), out)


def copysign(input: Tensor, other: Any, *, out: Tensor | None = None) -> Tensor:
    """|input| with the sign of `other` (zeros and NaN have one).

    Shapes: any that broadcast -> the broadcast one.
    """
    a, b = float_operands(input, other)
    magnitude = a.abs()
    return finish(magnitude.where(~signbit(b), -magnitude), out)


def signbit(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Whether the sign bit is set: true for negative numbers and for -0.0.

    Shapes: any -> the same.
    """
    if input.dtype.category < dt.FLOAT:
        return finish(input < 0, out)
    # 1 / -0.0 is -inf.
    return finish((input < 0) | ((input == 0) & (input.reciprocal() < 0)), out)


def xlogy(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """Input * log(other), and 0 where input is 0 and `other` is not NaN.

    Shapes: any that broadcast -> the broadcast one.
    """
    a, b = float_operands(input, other)
    # Where the product would be 0 * inf, in value or gradient, the logarithm is never taken.
    unsafe = (a == 0) & ((b <= 0) | b.isinf())
    return finish(a * b.masked_fill(unsafe, 1).log(), out)


def logaddexp(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """log(exp(input) + exp(other)), without overflow.

    Shapes: any that broadcast -> the broadcast one.
    """
    a, b = float_operands(input, other)
    if a.dtype.is_complex:
        first = a.real >= b.real
        large, small = a.where(first, b), b.where(first, a)
        return finish(large + ((small - large).exp() + 1).log(), out)
    big = maximum(a, b)
    same_infinity = (a == b) & a.isinf()
    gap = (a - b).abs().masked_fill(same_infinity, 0)
    return finish(big + (-gap).exp().log1p().masked_fill(same_infinity, 0), out)


def logaddexp2(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """log2(2**input + 2**other), without overflow.

    Shapes: any that broadcast -> the broadcast one.
    """
    a, b = float_operands(input, other)
    return finish(logaddexp(a * math.log(2), b * math.log(2)) / math.log(2), out)


def heaviside(input: Tensor, values: Tensor, *, out: Tensor | None = None) -> Tensor:
    """0 below zero, 1 above, and `values` at zero. Not differentiable.

    Shapes: any that broadcast -> the broadcast one.
    """
    if input.dtype is not values.dtype:
        raise DTypeError(
            f"heaviside is not yet implemented for tensors with different dtypes: "
            f"{input.dtype.name} and {values.dtype.name}"
        )
    above = cast(input > 0, input.dtype)
    step = values.detach().where(input == 0, above)
    return finish(input.where(input.isnan(), step) if input.is_floating_point() else step, out)


def ldexp(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Input * 2**other.

    Shapes: any that broadcast -> the broadcast one.
    """
    wide = dt.float64 if dt.float64 in (input.dtype, other.dtype) else dt.float32
    power = cast(other, wide) if other.dtype.category < dt.FLOAT else other
    return finish(input * 2.0**power, out)


def nextafter(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
    """The floating-point number after `input` in the direction of `other`.

    Shapes: any that broadcast -> the broadcast one.
    """
    return finish(binary(_NEXTAFTER, input, other), out)


def frexp(input: Tensor, *, out: Any = None) -> Any:
    """(mantissa, exponent), input = mantissa * 2**exponent and 1/2 <= |mantissa| < 1; int32.

    Shapes: any -> the same.
    """
    mantissa, exponent = apply_many(_FREXP, input)
    if out is not None:
        mantissa, exponent = finish(mantissa, out[0]), finish(exponent, out[1])
    return _frexp_result((mantissa, exponent))


def gcd(input: Tensor, other: Any, *, out: Tensor | None = None) -> Tensor:
    """The greatest common divisor of integers, not negative; gcd(0, 0) is 0.

    Shapes: any that broadcast -> the broadcast one.
    """
    return finish(binary(_GCD, input, other), out)


def lcm(input: Tensor, other: Any, *, out: Tensor | None = None) -> Tensor:
    """The least common multiple of integers, not negative; 0 where one is 0.

    Shapes: any that broadcast -> the broadcast one.
    """
    return finish(binary(_LCM, input, other), out)


# -- products and sums of three -------------------------------------------------------------------


def addcmul(
    input: Tensor,
    tensor1: Tensor,
    tensor2: Tensor,
    *,
    value: Any = 1,
    out: Tensor | None = None,
) -> Tensor:
    """Input + value * tensor1 * tensor2.

    Shapes: any that broadcast -> the broadcast one.
    """
    return finish(input + _scaled(tensor1 * tensor2, value), out)


def addcdiv(
    input: Tensor,
    tensor1: Tensor,
    tensor2: Tensor,
    *,
    value: Any = 1,
    out: Tensor | None = None,
) -> Tensor:
    """Input + value * tensor1 / tensor2; floating-point quotients only.

    Shapes: any that broadcast -> the broadcast one.
    """
    if result_type(tensor1, tensor2).category < dt.FLOAT:
        raise DTypeError(
            "Integer division with addcdiv is no longer supported; use div with a rounding_mode"
        )
    return finish(input + _scaled(tensor1 / tensor2, value), out)


def lerp(input: Tensor, end: Tensor, weight: Any, *, out: Tensor | None = None) -> Tensor:
    """Input + weight * (end - input).

    Shapes: any that broadcast -> the broadcast one.
    """
    if end.dtype is not input.dtype:
        raise DTypeError(f"expected dtype {input.dtype} for `end` but got dtype {end.dtype}")
    return finish(input + weight * (end - input), out)


Binary = Callable[..., "Tensor"]
subtract: Binary = sub
multiply: Binary = mul
divide: Binary = div
arctan2: Binary = atan2
