"""Normalisation: over the batch, over features, over groups of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dims import product
from dualgraph_compiler.dtypes import bfloat16, float64
from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops import norm as ops
from dualgraph_compiler.ops.base import shape_text
from dualgraph_compiler.ops.batch_norm import BatchNorm, BatchNormTraining

from ... import functions as fn
from ..._dispatch import apply, apply_many
from ..._promote import cast
from ...autograd.grad_mode import no_grad
from ...functions.sizes import require_size
from .padding import pad
from .pooling import avg_pool2d, avg_pool3d

if TYPE_CHECKING:
    from ..._tensor import Tensor


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, ...]:
    """Both weight and bias in the dtype of x, or neither; a missing one is made up."""
    if weight is None and bias is None:
        return ()
    if weight is None:
        assert bias is not None
        weight = fn.ones_like(bias)
    elif bias is None:
        bias = fn.zeros_like(weight)
    assert bias is not None
    return cast(weight, x.dtype), cast(bias, x.dtype)


def _check_count(sizes: Sequence[Any]) -> None:
    """Raise if a channel has one value only, whose variance is 0."""
    count = product((sizes[0], *sizes[2:]))
    if isinstance(count, int) and count != 1:
        return
    require_size(
        count,
        "!=",
        1,
        f"Expected more than 1 value per channel when training, got input size {list(sizes)}",
        ArgumentError,
    )


def _update(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor,
    var: Tensor,
    count: Any,
    momentum: Any,
) -> None:
    """Move running statistics towards those of a batch of `count` values, its variance unbiased."""
    if running_mean is not None:
        _move(running_mean, mean, momentum)
    if running_var is not None:
        factor: Any
        if isinstance(count, int):
            factor = count / (count - 1)
        else:  # symbolic sizes do not divide into a number: into a tensor as precise as one
            n = fn.zeros((), dtype=float64, device=var.device) + count
            factor = cast(n / (n - 1), var.dtype)
        _move(running_var, var.detach() * factor, momentum)


def _move(running: Tensor, statistic: Tensor, momentum: Any) -> None:
    if isinstance(momentum, float) and not (statistic.is_symbolic or running.is_symbolic):
        array = running._data  # every step of every layer comes here: no tensors in between
        array *= 1 - momentum
        array += statistic._data * momentum
        running._bump_version()
        return
    with no_grad():
        step = cast(statistic.detach(), running.dtype) * momentum
        running.mul_(1 - momentum).add_(step)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel of x [N, C, *S] with mean 0 and variance 1, times weight, plus bias, all [C].

    With `training`, the batch's own statistics are used, and the running ones move towards them by
    `momentum`; otherwise the running ones are used.
    """
    affine = _affine(input, weight, bias)
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError("batch_norm: running statistics are needed when not training")
        statistics = cast(running_mean, input.dtype), cast(running_var, input.dtype)
        return apply(BatchNorm(eps), input, *affine, *statistics)
    shape = tuple(input.shape)
    if 0 in shape:  # nothing to normalise; running statistics stay
        return _scaled_nothing(input, affine)
    _check_count(shape)
    out, mean, var = apply_many(BatchNormTraining(eps), input, *affine)
    # The gradient reads the statistics alone: `out` may be overwritten, as by relu(inplace=True).
    out._ver = [0]
    if running_mean is not None or running_var is not None:
        count = shape[0]
        for d in shape[2:]:
            count = count * d
        _update(running_mean, running_var, mean, var, count, momentum)
    return out


def _scaled_nothing(input: Tensor, affine: tuple[Tensor, ...]) -> Tensor:
    """A copy without elements that depends on all operands."""
    out: Tensor = input.clone()
    for x in affine:
        out = out + x.reshape(-1, *(1,) * (input.ndim - 2))
    return out


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel of each sample of x [N, C, *S] normalised by its own statistics.

    Running statistics, where given, move towards the mean over samples of these; without
    `use_input_stats` they are used instead of them.
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    n, c, *sizes = input.shape
    require_size(
        product(tuple(sizes)),
        "!=",
        1,
        "Expected more than 1 spatial element when training, got input size "
        f"{shape_text(tuple(input.shape))}",
        ArgumentError,
    )
    affine = _affine(input, weight, bias)
    out: Tensor = apply(ops.GroupNorm(c, eps), input, *affine)
    if running_mean is not None or running_var is not None:
        flat = input.detach().reshape(1, n * c, *sizes)
        _, mean, var = apply_many(BatchNormTraining(eps), flat)
        count = math.prod(sizes)
        mean, var = mean.reshape(n, c).mean(0), var.reshape(n, c).mean(0)
        _update(running_mean, running_var, mean, var, count, momentum)
    return out


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """The last dimensions, of sizes `normalized_shape`, normalised together."""
    dims = _trailing("layer_norm", input, normalized_shape)
    if weight is None and bias is None:
        return apply(ops.LayerNorm(dims, eps), input)
    if bias is None:
        assert weight is not None
        return apply(ops.LayerNorm(dims, eps), input, cast(weight, input.dtype))
    return apply(ops.LayerNorm(dims, eps), input, *_affine(input, weight, bias))


def _trailing(name: str, input: Tensor, normalized_shape: Sequence[int]) -> int:
    shape = tuple(normalized_shape)
    if not shape:
        raise ArgumentError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one "
            "element, but got normalized_shape = []"
        )
    if tuple(input.shape[-len(shape) :]) != shape:
        raise ShapeError(
            f"{name}: given normalized_shape={list(shape)}, expected input with shape [*, "
            f"{', '.join(map(str, shape))}], but got input of size{list(input.shape)}"
        )
    return len(shape)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """The last dimensions divided by their root mean square; `eps` is added to its square."""
    dims = _trailing("rms_norm", input, normalized_shape)
    if eps is None:
        dtype = input.dtype
        eps = 2.0**-7 if dtype is bfloat16 else float(np.finfo(dtype.np).eps)
    weights = () if weight is None else (cast(weight, input.dtype),)
    return apply(ops.RmsNorm(dims, eps), input, *weights)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Channels of x [N, C, *S] normalised in groups per sample, times weight, plus bias."""
    if input.ndim < 2:
        raise ShapeError(
            f"Expected at least 2 dimensions for input tensor but received {input.ndim}"
        )
    n, c, *sizes = input.shape
    rest = c % num_groups
    if not isinstance(rest, int) or rest:
        require_size(
            rest,
            "==",
            0,
            "Expected number of channels in input to be divisible by num_groups, but got input of "
            f"shape {shape_text(tuple(input.shape))} and num_groups={num_groups}",
        )
    _check_count((n * c // num_groups, num_groups, *sizes))
    return apply(ops.GroupNorm(num_groups, eps), input, *_affine(input, weight, bias))


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Return x / (k + alpha m)^beta, m the mean of x^2 over `size` neighbouring channels."""
    if input.ndim < 3:
        raise ShapeError(
            f"Expected 3D or higher dimensionality input (got {input.ndim} dimensions)"
        )
    if 0 in input.shape:
        return input
    squares = (input * input).unsqueeze(1)
    if input.ndim == 3:
        squares = pad(squares, (0, 0, size // 2, (size - 1) // 2))
        means = avg_pool2d(squares, (size, 1), stride=1).squeeze(1)
    else:
        n, c, h, *rest = input.shape
        squares = squares.reshape(n, 1, c, h, product(tuple(rest)))
        squares = pad(squares, (0, 0, 0, 0, size // 2, (size - 1) // 2))
        means = avg_pool3d(squares, (size, 1, 1), stride=1).squeeze(1).reshape(n, c, h, *rest)
    return input / (means * alpha + k) ** beta
