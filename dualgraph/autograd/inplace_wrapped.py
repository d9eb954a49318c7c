"""In-place operations in function transforms: a tensor that is written to stands for another.

What a transform hands to a function is no memory. The result of an in-place operation takes the
place of the old value, as it does in a graph; what views of the tensor show is computed anew when
they are next used. Tensors that the transform was given are written when it ends
(`transforms.arguments`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import AutogradError

from .._dispatch import apply, current_fn, make
from ..transforms.levels import Wrapped
from .grad_mode import local
from .inplace import _check, _move
from .tape import Leaf

if TYPE_CHECKING:
    from .._tensor import Tensor


def _note(target: Tensor, data: Any) -> None:
    """Tell a level of a tensor from outside of it that will stand for one of its own."""
    level = data.level if isinstance(data, Wrapped) else None
    held = target._data
    if level is not None and not (isinstance(held, Wrapped) and held.level is level):
        level.note(target)


def assign_wrapped(target: Tensor, base: Tensor, result: Tensor) -> Tensor:
    """As `assign`, where one of the tensors belongs to a function transform.

    `base` is what `target` is a view of, or `target` itself.
    """
    from .._promote import cast

    _check(target, result)
    if local.grad and (type(base._fn) is Leaf or type(target._fn) is Leaf):
        what = "a view of a leaf Variable" if base is not target else "a leaf Variable"
        raise AutogradError(f"{what} that requires grad is being used in an in-place operation.")
    result = cast(result, target.dtype)
    if base is target:
        _note(target, result._data)
        target._data = result._data
        _move(target, result)
        target._ver[0] += 1
        return target
    info: Any = target._base
    if info.ops is None:
        raise AutogradError(
            "A view was created in no_grad mode and is being modified inplace in a function "
            "transform. Clone it, or make the view where recording is on."
        )
    chain = [make(base._data, base._fn)]
    for op in info.ops[:-1]:
        chain.append(apply(op, chain[-1]))
    new = result
    for op, parent in zip(reversed(info.ops), reversed(chain), strict=True):
        new = op.unview(parent, new)
    _note(base, new._data)
    base._data = new._data
    _move(base, new)
    base._ver[0] += 1
    if target._ver is not base._ver:
        target._ver[0] += 1
    current_fn(target)
    return target
