"""Facts about dtypes and tensors: limits, promotion, classification."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dtypes import DType

from .._promote import Defaults
from .._promote import result_type as _result_type

if TYPE_CHECKING:
    from .._tensor import Tensor


class finfo:
    """Limits of a floating-point dtype (the default one if none is given)."""

    def __init__(self, type: Any = None) -> None:
        kind = Defaults.dtype if type is None else dt.as_dtype(type)
        kind = dt.REAL_OF.get(kind, kind)
        if not kind.is_floating_point:
            raise TypeError(
                "torch.finfo() requires a floating point input type. Use torch.iinfo to handle "
                "'torch.finfo'"
            )
        limits: Any = ml_dtypes.finfo(kind.np)  # type: ignore[no-untyped-call]
        self.dtype = kind.name
        self.bits = int(limits.bits)
        self.max = float(limits.max)
        self.min = float(limits.min)
        self.eps = float(limits.eps)
        self.tiny = self.smallest_normal = float(limits.smallest_normal)
        self.resolution = float(limits.resolution)

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, "
            f"eps={self.eps:g}, smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, "
            f"dtype={self.dtype})"
        )


class iinfo:
    """Limits of an integer dtype."""

    def __init__(self, type: Any) -> None:
        kind = dt.as_dtype(type)
        if kind.category != dt.INT:
            raise TypeError(
                "torch.iinfo() requires an integer input type. Use torch.finfo to handle "
                "'torch.iinfo'"
            )
        limits = np.iinfo(kind.np)
        self.dtype = kind.name
        self.bits = int(limits.bits)
        self.max = int(limits.max)
        self.min = int(limits.min)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"


def result_type(tensor1: Any, tensor2: Any) -> DType:
    """The dtype in which arithmetic on two tensors or numbers is done."""
    return _result_type(tensor1, tensor2)


def promote_types(type1: Any, type2: Any) -> DType:
    """The smallest dtype that both convert to."""
    return dt.promote_types(dt.as_dtype(type1), dt.as_dtype(type2))


def can_cast(from_: Any, to: Any) -> builtins.bool:
    """Whether converting keeps the kind of number (bool, integer, float, complex) or raises it."""
    return dt.as_dtype(from_).category <= dt.as_dtype(to).category


def is_floating_point(input: Tensor) -> builtins.bool:
    """Whether the dtype is a real floating-point one."""
    return input.dtype.is_floating_point


def is_complex(input: Tensor) -> builtins.bool:
    """Whether the dtype is complex."""
    return input.dtype.is_complex


def is_signed(self: Tensor) -> builtins.bool:
    """Whether the dtype has negative numbers."""
    return self.dtype.is_signed


def is_nonzero(input: Tensor) -> builtins.bool:
    """Whether the only element is not zero."""
    return bool(input)


def is_same_size(input: Tensor, other: Tensor) -> builtins.bool:
    """Whether two tensors have the same shape."""
    return tuple(input._data.shape) == tuple(other._data.shape)


def numel(input: Tensor) -> Any:
    """The number of elements."""
    return input.numel()
