"""A value that is the same and yet another one: where work is to be repeated on purpose."""

from __future__ import annotations

from typing import Any

from ..types import TensorType
from .base import Array, Grad, Kind, Op, op
from .onnx_rules import Export


@op
class Barrier(Op):
    """x, to be computed with anew: what reads it is not merged with what reads x.

    Further operands only say when: not before they are known, such as the gradient at which a
    checkpointed region is run again. As JAX's ``optimization_barrier``; the Identity of ONNX.

    Shapes: x, then any -> that of x.
    """

    kind = Kind.LIBRARY
    is_pure = False
    may_alias = True

    def infer(self, x: TensorType, *after: TensorType) -> TensorType:
        return x

    def eager(self, xp: Any, x: Array, *after: Array) -> Array:
        return x

    def vjp(self, g: Array, _y: Array, _x: Array, *_after: Array) -> tuple[Grad, ...]:
        return (g, *(None for _ in _after))

    def to_onnx(self, ctx: Export, x: str, *after: str) -> Any:
        return ctx.emit("Identity", x)
