"""Reductions that ask about truth, under PyTorch's names: ``typing.Any`` is not imported here."""

from __future__ import annotations

from ..dtypes import BOOL, COMPLEX, FLOAT, INT, bool_, int64
from ..types import TensorType
from .base import Array, op
from .comparison import truth
from .onnx_rules import Export
from .onnx_types import Writer
from .reduction import Reduction


class Quantifier(Reduction):
    """Asks about the truth of elements, zero being false; the result is bool."""

    __slots__ = ()
    categories = (BOOL, INT, FLOAT, COMPLEX)

    def infer(self, x: TensorType) -> TensorType:
        return Reduction.infer(self, x).with_dtype(bool_)

    def _count(self, ctx: Export, truth: str) -> str:
        return self._emit(ctx, "ReduceSum", ctx.emit("Cast", truth, to=int64), Writer(ctx, int64))


@op
class Any(Quantifier):
    """Whether some element over `axes` is true; false over none. Source: PyTorch any."""

    axes: tuple[int, ...]
    keepdims: bool = False

    def eager(self, xp: Array, x: Array) -> Array:
        return xp.any(x, axis=self.axes, keepdims=self.keepdims)

    def to_onnx(self, ctx: Export, x: str) -> str:
        count = self._count(ctx, truth(ctx, x))
        return ctx.emit("Greater", count, ctx.constant(0, int64))  # type: ignore[no-any-return]


@op
class All(Quantifier):
    """Whether every element over `axes` is true; true over none. Source: PyTorch all."""

    axes: tuple[int, ...]
    keepdims: bool = False

    def eager(self, xp: Array, x: Array) -> Array:
        return xp.all(x, axis=self.axes, keepdims=self.keepdims)

    def to_onnx(self, ctx: Export, x: str) -> str:
        count = self._count(ctx, ctx.emit("Not", truth(ctx, x)))
        return ctx.emit("Equal", count, ctx.constant(0, int64))  # type: ignore[no-any-return]
