"""In-place methods: ``x.add_(y)`` is ``assign(x, add(x, y))``, see :mod:`dualgraph._methods`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.graph import Value

from .._dispatch import make, symbolic
from .._promote import cast, is_number
from ..autograd.grad_mode import local
from ..autograd.inplace import assign
from .basics import number_like

if TYPE_CHECKING:
    from .._tensor import Tensor

# Functions whose result is bool whatever their operands; in place it is converted back.
_TO_BOOL = frozenset(
    [
        "eq",
        "ge",
        "greater",
        "greater_equal",
        "gt",
        "le",
        "less",
        "less_equal",
        "logical_and",
        "logical_not",
        "logical_or",
        "logical_xor",
        "lt",
        "ne",
        "not_equal",
    ]
)


# Functions that are one op when called without keywords: for these `assign` itself keeps what the
# tape needs of the operands.
_ONE_OP = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "neg",
        "abs",
        "exp",
        "log",
        "sqrt",
        "rsqrt",
        "tanh",
        "sigmoid",
        "relu",
        "sin",
        "cos",
        "floor",
        "ceil",
        "trunc",
        "reciprocal",
        "subtract",
        "multiply",
        "divide",
        "negative",
        "floor_divide",
        "remainder",
        "maximum",
        "minimum",
        "masked_fill",
        "index_add",
        "cumsum",
        "cumprod",
        "tril",
        "triu",
    ]
)


def in_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The in-place method that goes with a function: the result is written to the first operand."""
    name = function.__name__
    to_own_dtype = name in _TO_BOOL

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        source = self
        if local.grad and type(self._data) is np.ndarray and (kwargs or name not in _ONE_OP):
            source, args = _before(self, args)
        result = function(source, *args, **kwargs)
        return assign(self, cast(result, self.dtype) if to_own_dtype else result)

    method.__name__ = method.__qualname__ = f"{name}_"
    method.__doc__ = f"In-place version of `{name}`."
    return method


def _before(self: Tensor, args: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
    """The tensor, in the operands too, as a copy of what it holds now if the tape may want it.

    A function made of several ops leaves operands behind on the tape that `assign` cannot see.
    """
    if not self.requires_grad and not any(getattr(a, "requires_grad", False) for a in args):
        return self, args
    copy = make(self._data.copy(), self._fn)
    return copy, tuple(copy if a is self else a for a in args)


def in_place_operator(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """The operator ``x += y`` that goes with a function."""
    twin = in_place(function)

    def method(self: Tensor, other: Any) -> Any:
        if hasattr(other, "_data") or is_number(other):
            return twin(self, other)
        return NotImplemented

    method.__doc__ = f"In-place `{function.__name__}` as an operator."
    return method


# -- writing values -------------------------------------------------------------------------------


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Overwrite with `src`, broadcast and converted to this tensor's dtype and device."""
    from .convert import move
    from .indexing import _fitted

    if hasattr(src, "_data") and type(self._data) is not Value and type(src._data) is not Value:
        src = move(src, self.device)
    return assign(self, _fitted(src, self, tuple(self._data.shape)))


def fill_(self: Tensor, value: Any) -> Tensor:
    """Overwrite every element with a number or a 0-d tensor."""
    data = self._data
    if type(data) is np.ndarray and not symbolic.open_graphs and data.flags.writeable:
        untaped = self._fn is None and (self._base is None or self._base.base._fn is None)
        if (untaped or not local.grad) and is_number(value):
            data.fill(number_like(value, self)._data)
            self._ver[0] += 1
            return self
    fill = value if hasattr(value, "_data") else number_like(value, self)
    return assign(self, cast(fill, self.dtype).expand(tuple(data.shape)))


def zero_(self: Tensor) -> Tensor:
    """Overwrite every element with zero."""
    return fill_(self, 0)


def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor of the input's shape and dtype, filled with a number."""
    fill = value if hasattr(value, "_data") else number_like(value, input)
    return cast(fill, input.dtype).expand(tuple(input._data.shape)).clone()
