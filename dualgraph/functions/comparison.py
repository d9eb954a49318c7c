"""Comparison, logic, bits and choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Dim
from dualgraph_compiler.errors import DTypeError
from dualgraph_compiler.ops import Op, bitwise, comparison

from .._dispatch import apply
from .._promote import binary, cast, operator, result_type, scalar, unify
from .basics import finish
from .pointwise import Unary

if TYPE_CHECKING:
    from .._tensor import Tensor

_EQ, _NE = comparison.Equal(), comparison.NotEqual()
_LT, _LE = comparison.Less(), comparison.LessEqual()
_GT, _GE = comparison.Greater(), comparison.GreaterEqual()
_AND, _OR, _XOR = bitwise.BitwiseAnd(), bitwise.BitwiseOr(), bitwise.BitwiseXor()
_NOT = bitwise.BitwiseNot()
_LEFT, _RIGHT = bitwise.ShiftLeft(), bitwise.ShiftRight()
_WHERE = comparison.Where()

# -- operators ------------------------------------------------------------------------------------

operator_eq, operator_ne = operator(_EQ), operator(_NE)
operator_lt, operator_le = operator(_LT), operator(_LE)
operator_gt, operator_ge = operator(_GT), operator(_GE)
operator_and, operator_rand = operator(_AND), operator(_AND, reflected=True)
operator_or, operator_ror = operator(_OR), operator(_OR, reflected=True)
operator_xor, operator_rxor = operator(_XOR), operator(_XOR, reflected=True)
operator_lshift, operator_rlshift = operator(_LEFT), operator(_LEFT, reflected=True)
operator_rshift, operator_rrshift = operator(_RIGHT), operator(_RIGHT, reflected=True)


def _of_two(op: Op, name: str, doc: str) -> Unary:
    def function(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
        return finish(binary(op, input, other), out)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{doc}\n\nShapes: any that broadcast -> the broadcast one."
    return function


eq = _of_two(_EQ, "eq", "input == other, element by element: bool.")
ne = _of_two(_NE, "ne", "input != other, element by element: bool.")
lt = _of_two(_LT, "lt", "input < other, element by element: bool.")
le = _of_two(_LE, "le", "input <= other, element by element: bool.")
gt = _of_two(_GT, "gt", "input > other, element by element: bool.")
ge = _of_two(_GE, "ge", "input >= other, element by element: bool.")
not_equal, less, less_equal, greater, greater_equal = ne, lt, le, gt, ge

logical_and = _of_two(comparison.LogicalAnd(), "logical_and", "Both are nonzero: bool.")
logical_or = _of_two(comparison.LogicalOr(), "logical_or", "At least one is nonzero: bool.")
logical_xor = _of_two(comparison.LogicalXor(), "logical_xor", "Exactly one is nonzero: bool.")

bitwise_and = _of_two(_AND, "bitwise_and", "Bits set in both; integers and bools.")
bitwise_or = _of_two(_OR, "bitwise_or", "Bits set in either; integers and bools.")
bitwise_xor = _of_two(_XOR, "bitwise_xor", "Bits set in one of the two; integers and bools.")
bitwise_left_shift = _of_two(_LEFT, "bitwise_left_shift", "input * 2**other, wrapping.")
bitwise_right_shift = _of_two(_RIGHT, "bitwise_right_shift", "floor(input / 2**other).")


def bitwise_not(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Every bit turned over; on bool, not.

    Shapes: any -> the same.
    """
    return finish(apply(_NOT, input), out)


def logical_not(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Whether each element is zero: bool."""
    return finish(apply(comparison.LogicalNot(), input), out)


# -- what kind of number ---------------------------------------------------------------------------


def isnan(input: Tensor) -> Tensor:
    """Whether each element is NaN: bool."""
    return apply(comparison.Isnan(), input)


def isinf(input: Tensor) -> Tensor:
    """Whether each element is infinite: bool."""
    return apply(comparison.Isinf(), input)


def isfinite(input: Tensor) -> Tensor:
    """Whether each element is neither NaN nor infinite: bool."""
    return apply(comparison.Isfinite(), input)


def isposinf(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Whether each element is plus infinity: bool."""
    return finish(input == np.inf, out)


def isneginf(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Whether each element is minus infinity: bool."""
    return finish(input == -np.inf, out)


def isreal(input: Tensor) -> Tensor:
    """Whether the imaginary part is zero: bool.

    Shapes: any -> the same.
    """
    return input.imag == 0 if input.dtype.is_complex else input.new_ones(input.shape, dtype=bool)


# -- tensors as wholes ----------------------------------------------------------------------------


def isclose(
    input: Tensor,
    other: Tensor,
    rtol: float = 1e-05,
    atol: float = 1e-08,
    equal_nan: bool = False,
) -> Tensor:
    """|input - other| <= atol + rtol |other|, element by element: bool."""
    if input.dtype is not other.dtype:
        raise DTypeError(f"{input.dtype} did not match {other.dtype}")
    same = input == other
    if equal_nan and input.dtype.category >= dt.FLOAT:
        same = same | (isnan(input) & isnan(other))
    if input.dtype is dt.bool_ or (rtol == 0 and atol == 0):
        return same
    gap = (input - other).abs()
    allowed = other.abs() * rtol + atol
    return same | (isfinite(gap) & (gap <= allowed))


def allclose(
    input: Tensor,
    other: Tensor,
    rtol: float = 1e-05,
    atol: float = 1e-08,
    equal_nan: bool = False,
) -> bool:
    """Whether all elements are close, see `isclose`."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and the same elements."""
    return tuple(input.shape) == tuple(other.shape) and bool((input == other).all())


# -- choice ----------------------------------------------------------------------------------------


def where(condition: Tensor, input: Any = None, other: Any = None, *, out: Any = None) -> Any:
    """`input` where `condition` holds, else `other`, all broadcast; alone, as ``nonzero``'s tuple.

    `input` and `other` may be numbers and are promoted to a common dtype.
    """
    if input is None and other is None:
        from .gathering import nonzero

        return nonzero(condition, as_tuple=True)
    if condition.dtype is dt.uint8:
        condition = cast(condition, dt.bool_)
    if condition.dtype is not dt.bool_:
        raise DTypeError(
            "where expected condition to be a boolean tensor, but got a tensor with dtype "
            f"{condition.dtype.name}"
        )
    if hasattr(input, "_data") or hasattr(other, "_data"):
        a, b = unify((input, other))
    else:
        common = result_type(input, other)
        a, b = scalar(input, common, condition), scalar(other, common, condition)
    return finish(apply(_WHERE, condition, a, b), out)


def where_method(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """This tensor where `condition` holds, else `other`."""
    return where(condition, self, other)  # type: ignore[no-any-return]


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """The input with `value`, a number or 0-d tensor, where the bool `mask` holds.

    Shapes: input and mask, which broadcast -> the broadcast one.
    """
    if mask.dtype is not dt.bool_:
        raise DTypeError(
            f"masked_fill_ only supports boolean masks, but got mask with dtype {mask.dtype.name}"
        )
    filled = _as_fill(value, input)
    return apply(_WHERE, mask, filled, input)


def _as_fill(value: Any, input: Tensor) -> Tensor:
    """A fill value in the input's dtype, converted as C would; DTypeError if it does not fit."""
    if hasattr(value, "_data"):
        if value._data.ndim:
            raise DTypeError(
                "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                f"{value._data.ndim} dimension(s)."
            )
        return cast(value, input.dtype)
    kind = input.dtype
    fits = kind.is_complex or not isinstance(value, complex)
    if fits and kind.category == dt.INT and not isinstance(value, Dim):
        limits = np.iinfo(kind.np)
        value = int(value) if abs(value) < 2**64 else 2**64
        fits = limits.min <= value <= limits.max
    if not fits:
        raise DTypeError(f"value cannot be converted to type {kind.name} without overflow")
    return scalar(value, kind, input)
