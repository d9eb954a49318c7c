"""In-place methods: ``x.add_(y)`` is ``assign(x, add(x, y))``, see :mod:`dualgraph._methods`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec
from typing import cast as cast_type

import numpy as np

from dualgraph_compiler.dtypes import bool_
from dualgraph_compiler.errors import ShapeError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.ops.base import shape_text

from .._dispatch import make, symbolic
from .._promote import cast, is_number
from ..autograd.grad_mode import local
from ..autograd.inplace import assign
from .basics import number_like

if TYPE_CHECKING:
    from .._tensor import Tensor


_P = ParamSpec("_P")


def in_place(function: Callable[_P, Tensor], *, composed: bool = False) -> Callable[_P, Tensor]:
    """The in-place method that goes with a function: the result is written to the first operand.

    `composed`: the function is made of several ops, and may leave the operand behind on the tape
    where `assign`, which sees the last of them only, cannot keep what that needs.
    """

    call: Callable[..., Tensor] = function

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        source = self
        if (composed or kwargs) and local.grad and type(self._data) is np.ndarray:
            source, args = _before(self, args)
        return assign(self, call(source, *args, **kwargs))

    method.__name__ = method.__qualname__ = f"{function.__name__}_"
    method.__doc__ = f"In-place version of `{function.__name__}`."
    vars(method)["__wrapped__"] = function  # whose arguments `help` shows
    return cast_type("Callable[_P, Tensor]", method)


def _before(self: Tensor, args: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
    """The tensor, in the operands too, as a copy of what it holds now if the tape may want it."""
    if not self.requires_grad and not any(getattr(a, "requires_grad", False) for a in args):
        return self, args
    copy = make(self._data.copy(), self._fn)
    return copy, tuple(copy if a is self else a for a in args)


def in_place_operator(function: Callable[..., Tensor]) -> Callable[[Any, Any], Any]:
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
        if src._data.ndim > self._data.ndim:  # which `self[...] = src` would drop if of size 1
            raise ShapeError(
                f"output with shape {shape_text(self.shape)} doesn't match the broadcast shape "
                f"{shape_text(src.shape)}"
            )
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


def fill_diagonal_(self: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """Overwrite the main diagonal with a number.

    A tensor of more than two dimensions has equal sizes. With `wrap` the diagonal of a tall matrix
    begins anew below its end, after a row without.
    """
    shape = tuple(self._data.shape)
    if len(shape) < 2:
        raise ShapeError("dimensions must larger than 1")
    if len(shape) > 2 and len({*shape}) > 1:
        raise ShapeError("all dimensions of input must be of equal length")
    if len(shape) > 2:
        shown = self
        for _ in shape[1:]:
            shown = shown.diagonal(0, 0, 1) if shown is self else shown.diagonal(0, 0, -1)
        fill_(shown, fill_value)
        return self
    rows, columns = shape
    starts = range(0, rows, columns + 1) if wrap and columns else (0,)
    for start in starts:
        fill_((self[start:] if start else self).diagonal(), fill_value)
    return self


def zero_(self: Tensor) -> Tensor:
    """Overwrite every element with zero."""
    return fill_(self, 0)


def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor of the input's shape and dtype, filled with a number or a 0-d tensor.

    The gradient of the input is zero, and not absent.
    """
    single = cast(value if hasattr(value, "_data") else number_like(value, input), input.dtype)
    filled: Tensor = single.expand(tuple(input._data.shape))
    if input.requires_grad:
        from .creation import ones_like

        return filled.where(ones_like(input, dtype=bool_), input)
    return filled.clone()
