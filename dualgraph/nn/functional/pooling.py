"""Pooling over one, two and three spatial axes: x [N, C, *S], or [C, *S] for one sample."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import ArgumentError
from dualgraph_compiler.ops.adaptive_pool import AdaptiveAvgPool, AdaptiveMaxPool
from dualgraph_compiler.ops.avg_pool import AvgPool
from dualgraph_compiler.ops.base import shape_text
from dualgraph_compiler.ops.pool import MaxPool, MaxPoolIndices

from ..._dispatch import apply, apply_many
from ...autograd.grad_mode import is_grad_enabled
from ...functions.sizes import require_size
from ._args import batched, pairs, per_axis

if TYPE_CHECKING:
    from ..._tensor import Tensor

_Size = int | Sequence[int]


def _max_pool(
    rank: int,
    input: Tensor,
    kernel_size: _Size,
    stride: _Size | None,
    padding: _Size,
    dilation: _Size,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    name = f"max_pool{rank}d"
    kernel = per_axis(name, kernel_size, rank)
    strides = kernel if stride is None else per_axis(name, stride, rank)
    pads = _half_at_most(name, kernel, per_axis(name, padding, rank))
    x, single = batched(name, input, rank)
    _require_elements(name, x)
    # Backward needs the indices: found now, while the windows are at hand, not again later. A
    # traced pooling keeps the plain op, which is what ONNX has; passes decide there.
    found_now = is_grad_enabled() and not x.is_symbolic and x.requires_grad
    kind: Callable[..., Any] = MaxPoolIndices if return_indices or found_now else MaxPool
    op = kind(kernel, strides, pads, per_axis(name, dilation, rank), ceil_mode)
    outputs = apply_many(op, x)
    if single:
        outputs = tuple(o.squeeze(0) for o in outputs)
    return outputs if return_indices else outputs[0]


def _require_elements(name: str, x: Tensor) -> None:
    """Raise if a spatial size is 0; let a graph assume that symbolic ones are not."""
    for d in x._data.shape[2:]:
        if not isinstance(d, int) or d == 0:
            why = f"{name}: expected spatial sizes above 0, got {shape_text(tuple(x._data.shape))}"
            require_size(d, ">=", 1, why)


def _half_at_most(
    name: str, kernel: tuple[int, ...], padding: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    for k, p in zip(kernel, padding):
        if not 0 <= p <= k // 2:
            raise ArgumentError(
                f"{name}: pad should be non-negative and at most half of the effective kernel "
                f"size, but got pad={p}, kernel_size={k}"
            )
    return pairs(padding)


def max_pool1d(
    input: Tensor,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: _Size = 0,
    dilation: _Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of windows over L; with `return_indices` also where in L it stood.

    Shapes: [N, C, L] or [C, L] -> [N, C, Q], places int64 of that shape.
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: _Size = 0,
    dilation: _Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of windows over [H, W]; with `return_indices` also its row-major place."""
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: _Size = 0,
    dilation: _Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of windows over [D, H, W]; with `return_indices` also its place."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _avg_pool(
    rank: int,
    input: Tensor,
    kernel_size: _Size,
    stride: _Size | None,
    padding: _Size,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    name = f"avg_pool{rank}d"
    if divisor == 0:
        raise ArgumentError("divisor must be not zero")
    kernel = per_axis(name, kernel_size, rank)
    strides = kernel if stride is None or stride == () else per_axis(name, stride, rank)
    pads = _half_at_most(name, kernel, per_axis(name, padding, rank))
    x, single = batched(name, input, rank)
    _require_elements(name, x)
    out = apply(AvgPool(kernel, strides, pads, ceil_mode, count_include_pad, divisor), x)
    return out.squeeze(0) if single else out


def avg_pool1d(
    input: Tensor,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: _Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The average of windows over L; padding zeros count unless `count_include_pad` is False.

    Shapes: [N, C, L] or [C, L] -> [N, C, Q].
    """
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: _Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The average of windows over [H, W]: the sum over `divisor_override` where that is given."""
    return _avg_pool(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input: Tensor,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: _Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The average of windows over [D, H, W]."""
    return _avg_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _adaptive(
    kind: Callable[..., Any], what: str, rank: int, input: Tensor, output_size: Any
) -> tuple[Any, bool]:
    name = f"adaptive_{what}_pool{rank}d"
    x, single = batched(name, input, rank)
    _require_elements(name, x)
    if isinstance(output_size, int) or output_size is None:
        output_size = (output_size,) * rank
    sizes = tuple(
        x.shape[2 + i] if size is None else size
        for i, size in enumerate(per_axis(name, output_size, rank))
    )
    outputs = apply_many(kind(sizes), x)
    return outputs[0] if len(outputs) == 1 else outputs, single


def _adaptive_avg(rank: int, input: Tensor, output_size: Any) -> Tensor:
    out, single = _adaptive(AdaptiveAvgPool, "avg", rank, input, output_size)
    return out.squeeze(0) if single else out  # type: ignore[no-any-return]


def _adaptive_max(rank: int, input: Tensor, output_size: Any, return_indices: bool) -> Any:
    (values, indices), single = _adaptive(AdaptiveMaxPool, "max", rank, input, output_size)
    if single:
        values, indices = values.squeeze(0), indices.squeeze(0)
    return (values, indices) if return_indices else values


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """Averages over L in bins, so many that the result has `output_size` of them.

    Shapes: [N, C, L] or [C, L] -> [N, C, output_size].
    """
    return _adaptive_avg(1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Averages over [H, W] in bins; None as a size keeps that of the input."""
    return _adaptive_avg(2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """Averages over [D, H, W] in bins; None as a size keeps that of the input."""
    return _adaptive_avg(3, input, output_size)


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima over L in bins, with their places where `return_indices`.

    Shapes: [N, C, L] or [C, L] -> [N, C, output_size], places int64 of that shape.
    """
    return _adaptive_max(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima over [H, W] in bins, with their places where `return_indices`."""
    return _adaptive_max(2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima over [D, H, W] in bins, with their places where `return_indices`."""
    return _adaptive_max(3, input, output_size, return_indices)


def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: int,
    stride: _Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The p-norm of windows over L. Shapes: [N, C, L] or [C, L] -> [N, C, Q]."""
    means = avg_pool1d(input.pow(norm_type), kernel_size, stride, 0, ceil_mode)
    return _root(means, kernel_size, norm_type)


def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: _Size,
    stride: _Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The p-norm of windows over [H, W]."""
    means = avg_pool2d(input.pow(norm_type), kernel_size, stride, 0, ceil_mode)
    height, width = per_axis("lp_pool2d", kernel_size, 2)
    return _root(means, height * width, norm_type)


def lp_pool3d(
    input: Tensor,
    norm_type: float,
    kernel_size: _Size,
    stride: _Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The p-norm of windows over [D, H, W]."""
    means = avg_pool3d(input.pow(norm_type), kernel_size, stride, 0, ceil_mode)
    return _root(means, math.prod(per_axis("lp_pool3d", kernel_size, 3)), norm_type)


def _root(means: Tensor, count: int, order: float) -> Tensor:
    from .activation import relu

    return (means.sign() * relu(means.abs()) * count).pow(1.0 / order)


# -- always with the places of the maxima ---------------------------------------------------------


def _with_indices(function: Callable[..., Any]) -> Callable[..., tuple[Tensor, Tensor]]:
    signature = inspect.signature(function)

    @functools.wraps(function)
    def pooled(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        given = signature.bind(*args, **kwargs).arguments
        return function(**{**given, "return_indices": True})  # type: ignore[no-any-return]

    pooled.__name__ = pooled.__qualname__ = f"{function.__name__}_with_indices"
    pooled.__doc__ = (
        f"`{function.__name__}`, and where each maximum stood: a second result of its shape."
    )
    return pooled


adaptive_max_pool1d_with_indices = _with_indices(adaptive_max_pool1d)
adaptive_max_pool2d_with_indices = _with_indices(adaptive_max_pool2d)
adaptive_max_pool3d_with_indices = _with_indices(adaptive_max_pool3d)
max_pool1d_with_indices = _with_indices(max_pool1d)
max_pool2d_with_indices = _with_indices(max_pool2d)
max_pool3d_with_indices = _with_indices(max_pool3d)
