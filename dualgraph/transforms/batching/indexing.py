"""Indexing: where the indices are a batch, the batch axis is indexed beside the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.dims import DimLike
from dualgraph_compiler.ops import advanced_indexing as ai
from dualgraph_compiler.ops import embedding as em
from dualgraph_compiler.ops import f
from dualgraph_compiler.ops import indexing as ix

from ..._dispatch import apply
from .rules import altered, as_is, everywhere, offsets, rule

if TYPE_CHECKING:
    from ..._tensor import Tensor

rule(em.OneHot)(as_is)


@rule(ix.IndexSelect)
def _index_select(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    x, index = xs
    axis = op.axis % max(x.ndim - flags[0], 1)
    if not flags[1]:
        return apply(ix.IndexSelect(axis + 1), x, index)
    if not flags[0]:  # the batch is one more axis of the index, in the middle of the result
        y = apply(ix.IndexSelect(axis), x, index)
        return f.permute(y, (axis, *(a for a in range(y.ndim) if a != axis)))
    rows = _rows_first(x, axis + 1, 1)
    y = apply(ix.IndexSelect(0), rows, _global(index, size, x.shape[axis + 1]))
    return _rows_back(y, axis + 1, index.ndim - 1)


def _rows_first(x: Tensor, axis: int, count: int) -> Tensor:
    """[B, .., k, ..] as [B k, .., ..]: `count` axes from `axis` on moved beside the batch."""
    moved = range(axis, axis + count)
    order = (0, *moved, *(a for a in range(1, x.ndim) if a not in moved))
    x = f.permute(x, order)
    return f.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:])) if count == 1 else x


def _rows_back(y: Tensor, axis: int, count: int) -> Tensor:
    """[B, *k, .., ..] with its `count` axes behind the batch moved to `axis`."""
    rest = list(range(1 + count, y.ndim))
    order = (0, *rest[: axis - 1], *range(1, 1 + count), *rest[axis - 1 :])
    return f.permute(y, order)  # type: ignore[no-any-return]


def _global(index: Tensor, size: DimLike, length: DimLike) -> Tensor:
    """Indices of each element's rows as indices of all elements' rows, one below the other."""
    starts = offsets(index, size, length, index.ndim)
    return f.where(index < 0, index + length, index) + starts  # type: ignore[no-any-return]


@rule(ix.IndexSelectGrad)
def _index_select_grad(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    g, index = xs
    if not flags[1]:
        return apply(altered(op, axis=op.axis + 1), g, index)
    g, index = everywhere(size, xs, flags)
    count = index.ndim - 1
    moved = range(op.axis + 1, op.axis + 1 + count)
    g = f.permute(g, (0, *moved, *(a for a in range(1, g.ndim) if a not in moved)))
    y = apply(ix.IndexSelectGrad(0, size * op.size), g, _global(index, size, op.size))
    return _rows_back(f.reshape(y, (size, op.size, *y.shape[1:])), op.axis + 1, 1)


@rule(ix.IndexAdd)
def _index_add(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    x, index, src = xs
    axis = op.axis % max(x.ndim - flags[0], 1)
    x, src = everywhere(size, (x, src), (flags[0], flags[2]))
    if not flags[1]:
        return apply(ix.IndexAdd(axis + 1), x, index, src)
    length = x.shape[axis + 1]
    flat = f.reshape(_global(index, size, length), (-1,))
    y = apply(ix.IndexAdd(0), _rows_first(x, axis + 1, 1), flat, _rows_first(src, axis + 1, 1))
    return _rows_back(f.reshape(y, (size, length, *y.shape[1:])), axis + 1, 1)


@rule(em.Embedding)
def _embedding(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    weight, index = xs
    if not flags[0]:
        return apply(op, weight, index)
    index = index if flags[1] else f.expand(index, (size, *index.shape))
    rows = f.reshape(weight, (size * weight.shape[1], *weight.shape[2:]))
    at = _global(index, size, weight.shape[1])
    y = apply(em.Embedding(None), rows, at)
    if op.padding_idx is None:
        return y
    padded = f.reshape(index == op.padding_idx, (*index.shape, *(1,) * (y.ndim - index.ndim)))
    return f.where(padded, y.detach(), y)


@rule(em.EmbeddingGrad)
def _embedding_grad(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    g, index = everywhere(size, xs, flags)
    if op.padding_idx is not None:
        kept = f.reshape(index != op.padding_idx, (*index.shape, *(1,) * (g.ndim - index.ndim)))
        g = f.where(kept, g, f.zeros_like(g))
    y = apply(em.EmbeddingGrad(size * op.rows), g, _global(index, size, op.rows))
    return f.reshape(y, (size, op.rows, *y.shape[1:]))


@rule(ai.Index)
def _index(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    x, *indices = xs
    picked = max(i.ndim - own for i, own in zip(indices, flags[1:], strict=True))
    if flags[0] and not any(flags[1:]):
        y = apply(ai.Index(tuple(a + 1 for a in op.axes)), *xs)
        return y if op.adjacent else _batch_first(y, picked)
    if flags[0]:
        indices = [offsets(indices[0], size, 1, picked + 1), *_aligned(indices, flags[1:], picked)]
        y = apply(ai.Index((0, *(a + 1 for a in op.axes))), x, *indices)
        # The index axes come first, unless the indexed axes follow the batch's.
        return _rows_back(y, 1 + (op.axes[0] if op.adjacent else 0), picked)
    y = apply(op, x, *_aligned(indices, flags[1:], picked))
    return _batch_first(y, op.axes[0] if op.adjacent else 0)


def _aligned(indices: Sequence[Tensor], flags: Sequence[bool], picked: int) -> list[Tensor]:
    """Index tensors that broadcast with the batch in front."""
    from .rules import lifted

    return [lifted(i, picked) if own else i for i, own in zip(indices, flags, strict=True)]


def _batch_first(y: Tensor, at: int) -> Tensor:
    """The batch axis, which stands at `at`, moved to the front."""
    return f.permute(y, (at, *(a for a in range(y.ndim) if a != at)))  # type: ignore[no-any-return]


@rule(ai.IndexPut)
def _index_put(op: Any, size: DimLike, xs: Sequence[Tensor], flags: Sequence[bool]) -> Any:
    x, values, *indices = xs
    x = x if flags[0] else f.expand(x, (size, *x.shape))
    own = flags[2:]
    picked = max(i.ndim - flag for i, flag in zip(indices, own, strict=True))
    rest = x.ndim - 1 - len(op.axes)
    at = op.axes[0] if op.adjacent else 0
    values = _whole(values, flags[1], size, picked + rest)
    # As the result of indexing the batch axis beside the others: batch, index axes, the rest.
    order = (0, *range(1 + at, 1 + at + picked), *range(1, 1 + at))
    values = f.permute(values, (*order, *range(1 + at + picked, values.ndim)))
    indices = [offsets(indices[0], size, 1, picked + 1), *_aligned(indices, own, picked)]
    axes = (0, *(a + 1 for a in op.axes))
    return apply(altered(op, axes=axes), x, values, *indices)


def _whole(values: Tensor, batched: bool, size: DimLike, ndim: int) -> Tensor:
    """The values as a batch of tensors with all axes."""
    from .rules import lifted

    if not batched:
        values = f.expand(values, (size, *values.shape))
    return lifted(values, ndim)
