"""Arithmetic on shapes, carried out while a model is imported.

Exported models compute shapes with tensor operators: Shape, Gather, Mul, Concat, then Reshape. The
contents of such tensors are known while importing, as ints or symbolic dims, and are kept here as
NumPy arrays of Python objects; :func:`evaluate` applies an operator to them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..dims import Dim, DimLike, bounds, floordiv, maximum, minimum, mod
from ..dims.functions import divide_exactly

# Contents of a small integer or bool tensor: an object array of ints, bools and Dims.
Contents = np.ndarray[Any, Any]

MAX_ELEMENTS = 1024  # larger tensors are data, not shapes


class Unknown(Exception):
    """The result is not known while importing."""


def contents(values: Any) -> Contents:
    """An object array of the shape of `values`."""
    return np.array(values, dtype=object)


def is_known(values: Contents) -> bool:
    """Whether no element is symbolic."""
    return not any(isinstance(v, Dim) for v in values.flat)


def evaluate(
    op_type: str, operands: Sequence[Contents | None], attrs: Mapping[str, Any]
) -> list[Contents] | None:
    """Results of an operator on known contents, or None if it is not one of those understood here.

    Args:
        operands: contents of every operand; None for an optional one that is absent.
        attrs: the node's attributes, by name.
    """
    rule = _RULES.get(op_type)
    if rule is None:
        return None
    try:
        result = rule(attrs, *operands)
    except (Unknown, ValueError, IndexError, TypeError, ZeroDivisionError):
        return None  # the ordinary import rule reports what is wrong, if anything is
    results = result if isinstance(result, list) else [np.asarray(result, dtype=object)]
    return results if all(map(_is_small, results)) else None


def _is_small(result: Contents) -> bool:
    """Whether there are few elements and int64 holds them all."""
    return result.size <= MAX_ELEMENTS and all(
        isinstance(v, Dim) or -(2**63) <= v < 2**63 for v in result.flat
    )


# -- elements ------------------------------------------------------------------------------------


def _divide(a: DimLike, b: DimLike) -> DimLike:
    """ONNX's integer division: towards zero."""
    if isinstance(a, int) and isinstance(b, int):
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient
    exact = divide_exactly(a, b)
    if exact is not None:
        return exact
    if bounds(a)[0] < 0 or bounds(b)[0] < 0:
        raise Unknown
    return floordiv(a, b)


def _equal(a: Any, b: Any) -> bool:
    if a == b:
        return True
    if isinstance(a, Dim) or isinstance(b, Dim):
        low, high = bounds(a - b)
        if low <= 0 and (high is None or high >= 0):
            raise Unknown
    return False


def _less(a: DimLike, b: DimLike) -> bool:
    low, high = bounds(a - b)
    if high is not None and high < 0:
        return True
    if low < 0:
        raise Unknown
    return False


def _elementwise(function: Callable[[Any, Any], Any]) -> Callable[..., Contents]:
    each = np.frompyfunc(function, 2, 1)

    def rule(_attrs: Mapping[str, Any], first: Contents, *rest: Contents) -> Contents:
        for other in rest:
            first = each(first, other)
        return np.asarray(first, dtype=object)

    return rule


def _mod(attrs: Mapping[str, Any], a: Contents, b: Contents) -> Contents:
    if attrs.get("fmod", 0):
        raise Unknown  # the dividend's sign, not the divisor's
    return np.asarray(np.frompyfunc(mod, 2, 1)(a, b), dtype=object)


def _negate(_attrs: Mapping[str, Any], x: Contents) -> Contents:
    return np.asarray(-x, dtype=object)


def _not(_attrs: Mapping[str, Any], x: Contents) -> Contents:
    return np.asarray(np.frompyfunc(operator.not_, 1, 1)(x), dtype=object)


# -- movement ------------------------------------------------------------------------------------


def _ints(x: Contents | None) -> list[int]:
    if x is None or not is_known(x):
        raise Unknown
    return [int(v) for v in x.flat]


def _concat(attrs: Mapping[str, Any], *xs: Contents) -> Contents:
    return np.concatenate(xs, axis=int(attrs["axis"]))


def _gather(attrs: Mapping[str, Any], x: Contents, indices: Contents) -> Contents:
    if not is_known(indices):
        raise Unknown
    found = np.take(x, indices.astype(np.int64), axis=int(attrs.get("axis", 0)))
    return np.asarray(found, dtype=object).reshape(_gathered_shape(x, indices, attrs))


def _gathered_shape(x: Contents, i: Contents, attrs: Mapping[str, Any]) -> tuple[int, ...]:
    axis = int(attrs.get("axis", 0)) % x.ndim
    return (*x.shape[:axis], *i.shape, *x.shape[axis + 1 :])


def _slice(
    _attrs: Mapping[str, Any],
    x: Contents,
    starts: Contents,
    ends: Contents,
    axes: Contents | None = None,
    steps: Contents | None = None,
) -> Contents:
    begin, end = _ints(starts), _ints(ends)
    along = _ints(axes) if axes is not None else list(range(len(begin)))
    stride = _ints(steps) if steps is not None else [1] * len(begin)
    index = [slice(None)] * x.ndim
    for a, b, e, s in zip(along, begin, end, stride, strict=True):
        # Going backwards, ONNX writes "past the start" as a large negative number.
        index[a] = slice(b, None if s < 0 and e < -x.shape[a] else e, s)
    return x[tuple(index)]


def _squeeze(_attrs: Mapping[str, Any], x: Contents, axes: Contents | None = None) -> Contents:
    return np.squeeze(x, None if axes is None else tuple(_ints(axes)))


def _unsqueeze(_attrs: Mapping[str, Any], x: Contents, axes: Contents) -> Contents:
    return np.expand_dims(x, tuple(_ints(axes)))


def _reshape(attrs: Mapping[str, Any], x: Contents, shape: Contents) -> Contents:
    sizes = _ints(shape)
    if not attrs.get("allowzero", 0):
        sizes = [x.shape[i] if d == 0 else d for i, d in enumerate(sizes)]
    return x.reshape(sizes)


def _flatten(attrs: Mapping[str, Any], x: Contents) -> Contents:
    axis = int(attrs.get("axis", 1))
    return x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), -1)


def _split(attrs: Mapping[str, Any], x: Contents, sizes: Contents | None = None) -> list[Contents]:
    if sizes is None:
        raise Unknown
    return np.split(x, np.cumsum(_ints(sizes))[:-1], axis=int(attrs.get("axis", 0)))


def _expand(_attrs: Mapping[str, Any], x: Contents, shape: Contents) -> Contents:
    sizes = _ints(shape)
    if np.prod(sizes, dtype=float) * max(x.size, 1) > MAX_ELEMENTS:
        raise Unknown
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(sizes)))


# -- the rest ------------------------------------------------------------------------------------


def _identity(_attrs: Mapping[str, Any], x: Contents) -> Contents:
    return x


def _where(_attrs: Mapping[str, Any], cond: Contents, a: Contents, b: Contents) -> Contents:
    if not is_known(cond):
        raise Unknown
    return np.where(cond.astype(bool), a, b)


def _reduce(function: Callable[[Any, Any], Any], start: int) -> Callable[..., Contents]:
    def rule(attrs: Mapping[str, Any], x: Contents, axes: Contents | None = None) -> Contents:
        if x.ndim != 1 or (axes is None and attrs.get("noop_with_empty_axes", 0)):
            raise Unknown
        total: Any = start
        for v in x.flat:
            total = function(total, v)
        return contents([total] if attrs.get("keepdims", 1) else total)

    return rule


def _range(
    _attrs: Mapping[str, Any], start: Contents, limit: Contents, delta: Contents
) -> Contents:
    ((a,), (b,), (step,)) = _ints(start), _ints(limit), _ints(delta)
    if len(range(a, b, step)) > MAX_ELEMENTS:
        raise Unknown
    return contents(list(range(a, b, step)))


_RULES: dict[str, Callable[..., Any]] = {
    "Add": _elementwise(operator.add),
    "Sub": _elementwise(operator.sub),
    "Mul": _elementwise(operator.mul),
    "Div": _elementwise(_divide),
    "Min": _elementwise(minimum),
    "Max": _elementwise(maximum),
    "Equal": _elementwise(_equal),
    "Less": _elementwise(_less),
    "Greater": _elementwise(lambda a, b: _less(b, a)),
    "And": _elementwise(lambda a, b: bool(a and b)),
    "Or": _elementwise(lambda a, b: bool(a or b)),
    "Not": _not,
    "Mod": _mod,
    "Neg": _negate,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Split": _split,
    "Expand": _expand,
    "Identity": _identity,
    "Where": _where,
    "ReduceProd": _reduce(operator.mul, 1),
    "ReduceSum": _reduce(operator.add, 0),
    "Range": _range,
}
