"""What a transform hands to a function, and what the function wrote to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .levels import Wrapped

if TYPE_CHECKING:
    from .._tensor import Tensor


def written_back(given: Sequence[Any], handed: Sequence[Any]) -> None:
    """Write to the tensors `given` what was written in place to what stood for them."""
    from ..autograd.inplace import assign

    for original, proxy in zip(given, handed, strict=True):
        if proxy is original or not proxy._ver[0]:
            continue
        data = proxy._data
        if isinstance(data, Wrapped) and data.inner is not original:
            assign(original, data.inner)


def overwrite(target: Tensor, value: Tensor) -> None:
    """Write to a tensor from outside of a transform, off the tape."""
    from ..autograd.grad_mode import no_grad
    from ..autograd.inplace import assign

    with no_grad():
        assign(target, value.detach())


def moved_to_front(t: Tensor, axis: int) -> Tensor:
    """`t` with an axis moved to the front; a view."""
    from dualgraph_compiler.ops import f

    at = axis % t.ndim
    if at == 0:
        return t
    return f.permute(t, (at, *(a for a in range(t.ndim) if a != at)))  # type: ignore[no-any-return]


def moved_from_front(t: Tensor, axis: int) -> Tensor:
    """`t` with its first axis moved to `axis` of the result; a view."""
    from dualgraph_compiler.ops import f

    at = axis % t.ndim
    if at == 0:
        return t
    order = list(range(1, t.ndim))
    order.insert(at, 0)
    return f.permute(t, tuple(order))  # type: ignore[no-any-return]
