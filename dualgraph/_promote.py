"""PyTorch's type promotion, applied to operands before an op sees them.

Ops take operands of one dtype. Here Python numbers become 0-d operands and differing dtypes are
cast, by PyTorch's three-level rule: tensors with dimensions outrank 0-d tensors, which outrank
Python numbers; a lower level matters only if its category (bool < integer < float < complex) is
higher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import Dim, SizeNumber
from dualgraph_compiler.dtypes import BOOL, COMPLEX, FLOAT, INT, DType
from dualgraph_compiler.errors import DTypeError
from dualgraph_compiler.graph import Value
from dualgraph_compiler.ops.base import Op, array_module
from dualgraph_compiler.ops.convert import Cast
from dualgraph_runtime.device import CPU, Device

from ._dispatch import apply, apply1, apply2, capture_for, make, symbolic

if TYPE_CHECKING:
    from ._tensor import Tensor


class Defaults:
    """Process-wide defaults of new tensors: `dtype`, for Python floats, and `device`."""

    dtype: DType = dt.float32
    device: Device = CPU


def set_default_dtype(dtype: Any) -> None:
    """The floating-point dtype given to Python floats (float32 at start)."""
    d = dt.as_dtype(dtype)
    if not d.is_floating_point:
        raise TypeError(f"only floating-point types can be the default, got {d}")
    Defaults.dtype = d


def get_default_dtype() -> DType:
    """The floating-point dtype given to Python floats."""
    return Defaults.dtype


def set_default_device(device: Any) -> None:
    """Where new tensors go unless told otherwise (None: the CPU)."""
    Defaults.device = CPU if device is None else Device(device).require()


def get_default_device() -> Device:
    """Where new tensors go unless told otherwise."""
    return Defaults.device


_CATEGORY: dict[type, int] = {bool: BOOL, int: INT, float: FLOAT, complex: COMPLEX}
_scalars: dict[Any, Tensor] = {}


def scalar_category(value: Any) -> int:
    """The category of a Python or NumPy number (or symbolic size); TypeError for anything else."""
    found = _CATEGORY.get(type(value))
    if found is not None:
        return found
    if isinstance(value, Dim):
        return INT
    if isinstance(value, SizeNumber):
        return FLOAT
    if isinstance(value, np.generic):
        return dt.BY_NUMPY[value.dtype].category
    if isinstance(value, bool | int | float | complex):
        return next(c for t, c in _CATEGORY.items() if isinstance(value, t))
    raise TypeError(f"expected a Tensor or a number as operand, got {type(value).__name__}")


def scalar(value: Any, dtype: DType, beside: Tensor) -> Tensor:
    """A number as a 0-d tensor of `dtype` on the device (or in the graph) of `beside`."""
    if symbolic.open_graphs:
        capture = capture_for((beside,))
        if capture is not None:
            return capture.scalar(value, dtype)
    if type(beside._data) is not np.ndarray:
        return make(array_module(beside._data).asarray(value, dtype.np))
    # Shared: nothing writes to these. Zero is left out, since -0.0 == 0.0 as a key.
    key = (value, dtype.name, type(value))
    found = _scalars.get(key)
    if found is None:
        found = make(np.asarray(value).astype(dtype.np))
        if value and len(_scalars) < 1024:
            _scalars[key] = found
    return found


def result_type(*operands: Any) -> DType:
    """The dtype PyTorch computes in for these tensors and numbers."""
    levels: list[DType | None] = [None, None]  # tensors with dims, 0-d tensors
    number = -1
    for x in operands:
        if hasattr(x, "_data"):
            if x._weak:
                number = max(number, x.dtype.category)
                continue
            level = 0 if x._data.ndim else 1
            held = levels[level]
            try:
                levels[level] = x.dtype if held is None else dt.promote_types(held, x.dtype)
            except TypeError as error:
                raise DTypeError(str(error)) from None
        elif isinstance(x, DType):
            levels[0] = x if levels[0] is None else dt.promote_types(levels[0], x)
        else:
            number = max(number, scalar_category(x))
    result, zero_d = levels
    if result is None:
        result, zero_d = zero_d, None
    if zero_d is not None and result is not None and zero_d.category > result.category:
        # A complex 0-d tensor raises a float to the complex type of the float's precision.
        result = _lift(result, zero_d.category, zero_d)
    if result is None:
        return dt.default_for(number, Defaults.dtype)
    if number > result.category:
        return _lift(result, number, dt.default_for(number, Defaults.dtype))
    return result


def _lift(result: DType, category: int, other: DType) -> DType:
    if category == COMPLEX and result.category == FLOAT:
        return dt.COMPLEX_OF[result]
    return other


def cast(t: Tensor, dtype: DType) -> Tensor:
    """`t` in `dtype`, recorded on the tape; `t` itself where it has it already."""
    return t if t.dtype is dtype else apply(Cast(dtype), t)


def unify(
    operands: Sequence[Any], *, at_least_float: bool = False, dtype: DType | None = None
) -> list[Tensor]:
    """The operands as tensors of their common dtype (a float one if `at_least_float`)."""
    if dtype is None:
        dtype = result_type(*operands)
        if at_least_float and dtype.category < FLOAT:
            dtype = Defaults.dtype
    beside = next((x for x in operands if hasattr(x, "_data")), None)
    if beside is None:
        raise TypeError(
            "expected at least one Tensor among the operands, got "
            + ", ".join(type(x).__name__ for x in operands)
        )
    return [cast(x, dtype) if hasattr(x, "_data") else scalar(x, dtype, beside) for x in operands]


_NUMBERS = (int, float, complex, np.number, np.bool_, Dim, SizeNumber)


def is_number(x: Any) -> bool:
    """Whether `x` is a Python or NumPy number, or a symbolic size or number."""
    return isinstance(x, _NUMBERS)


# Numbers as operands beside arrays of a dtype of the same or a higher category, by (number, its
# type, dtype). Nothing writes to these tensors, so they are shared. 0.0 is left out: as a key it
# equals -0.0.
_operands: dict[Any, Tensor] = {}


def _number_operand(value: Any, beside: Tensor) -> Tensor | None:
    """A number in the dtype of `beside`, where promotion ends there and nothing is being traced."""
    data = beside._data
    if symbolic.open_graphs or type(data) is not np.ndarray:
        return None
    key = (value, value.__class__, data.dtype)
    found = _operands.get(key)
    if found is None:
        kind = dt.BY_NUMPY[data.dtype]
        if _CATEGORY.get(value.__class__, 9) > kind.category:
            return None
        found = make(np.asarray(value).astype(kind.np))
        if (value or value.__class__ is int) and len(_operands) < 1024:
            _operands[key] = found
    return found


def operator(op: Op, *, reflected: bool = False, at_least_float: bool = False) -> Any:
    """A Tensor's operator method: `op` on two operands, promoted.

    It returns NotImplemented for what is no number.
    With `reflected` the operands trade places; with `at_least_float` integers become floats first.
    """

    def method(self: Tensor, other: Any) -> Any:
        try:
            kind = self._data.dtype
            same = kind is other._data.dtype
        except AttributeError:
            if isinstance(other, np.ndarray):  # shares its memory, as `dg.from_numpy`
                return method(self, make(other))
            if not is_number(other):
                return NotImplemented
            found = _number_operand(other, self)
            if found is not None:
                other = found
                same = True
            else:
                same = False
        if same and not (at_least_float and _is_whole(kind)):
            return apply2(op, other, self) if reflected else apply2(op, self, other)
        pair = (other, self) if reflected else (self, other)
        return apply(op, *unify(pair, at_least_float=at_least_float))

    method.__doc__ = f"{op.name} as an operator."
    return method


def _is_whole(dtype: Any) -> bool:
    kind = dtype.category if type(dtype) is DType else dt.BY_NUMPY[dtype].category
    return bool(kind < FLOAT)


def binary(op: Op, a: Any, b: Any) -> Tensor:
    """`op` on two operands, at least one a tensor, promoted to a common dtype."""
    try:
        if a._data.dtype is b._data.dtype:
            return apply2(op, a, b)
    except AttributeError:
        pass
    return apply(op, *unify((a, b)))


def float_operands(*operands: Any) -> list[Tensor]:
    """The operands in their common dtype, or the default float type if that is not one."""
    return unify(operands, at_least_float=True)


def float_unary(op: Op, x: Tensor) -> Tensor:
    """`op` on `x`, which integers and bools enter as the default float type."""
    if _is_whole(x._data.dtype):
        x = apply(Cast(Defaults.dtype), x)
    return apply1(op, x)


def is_symbolic(x: Any) -> bool:
    """Whether a tensor stands for a value of a graph under construction."""
    return type(x._data) is Value
