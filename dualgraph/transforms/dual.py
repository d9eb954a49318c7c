"""Values with tangents: forward-mode differentiation.

An operation on duals computes its result from the values and the result's tangent from both. Where
an operation has no rule of its own, its gradient rule gives one: the rule is linear in the incoming
gradient, and the transpose of the transposed Jacobian is the Jacobian. Source: Radul et al., "You
Only Linearize Once", 2022; the identity is Townsend's "A new trick for calculating Jacobian vector
products", 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.ops.base import Op

from .arguments import overwrite
from .levels import Level, Wrapped

if TYPE_CHECKING:
    from .._tensor import Tensor


class Dual(Wrapped):
    """A tensor and its tangent (None: zero), of the same shape and dtype."""

    __slots__ = ("tangent",)

    def __init__(self, level: Level, primal: Tensor, tangent: Tensor | None) -> None:
        self.level = level
        self.inner = primal
        self.tangent = tangent
        self.shape = tuple(primal._data.shape)
        self.dtype = primal.dtype

    def concrete(self, what: str) -> Any:
        """The value's array."""
        return self.inner._concrete(what)

    def text(self) -> str:
        """See :class:`Wrapped`."""
        return f"{repr(self.inner)[:-1]}, tangent={self.tangent!r})"

    def detached(self) -> Dual:
        """See :class:`Wrapped`; the tangent is dropped."""
        return Dual(self.level, self.inner.detach(), None)


class DualLevel(Level):
    """A forward-mode differentiation at work."""

    def __init__(self, allows_backward: bool = False) -> None:
        super().__init__()
        self.allows_backward = allows_backward

    def parts(self, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """The value of `t` at this level and its tangent (None: zero)."""
        data = t._data
        if isinstance(data, Dual) and data.level is self:
            return data.inner, data.tangent
        return t, None

    def process(self, op: Op, inputs: Sequence[Tensor]) -> Any:
        """See :class:`Level`."""
        from .tangents import push

        pairs = [self.parts(t) for t in inputs]
        results = push(op, [p for p, _ in pairs], [t for _, t in pairs])
        if type(results) is list:
            return tuple(Dual(self, y, ty) for y, ty in results)
        return Dual(self, *results)

    def write(self, target: Tensor, data: Any) -> None:
        """See :class:`Level`; the tangent is lost."""
        overwrite(target, data.inner)

    def lift(self, t: Tensor) -> Dual:
        """See :class:`Level`."""
        return Dual(self, t, None)

    def outlived(self, data: Any) -> Tensor:
        """The value."""
        value: Tensor = data.inner
        return value
