"""Max pooling over windows at random places, so many that the result has a given size.

B. Graham, "Fractional max-pooling" (2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, ShapeError
from dualgraph_compiler.ops.base import shape_text

from ... import functions as fn
from ._args import batched, per_axis

if TYPE_CHECKING:
    from ..._tensor import Tensor


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """Maxima of windows over [H, W], with their row-major places where `return_indices`.

    Args:
        input: [N, C, H, W] or [C, H, W].
        kernel_size: of the windows.
        output_size, output_ratio: the size of the result, or its ratio to the input's; one of them.
        _random_samples: numbers in [0, 1) that place the windows, [N, C, 2]; drawn by default.
    """
    out = fractional_max_pool2d_with_indices(
        input, kernel_size, output_size, output_ratio, True, _random_samples
    )
    return out if return_indices else out[0]


def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """Maxima of windows over [D, H, W]; as `fractional_max_pool2d`."""
    out = fractional_max_pool3d_with_indices(
        input, kernel_size, output_size, output_ratio, True, _random_samples
    )
    return out if return_indices else out[0]


def fractional_max_pool2d_with_indices(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`fractional_max_pool2d` with the places of the maxima.

    Shapes: [N, C, H, W] -> twice [N, C, P, Q].
    """
    return _pooled(2, input, kernel_size, output_size, output_ratio, _random_samples)


def fractional_max_pool3d_with_indices(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`fractional_max_pool3d` with the places of the maxima.

    Shapes: [N, C, D, H, W] -> twice [N, C, O, P, Q].
    """
    return _pooled(3, input, kernel_size, output_size, output_ratio, _random_samples)


def _pooled(
    rank: int, input: Tensor, kernel_size: Any, output_size: Any, ratio: Any, samples: Tensor | None
) -> tuple[Tensor, Tensor]:
    name = f"fractional_max_pool{rank}d"
    x, single = batched(name, input, rank)
    n, c, *sizes = x.shape
    kernel = per_axis(name, kernel_size, rank)
    out = _output(name, sizes, output_size, ratio)
    for size, k, p in zip(sizes, kernel, out, strict=True):
        if p + k - 1 > size:
            raise ShapeError(
                f"{name}: {p} windows of {k} do not fit into a size {size} of the input "
                f"{shape_text(tuple(input.shape))}"
            )
    if samples is None:
        samples = fn.rand(n, c, rank, dtype=x.dtype, device=x.device)
    samples = samples[:n]  # of a batch, where there is one sample only
    # Row-major places of all elements of all windows: [N, C, P, K] of one axis added to the next.
    at: Any = 0
    for i, (size, k, p) in enumerate(zip(sizes, kernel, out, strict=True)):
        drawn = samples[..., rank - 1 - i if rank == 2 else i]
        places = _starts(drawn, size, k, p).unsqueeze(-1) + fn.arange(k, device=x.device)
        shape = [n, c, *(1,) * (2 * rank)]
        shape[2 + i], shape[2 + rank + i] = p, k
        at = at * size + places.reshape(tuple(shape))
    every = at.reshape(n, c, math.prod(out), math.prod(kernel))
    flat = x.reshape(n, c, math.prod(sizes))
    picked = flat.gather(2, every.reshape(n, c, math.prod(out) * math.prod(kernel)))
    windows = picked.reshape(every.shape)
    values, best = windows.max(-1)
    indices = every.gather(3, best.unsqueeze(-1))
    values, indices = (t.reshape(n, c, *out) for t in (values, indices))
    return (values.squeeze(0), indices.squeeze(0)) if single else (values, indices)


def _output(name: str, sizes: Sequence[int], output_size: Any, ratio: Any) -> tuple[int, ...]:
    if (output_size is None) == (ratio is None):
        raise ArgumentError(f"{name} requires specifying either an output_size or an output_ratio")
    if output_size is not None:
        return per_axis(name, output_size, len(sizes))
    ratios = (ratio,) * len(sizes) if isinstance(ratio, float) else tuple(ratio)
    return tuple(int(n * r) for n, r in zip(sizes, ratios, strict=True))


def _starts(drawn: Tensor, size: int, kernel: int, count: int) -> Tensor:
    """Where windows begin: int64 [N, C, count], evenly apart but for rounding."""
    if count == 1:
        return fn.full((*drawn.shape, 1), size - kernel, dtype=dt.int64, device=drawn.device)
    step = (size - kernel) / (count - 1)
    each = fn.arange(count, device=drawn.device).to(drawn.dtype)
    offset = (drawn * step).to(dt.int64).unsqueeze(-1)
    starts = ((drawn.unsqueeze(-1) + each) * step).to(dt.int64) - offset
    last = fn.arange(count, device=drawn.device) == count - 1
    return starts.masked_fill(last, size - kernel)
