"""Reductions, with PyTorch's `dim`, `keepdim` and result dtypes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.ops import reduction as rd

from .._dispatch import apply
from .._promote import cast
from .basics import axes_of, finish

if TYPE_CHECKING:
    from .._tensor import Tensor


def sum(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """Sum over `dim` (default all); integers and bools sum as int64."""
    if dtype is not None:
        input = cast(input, dt.as_dtype(dtype))
    elif input.dtype.category < dt.FLOAT:
        input = cast(input, dt.int64)
    axes = axes_of("sum", dim, input)
    return finish(apply(rd.Sum(axes, keepdim), input), out)
