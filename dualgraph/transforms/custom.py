"""Custom functions (``autograd.Function``) inside of function transforms.

Their own rules are used at every level: `backward` for what is recorded outside of a transform, the
static `vmap` for batches and `jvp` for tangents where a class has them. A class without `vmap` is
mapped by mapping what it is made of; tangents without `jvp` come from `backward`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dualgraph_compiler.dims import DimLike
from dualgraph_compiler.ops import f

from .._dispatch import make
from .arguments import moved_to_front
from .batched import Batched, BatchLevel
from .dual import Dual, DualLevel
from .levels import Wrapped, settled, transforms

if TYPE_CHECKING:
    from .._tensor import Tensor


class VmapInfo(NamedTuple):
    """What a Function's static `vmap` is told of the map."""

    batch_size: DimLike
    randomness: str


def is_wrapped(args: Sequence[Any]) -> bool:
    """Whether an argument belongs to a transform."""
    return any(isinstance(getattr(a, "_data", None), Wrapped) for a in args)


def carried_out(cls: Any, args: Sequence[Any]) -> Any:
    """The result of ``cls.apply(*args)`` by the rules of the deepest level among the arguments."""
    from .._tensor import Tensor

    args = [settled(a) if isinstance(a, Tensor) else a for a in args]
    levels = [a._data.level for a in args if isinstance(a, Tensor) and isinstance(a._data, Wrapped)]
    if not levels:
        return cls.apply(*args)
    level = max(levels, key=lambda x: x.depth)
    inner, transforms.levels = (
        transforms.levels,
        [x for x in transforms.levels if x.depth < level.depth],
    )
    try:  # what is inside of the level's tensors belongs outside of it
        if isinstance(level, BatchLevel):
            return _mapped(cls, args, level)
        assert isinstance(level, DualLevel)
        return _pushed(cls, args, level)
    finally:
        transforms.levels = inner


def _mapped(cls: Any, args: Sequence[Any], level: BatchLevel) -> Any:
    parts = [level.parts(a) if hasattr(a, "_data") else (a, False) for a in args]
    inner = [x for x, _ in parts]
    flags = [own for _, own in parts]
    if not any(flags):
        return cls.apply(*inner)
    if not hasattr(cls, "vmap"):
        return _wrap(level, _mapping(cls, level, flags).apply(*inner))
    dims = tuple(0 if own else None for own in flags)
    found, out_dims = cls.vmap(VmapInfo(level.size, level.randomness), dims, *inner)
    several = isinstance(found, tuple)
    places = (
        out_dims if isinstance(out_dims, tuple) else (out_dims,) * (len(found) if several else 1)
    )
    outputs = [
        y if at is None else make(Batched(level, moved_to_front(y, at)))
        for y, at in zip(found if several else (found,), places, strict=True)
    ]
    return tuple(outputs) if several else outputs[0]


def _wrap(level: BatchLevel, found: Any) -> Any:
    if isinstance(found, tuple):
        return tuple(_wrap(level, y) for y in found)
    return make(Batched(level, found)) if hasattr(found, "_data") else found


def _mapping(cls: Any, level: BatchLevel, flags: Sequence[bool]) -> Any:
    """A Function on whole batches made of one on elements."""
    from ..autograd.function import Function, FunctionContext, run_forward

    def shown(x: Any, own: bool) -> Any:
        return make(Batched(level, x)) if own else x

    def forward(ctx: Any, *inner: Any) -> Any:
        ctx.own = FunctionContext()
        ctx.own.needs_input_grad = ctx.needs_input_grad
        with BatchLevelAgain(level):
            out = run_forward(cls, ctx.own, [shown(*p) for p in zip(inner, flags, strict=True)])
            ctx.own._seal({})
            rows = [level.rows(y) for y in (out if isinstance(out, tuple) else (out,))]
        ctx.mark_non_differentiable(*(y for y in rows if not y.dtype.is_differentiable))
        return tuple(rows) if isinstance(out, tuple) else rows[0]

    def backward(ctx: Any, *gs: Any) -> Any:
        with BatchLevelAgain(level):
            found = cls.backward(
                ctx.own, *(g if g is None else make(Batched(level, g)) for g in gs)
            )
            several = found if isinstance(found, tuple | list) else (found,)
            return tuple(
                None if g is None else level.rows(g) if own else f.sum(level.rows(g), (0,))
                for g, own in zip(several, flags, strict=False)
            )

    body = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type(cls.__name__, (Function,), body)


class BatchLevelAgain:
    """Enters a map that is open already, or over, as the innermost one."""

    def __init__(self, level: BatchLevel) -> None:
        self._level = level
        self._state: Any = None

    def __enter__(self) -> None:
        level = self._level
        self._state = (level.depth, level.alive, level._disabled, level._taken)
        level._taken = []
        level.__enter__()

    def __exit__(self, *exception: object) -> None:
        level = self._level
        level.__exit__(*exception)
        level.depth, level.alive, level._disabled, level._taken = self._state


def _pushed(cls: Any, args: Sequence[Any], level: DualLevel) -> Any:
    from ..autograd.function import Function, FunctionContext, run_forward
    from ..autograd.grad_mode import no_grad

    parts = [level.parts(a) if hasattr(a, "_data") else (a, None) for a in args]
    primals = [p for p, _ in parts]
    tangents = [t for _, t in parts]
    outputs = cls.apply(*primals)
    several = isinstance(outputs, tuple)
    ys = outputs if several else (outputs,)
    if cls.jvp is not Function.jvp:
        ctx = FunctionContext()
        with no_grad():
            run_forward(cls, ctx, primals)
        ctx._seal({})
        found = cls.jvp(ctx, *tangents)
        pushed = found if isinstance(found, tuple) else (found,)
    else:
        pushed = _by_backward(cls, primals, tangents)
    wrapped = [
        make(Dual(level, y, t)) if hasattr(y, "_data") else y
        for y, t in zip(ys, pushed, strict=True)
    ]
    return tuple(wrapped) if several else wrapped[0]


def _by_backward(cls: Any, primals: Sequence[Any], tangents: Sequence[Tensor | None]) -> Any:
    from ..func import linearize

    at = [i for i, t in enumerate(tangents) if t is not None]

    def function(*xs: Tensor) -> Any:
        full = list(primals)
        for i, x in zip(at, xs, strict=True):
            full[i] = x
        return cls.apply(*full)

    found = linearize(function, *(primals[i] for i in at))[1](*(tangents[i] for i in at))
    return found if isinstance(found, tuple) else (found,)
