"""Pointwise ops as scalar expressions.

A rule takes the op and its operands as scalars and gives the result as a scalar. Narrow floats come
widened to float32, and the result is rounded back. An op without a rule, or with complex operands,
is left to the interpreter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

from ...dtypes import BOOL, FLOAT, INT, DType, bool_, float16, float64
from ...graph import Node
from ...ops.base import Op
from ...ops.extremum import in_range
from ...ops.special import Polygamma
from ..loops import Call, Const, Expr, walk
from ..scalars import NARROW, call, cast, const, is_float, like, test, truth, where, widen
from ..softmax import ExpNonpositive
from .registry import EXACT, ROUNDING, SIGN_OF_ZERO, registering, unlisted

Rule: TypeAlias = Callable[..., Expr]
RULES: dict[type[Op], Rule] = {}
_rule = registering(RULES, ROUNDING)


def lower_pointwise(op: Op, args: list[Expr], dtype: DType) -> Expr:
    """The result of `op` on scalars, of `dtype`."""
    rule = RULES[type(op)]
    if op.name == "cast":
        return cast(args[0], dtype)
    out = rule(op, *(widen(a) for a in args))
    return cast(out, dtype) if dtype in NARROW else out


def why_not(node: Node) -> str | None:
    """Why a pointwise node cannot be lowered; None where it can."""
    if isinstance(node.op, Polygamma) and node.op.n > 0:
        return "polygamma has no native form yet"
    return unlisted(node, RULES)


def can_fail(node: Node) -> bool:
    """Whether a node is an error for some numbers: integer divisions are."""
    return node.op.name in _DIVISIONS and not node.output.dtype.is_floating_point


def _simple(primitives: dict[str, str], inexact: str) -> None:
    """Ops that are a primitive on floats; on integers, where they take them, nothing happens."""
    for name, primitive in primitives.items():
        _rule(name, inexact=inexact)(functools.partial(_primitive, primitive))


def _primitive(primitive: str, op: Op, *xs: Expr) -> Expr:
    return call(primitive, *xs) if is_float(xs[0]) else xs[0]


# fmt: off
_simple({name: name for name in (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "erf", "sin", "cos", "tan", "asin",
    "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid",
    "erfc", "erfcx", "erfinv", "ndtri", "log_ndtr", "lgamma", "i0", "i0e", "i1", "i1e",
)}, ROUNDING)
_simple({
    **{name: name for name in ("sqrt", "floor", "ceil", "trunc", "div", "conj")},
    "round": "rint",
}, EXACT)
# fmt: on
RULES[ExpNonpositive] = functools.partial(_primitive, "exp_nonpositive")


@_rule("polygamma")
def _polygamma(op: Op, x: Expr) -> Expr:
    return call("digamma", x)


@_rule("entr")
def _entr(op: Op, x: Expr) -> Expr:
    y = call("neg", call("mul", x, call("log", x)))
    other = where(test("lt", x, like(x, 0)), like(x, -math.inf), x)
    return where(test("gt", x, like(x, 0)), y, other)


# -- arithmetic -----------------------------------------------------------------------------------


def _extreme(node: Node) -> str:
    """Of two zeros NumPy's maximum and minimum take one by its place, not by its sign."""
    if node.output.dtype in NARROW:
        return "of two narrow zeros NumPy's loops take another one than those of wide ones"
    return SIGN_OF_ZERO if node.output.dtype.category == FLOAT else EXACT


def _narrow(node: Node) -> str:
    """Narrow floats are rounded once, behind all steps, where NumPy rounds behind each."""
    return ROUNDING if node.output.dtype in NARROW else EXACT


def _logical_on_bool(number: str, logical: str) -> Rule:
    return lambda op, a, b: call(logical if a.dtype.category == BOOL else number, a, b)


for _name, _number, _logical in (
    ("add", "add", "or"),
    ("mul", "mul", "and"),
    ("sub", "sub", "sub"),
    ("bitwise_and", "band", "and"),
    ("bitwise_or", "bor", "or"),
    ("bitwise_xor", "bxor", "xor"),
):
    _rule(_name, inexact=EXACT)(_logical_on_bool(_number, _logical))
_rule("maximum", inexact=_extreme)(_logical_on_bool("max", "or"))
_rule("minimum", inexact=_extreme)(_logical_on_bool("min", "and"))


@_rule("bitwise_not", inexact=EXACT)
def _bitwise_not(op: Op, x: Expr) -> Expr:
    return call("not" if x.dtype.category == BOOL else "bnot", x)


@_rule("neg", inexact=EXACT)
def _neg(op: Op, x: Expr) -> Expr:
    return call("neg", x)


@_rule("reciprocal", inexact=EXACT)
def _reciprocal(op: Op, x: Expr) -> Expr:
    return call("div", like(x, 1), x)


@_rule("rsqrt", inexact=EXACT)
def _rsqrt(op: Op, x: Expr) -> Expr:
    return call("div", like(x, 1), call("sqrt", x))


@_rule("abs", inexact=EXACT)
def _abs(op: Op, x: Expr) -> Expr:
    return call("abs", x) if x.dtype.is_signed else x


@_rule("sign", inexact=EXACT)
def _sign(op: Op, x: Expr) -> Expr:
    if x.dtype.category == BOOL:
        return x
    positive = where(test("gt", x, like(x, 0)), like(x, 1), like(x, 0))
    return (
        where(test("lt", x, like(x, 0)), like(x, -1), positive) if x.dtype.is_signed else positive
    )


def _power(node: Node) -> str:
    """Whether it is one of the small powers that are products, or a root, in the eager kernel."""
    base, exponent = node.inputs
    if base.dtype.category != FLOAT:
        return EXACT
    known = exponent.is_constant and exponent.ndim == 0
    small = (0.5, 1.0, 2.0) if base.dtype in NARROW else (0.5, 1.0, 2.0, 3.0)
    return EXACT if known and float(exponent.data) in small else ROUNDING


@_rule("pow", inexact=_power)
def _pow(op: Op, a: Expr, b: Expr) -> Expr:
    if not is_float(a):
        return call("ipow", a, b)
    if isinstance(b, Const):
        if b.value == 1.0:
            return a
        if b.value == 2.0:
            return call("mul", a, a)
        if b.value == 0.5:
            return call("sqrt", a)
        if b.value == 3.0:
            return call("mul", call("mul", a, a), a)
    return call("pow", a, b)


_DIVISIONS = ("floor_div", "trunc_div", "remainder", "fmod")


def _quotient(node: Node) -> str:
    """Of floats: C's fmod is exact, and a division rounds in one way only."""
    if node.output.dtype.category != FLOAT or node.op.name == "fmod":
        return EXACT
    return _narrow(node) if node.op.name == "trunc_div" else ROUNDING


@_rule(*_DIVISIONS, inexact=_quotient)
def _divide(op: Op, a: Expr, b: Expr) -> Expr:
    if not is_float(a):
        return call("i" + op.name, a, b)
    if op.name == "trunc_div":
        return call("trunc", call("div", a, b))
    return call(op.name, a, b)


@_rule("shift_left", "shift_right", inexact=EXACT)
def _shift(op: Op, a: Expr, b: Expr) -> Expr:
    bits = a.dtype.itemsize * 8
    fits = test("lt", b, like(b, bits))
    if b.dtype.is_signed:
        fits = test("and", fits, test("ge", b, like(b, 0)))
    amount = where(fits, b, like(b, 0))
    if op.name == "shift_left":
        return where(fits, call("shl", a, amount), like(a, 0))
    empty: Expr = like(a, 0)
    if a.dtype.is_signed:
        empty = where(test("lt", a, like(a, 0)), like(a, -1), empty)
    return where(fits, call("shr", a, amount), empty)


# -- comparison, logic, choice --------------------------------------------------------------------

for _name, _test in (
    ("greater", "gt"),
    ("greater_equal", "ge"),
    ("less", "lt"),
    ("less_equal", "le"),
    ("equal", "eq"),
    ("not_equal", "ne"),
):
    _rule(_name, inexact=EXACT)(lambda op, a, b, p=_test: test(p, a, b))

for _name in ("and", "or", "xor"):
    _rule(f"logical_{_name}", inexact=EXACT)(lambda op, a, b, p=_name: test(p, truth(a), truth(b)))


@_rule("logical_not", inexact=EXACT)
def _logical_not(op: Op, x: Expr) -> Expr:
    return test("not", truth(x))


@_rule("isnan", "isinf", "isfinite", inexact=EXACT)
def _classify(op: Op, x: Expr) -> Expr:
    if not is_float(x):
        return Const(op.name == "isfinite", bool_)
    if op.name == "isnan":
        return test("ne", x, x)
    infinity = like(x, math.inf)
    return test("eq" if op.name == "isinf" else "lt", call("abs", x), infinity)


@_rule("where", inexact=EXACT)
def _where(op: Op, cond: Expr, a: Expr, b: Expr) -> Expr:
    return where(cond, a, b)


def _conversion(node: Node) -> str:
    """What becomes of a float that an integer type cannot hold is for each compiler to choose."""
    old, new = node.inputs[0].dtype, node.output.dtype
    if old is float64 and new is float16:
        return ROUNDING  # by way of float32
    if old.category == FLOAT and new.category == INT:
        return "what is out of an integer's range becomes what the machine makes of it"
    return EXACT


@_rule("cast", inexact=_conversion)
def _cast(op: Any, x: Expr) -> Expr:
    return cast(x, op.dtype)


# -- activations ----------------------------------------------------------------------------------


@_rule("relu", inexact=_extreme)
def _relu(op: Op, x: Expr) -> Expr:
    return call("max", x, like(x, 0))


@_rule("clip", "hardtanh", inexact=_extreme)
def _clip(op: Any, x: Expr) -> Expr:
    if op.min is not None:
        x = call("max", x, like(x, in_range(x.dtype, op.min)))
    if op.max is not None:
        x = call("min", x, like(x, in_range(x.dtype, op.max)))
    return x


@_rule("leaky_relu", inexact=_narrow)
def _leaky_relu(op: Any, x: Expr) -> Expr:
    return where(test("gt", x, like(x, 0)), x, call("mul", x, like(x, op.alpha)))


@_rule("prelu", inexact=EXACT)
def _prelu(op: Op, x: Expr, slope: Expr) -> Expr:
    return where(test("gt", x, like(x, 0)), x, call("mul", x, slope))


def _log1p_exp(x: Expr) -> Expr:
    """log(1 + exp(-|x|))."""
    return call("log1p", call("exp", call("neg", call("abs", x))))


@_rule("log_sigmoid")
def _log_sigmoid(op: Op, x: Expr) -> Expr:
    return call("sub", call("min", x, like(x, 0)), _log1p_exp(x))


@_rule("softplus")
def _softplus(op: Any, x: Expr) -> Expr:
    scaled = x if op.beta == 1.0 else call("mul", x, like(x, op.beta))
    y: Expr = call("add", _log1p_exp(scaled), call("max", scaled, like(x, 0)))
    y = y if op.beta == 1.0 else call("div", y, like(x, op.beta))
    return where(test("gt", scaled, like(x, op.threshold)), x, y)


@_rule("elu", "selu")
def _elu(op: Any, x: Expr) -> Expr:
    low = call("mul", call("expm1", call("min", x, like(x, 0))), like(x, op.alpha))
    y = where(test("gt", x, like(x, 0)), x, low)
    return y if op.name == "elu" else call("mul", y, like(x, op.gamma))


@_rule("celu")
def _celu(op: Any, x: Expr) -> Expr:
    alpha = like(x, op.alpha)
    low = call("mul", call("expm1", call("div", call("min", x, like(x, 0)), alpha)), alpha)
    return where(test("gt", x, like(x, 0)), x, low)


@_rule("hard_sigmoid", inexact=EXACT)
def _hard_sigmoid(op: Any, x: Expr) -> Expr:
    line = call("add", call("mul", x, like(x, op.alpha)), like(x, op.beta))
    return call("min", call("max", line, const(0, x.dtype)), const(1, x.dtype))


_CHEAP = {"add", "sub", "mul", "neg", "abs", "max", "min", "where", "cast", "and", "or", "not"}
_CHEAP |= {"lt", "le", "gt", "ge", "eq", "ne", "band", "bor", "bxor", "bnot"}


def is_costly(expr: Expr) -> bool:
    """Whether computing it again costs more than reading it back."""
    return any(isinstance(e, Call) and e.fn not in _CHEAP for e in walk(expr))
