"""Functions of ``torch`` that its layers are made of, with their several results and bare numbers.

Model code calls what stands in :mod:`dualgraph.nn.functional`; these are for code that was written
against PyTorch's lower level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import ArgumentError

from .creation import empty

if TYPE_CHECKING:
    from .._tensor import Tensor

_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


def constant_pad_nd(input: Tensor, pad: Sequence[int], value: Any = 0) -> Tensor:
    """The input with `value` added around it, or cropped: as ``F.pad``.

    Shapes: each size and its two pads.
    """
    from ..nn import functional as F

    return F.pad(input, pad, value=value)


def _grid_sampler(
    name: str, rank: int, input: Tensor, grid: Tensor, mode: int, padding: int, align_corners: bool
) -> Tensor:
    from ..nn import functional as F

    if input._data.ndim != rank + 2:
        raise ArgumentError(f"{name}: expected an input of {rank + 2} dimensions")
    return F.grid_sample(input, grid, _MODES[mode], _PADDINGS[padding], align_corners)


def grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """``F.grid_sample``, its modes by number.

    Bilinear, nearest, bicubic; zeros, border, reflection.

    Shapes: [n, c, h, w], [n, h2, w2, 2] -> [n, c, h2, w2]; with a depth likewise.
    """
    rank = input._data.ndim - 2
    modes = (interpolation_mode, padding_mode, align_corners)
    return _grid_sampler("grid_sampler", rank, input, grid, *modes)


def grid_sampler_2d(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`grid_sampler` of images.

    Shapes: [n, c, h, w], [n, h2, w2, 2] -> [n, c, h2, w2].
    """
    modes = (interpolation_mode, padding_mode, align_corners)
    return _grid_sampler("grid_sampler_2d", 2, input, grid, *modes)


def grid_sampler_3d(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`grid_sampler` of volumes.

    Shapes: [n, c, d, h, w], [n, d2, h2, w2, 3] -> [n, c, d2, h2, w2].
    """
    modes = (interpolation_mode, padding_mode, align_corners)
    return _grid_sampler("grid_sampler_3d", 3, input, grid, *modes)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """As ``F.hardshrink``."""
    from ..nn import functional as F

    return F.hardshrink(input, lambd)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """As ``F.prelu``."""
    from ..nn import functional as F

    return F.prelu(input, weight)


def _inverse_deviation(var: Tensor, eps: float) -> Tensor:
    return (var + eps).rsqrt()


def native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """``F.batch_norm``, with the batch's mean and 1 / sqrt(variance + eps), [C] each.

    Where not `training`, these two are empty.
    """
    from ..nn import functional as F

    out = F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if not training:
        nothing = empty(0, dtype=input.dtype, device=input.device)
        return out, nothing, nothing.clone()
    axes = (0, *range(2, input._data.ndim))
    x = input.detach()
    return out, x.mean(axes), _inverse_deviation(x.var(axes, correction=0), eps)


def native_layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """``F.layer_norm``, with the mean and 1 / sqrt(variance + eps) of what is normalised.

    Shapes: [.., *normalized_shape] -> the same, and two of mean and 1 / deviation with sizes 1
    there.
    """
    from ..nn import functional as F

    out = F.layer_norm(input, normalized_shape, weight, bias, eps)
    axes = tuple(range(-len(normalized_shape), 0))
    x = input.detach()
    var = x.var(axes, correction=0, keepdim=True)
    return out, x.mean(axes, keepdim=True), _inverse_deviation(var, eps)


def native_group_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """``F.group_norm``, with the mean and 1 / sqrt(variance + eps) of each group, [N, group]."""
    from ..nn import functional as F

    out = F.group_norm(input, group, weight, bias, eps)
    x = input.reshape(N, group, C * HxW // group)
    return out, x.mean(2), _inverse_deviation(x.var(2, correction=0), eps)
