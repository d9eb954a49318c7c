"""Table lookups, and sums of what they give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops.base import shape_text
from dualgraph_compiler.ops.embedding import Embedding

from ... import functions as fn
from ..._dispatch import apply
from ...autograd.grad_mode import no_grad

if TYPE_CHECKING:
    from ..._tensor import Tensor


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of a table: input int [...], weight [n, d] -> [..., d].

    Args:
        padding_idx: the row that gets no gradient.
        max_norm: rows with a larger norm of `norm_type` are scaled down to it, in place.
        scale_grad_by_freq: divide a row's gradient by how often it is looked up.
        sparse: accepted; gradients are dense.
    """
    index = _row(weight, padding_idx)
    if max_norm is not None:
        _renormalize(weight, input, max_norm, norm_type)
    return apply(Embedding(index, scale_grad_by_freq), weight, input)


def _row(weight: Tensor, padding_idx: int | None) -> int | None:
    """`padding_idx` counted from the front."""
    if padding_idx is None:
        return None
    count = weight.shape[0]
    if isinstance(count, int) and not -count <= padding_idx < count:
        raise ArgumentError("Padding_idx must be within num_embeddings")
    return padding_idx if padding_idx >= 0 else count + padding_idx


def _renormalize(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    with no_grad():
        rows = input.unique()
        table = weight[rows]
        norms = (table.abs() ** norm_type).sum(-1, keepdim=True) ** (1.0 / norm_type)
        scale = (max_norm / (norms + 1e-7)).clamp(max=1.0)
        weight[rows] = table * scale


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sums, means or maxima of rows of a table, bag by bag: [bags, d]; 0 of an empty bag.

    Args:
        input: indices, a bag in each row [bags, n]; or all bags one after the other [n].
        weight: the table [rows, d].
        offsets: where in a 1-d `input` each bag begins [bags], 0 first.
        mode: "sum", "mean" or "max".
        per_sample_weights: a factor for each index; with "sum" only.
        include_last_offset: `offsets` has one more element, the end of the last bag.
        padding_idx: an index that counts for nothing.
        max_norm, norm_type, scale_grad_by_freq, sparse: as for `embedding`.
    """
    if mode not in ("sum", "mean", "max"):
        raise ArgumentError(f"mode has to be one of sum, mean or max, got {mode!r}")
    if per_sample_weights is not None and mode != "sum":
        raise ArgumentError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported "
            f"for mode='sum' (got mode='{mode}')."
        )
    if per_sample_weights is not None and per_sample_weights.shape != input.shape:
        raise ShapeError(
            f"embedding_bag: If per_sample_weights ({shape_text(tuple(per_sample_weights.shape))}) "
            "is not None, then it must have the same shape as the input "
            f"({shape_text(tuple(input.shape))})"
        )
    index, starts = _bags(input, offsets, include_last_offset)
    place = fn.arange(index.shape[0], device=index.device)
    bag = (place.unsqueeze(1) >= starts).to(dt.int64).sum(1) - 1
    count = starts.shape[0]
    rows = embedding(index, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq)
    padding = _row(weight, padding_idx)
    kept = fn.ones_like(index, dtype=dt.bool_) if padding is None else index != padding
    if mode == "max":
        return _largest(rows, kept, bag, count)
    factor = kept.to(rows.dtype)
    if per_sample_weights is not None:
        factor = per_sample_weights.reshape(-1) * factor
    sums = rows.new_zeros((count, *rows.shape[1:])).index_add(0, bag, rows * factor.unsqueeze(1))
    if mode == "sum":
        return sums
    sizes = rows.new_zeros(count).index_add(0, bag, kept.to(rows.dtype))
    return sums / sizes.clamp(min=1).unsqueeze(1)


def _bags(input: Tensor, offsets: Tensor | None, include_last: bool) -> tuple[Tensor, Tensor]:
    """All indices in a row, and where each bag begins among them."""
    if input.ndim == 2:
        if offsets is not None:
            raise ArgumentError(
                "if input is 2D, then offsets has to be None, as input is treated is a mini-batch "
                "of fixed length sequences."
            )
        bags, size = input.shape
        return input.reshape(bags * size), fn.arange(bags, device=input.device) * size
    if input.ndim != 1:
        raise ShapeError(
            f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}"
        )
    if offsets is None:
        raise ArgumentError("offsets has to be a 1D Tensor but got None")
    if offsets.ndim != 1:
        raise ShapeError(f"offsets has to be a 1D Tensor, got shape {list(offsets.shape)}")
    return input, offsets[:-1] if include_last else offsets


def _largest(rows: Tensor, kept: Tensor, bag: Tensor, count: int) -> Tensor:
    """The maxima over each bag, whose gradient goes to the first of equal ones."""
    total, width = rows.shape
    seen = rows.detach().masked_fill(~kept.unsqueeze(1), float("-inf"))
    best = rows.detach().new_full((count, width), float("-inf"))
    best = best.index_reduce(0, bag, seen, "amax")
    hit = kept.unsqueeze(1) & (seen == best.index_select(0, bag))
    place = fn.arange(total, device=rows.device).unsqueeze(1)
    place = place.expand(total, width).masked_fill(~hit, total)
    first = place.new_full((count, width), total).index_reduce(0, bag, place, "amin")
    padded = fn.cat([rows, rows.new_zeros((1, width))])
    return padded.gather(0, first)
