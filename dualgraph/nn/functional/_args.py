"""What the functionals share: sizes given once or per axis, and reductions of losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops.base import normalize_axis, shape_text

if TYPE_CHECKING:
    from ..._tensor import Tensor


def per_axis(name: str, value: Any, rank: int) -> tuple[Any, ...]:
    """One entry per spatial axis from a single number or a sequence of `rank` numbers."""
    if isinstance(value, int):
        return (value,) * rank
    out = tuple(value)
    if len(out) == 1:
        return out * rank
    if len(out) != rank:
        raise ArgumentError(f"{name}: expected one number or {rank} of them, got {value}")
    return out


def pairs(amounts: Sequence[Any]) -> tuple[tuple[Any, Any], ...]:
    """The same padding before and after each axis."""
    return tuple((p, p) for p in amounts)


def axis_of(name: str, dim: int, x: Tensor) -> int:
    """`dim` of `x` counted from the front; IndexOutOfRange if there is no such dimension."""
    return normalize_axis(name, dim, x._data.ndim)


def batched(name: str, x: Tensor, rank: int) -> tuple[Tensor, bool]:
    """`x` as [N, C, *S] with `rank` spatial axes, and whether a batch axis had to be added.

    Raises:
        ShapeError: x is neither [N, C, *S] nor [C, *S].
    """
    ndim = x._data.ndim
    if ndim == rank + 2:
        return x, False
    if ndim == rank + 1:
        return x.unsqueeze(0), True
    raise ShapeError(
        f"{name}: expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input, but got input "
        f"of size: {shape_text(tuple(x.shape))}"
    )


def reduced(name: str, losses: Tensor, reduction: str) -> Tensor:
    """Losses of single elements, reduced as `reduction` says."""
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction != "none":
        raise ArgumentError(f"{name}: {reduction} is not a valid value for reduction")
    return losses


def reduction_of(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction that PyTorch's two old flags mean, or `reduction` where they are not given."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"
