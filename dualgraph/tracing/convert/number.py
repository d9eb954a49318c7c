"""Python numbers whose value depends on the data of a traced tensor."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.graph import Value

from ..._dispatch import captures, make
from ..._promote import cast
from ..._tensor import Tensor

KINDS: dict[type, DType] = {bool: dt.bool_, int: dt.int64, float: dt.float64}


class Number(Tensor):
    """What in eager code is a Python bool, int or float, here a 0-d value of the graph.

    Beside tensors it promotes as a Python number does, and arithmetic among numbers is Python's:
    in float64 and int64.
    """

    _weak = True

    @property
    def kind(self) -> type:
        """bool, int or float."""
        return next(k for k, dtype in KINDS.items() if dtype is self.dtype)


def as_number(t: Tensor, kind: type | None = None) -> Number:
    """A tensor of one element, as ``kind(t)`` or ``t.item()``.

    Raises:
        TypeError: it is complex.
    """
    if kind is None:
        kind = bool if t.dtype is dt.bool_ else int if t.dtype.category == dt.INT else float
    if t.dtype.category == dt.COMPLEX:
        raise TypeError("a complex tensor has no value that can be traced as a number")
    plain = make(t._data, t._fn) if type(t) is Number else t
    if kind is bool and plain.dtype is not dt.bool_:
        plain = plain != 0
    found = cast(plain.detach().reshape(()), KINDS[kind])
    return wrap(found)


def wrap(t: Tensor) -> Number:
    """A 0-d tensor of bool, int64 or float64 as a number."""
    out = Number.__new__(Number)
    out._data, out._fn, out._ver, out._base = t._data, None, [0], None
    return out


def constant(value: bool | int | float, kind: type | None = None) -> Number:
    """A Python number as one of the graph."""
    dtype = KINDS[kind or type(value)]
    assert captures.current is not None
    return wrap(make(captures.current.graph.constant(np.asarray(value, dtype.np))))


def is_plain(x: Any) -> bool:
    """Whether `x` is a bool, int or float of Python's."""
    return type(x) in KINDS


def kind_of(x: Any) -> type | None:
    """The type of a number, Python's or one of the graph; None for anything else."""
    if type(x) is Number:
        return x.kind
    return type(x) if is_plain(x) else None


def _binary(name: str, result: Callable[[type, type], type]) -> None:
    plain = getattr(Tensor, f"__{name}__")

    def method(self: Number, other: Any) -> Any:
        kind = kind_of(other)
        if kind is None or captures.current is None:
            return plain(self, other)
        _refuse_zero(name, self, other)
        dtype = KINDS[result(self.kind, kind)]
        found = plain(*(cast(make(_value(x)), dtype) for x in (self, other)))
        return wrap(found)

    setattr(Number, f"__{name}__", method)


def _refuse_zero(name: str, a: Number, b: Any) -> None:
    """Raise where Python would have to look at a divisor first."""
    capture = captures.current
    safe = not name.startswith("r") and is_plain(b) and b
    if capture is not None and name.endswith(("div", "mod")) and not safe:
        raise capture.failure("a number is divided by one that depends on data, and may be 0")


def _power(self: Number, other: Any) -> Any:
    capture = captures.current
    kind = kind_of(other)
    if kind is None or capture is None:
        return Tensor.__pow__(self, other)
    if float not in (self.kind, kind) and not (is_plain(other) and other >= 0):
        raise capture.failure("whether a power of integers is an integer depends on data")
    dtype = KINDS[_joined(self.kind, kind)]
    return wrap(Tensor.__pow__(*(cast(make(_value(x)), dtype) for x in (self, other))))


def _value(x: Any) -> Value:
    return (x if type(x) is Number else constant(x))._data  # type: ignore[no-any-return]


def _joined(a: type, b: type) -> type:
    return float if float in (a, b) else int


def _compared(a: type, b: type) -> type:
    return bool if a is b is bool else _joined(a, b)


def _logical(a: type, b: type) -> type:
    return bool if a is b is bool else int


def _float(a: type, b: type) -> type:
    return float


for _name in ("add", "sub", "mul", "floordiv", "mod", "truediv"):
    _result = _float if _name == "truediv" else _joined
    _binary(_name, _result)
    _binary(f"r{_name}", _result)
    setattr(Number, f"__i{_name}__", getattr(Number, f"__{_name}__"))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    _binary(_name, _compared)
for _name in ("and", "or", "xor"):
    _binary(_name, _logical)
    setattr(Number, f"__i{_name}__", getattr(Number, f"__{_name}__"))
Number.__pow__ = Number.__ipow__ = _power


def _unary(name: str) -> None:
    function = getattr(operator, name)

    def method(self: Number) -> Any:
        t = make(self._data)
        return wrap(function(cast(t, dt.int64) if self.kind is bool else t))

    setattr(Number, f"__{name}__", method)


for _name in ("neg", "pos", "abs"):
    _unary(_name)
Number.__hash__ = Tensor.__hash__  # type: ignore[method-assign]
