"""What ops do with complex numbers, in real arithmetic.

Products and quotients are computed as NumPy computes them; functions by the textbook identities,
within a few ulp of the larger part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from ..dims import product
from ..dtypes import REAL_OF, bool_
from ..graph import Node, Value
from ..ops import f
from ..ops.base import REGISTRY, Op
from ..ops.random import RandomNormal
from .complex_scan import ComplexScan


class Pair(NamedTuple):
    """A complex value's real and imaginary parts."""

    re: Value
    im: Value


Operand: TypeAlias = Pair | Value
Result: TypeAlias = Pair | Value | list[Pair | Value] | None
Rule: TypeAlias = Callable[..., Result]
RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def add(made: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, made))
        return made

    return add


def _call(name: str, *xs: Value) -> Value:
    made: Any = REGISTRY[name]
    return made()(*xs)  # type: ignore[no-any-return]


# -- parts on their own ---------------------------------------------------------------------------

_MOVES = "reshape expand permute slice flip diagonal tril triu slice_grad slice_update concat"
_MOVES += " diagonal_update gather index_select embedding index reverse_sequence stop_gradient"
_MOVES += " scatter scatter_add index_put index_select_grad embedding_grad"
_MOVES += " masked_gather masked_scatter"


@_rule(*_MOVES.split(), "add", "sub", "neg", "sum", "mean", "cumsum")
def _each(op: Op, node: Node, *xs: Operand) -> Pair:
    parts = [op(*(x[i] if isinstance(x, Pair) else x for x in xs)) for i in range(2)]
    return Pair(*parts)


@_rule("pad")
def _pad(op: Any, node: Node, x: Pair) -> Pair:
    value = complex(op.value)
    return Pair(replace(op, value=value.real)(x.re), replace(op, value=value.imag)(x.im))


@_rule("full")
def _full(op: Any, node: Node) -> Pair:
    value, dtype = complex(op.value), REAL_OF[op.dtype]
    re, im = (
        node.outputs[0].graph.call(replace(op, value=v, dtype=dtype), ())
        for v in (value.real, value.imag)
    )
    return Pair(re, im)


@_rule("where")
def _where(op: Op, node: Node, cond: Operand, a: Operand, b: Operand) -> Pair | None:
    if not (isinstance(a, Pair) and isinstance(b, Pair)):
        return None
    hit = _truth(cond)
    return Pair(f.where(hit, a.re, b.re), f.where(hit, a.im, b.im))


@_rule("real")
def _real(op: Op, node: Node, x: Pair) -> Value:
    return x.re


@_rule("imag")
def _imag(op: Op, node: Node, x: Pair) -> Value:
    return x.im


@_rule("conj")
def _conj(op: Op, node: Node, x: Pair) -> Pair:
    return Pair(x.re, -x.im)


@_rule("complex")
def _complex(op: Op, node: Node, re: Value, im: Value) -> Pair:
    shape = node.output.shape
    parts = [v if v.shape == shape else f.expand(v, shape) for v in (re, im)]
    return Pair(*parts)


@_rule("view_as_real")
def _view_as_real(op: Op, node: Node, x: Pair) -> Value:
    return f.stack(x, x.re.ndim)  # type: ignore[no-any-return]


@_rule("view_as_complex")
def _view_as_complex(op: Op, node: Node, x: Value) -> Pair:
    last = x.ndim - 1
    return Pair(f.select(x, last, 0), f.select(x, last, 1))


@_rule("cast")
def _cast(op: Any, node: Node, x: Operand) -> Operand:
    if op.dtype.is_complex:
        real = REAL_OF[op.dtype]
        re, im = x if isinstance(x, Pair) else (x, f.like(f.cast(x, real), 0))
        return Pair(f.cast(re, real), f.cast(im, real))
    assert isinstance(x, Pair)
    return _truth(x) if op.dtype is bool_ else f.cast(x.re, op.dtype)


@_rule("random_normal")
def _random_normal(op: Any, node: Node, seed: Value, offset: Value) -> Pair:
    """Both parts of each number follow one another in the stream; their variance is 1/2 each."""
    real = REAL_OF[op.dtype]
    y = RandomNormal((*op.shape, 2), real)(seed, offset) * math.sqrt(0.5)
    return Pair(f.select(y, len(op.shape), 0), f.select(y, len(op.shape), 1))


# -- comparisons and logic ------------------------------------------------------------------------


def _truth(x: Operand) -> Value:
    if not isinstance(x, Pair):
        return x if x.dtype is bool_ else f.not_equal(x, 0)
    return f.logical_or(f.not_equal(x.re, 0), f.not_equal(x.im, 0))  # type: ignore[no-any-return]


@_rule("logical_and", "logical_or", "logical_xor", "logical_not", "any", "all")
def _logical(op: Op, node: Node, *xs: Operand) -> Value:
    return op(*map(_truth, xs))  # type: ignore[no-any-return]


@_rule("equal")
def _equal(op: Op, node: Node, a: Pair, b: Pair) -> Value:
    return _call("logical_and", f.equal(a.re, b.re), f.equal(a.im, b.im))


@_rule("not_equal", "isnan", "isinf")
def _either(op: Op, node: Node, *xs: Pair) -> Value:
    re, im = (op(*(x[i] for x in xs)) for i in range(2))
    return f.logical_or(re, im)  # type: ignore[no-any-return]


@_rule("isfinite")
def _isfinite(op: Op, node: Node, x: Pair) -> Value:
    return _call("logical_and", op(x.re), op(x.im))


# -- arithmetic -----------------------------------------------------------------------------------


@_rule("mul", "matmul", "conv", "conv_weight_grad")
def _product(op: Op, node: Node, a: Pair, b: Pair, bias: Pair | None = None) -> Pair:
    re, im = ((), ()) if bias is None else ((bias.re,), (bias.im,))
    return Pair(op(a.re, b.re, *re) - op(a.im, b.im), op(a.re, b.im, *im) + op(a.im, b.re))


@_rule("div")
def _div(op: Op, node: Node, a: Pair, b: Pair) -> Pair:
    """R. L. Smith, "Algorithm 116: complex division" (1962), as NumPy has it."""
    size_re, size_im = f.abs(b.re), f.abs(b.im)
    wide = f.greater_equal(size_re, size_im)
    big, small = f.where(wide, b.re, b.im), f.where(wide, b.im, b.re)
    ratio = small / big
    scale = 1 / (big + small * ratio)
    re = f.where(wide, a.re + a.im * ratio, a.re * ratio + a.im) * scale
    im = f.where(wide, a.im - a.re * ratio, a.im * ratio - a.re) * scale
    zero = _call("logical_and", f.equal(size_re, 0), f.equal(size_im, 0))
    return Pair(f.where(zero, a.re / size_re, re), f.where(zero, a.im / size_re, im))


def _one(x: Value) -> Pair:
    return Pair(f.like(x, 1), f.like(x, 0))


@_rule("reciprocal")
def _reciprocal(op: Op, node: Node, x: Pair) -> Pair:
    return _div(op, node, _one(x.re), x)  # type: ignore[return-value]


def _size(x: Pair) -> Value:
    """|x| without overflow on the way; infinite where a part is, whatever the other."""
    a, b = f.abs(x.re), f.abs(x.im)
    big, small = _call("maximum", a, b), _call("minimum", a, b)
    ratio = small / big
    size = f.where(f.equal(big, 0), big, big * f.sqrt(1 + ratio * ratio))
    endless = f.logical_or(_call("isinf", a), _call("isinf", b))
    return f.where(endless, math.inf, size)  # type: ignore[no-any-return]


@_rule("abs")
def _abs(op: Op, node: Node, x: Pair) -> Value:
    return _size(x)


@_rule("sign")
def _sign(op: Op, node: Node, x: Pair) -> Pair:
    size = _size(x)
    zero = f.equal(size, 0)
    return Pair(f.where(zero, 0, x.re / size), f.where(zero, 0, x.im / size))


# -- running products -----------------------------------------------------------------------------


@_rule("cumprod")
def _cumprod(op: Any, node: Node, x: Pair) -> Pair:
    if x.re.ndim == 0:
        return x
    return Pair(*ComplexScan(op.axis, False, 2)(*x))


@_rule("linear_scan")
def _linear_scan(op: Any, node: Node, a: Pair, b: Pair) -> Pair:
    return Pair(*ComplexScan(op.axis, op.reverse, 4)(*a, *b))


@_rule("prod")
def _prod(op: Any, node: Node, x: Pair) -> Pair | None:
    shape = x.re.shape
    kept = [i for i in range(len(shape)) if i not in op.axes]
    n = product(tuple(shape[a] for a in op.axes))
    if n == 0 or not op.axes:
        return x if not op.axes else None
    rows = tuple(shape[i] for i in kept)
    flat = [f.reshape(f.permute(v, (*kept, *op.axes)), (*rows, n)) for v in x]
    last = [f.select(v, len(rows), n - 1) for v in ComplexScan(len(rows), False, 2)(*flat)]
    return Pair(*(f.reshape(v, node.output.shape) for v in last))


# -- functions ------------------------------------------------------------------------------------


@_rule("exp", "exp2")
def _exp(op: Op, node: Node, x: Pair) -> Pair:
    re, im = x if op.name == "exp" else (v * math.log(2) for v in x)
    size = f.exp(re)
    return Pair(size * _call("cos", im), f.where(f.equal(im, 0), im, size * _call("sin", im)))


@_rule("expm1")
def _expm1(op: Op, node: Node, x: Pair) -> Pair:
    half = _call("sin", x.im * 0.5)
    re = op(x.re) * _call("cos", x.im) - 2 * half * half
    return Pair(re, f.exp(x.re) * _call("sin", x.im))


_LOGS = {"log": 1.0, "log1p": 1.0, "log2": 1 / math.log(2), "log10": 1 / math.log(10)}


@_rule(*_LOGS)
def _log(op: Op, node: Node, x: Pair) -> Pair:
    x = Pair(1 + x.re, x.im) if op.name == "log1p" else x
    re, im = f.log(_size(x)), _call("atan2", x.im, x.re)
    scale = _LOGS[op.name]
    return Pair(re, im) if scale == 1 else Pair(re * scale, im * scale)


@_rule("sin", "cos")
def _sin(op: Op, node: Node, x: Pair) -> Pair:
    sin, cos = _call("sin", x.re), _call("cos", x.re)
    sinh, cosh = _call("sinh", x.im), _call("cosh", x.im)
    return Pair(sin * cosh, cos * sinh) if op.name == "sin" else Pair(cos * cosh, -(sin * sinh))


@_rule("sinh", "cosh")
def _sinh(op: Op, node: Node, x: Pair) -> Pair:
    sinh, cosh = _call("sinh", x.re), _call("cosh", x.re)
    sin, cos = _call("sin", x.im), _call("cos", x.im)
    return Pair(sinh * cos, cosh * sin) if op.name == "sinh" else Pair(cosh * cos, sinh * sin)


@_rule("tanh")
def _tanh(op: Op, node: Node, x: Pair) -> Pair:
    re, im = 2 * f.clip(x.re, -20, 20), 2 * x.im  # beyond it is 1
    below = _call("cosh", re) + _call("cos", im)
    return Pair(_call("sinh", re) / below, _call("sin", im) / below)


@_rule("tan")
def _tan(op: Op, node: Node, x: Pair) -> Pair:
    turned = _tanh(op, node, Pair(-x.im, x.re))
    assert isinstance(turned, Pair)
    return Pair(turned.im, -turned.re)


def _is_negative(x: Value) -> Value:
    """Whether the sign is minus, that of a zero too."""
    return f.less(f.where(f.equal(x, 0), 1 / x, x), 0)  # type: ignore[no-any-return]


def _root(x: Pair) -> Pair:
    size = _size(x)
    t = f.sqrt(0.5 * f.abs(x.re) + 0.5 * size)
    other = f.where(f.equal(t, 0), t, f.abs(x.im) / (2 * t))
    right = f.logical_or(f.greater(x.re, 0), f.equal(x.re, 0))
    re, im = f.where(right, t, other), f.where(right, other, t)
    return Pair(re, f.where(_is_negative(x.im), -im, im))


@_rule("sqrt")
def _sqrt(op: Op, node: Node, x: Pair) -> Pair:
    return _root(x)


@_rule("rsqrt")
def _rsqrt(op: Op, node: Node, x: Pair) -> Result:
    return _div(op, node, _one(x.re), _root(x))


@_rule("sigmoid")
def _sigmoid(op: Op, node: Node, x: Pair) -> Result:
    e = _exp(REGISTRY["exp"](), node, Pair(-x.re, -x.im))
    assert isinstance(e, Pair)
    return _div(op, node, _one(x.re), Pair(1 + e.re, e.im))


# -- inverse functions, powers --------------------------------------------------------------------
#
# W. Kahan, "Branch cuts for complex elementary functions" (1987).


def _times_i(x: Pair) -> Pair:
    return Pair(-x.im, x.re)


def _over_i(x: Pair) -> Pair:
    return Pair(x.im, -x.re)


def _roots(x: Pair) -> tuple[Pair, Pair]:
    """The roots of 1 - x and of 1 + x."""
    return _root(Pair(1 - x.re, -x.im)), _root(Pair(1 + x.re, x.im))


def _arc_sine(x: Pair) -> Pair:
    below, above = _roots(x)
    re = _call("atan2", x.re, below.re * above.re - below.im * above.im)
    return Pair(re, _call("asinh", below.re * above.im - below.im * above.re))


@_rule("asin")
def _asin(op: Op, node: Node, x: Pair) -> Pair:
    return _arc_sine(x)


@_rule("asinh")
def _asinh(op: Op, node: Node, x: Pair) -> Pair:
    return _over_i(_arc_sine(_times_i(x)))


@_rule("acos")
def _acos(op: Op, node: Node, x: Pair) -> Pair:
    below, above = _roots(x)
    re = 2 * _call("atan2", below.re, above.re)
    return Pair(re, _call("asinh", above.re * below.im - above.im * below.re))


@_rule("acosh")
def _acosh(op: Op, node: Node, x: Pair) -> Pair:
    below, above = _root(Pair(x.re - 1, x.im)), _root(Pair(x.re + 1, x.im))
    re = _call("asinh", below.re * above.re + below.im * above.im)
    return Pair(re, 2 * _call("atan2", below.im, above.re))


def _hyperbolic_arc_tangent(x: Pair) -> Pair:
    below = 1 - x.re
    across = x.im * x.im
    re = 0.25 * _call("log1p", 4 * x.re / (below * below + across))
    im = 0.5 * _call("atan2", 2 * x.im, below * (1 + x.re) - across)
    return Pair(re, im)


@_rule("atanh")
def _atanh(op: Op, node: Node, x: Pair) -> Pair:
    return _hyperbolic_arc_tangent(x)


@_rule("atan")
def _atan(op: Op, node: Node, x: Pair) -> Pair:
    return _over_i(_hyperbolic_arc_tangent(_times_i(x)))


@_rule("pow")
def _pow(op: Op, node: Node, a: Pair, b: Pair) -> Pair:
    """exp(b log(a)); 1 for b = 0, and 0 for a = 0 where b is positive."""
    log = Pair(f.log(_size(a)), _call("atan2", a.im, a.re))
    size = f.exp(b.re * log.re - b.im * log.im)
    angle = b.re * log.im + b.im * log.re
    nothing = _call("logical_and", f.equal(a.re, 0), f.equal(a.im, 0))
    defined = _call("logical_and", f.greater(b.re, 0), f.equal(b.im, 0))
    zero = f.where(defined, f.like(b.re, 0), math.nan)
    flat = _call("logical_and", f.equal(b.re, 0), f.equal(b.im, 0))
    re = f.where(nothing, zero, size * _call("cos", angle))
    im = f.where(nothing, zero, size * _call("sin", angle))
    return Pair(f.where(flat, 1, re), f.where(flat, 0, im))


@_rule("prod_others")
def _prod_others(op: Op, node: Node, x: Pair) -> Result:
    axis = x.re.ndim - 1
    if x.re.shape[axis] == 0:
        return x
    products = []
    for by in (1, -1):
        pads = [(0, 0)] * axis + [(by, -by)]
        shifted = Pair(f.pad(x.re, pads, 1), f.pad(x.im, pads, 0))
        products.append(Pair(*ComplexScan(axis, by < 0, 2)(*shifted)))
    return _product(REGISTRY["mul"](), node, *products)


@_rule("vector_norm")
def _vector_norm(op: Op, node: Node, x: Pair) -> Value:
    from .prepare import vector_norm

    return vector_norm(op, _size(x))
