"""Losses. `reduction` is "mean", "sum" or "none" (one loss per sample or element)."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops.base import broadcast_shapes, shape_text
from dualgraph_compiler.ops.loss import CrossEntropy, NllLoss

from ... import functions as fn
from ..._autocast import in_float32
from ..._dispatch import apply
from ._args import reduced, reduction_of
from .activation import log_softmax, logsigmoid
from .linear import linear

if TYPE_CHECKING:
    from ..._tensor import Tensor


def _check_sizes(name: str, input: Tensor, target: Tensor) -> None:
    """Warn, as PyTorch does, of a target that only broadcasts to the input."""
    a, b = tuple(input.shape), tuple(target.shape)
    if a != b:
        warnings.warn(
            f"Using a target size ({shape_text(b)}) that is different to the input size "
            f"({shape_text(a)}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            UserWarning,
            stacklevel=4,
        )
        broadcast_shapes(name, a, b)


# -- against classes ------------------------------------------------------------------------------


@in_float32
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The negative log-likelihood of `target` under softmax(input).

    Args:
        input: scores [N, C, ...] or [C].
        target: class indices [N, ...] (int64), or probabilities of the input's shape and dtype.
        weight: a factor per class [C].
        ignore_index: targets of this index count for nothing.
        reduction: "mean" divides by the weight of the targets that count.
        label_smoothing: how much of each target is spread evenly over all classes, 0 to 1.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ArgumentError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if target.dtype.is_differentiable:
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    weights = () if weight is None else (weight,)
    if not label_smoothing:
        return apply(CrossEntropy(reduction, ignore_index), input, target, *weights)
    axis = min(input.ndim, 2) - 1
    classes = input.shape[axis]
    logs = log_softmax(input, axis)
    hard = apply(NllLoss(reduction, ignore_index), logs, target, *weights)
    ignored = target == ignore_index
    if weight is None:
        spread, weighing = -logs.sum(axis), None
    else:
        spread = -(logs * weight.reshape(-1, *(1,) * (input.ndim - axis - 1))).sum(axis)
        index = target.masked_fill(ignored, 0)
        weighing = weight.index_select(0, index.reshape(-1)).reshape(index.shape)
        weighing = weighing.masked_fill(ignored, 0.0)
    spread = spread.masked_fill(ignored, 0.0)
    if reduction == "mean":
        count = (~ignored).to(input.dtype).sum() if weighing is None else weighing.sum()
        spread = spread.sum() / count
    else:
        spread = reduced("cross_entropy", spread, reduction)
    return hard * (1 - label_smoothing) + spread * (label_smoothing / classes)  # type: ignore[no-any-return]


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    if tuple(target.shape) != tuple(input.shape):
        raise ShapeError(
            "cross_entropy: expected target probabilities of the input's shape "
            f"{shape_text(tuple(input.shape))}, got {shape_text(tuple(target.shape))}"
        )
    axis = min(input.ndim, 2) - 1
    classes = input.shape[axis]
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    products = log_softmax(input, axis) * target
    if weight is not None:
        products = products * weight.reshape(-1, *(1,) * (input.ndim - axis - 1))
    losses = -products.sum(axis)
    return reduced("cross_entropy", losses, reduction)


@in_float32
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability that `input` [N, C, ...] gives the classes `target` [N, ...]."""
    op = NllLoss(reduction_of(size_average, reduce, reduction), ignore_index)
    return apply(op, input, target, *(() if weight is None else (weight,)))


@in_float32
def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Kullback-Leibler divergence of `target` from the log-probabilities `input`.

    "batchmean" divides the sum by the batch size, which is the mathematical definition.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size. "
            "'batchmean' divides only by the batch size, and aligns with the KL div math "
            "definition.",
            UserWarning,
            stacklevel=2,
        )
    if log_target:
        losses = target.exp() * (target - input)
    else:
        safe = fn.where(target == 0, 1.0, target)
        losses = target * safe.log() - target * input
    if reduction == "batchmean":
        return losses.sum() / (input.shape[0] if input.ndim else 1)
    return reduced("kl_div", losses, reduction)


@in_float32
def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t log p + (1 - t) log(1 - p)) of probabilities p; logarithms stop at -100.

    Shapes: input and target [*] -> [], or [*] with reduction="none".
    """
    if tuple(input.shape) != tuple(target.shape):
        raise ShapeError(
            f"Using a target size ({shape_text(tuple(target.shape))}) that is different to the "
            f"input size ({shape_text(tuple(input.shape))}) is deprecated. Please ensure they have "
            "the same size."
        )
    logs = input.log().clamp(min=-100.0)
    others = (-input).log1p().clamp(min=-100.0)
    losses = (target - 1.0) * others - target * logs
    if weight is not None:
        losses = losses * weight
    return reduced("binary_cross_entropy", losses, reduction_of(size_average, reduce, reduction))


@in_float32
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(input), without its loss of precision.

    Shapes: input and target [*] -> [], or [*] with reduction="none".

    `pos_weight` multiplies the part of positive targets.
    """
    if tuple(input.shape) != tuple(target.shape):
        raise ShapeError(
            f"Target size ({shape_text(tuple(target.shape))}) must be the same as input size "
            f"({shape_text(tuple(input.shape))})"
        )
    logs = logsigmoid(input)
    if pos_weight is not None:
        logs = logs * ((pos_weight - 1.0) * target + 1.0)
    losses = (1.0 - target) * input - logs
    if weight is not None:
        losses = losses * weight
    return reduced(
        "binary_cross_entropy_with_logits", losses, reduction_of(size_average, reduce, reduction)
    )


@in_float32
def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes of `binary_cross_entropy_with_logits`: [N, C] -> [N] or a number."""
    losses = -(target * logsigmoid(input) + (1.0 - target) * logsigmoid(-input))
    if weight is not None:
        losses = losses * weight
    losses = losses.mean(-1)
    return reduced(
        "multilabel_soft_margin_loss", losses, reduction_of(size_average, reduce, reduction)
    )


# -- against numbers ------------------------------------------------------------------------------


@in_float32
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """(x - t)^2. Shapes: input and target [*] -> [], or [*] with reduction="none"."""
    _check_sizes("mse_loss", input, target)
    d = input - target
    return reduced("mse_loss", d * d, reduction_of(size_average, reduce, reduction))


@in_float32
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """|x - t|. Shapes: input and target [*] -> [], or [*] with reduction="none"."""
    _check_sizes("l1_loss", input, target)
    losses = (input - target).abs()
    return reduced("l1_loss", losses, reduction_of(size_average, reduce, reduction))


@in_float32
def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d^2 / (2 beta) for d = |x - t| < beta, else d - beta / 2.

    Shapes: input and target [*] -> [], or [*] with reduction="none".
    """
    _check_sizes("smooth_l1_loss", input, target)
    if beta < 0:
        raise ArgumentError("smooth_l1_loss does not support negative values for beta.")
    d = (input - target).abs()
    if beta != 0:
        d = fn.where(d < beta, d * d * (0.5 / beta), d - 0.5 * beta)
    return reduced("smooth_l1_loss", d, reduction_of(size_average, reduce, reduction))


@in_float32
def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """d^2 / 2 for d = |x - t| <= delta, else delta (d - delta / 2).

    Shapes: input and target [*] -> [], or [*] with reduction="none".
    """
    _check_sizes("huber_loss", input, target)
    if delta <= 0:
        raise ArgumentError("huber_loss does not support non-positive values for delta.")
    d = (input - target).abs()
    losses = fn.where(d < delta, d * d * 0.5, (d - 0.5 * delta) * delta)
    return reduced("huber_loss", losses, reduction)


@in_float32
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of Poisson-distributed counts; `full` adds Stirling's term.

    Shapes: input and target [*] -> [], or [*] with reduction="none".
    """
    if log_input:
        losses = input.exp() - target * input
    else:
        losses = input - target * (input + eps).log()
    if full:
        safe = fn.where(target > 1, target, 1.0)
        stirling = safe * safe.log() - safe + 0.5 * (2 * math.pi * safe).log()
        losses = losses + fn.where(target > 1, stirling, 0.0)
    return reduced("poisson_nll_loss", losses, reduction_of(size_average, reduce, reduction))


@in_float32
def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood under normal distributions of mean `input` and variance `var`.

    Shapes: input and target [*] -> [], or [*] with reduction="none".
    """
    if isinstance(var, int | float):
        var = fn.full_like(input, float(var))
    if tuple(var.shape) != tuple(input.shape) and var.ndim == input.ndim - 1:
        var = var.unsqueeze(-1)
    if not var.is_symbolic and bool((var < 0).any()):
        raise ArgumentError("var has negative entry/entries")
    # PyTorch's rule: the floor of the variance has no influence on its gradient.
    held = var.detach()
    var = var + (held.clamp(min=eps) - held)
    losses = 0.5 * (var.log() + (input - target) ** 2 / var)
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return reduced("gaussian_nll_loss", losses, reduction)


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """The cross-entropy of a linear layer's scores.

    Args:
        input: [in_features] or [N, in_features].
        linear_weight: [C, *D, in_features]; with D not empty there are that many losses a sample.
        target: class indices [] or [N, *D], or probabilities [C] or [N, C, *D].
        linear_bias: [C, *D].
        weight, reduction, label_smoothing: as for `cross_entropy`.
        ignore_index: as for `cross_entropy`; only with class indices.
        options: about memory; they change nothing here.
    """
    classes, *many, features = tuple(linear_weight.shape)
    if input.ndim not in (1, 2) or linear_weight.ndim < 2 or input.shape[-1] != features:
        raise ShapeError(
            "linear_cross_entropy: expected an input [in_features] or [N, in_features] and a "
            f"linear_weight [C, ..., in_features], got {shape_text(tuple(input.shape))} and "
            f"{shape_text(tuple(linear_weight.shape))}"
        )
    if linear_bias is not None and tuple(linear_bias.shape) != (classes, *many):
        raise ShapeError(
            f"linear_cross_entropy: expected a linear_bias {shape_text((classes, *many))}, got "
            f"{shape_text(tuple(linear_bias.shape))}"
        )
    if many and input.ndim == 1:
        raise ShapeError("linear_cross_entropy: several losses a sample need a batch of samples")
    bias = None if linear_bias is None else linear_bias.reshape(-1)
    scores = linear(input, linear_weight.reshape(-1, features), bias)
    scores = scores.reshape(*input.shape[:-1], classes, *many)
    if ignore_index is not None and tuple(target.shape) == tuple(scores.shape):
        raise ArgumentError("ignore_index cannot be specified when target contains probabilities")
    ignored = -100 if ignore_index is None else ignore_index
    return cross_entropy(
        scores,
        target,
        weight,
        reduction=reduction,
        ignore_index=ignored,
        label_smoothing=label_smoothing,
    )
