"""Losses with a margin: of scores, of similarities, of distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError

from ... import functions as fn
from ..._autocast import in_float32
from ._args import reduced, reduction_of
from .activation import logsigmoid
from .distance import pairwise_distance

if TYPE_CHECKING:
    from ..._tensor import Tensor


@in_float32
def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-t x)) of targets t = 1 or -1.

    Shapes: input and target [*] -> [], or [*] with reduction="none".
    """
    losses = -logsigmoid(target * input)
    return reduced("soft_margin_loss", losses, reduction_of(size_average, reduce, reduction))


@in_float32
def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return x where t = 1, max(0, margin - x) where t = -1.

    Shapes: input and target [*] -> [], or [*] with reduction="none".
    """
    near = fn.where(target != -1, input, 0.0)
    far = fn.where(target != 1, (margin - input).clamp(min=0.0), 0.0)
    return reduced(
        "hinge_embedding_loss", near + far, reduction_of(size_average, reduce, reduction)
    )


@in_float32
def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -t (x1 - x2) + margin).

    Shapes: input and target [*] -> [], or [*] with reduction="none".
    """
    losses = (-target * (input1 - input2) + margin).clamp(min=0.0)
    return reduced("margin_ranking_loss", losses, reduction_of(size_average, reduce, reduction))


@in_float32
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(x1, x2) where t = 1, max(0, cos(x1, x2) - margin) where t = -1.

    Shapes: x1, x2 [N, D], target [N] -> [], or [N] with reduction="none".
    """
    eps = 1e-12
    dots = (input1 * input2).sum(-1)
    norms = ((input1 * input1).sum(-1) + eps) * ((input2 * input2).sum(-1) + eps)
    cosines = dots / norms.sqrt()
    near = fn.where(target == 1, 1.0 - cosines, 0.0)
    far = fn.where(target == -1, (cosines - margin).clamp(min=0.0), 0.0)
    return reduced(
        "cosine_embedding_loss", near + far, reduction_of(size_average, reduce, reduction)
    )


@in_float32
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, |a - p| - |a - n| + margin), distances in the p-norm over the last dimension."""
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = fn.minimum(far, pairwise_distance(positive, negative, p, eps))
    losses = (near - far + margin).clamp(min=0.0)
    return reduced("triplet_margin_loss", losses, reduction_of(size_average, reduce, reduction))


@in_float32
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes c != t of max(0, margin - x[t] + x[c])^p: x [N, C], t [N]."""
    if p not in (1, 2):
        raise ArgumentError("only p == 1 and p == 2 supported")
    if target.dtype.is_differentiable:
        raise DTypeError("multi_margin_loss: expected class indices as target")
    x, t = (input, target) if input.ndim == 2 else (input.reshape(1, -1), target.reshape(1))
    own = x.gather(1, t.unsqueeze(1))
    gaps = (margin - own + x).clamp(min=0.0)
    gaps = gaps * gaps if p == 2 else gaps
    if weight is not None:
        gaps = gaps * weight.index_select(0, t).unsqueeze(1)
    classes = fn.arange(x.shape[1], device=x.device)
    gaps = fn.where(classes == t.unsqueeze(1), 0.0, gaps)
    losses = gaps.sum(1) / x.shape[1]
    losses = losses if input.ndim == 2 else losses.squeeze(0)
    return reduced("multi_margin_loss", losses, reduction_of(size_average, reduce, reduction))


@in_float32
def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Sums of max(0, 1 - x[t] + x[c]) over classes t that are meant and c that are not, by C.

    Shapes: x [N, C] or [C]; t alike, the classes meant, up to the first -1.
    """
    x, t = (input, target) if input.ndim == 2 else (input.reshape(1, -1), target.reshape(1, -1))
    if tuple(x.shape) != tuple(t.shape):
        raise ShapeError(f"inconsistent target size: {list(target.shape)} for {list(input.shape)}")
    meant = (t >= 0).to(dt.int64).cumprod(1).to(dt.bool_)
    places = fn.where(meant, t, 0)
    ones = meant.to(dt.int64)
    targets = fn.zeros_like(t).scatter_add(1, places, ones) > 0
    gaps = (1 - x.gather(1, places).unsqueeze(2) + x.unsqueeze(1)).clamp(min=0.0)
    counted = meant.unsqueeze(2) & ~targets.unsqueeze(1)
    losses = fn.where(counted, gaps, 0.0).sum((1, 2)) / x.shape[1]
    losses = losses if input.ndim == 2 else losses.squeeze(0)
    how = reduction_of(size_average, reduce, reduction)
    return reduced("multilabel_margin_loss", losses, how)


@in_float32
def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """As `triplet_margin_loss`, with any distance.

    Shapes: three times [N, D] -> [], or [N] with reduction="none".
    """
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = fn.minimum(far, distance(positive, negative))
    losses = (near - far + margin).clamp(min=0.0)
    return reduced("triplet_margin_with_distance_loss", losses, reduction)
