"""The array class's operators: each is a call of a ufunc, which decides what it takes."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "divmod": "divmod",
    "pow": "power",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
}
_COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
_UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}


def add_operators(cls: type) -> None:
    """Give the array class its operators."""
    operands = (cls, np.ndarray, np.generic, bool, int, float, complex)
    for name, ufunc in _BINARY.items():
        method, reflected, inplace = _binary(operands, ufunc)
        setattr(cls, f"__{name}__", method)
        setattr(cls, f"__r{name}__", reflected)
        if name not in ("matmul", "divmod"):
            setattr(cls, f"__i{name}__", inplace)
    for name, ufunc in _COMPARISONS.items():
        setattr(cls, f"__{name}__", _comparison(operands, name, ufunc))
    for name, ufunc in _UNARY.items():
        setattr(cls, f"__{name}__", _unary(ufunc))


def _call(name: str, *args: Any, **options: Any) -> Any:
    return getattr(sys.modules["cupy"], name)(*args, **options)


def _binary(operands: tuple[type, ...], ufunc: str) -> tuple[Any, Any, Any]:
    def method(self: Any, other: Any) -> Any:
        return _call(ufunc, self, other) if isinstance(other, operands) else NotImplemented

    def reflected(self: Any, other: Any) -> Any:
        return _call(ufunc, other, self) if isinstance(other, operands) else NotImplemented

    def inplace(self: Any, other: Any) -> Any:
        return _call(ufunc, self, other, out=self)

    return method, reflected, inplace


def _comparison(operands: tuple[type, ...], name: str, ufunc: str) -> Any:
    def method(self: Any, other: Any) -> Any:
        if other is None:
            return _call("full", self.shape, name == "ne")
        if isinstance(other, np.ndarray) and not other.ndim:
            other = other.item()
        return _call(ufunc, self, other) if isinstance(other, operands) else NotImplemented

    return method


def _unary(ufunc: str) -> Any:
    return lambda self: _call(ufunc, self)
