"""Levels: nested function transforms, and the tensors that belong to them.

Inside of ``vmap`` or ``jvp`` a tensor's data may be no array but a :class:`Wrapped`: it stands for
tensors (those of the level outside of it) and belongs to one level. An operation whose operands are
wrapped is carried out by the deepest level among them, in operations on the tensors inside, which
may be wrapped in turn, be recorded on the tape, or belong to a graph. So transforms nest, and each
sees only what is its own. Gradient rules run on wrapped data as they run on arrays and on values of
graphs, through ``__dualgraph_call__``.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dims import DimLike, product
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.errors import AutogradError
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops.base import REGISTRY, Op

if TYPE_CHECKING:
    from .._tensor import Tensor


class Transforms(threading.local):
    """What is open in this thread: the levels, innermost last, and the mode of ``amp.autocast``."""

    def __init__(self) -> None:
        self.levels: list[Level] = []
        self.autocast: Any = None


transforms = Transforms()


def enter_autocast(mode: Any) -> None:
    """Put a mode of ``amp.autocast`` (a ``_autocast.Mode``), or none, in force in this thread."""
    from .._dispatch import captures, symbolic

    before = transforms.autocast
    transforms.autocast = mode
    if before is None and mode is not None:
        symbolic.opened()
        captures.autocast = captures.disabled
        captures.disabled = True  # compiled functions look further, see `CompiledFunction`
    elif before is not None and mode is None:
        symbolic.closed()
        captures.disabled = captures.autocast


class Level:
    """One transform at work; a context manager. `depth` orders nested ones."""

    allows_backward = False  # whether ``backward()`` may be called inside

    def __init__(self) -> None:
        self.depth = 0
        self._disabled = False
        self._taken: list[tuple[Any, Any]] = []
        self.alive = False

    def __enter__(self) -> Any:
        from .._dispatch import captures, symbolic

        # Compiled functions run as plain ones inside.
        self._disabled, captures.disabled = captures.disabled, True
        self.depth = transforms.levels[-1].depth + 1 if transforms.levels else 1
        self.alive = True
        transforms.levels.append(self)
        symbolic.opened()
        return self

    def __exit__(self, *exception: object) -> None:
        from .._dispatch import captures, symbolic

        self._restore()
        captures.disabled = self._disabled
        self.alive = False
        transforms.levels.remove(self)
        symbolic.closed()

    def process(self, op: Op, inputs: Sequence[Tensor]) -> Any:
        """The data of the result of `op` (a tuple where there are several)."""
        raise NotImplementedError

    def note(self, target: Tensor) -> None:
        """Remember a tensor from outside, which is about to stand for one of this level."""
        self._taken.append((weakref.ref(target), target._data))

    def give_back(self) -> None:
        """Let tensors from outside that stand for some of this level be what they were, and write.

        Called when the function is done: what was made inside of it is gone by then.
        """
        for target, data in self._restore():
            self.write(target, data)

    def _restore(self) -> list[tuple[Any, Any]]:
        """Tensors from outside as they were; with what they stood for."""
        taken, self._taken = self._taken, []
        found = []
        for ref, before in taken:
            target = ref()
            data = None if target is None else target._data
            if target is not None and isinstance(data, Wrapped) and data.level is self:
                target._data = before
                found.append((target, data))
        return found

    def write(self, target: Tensor, data: Any) -> None:
        """Write `data`, which belongs here, to a tensor from outside."""
        raise NotImplementedError

    def lift(self, t: Tensor) -> Any:
        """Data that stands for `t` of an outer level at this one."""
        raise NotImplementedError

    def outlived(self, data: Any) -> Tensor:
        """What remains of `data`, which belongs here, when the transform is over."""
        raise NotImplementedError


class Wrapped:
    """The data of a tensor that belongs to a level; `inner` is a tensor of the level outside."""

    __slots__ = ("__weakref__", "dtype", "inner", "level", "shape")

    __array_ufunc__ = None  # `array * wrapped` is ours

    inner: Tensor
    level: Any
    shape: tuple[DimLike, ...]
    dtype: DType

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Any:
        return product(self.shape)

    def concrete(self, what: str) -> Any:
        """The array that holds the elements, for code that needs them in Python."""
        raise NotImplementedError

    def text(self) -> str:
        """What is printed of a tensor that holds this."""
        raise NotImplementedError

    def detached(self) -> Wrapped:
        """The same off the tape, at this level and outside of it."""
        raise NotImplementedError

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("the elements of a tensor inside a function transform are no NumPy array")

    def copy(self) -> Wrapped:
        """Itself: what is wrapped is never written to, but replaced."""
        return self

    def __dualgraph_call__(self, op: Op, inputs: Sequence[Any]) -> Any:
        from .._dispatch import make

        return process(op, [make(x) for x in inputs])

    def __dualgraph_scalar__(self, value: complex) -> Any:
        return f.like(self.inner, value)._data

    def _binary(self, op: str, other: Any, reflected: bool = False) -> Any:
        if isinstance(other, int | float | complex) and not isinstance(other, np.generic):
            other = self.__dualgraph_scalar__(other)
        operands = (other, self) if reflected else (self, other)
        return self.__dualgraph_call__(REGISTRY[op](), operands)

    def __add__(self, o: Any) -> Any:
        return self._binary("add", o)

    def __radd__(self, o: Any) -> Any:
        return self._binary("add", o, True)

    def __sub__(self, o: Any) -> Any:
        return self._binary("sub", o)

    def __rsub__(self, o: Any) -> Any:
        return self._binary("sub", o, True)

    def __mul__(self, o: Any) -> Any:
        return self._binary("mul", o)

    def __rmul__(self, o: Any) -> Any:
        return self._binary("mul", o, True)

    def __truediv__(self, o: Any) -> Any:
        return self._binary("div", o)

    def __rtruediv__(self, o: Any) -> Any:
        return self._binary("div", o, True)

    def __pow__(self, o: Any) -> Any:
        return self._binary("pow", o)

    def __matmul__(self, o: Any) -> Any:
        return self._binary("matmul", o)

    def __rmatmul__(self, o: Any) -> Any:
        return self._binary("matmul", o, True)

    def __neg__(self) -> Any:
        return self.__dualgraph_call__(REGISTRY["neg"](), (self,))

    def __gt__(self, o: Any) -> Any:
        return self._binary("greater", o)

    def __lt__(self, o: Any) -> Any:
        return self._binary("less", o)

    def __ge__(self, o: Any) -> Any:
        return self._binary("greater_equal", o)

    def __le__(self, o: Any) -> Any:
        return self._binary("less_equal", o)

    def __and__(self, o: Any) -> Any:
        return self._binary("logical_and", o)

    def __invert__(self) -> Any:
        return self.__dualgraph_call__(REGISTRY["logical_not"](), (self,))

    def __bool__(self) -> bool:
        return bool(self.concrete("the truth value of a tensor"))


def settled(t: Tensor) -> Tensor:
    """`t`, or what remains of it where its level is over."""
    while isinstance(t._data, Wrapped) and not t._data.level.alive:
        from .._dispatch import make

        rest = t._data.level.outlived(t._data)
        t = rest if t._fn is None else make(rest._data, t._fn)
    return t


def process(op: Op, inputs: Sequence[Tensor]) -> Any:
    """The data that `op` gives on operands of which some are wrapped (a tuple of several)."""
    inputs = [settled(t) for t in inputs]
    depths = [t._data.level.depth if isinstance(t._data, Wrapped) else 0 for t in inputs]
    depth = max(depths)
    if depth == 0:
        from .._dispatch import apply

        found: Any = apply(op, *inputs)
        return tuple(y._data for y in found) if type(found) is tuple else found._data
    return inputs[depths.index(depth)]._data.level.process(op, inputs)


def innermost(kind: type[Level]) -> Any:
    """The innermost open level of a kind in this thread; None if there is none."""
    return next((x for x in reversed(transforms.levels) if isinstance(x, kind)), None)


def refuse_backward() -> None:
    """Raise inside of a function transform, whose tensors have no `grad` to accumulate in."""
    if any(not level.allows_backward for level in transforms.levels):
        raise AutogradError(
            "backward() called inside a functorch transform. This is not supported, please use "
            "functorch.grad or functorch.vjp instead or call backward() outside of functorch "
            "transforms."
        )
