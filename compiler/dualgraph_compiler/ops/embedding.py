"""Embedding tables and one-hot vectors."""

from __future__ import annotations

from typing import Any

from ..dims import DimLike
from ..dtypes import INT, DType, float32, int64
from ..errors import ShapeError
from ..kernels import indexing as kernels
from ..types import TensorType
from . import f
from .base import Array, Grad, Op, op
from .creation import Arange, DimValue
from .indexing import IndexSelect, IndexSelectGrad, add_slices, checked, require_index
from .onnx_rules import Export, Import, from_onnx


@op
class Embedding(Op):
    """Rows of `weight`: the gradient of row `padding_idx` is zero.

    With `scale_grad_by_freq` a row's gradient is divided by how often `index` names the row.

    Shapes: weight [V, *D], index of any shape, non-negative -> [*index, *D].
    Source: torch.nn.functional.embedding; ONNX Gather-13.
    """

    padding_idx: int | None = None
    scale_grad_by_freq: bool = False

    def infer(self, weight: TensorType, index: TensorType) -> TensorType:
        require_index("embedding", index)
        if weight.ndim == 0:
            raise ShapeError("embedding: expected a weight [rows, features]")
        return weight.with_shape((*index.shape, *weight.shape[1:]))

    def eager(self, xp: Any, weight: Array, index: Array) -> Array:
        return checked("embedding", kernels.take, xp, weight, index)

    def vjp(self, g: Array, _y: Array, _weight: Array, index: Array) -> tuple[Grad, ...]:
        if self.scale_grad_by_freq:
            ones = f.full(g, tuple(index.shape), 1)
            counts = IndexSelect(0)(EmbeddingGrad(_weight.shape[0])(ones, index), index)
            g = g / f.reshape(counts, (*counts.shape, *(1,) * (g.ndim - counts.ndim)))
        return EmbeddingGrad(_weight.shape[0], self.padding_idx)(g, index), None

    def to_onnx(self, ctx: Export, weight: str, index: str) -> Any:
        return ctx.emit("Gather", weight, index, axis=0)


@op
class EmbeddingGrad(Op):
    """Zeros [rows, *D] with g [*index, *D] added at rows `index`, except at `padding_idx`."""

    rows: DimLike
    padding_idx: int | None = None

    def infer(self, g: TensorType, index: TensorType) -> TensorType:
        return IndexSelectGrad(0, self.rows).infer(g, index)

    def eager(self, xp: Any, g: Array, index: Array) -> Array:
        return checked(
            "embedding", kernels.add_rows, xp, self.rows, index, g, skip=self.padding_idx
        )

    def vjp(self, g: Array, _y: Array, _g: Array, index: Array) -> tuple[Grad, ...]:
        picked = IndexSelect(0)(g, index)
        if self.padding_idx is None:
            return picked, None
        mask = f.reshape(f.equal(index, self.padding_idx), index.shape + (1,) * (g.ndim - 1))
        return f.where(mask, 0, picked), None

    def to_onnx(self, ctx: Export, g: str, index: str) -> Any:
        y = add_slices(ctx, g, index, 0, self.rows)
        if self.padding_idx is None:
            return y
        t = ctx.type(g)
        rest = t.shape[ctx.type(index).ndim :]
        zero = ctx.emit("Expand", ctx.constant(0, t.dtype), ctx.shape((1, *rest)))
        return ctx.emit("ScatterND", y, ctx.constant([[self.padding_idx]], int64), zero)


# -- one-hot --------------------------------------------------------------------------------------


@op
class OneHot(Op):
    """1 at each index along a new last axis of size `depth`, 0 elsewhere.

    Shapes: index of any shape, within [0, depth) -> [*index, depth] of `dtype`.
    Source: torch.nn.functional.one_hot; ONNX OneHot-11.
    """

    depth: DimLike
    dtype: DType = int64

    def infer(self, index: TensorType) -> TensorType:
        require_index("one_hot", index)
        return TensorType(self.dtype, (*index.shape, self.depth))

    def eager(self, xp: Any, index: Array) -> Array:
        at = checked("one_hot", kernels.check_indices, xp, index, self.depth)
        return (at[..., None] == xp.arange(self.depth)).astype(self.dtype.np)

    def to_onnx(self, ctx: Export, index: str) -> Any:
        number = int64 if self.dtype.category == INT else float32
        values = ctx.constant([0, 1], number)
        scalar = ctx.type(index).ndim == 0  # ONNX wants an axis
        index = ctx.emit("Unsqueeze", index, ctx.ints(0)) if scalar else index
        y = ctx.emit("OneHot", index, ctx.dim(self.depth), values, axis=-1)
        y = ctx.emit("Squeeze", y, ctx.ints(0)) if scalar else y
        return y if self.dtype is number else ctx.emit("Cast", y, to=self.dtype)


@from_onnx("OneHot")
def _import_one_hot(ctx: Import, index: Any, depth: Any, values: Any) -> Any:
    (size,) = ctx.sizes(depth, "the depth of OneHot")
    axis = ctx.attr("axis", -1)
    axis = axis + index.ndim + 1 if axis < 0 else axis
    index = f.reshape(f.cast(index, int64), (*index.shape[:axis], 1, *index.shape[axis:]))
    # Compared rather than looked up: an index out of range gives all "off".
    at = f.reshape(
        ctx.graph.call(Arange(0, size, 1, int64), ()), (size, *(1,) * (index.ndim - 1 - axis))
    )
    count = ctx.graph.call(DimValue(size), ())
    hot = f.equal(f.where(index < 0, index + count, index), at)
    off, on = (f.select(values, 0, i) for i in (0, 1))
    return f.where(hot, on, off)
