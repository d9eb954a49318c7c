"""Forward-mode differentiation: tangents carried beside values. As ``torch.autograd.forward_ad``.

    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, direction)
        value, tangent = forward_ad.unpack_dual(f(dual))

Duals may be differentiated in turn: ``f(dual).backward()`` gives gradients that are duals, whose
tangents are products with the Hessian. ``dualgraph.func.jvp`` is the same as a function transform,
and nests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dualgraph_compiler.errors import DTypeError, ShapeError

from .._dispatch import current_fn, make
from ..transforms.dual import Dual, DualLevel
from ..transforms.levels import settled

if TYPE_CHECKING:
    from .._tensor import Tensor

__all__ = [
    "UnpackedDualTensor",
    "dual_level",
    "enter_dual_level",
    "exit_dual_level",
    "make_dual",
    "unpack_dual",
]


class UnpackedDualTensor(NamedTuple):
    """A value and its tangent, None where it has none."""

    primal: Any
    tangent: Any


_open: list[DualLevel] = []  # at most one, as in PyTorch


def enter_dual_level() -> int:
    """Begin a level, outside of which tangents are forgotten; returns its number.

    Raises:
        RuntimeError: there is one already; ``dualgraph.func.jvp`` nests.
    """
    if _open:
        raise RuntimeError(
            "Nested forward mode AD is not supported at the moment; use dualgraph.func.jvp"
        )
    level = DualLevel(allows_backward=True)
    level.__enter__()
    _open.append(level)
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """End the level; its duals are their values from then on."""
    if not _open or level not in (None, 0):
        raise RuntimeError(
            "Trying to exit a forward AD level that was not the last one that was created. This is "
            "not supported."
        )
    last = _open.pop()
    last.give_back()
    last.__exit__()


class dual_level:
    """A level for the time of a ``with`` block."""

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *exception: object) -> None:
        exit_dual_level()


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """`tensor` with a tangent, which is shaped alike.

    Raises:
        RuntimeError: there is no level.
        ShapeError, DTypeError: the tangent does not fit.
    """
    if not _open:
        raise RuntimeError(
            "Trying to create a dual Tensor for forward AD but no level exists, make sure to "
            "enter_dual_level() first."
        )
    if not tensor.dtype.is_differentiable or tangent.dtype is not tensor.dtype:
        raise DTypeError(
            f"expected a floating point tensor and a tangent of its dtype, got {tensor.dtype} and "
            f"{tangent.dtype}"
        )
    if tuple(tensor.shape) != tuple(tangent.shape):
        raise ShapeError(
            f"Expected tangent to have the same size as the primal, got {list(tangent.shape)} and "
            f"{list(tensor.shape)}"
        )
    return make(
        Dual(_open[-1], tensor, tangent),
        tensor._fn if tensor._base is None else current_fn(tensor),
    )


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """The value and the tangent of `tensor` (None: it has none, or there is no level)."""
    tensor = settled(tensor)
    if not _open:
        return UnpackedDualTensor(tensor, None)
    return UnpackedDualTensor(*_open[-1].parts(tensor))
