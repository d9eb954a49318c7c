"""Padded batches of sequences, time first: which steps are inside, and reversal within each.

`lens` is int64 [B], the length of each of B sequences in a [T, B, ...] batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dims import DimLike
from ..dtypes import bool_, int64
from ..errors import DTypeError, IndexOutOfRange, OnnxError, ShapeError
from ..kernels.postponed import note
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Op, op, shape_text
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit


def check_lens(name: str, lens: TensorType, batch: DimLike | None = None) -> None:
    """Raise unless `lens` is int64 [batch]."""
    if lens.dtype is not int64:
        raise DTypeError(f"{name}: expected int64 lengths, got {lens.dtype.name}")
    if lens.ndim != 1 or (batch is not None and lens.shape != (batch,)):
        wanted = "B" if batch is None else batch
        raise ShapeError(f"{name}: expected lengths [{wanted}], got {shape_text(lens.shape)}")


def check_range(name: str, xp: Any, lens: Array, steps: int) -> None:
    """Raise IndexOutOfRange unless all lengths are within [0, steps]; later on a GPU."""
    if xp is not np:
        if lens.size:
            note(xp, lens, 0, steps, f"{name}: length")
    elif lens.size and not (int(lens.min()) >= 0 and int(lens.max()) <= steps):
        raise IndexOutOfRange(
            f"{name}: expected lengths within [0, {steps}], got {int(lens.min())} to "
            f"{int(lens.max())}"
        )


@op
class SequenceMask(Op):
    """Whether step t is inside sequence b: lens [B] -> bool [steps, B]."""

    steps: DimLike

    def infer(self, lens: TensorType) -> TensorType:
        check_lens("sequence_mask", lens)
        return TensorType(bool_, (self.steps, *lens.shape))

    def eager(self, xp: Any, lens: Array) -> Array:
        return xp.arange(self.steps)[:, None] < lens

    def to_onnx(self, ctx: Export, lens: str) -> Any:
        zero, one = ctx.constant(0, int64), ctx.constant(1, int64)
        at = ctx.emit("Range", zero, ctx.dim(self.steps), one)
        return ctx.emit("Less", ctx.emit("Unsqueeze", at, ctx.ints(1)), lens)


@op
class ReverseSequence(Op):
    """The first `lens[b]` steps of each sequence in reverse order, the rest as they are.

    Shapes: x [T, B, ...], lens [B] -> x's shape. Source: ONNX ReverseSequence-10.
    """

    kind = Kind.MOVEMENT

    def infer(self, x: TensorType, lens: TensorType) -> TensorType:
        if x.ndim < 2:
            raise ShapeError(f"reverse_sequence: expected x [T, B, ...], got {shape_text(x.shape)}")
        check_lens("reverse_sequence", lens, x.shape[1])
        return x

    def eager(self, xp: Any, x: Array, lens: Array) -> Array:
        check_range("reverse_sequence", xp, lens, x.shape[0])
        at = xp.arange(x.shape[0])[:, None]
        source = xp.where(at < lens, lens - 1 - at, at)
        return x[source, xp.arange(x.shape[1])]

    def vjp(self, g: Array, _y: Array, _x: Array, lens: Array) -> tuple[Grad, ...]:
        return self(g, lens), None

    def to_onnx(self, ctx: Export, x: str, lens: str) -> Any:
        ctx.require_opset(10, "reverse_sequence")
        axes = {"batch_axis": 1, "time_axis": 0}
        return emit(ctx, ctx.type(x).dtype, "ReverseSequence", x, lens, **axes)


@from_onnx("ReverseSequence")
def _import_reverse(ctx: Import, x: Any, lens: Any) -> Any:
    axes = ctx.attr("time_axis", 0), ctx.attr("batch_axis", 1)
    lens = f.cast(lens, int64)
    if axes == (0, 1):
        return ReverseSequence()(x, lens)
    if axes == (1, 0):
        swap = (1, 0, *range(2, x.ndim))
        return f.permute(ReverseSequence()(f.permute(x, swap), lens), swap)
    raise OnnxError(f"ReverseSequence: time_axis and batch_axis must be 0 and 1, got {axes}")
