"""Batches without their axis: what ``vmap`` hands to the function it maps.

The batch axis is the first one of the tensor inside, which the wrapper does not show. How an
operation acts on batches is told by the rules in `batching`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.dims import DimLike
from dualgraph_compiler.errors import AutogradError, TraceError
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.base import Op

from .arguments import overwrite
from .levels import Level, Wrapped

if TYPE_CHECKING:
    from .._tensor import Tensor


class Batched(Wrapped):
    """A tensor whose first axis is the batch's; what is shown is one element of the batch."""

    __slots__ = ()

    def __init__(self, level: BatchLevel, inner: Tensor) -> None:
        self.level = level
        self.inner = inner
        self.shape = tuple(inner._data.shape[1:])
        self.dtype = inner.dtype

    def concrete(self, what: str) -> Any:
        """Refuse: there is one value for each element of the batch."""
        if "truth" in what:
            raise AutogradError(
                "vmap: It looks like you're attempting to use a Tensor in some data-dependent "
                "control flow. We don't support that yet, please shout over at "
                "https://github.com/pytorch/functorch/issues/257 ."
            )
        raise AutogradError(
            f"vmap: It looks like you're calling .{what.removesuffix('()')}() on a Tensor. We "
            f"don't support vmap over calling .{what.removesuffix('()')}() on a Tensor, please "
            "try to rewrite what you're doing with other operations."
        )

    def text(self) -> str:
        """See :class:`Wrapped`."""
        inner = repr(self.inner).replace("\n", "\n    ")
        return f"BatchedTensor(lvl={self.level.depth}, bdim=0, value=\n    {inner}\n)"

    def detached(self) -> Batched:
        """See :class:`Wrapped`."""
        return Batched(self.level, self.inner.detach())


class Whole(Batched):
    """A tensor that is the same for all elements of the batch, and has no axis for it."""

    __slots__ = ()

    def __init__(self, level: BatchLevel, inner: Tensor) -> None:
        self.level = level
        self.inner = inner
        self.shape = tuple(inner._data.shape)
        self.dtype = inner.dtype

    def concrete(self, what: str) -> Any:
        """The array inside."""
        return self.inner._concrete(what)

    def text(self) -> str:
        """See :class:`Wrapped`."""
        return repr(self.inner)

    def detached(self) -> Whole:
        """See :class:`Wrapped`."""
        return Whole(self.level, self.inner.detach())


class BatchLevel(Level):
    """A ``vmap`` at work over `size` elements; `randomness` says what random draws do."""

    def __init__(self, size: DimLike, randomness: str = "error") -> None:
        super().__init__()
        self.size = size
        self.randomness = randomness

    def process(self, op: Op, inputs: Sequence[Tensor]) -> Any:
        """See :class:`Level`."""
        from .._dispatch import apply
        from .batching import batch

        parts = [self.parts(t) for t in inputs]
        inner, flags = [t for t, _ in parts], [own for _, own in parts]
        if not any(flags):
            found: Any = apply(op, *inner)
            if type(found) is tuple:
                return tuple(Whole(self, y) for y in found)
            return Whole(self, found)
        outputs = batch(op, self.size, inner, flags)
        if type(outputs) is tuple:
            return tuple(Batched(self, y) for y in outputs)
        return Batched(self, outputs)

    def parts(self, t: Tensor) -> tuple[Tensor, bool]:
        """What `t` stands for at this level, and whether that has an axis for the batch."""
        data = t._data
        if isinstance(data, Batched) and data.level is self:
            return data.inner, type(data) is Batched
        return t, False

    def rows(self, t: Tensor) -> Tensor:
        """What `t` stands for, with an axis for the batch."""
        inner, own = self.parts(t)
        return inner if own else f.expand(inner, (self.size, *inner.shape))

    def write(self, target: Tensor, data: Any) -> None:
        """Refuse to write a batch; see :class:`Level`."""
        if type(data) is Batched:
            raise AutogradError(
                "vmap: inplace arithmetic(self, *extra_args) is not possible because there exists "
                "a Tensor `other` in extra_args that has more elements than `self`. This happened "
                "due to `other` being vmapped over but `self` not being vmapped over in a vmap. "
                "Please try to use out-of-place operators instead of inplace arithmetic."
            )
        overwrite(target, data.inner)

    def lift(self, t: Tensor) -> Whole:
        """See :class:`Level`."""
        return Whole(self, t)

    def outlived(self, data: Any) -> Tensor:
        """Refuse: the batch cannot be told from an element."""
        raise TraceError(
            "a tensor of a function under vmap was used outside of it; return it from the function"
        )
