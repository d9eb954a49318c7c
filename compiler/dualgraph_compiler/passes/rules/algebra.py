"""Equations between expressions, each replacing the left side by the right.

Not here because they are false in floating point: x * 0 = 0 and x - x = 0 (NaN, infinity, -0.0),
x / x = 1, exp(log(x)) = x, and reassociations such as (x + a) + b = x + (a + b), which round
differently.
"""

from __future__ import annotations

from ...dtypes import COMPLEX, FLOAT, INT, DType, bool_
from ...ops.activation import Relu
from ...ops.comparison import LogicalAnd, LogicalNot, LogicalOr, Where
from ...ops.extremum import Abs, Maximum, Minimum
from ...ops.pointwise import Neg, Reciprocal
from ...ops.unary import Ceil, Floor, Round, Rsqrt, Sqrt, Trunc
from ..pattern import Rule, Var, variables

x, y = variables("x y")
c = Var("c", bool_)  # logical ops take operands of any dtype, where() does not

where = Where()
both, either, inverse = LogicalAnd(), LogicalOr(), LogicalNot()
magnitude, larger, smaller = Abs(), Maximum(), Minimum()
relu, floor, ceil, trunc, nearest = Relu(), Floor(), Ceil(), Trunc(), Round()
sqrt, rsqrt, reciprocal, negative = Sqrt(), Rsqrt(), Reciprocal(), Neg()


def _int(dtype: DType) -> bool:
    return dtype.category == INT


def _float(dtype: DType) -> bool:
    return dtype.category == FLOAT


def _real(dtype: DType) -> bool:
    # (a + bi) * (1 + 0i) is not a + bi where a or b is infinite, NaN or -0.0.
    return dtype.category < COMPLEX


ARITHMETIC: list[Rule] = [
    Rule(x * 1, x, when=_real),
    Rule(x / 1, x, when=_real),
    Rule(x - 0, x),
    Rule(x + (-0.0), x, when=_float),
    Rule(x + 0, x, when=_int),
    Rule(x + 0, x, when=_float, exact=False, note="-0.0 + 0.0 is 0.0"),
    Rule(x * -1, -x, when=_float),
    Rule(x / -1, -x, when=_float),
    Rule(0 - x, -x, when=_int),
    Rule(negative(-x), x),
    Rule(x + -y, x - y),
    Rule(x - -y, x + y),
    Rule(-x * -y, x * y, when=_real),
    Rule(-x / -y, x / y, when=_real),
]

_ONCE = "rounds once instead of twice"

POWERS: list[Rule] = [
    Rule(x**1, x, when=_float),
    Rule(x**2, x * x, when=_float, exact=False, note="a product rounds correctly, pow nearly so"),
    Rule(x**-1, reciprocal(x), when=_float, exact=False, note="as for the square"),
    Rule(x**0.5, sqrt(x), when=_float, exact=False, note="of -0.0 and -inf, pow is 0.0 and inf"),
    Rule(reciprocal(sqrt(x)), rsqrt(x), when=_float, exact=False, note=_ONCE),
    Rule(1 / sqrt(x), rsqrt(x), when=_float, exact=False, note=_ONCE),
    Rule(y * reciprocal(x), y / x, when=_float, exact=False, note=_ONCE),
]

IDEMPOTENT: list[Rule] = [
    *(Rule(step(step(x)), step(x)) for step in (magnitude, relu, floor, ceil, trunc, nearest)),
    *(Rule(choose(x, x), x, when=_real) for choose in (larger, smaller)),
    Rule(magnitude(-x), magnitude(x)),
]

LOGIC: list[Rule] = [
    # Of operands that are not bool, the results are: those keep their ops, having another dtype.
    Rule(inverse(inverse(x)), x),
    Rule(both(x, True), x),
    Rule(either(x, False), x),
    Rule(both(x, x), x),
    Rule(either(x, x), x),
    Rule(where(c, x, x), x),
    Rule(where(True, x, y), x),
    Rule(where(False, x, y), y),
    Rule(where(inverse(c), x, y), where(c, y, x)),
]

ALGEBRA: list[Rule] = [*ARITHMETIC, *POWERS, *IDEMPOTENT, *LOGIC]
