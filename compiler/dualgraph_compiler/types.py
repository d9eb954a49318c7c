"""The type of a value in a graph: an element type and a shape of ints and symbolic dims."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .dims import Dim, DimLike, Shape, product
from .dtypes import DType, dtype_of


@dataclass(frozen=True, slots=True)
class TensorType:
    """`dtype` and `shape`; prints as ``f32[batch, 128]``."""

    dtype: DType
    shape: Shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> DimLike:
        """The number of elements."""
        return product(self.shape)

    def with_shape(self, shape: Iterable[DimLike]) -> TensorType:
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.short}[{', '.join(map(str, self.shape))}]"


def type_of(x: Any) -> TensorType:
    """The TensorType of an array, a Value, a Tensor or a TensorType."""
    return TensorType(dtype_of(x), tuple(x.shape))


def is_static(shape: Shape) -> bool:
    """Whether no dimension is symbolic."""
    return not any(isinstance(d, Dim) for d in shape)
