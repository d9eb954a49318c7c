"""Real numbers computed from sizes: ``n / 2``, ``n ** -0.5``, ``math.ceil(n / 2)``.

What Python would compute on floats is kept as an expression of sizes. Quotients of sizes are kept
exact, so that rounding one gives a size again; other functions are opaque. A number enters a graph
as arithmetic on 0-d float64 tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, Union

from ..errors import UndecidedSize
from .expressions import Dim, DimLike
from .functions import floordiv
from .values import evaluate, substitute

Number: TypeAlias = Union[float, Dim, "SizeNumber"]

_LARGEST_DENOMINATOR = 1 << 20  # of floats that are taken as the fraction they are, as 0.5 or 1.25


class SizeNumber:
    """A real number that depends on sizes: `function` of `operands`.

    Functions: div (of two sizes: an exact quotient, its divisor not zero), add, sub, mul, truediv,
    pow. They are what the Python operators are on floats.
    """

    __slots__ = ("function", "operands")

    # NumPy must not try to compute with it.
    __array_ufunc__ = None

    def __init__(self, function: str, operands: tuple[Number, ...]) -> None:
        self.function = function
        self.operands = operands

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SizeNumber)
            and self.function == other.function
            and self.operands == other.operands
        )

    def __hash__(self) -> int:
        return hash((self.function, self.operands))

    def __repr__(self) -> str:
        a, b = (f"({x})" if isinstance(x, SizeNumber | Dim) else str(x) for x in self.operands)
        if self.function == "div":
            return a.strip("()") if b == "1" else f"{a} / {b}"
        return f"{a} {_SIGNS[self.function]} {b}"

    @property
    def op_name(self) -> str:
        """The operation on tensors that computes it from the operands."""
        return "div" if self.function == "truediv" else self.function

    def quotient(self) -> tuple[DimLike, DimLike] | None:
        """Dividend and divisor, where it is one of sizes."""
        return self.operands if self.function == "div" else None  # type: ignore[return-value]

    # -- arithmetic -----------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        return _combine("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return _combine("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return _combine("sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _combine("sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return _combine("mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _combine("mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _combine("truediv", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _combine("truediv", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return ratio(floor(_combine("truediv", self, other)))

    def __pow__(self, other: Any) -> Any:
        return _combine("pow", self, other)

    def __rpow__(self, other: Any) -> Any:
        return _combine("pow", other, self)

    def __neg__(self) -> Any:
        return self * -1

    def __pos__(self) -> SizeNumber:
        return self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    # -- comparison and rounding ----------------------------------------------------------------

    def __lt__(self, other: Any) -> bool:
        a, b = _sides(self, other, "<")
        return a < b

    def __le__(self, other: Any) -> bool:
        a, b = _sides(self, other, "<=")
        return a <= b

    def __gt__(self, other: Any) -> bool:
        a, b = _sides(self, other, ">")
        return a > b

    def __ge__(self, other: Any) -> bool:
        a, b = _sides(self, other, ">=")
        return a >= b

    def __bool__(self) -> bool:
        top = self.quotient()
        if top is not None:
            return bool(top[0])
        raise UndecidedSize(f"whether {self} is zero is not known")

    def __floor__(self) -> DimLike:
        return floor(self)

    def __ceil__(self) -> DimLike:
        return ceiling(self)

    def __trunc__(self) -> DimLike:
        return floor(self) if self >= 0 else ceiling(self)

    def __round__(self, digits: int | None = None) -> DimLike:
        top = self.quotient()
        if top is not None and top[1] == 1:
            return top[0]
        raise UndecidedSize(f"round() of {self} is not known; use math.floor or math.ceil")

    def __int__(self) -> int:
        raise UndecidedSize(
            f"{self} has no value while tracing: for the size write sym_int(...), math.floor(...) "
            "or size // 2"
        )

    __index__ = __int__

    def __float__(self) -> float:
        raise UndecidedSize(
            f"{self} has no value while tracing: keep it in arithmetic, and write ** 0.5 for a "
            "square root"
        )


_SIGNS = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**"}


def ratio(top: DimLike, bottom: DimLike = 1) -> SizeNumber:
    """The exact quotient of two sizes."""
    return SizeNumber("div", (top, bottom))


def _combine(function: str, a: Any, b: Any) -> Any:
    if not isinstance(a, _NUMBERS) or not isinstance(b, _NUMBERS):
        return NotImplemented
    if function == "truediv" and (b == 0):
        raise ZeroDivisionError("division by zero")
    left, right = _quotient(a), _quotient(b)
    if function != "pow" and left is not None and right is not None:
        (p, q), (r, s) = left, right
        if function == "mul":
            return _reduced(p * r, q * s)
        if function == "truediv":
            return _reduced(p * s, q * r)
        if q == s:
            return ratio(p + r if function == "add" else p - r, q)
        return ratio(p * s + r * q if function == "add" else p * s - r * q, q * s)
    return SizeNumber(function, (a, b))


def _reduced(top: DimLike, bottom: DimLike) -> SizeNumber:
    if isinstance(bottom, int):
        divisor = math.gcd(bottom, *(c for _, c in top.terms)) if isinstance(top, Dim) else 1
        if bottom < 0:
            divisor = -divisor
        if divisor != 1:
            return ratio(top // divisor, bottom // divisor)
    return ratio(top, bottom)


def _quotient(x: Any) -> tuple[DimLike, DimLike] | None:
    """`x` as a quotient of sizes, where it is exactly one."""
    if isinstance(x, SizeNumber):
        return x.quotient()
    if isinstance(x, int | Dim):
        return x, 1
    if math.isfinite(x):
        top, bottom = x.as_integer_ratio()
        if bottom <= _LARGEST_DENOMINATOR and abs(top) <= 1 << 53:
            return top, bottom
    return None


def _sides(a: Any, b: Any, sign: str) -> tuple[DimLike, DimLike]:
    """Two sizes that compare as `a` and `b` do."""
    left, right = _quotient(a), _quotient(b)
    if left is not None and right is not None:
        (p, q), (r, s) = left, right
        if q > 0 and s > 0:
            return p * s, r * q
    raise UndecidedSize(f"whether {a} {sign} {b} is not known")


def floor(x: Any) -> DimLike:
    """The largest size that is at most `x`.

    Raises:
        UndecidedSize: `x` is no quotient of sizes.
    """
    found = _quotient(x)
    if found is None:
        raise UndecidedSize(f"the size that {x} rounds to is not known; use integer arithmetic")
    return floordiv(*found)


def ceiling(x: Any) -> DimLike:
    """The smallest size that is at least `x`; raises as `floor` does."""
    return -floor(-x)


_FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "truediv": lambda a, b: a / b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
}
_NUMBERS = (int, float, Dim, SizeNumber)


def number_value(x: Number, env: Mapping[str, int]) -> float:
    """The value of a number given those of its symbols."""
    if isinstance(x, Dim):
        return evaluate(x, env)
    if isinstance(x, SizeNumber):
        return _FUNCTIONS[x.function](*(number_value(v, env) for v in x.operands))  # type: ignore[no-any-return]
    return x


def number_substitute(x: Number, env: Mapping[str, DimLike]) -> Number:
    """`x` with symbols replaced by sizes."""
    if isinstance(x, Dim):
        return substitute(x, env)
    if isinstance(x, SizeNumber):
        a, b = (number_substitute(v, env) for v in x.operands)
        return _FUNCTIONS[x.function](a, b)  # type: ignore[no-any-return]
    return x
