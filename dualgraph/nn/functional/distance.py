"""Norms, similarities and attention."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dualgraph_compiler.errors import ArgumentError, ShapeError

from ... import functions as fn
from ...autograd.inplace import assign
from .activation import softmax
from .dropout import dropout

if TYPE_CHECKING:
    from ..._tensor import Tensor


def normalize(
    input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """Return x / max(|x|_p, eps), the norm taken along `dim`."""
    result = input / fn.statistics.vector_norm(input, p, dim, True).clamp(min=eps)
    return result if out is None else assign(out, result)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along `dim`; both broadcast."""
    return fn.cosine_similarity(x1, x2, dim, eps)


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """|x1 - x2 + eps|_p over the last dimension."""
    return fn.statistics.vector_norm(x1 - x2 + eps, p, -1, keepdim)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """Distances between all pairs of rows: [n, d] -> [n (n - 1) / 2], row by row."""
    if input.ndim != 2:
        raise ShapeError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    first, second = fn.triu_indices(input.shape[0], input.shape[0], 1, device=input.device)
    gaps = input.index_select(0, first) - input.index_select(0, second)
    return fn.statistics.vector_norm(gaps, p, -1)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query key^T scale + mask) value (Vaswani et al. 2017).

    Args:
        query: [..., L, E]. key: [..., S, E]. value: [..., S, V].
        attn_mask: [..., L, S], added to the scores; a bool mask is True where to attend.
        dropout_p: of the attention weights.
        is_causal: position i attends to positions up to i only.
        scale: 1 / sqrt(E) by default.
        enable_gqa: repeat the heads (third dimension from the end) of key and value to as many as
            the query has.

    Returns:
        [..., L, V]. Rows that attend to nothing are 0.
    """
    if is_causal and attn_mask is not None:
        raise ArgumentError("scaled_dot_product_attention: give attn_mask or is_causal, not both")
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], dim=-3)
    factor = 1.0 / fn.sym_sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * factor) @ key.transpose(-2, -1)
    if is_causal:
        rows = fn.arange(scores.shape[-2], device=query.device).unsqueeze(-1)
        attn_mask = fn.arange(scores.shape[-1], device=query.device) <= rows
    if attn_mask is not None:
        if attn_mask.dtype.name == "bool":
            scores = fn.where(attn_mask, scores, -math.inf)
        else:
            scores = scores + attn_mask
    if attn_mask is None or is_causal:
        weights = softmax(scores, -1)
    else:
        empty = (scores == -math.inf).all(-1, keepdim=True)
        if scores.requires_grad:  # the gradient of their softmax would be NaN
            scores = fn.where(empty, 0.0, scores)
        weights = fn.where(empty, 0.0, softmax(scores, -1))
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return weights @ value
