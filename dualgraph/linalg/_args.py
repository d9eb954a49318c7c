"""What the functions of this package ask of their operands, and how they give several results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import DTypeError, LinAlgError, ShapeError
from dualgraph_compiler.ops.base import shape_text

from ..functions.basics import finish

if TYPE_CHECKING:
    from .._tensor import Tensor


def floats(name: str, x: Tensor) -> Tensor:
    """`x`, unless it holds integers or bools (DTypeError)."""
    if x.dtype.category < dt.FLOAT:
        raise DTypeError(
            f"{name}: Expected a floating point or complex tensor as input. Got {x.dtype.name}"
        )
    return x


def matrices(name: str, x: Tensor) -> Tensor:
    """`x`, unless it has fewer than two dimensions (ShapeError) or no floats (DTypeError)."""
    if x._data.ndim < 2:
        raise ShapeError(
            f"{name}: The input tensor A must have at least 2 dimensions, but it has shape "
            f"{shape_text(tuple(x._data.shape))}"
        )
    return floats(name, x)


def squares(name: str, x: Tensor) -> Tensor:
    """`x`, unless its matrices are not square (ShapeError)."""
    matrices(name, x)
    if x._data.shape[-1] != x._data.shape[-2]:
        raise ShapeError(
            f"{name}: A must be batches of square matrices, but they are "
            f"{x._data.shape[-2]} by {x._data.shape[-1]} matrices"
        )
    return x


def check_info(name: str, info: Tensor, why: str) -> None:
    """LinAlgError where a computation that has run notes a failure.

    In a trace, and inside what `func` transforms, nothing is known.
    """
    found = info._data
    if type(found) is not np.ndarray:
        if not hasattr(found, "get"):
            return
        found = found.get()
    bad = np.flatnonzero(found)
    if bad.size:
        at = f"(Batch element {int(bad[0])}): " if found.ndim else ""
        place = int(found.reshape(-1)[bad[0]])
        raise LinAlgError(f"{name}: {at}{why.format(place=place)}")


def finish_all(result: Any, out: Sequence[Tensor] | None) -> Any:
    """Several results, or `out` with those written to it."""
    if out is None:
        return result
    for value, target in zip(result, out, strict=True):
        finish(value, target)
    return out


def is_vector(a: Tensor, b: Tensor) -> bool:
    """Whether the right side of a system holds vectors, one a matrix, as PyTorch decides it."""
    shape = tuple(b._data.shape)
    return len(shape) == 1 or shape == tuple(a._data.shape[:-1])
