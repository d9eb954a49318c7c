"""The table of rules, and what rules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from dualgraph_compiler.dims import DimLike
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.base import Op

from ..._dispatch import apply

if TYPE_CHECKING:
    from ..._tensor import Tensor

Rule: TypeAlias = "Callable[[Any, DimLike, Sequence[Tensor], Sequence[bool]], Any]"
RULES: dict[type[Op], Rule] = {}


def rule(*kinds: type[Op]) -> Callable[[Rule], Rule]:
    """Registers a function as the rule of these ops."""

    def register(function: Rule) -> Rule:
        for kind in kinds:
            RULES[kind] = function
        return function

    return register


def altered(op: Op, **changes: Any) -> Op:
    """`op` with some attributes changed."""
    return type(op)(**{**op.attributes(), **changes})


def pointwise(op: Op, _size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    """Operands broadcast from the right: batches get axes of size 1 behind that of the batch."""
    ndim = max(x.ndim - own for x, own in zip(xs, flags, strict=True))
    return apply(op, *(lifted(x, ndim) if own else x for x, own in zip(xs, flags, strict=True)))


def lifted(x: Tensor, ndim: int) -> Tensor:
    """A batch of tensors with `ndim` axes, by axes of size 1 in front."""
    missing = ndim - (x.ndim - 1)
    if missing <= 0:
        return x
    return f.reshape(x, (x.shape[0], *(1,) * missing, *x.shape[1:]))  # type: ignore[no-any-return]


def everywhere(size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> list[Tensor]:
    """All operands as batches."""
    return [x if own else f.expand(x, (size, *x.shape)) for x, own in zip(xs, flags, strict=True)]


def as_is(op: Op, _size: DimLike, xs: Sequence[Tensor], _flags: Sequence[bool]) -> Any:
    """Axes in front are a batch to the operation itself."""
    return apply(op, *xs)


def merged(x: Tensor) -> Tensor:
    """[B, N, ...] as [B N, ...]."""
    return f.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))  # type: ignore[no-any-return]


def parted(y: Tensor, size: DimLike) -> Tensor:
    """[B N, ...] as [B, N, ...]."""
    rows = y.shape[0] // size if size != 0 else y.shape[0]
    return f.reshape(y, (size, rows, *y.shape[1:]))  # type: ignore[no-any-return]


def offsets(like: Tensor, size: DimLike, step: DimLike, ndim: int) -> Tensor:
    """``0, step, 2 step, ...`` as [size, 1, ..., 1] with `ndim` axes, of the dtype of `like`."""
    from ...functions import arange

    made = arange(size, dtype=like.dtype, device=like.device) * step
    return f.reshape(made, (size, *(1,) * (ndim - 1)))  # type: ignore[no-any-return]
