"""Arithmetic of two operands, with PyTorch's promotion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler.ops import pointwise as pw

from .._dispatch import apply
from .._promote import binary, unify
from .basics import finish

if TYPE_CHECKING:
    from .._tensor import Tensor

_ADD, _SUB, _MUL, _DIV = pw.Add(), pw.Sub(), pw.Mul(), pw.Div()


def operator_add(self: Tensor, other: Any) -> Tensor:
    """self + other."""
    return binary(_ADD, self, other)


def operator_mul(self: Tensor, other: Any) -> Tensor:
    """self * other."""
    return binary(_MUL, self, other)


def operator_sub(self: Tensor, other: Any) -> Tensor:
    """self - other."""
    return binary(_SUB, self, other)


def operator_rsub(self: Tensor, other: Any) -> Tensor:
    """other - self."""
    return binary(_SUB, other, self)


def operator_truediv(self: Tensor, other: Any) -> Tensor:
    """self / other; integers divide as the default float type."""
    return apply(_DIV, *unify((self, other), at_least_float=True))  # type: ignore[no-any-return]


def operator_rtruediv(self: Tensor, other: Any) -> Tensor:
    """other / self."""
    return apply(_DIV, *unify((other, self), at_least_float=True))  # type: ignore[no-any-return]


def add(input: Tensor, other: Any, *, alpha: Any = 1, out: Tensor | None = None) -> Tensor:
    """input + alpha * other."""
    return finish(binary(_ADD, input, other if alpha == 1 else other * alpha), out)


def mul(input: Tensor, other: Any, *, out: Tensor | None = None) -> Tensor:
    """input * other."""
    return finish(binary(_MUL, input, other), out)
