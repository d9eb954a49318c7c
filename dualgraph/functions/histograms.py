"""Histograms: how many elements, or how much weight, falls into each bin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError, DTypeError

from .basics import device_for_like, finish
from .creation import linspace
from .results import Histogram, named

if TYPE_CHECKING:
    from .._tensor import Tensor

_histogram_result = named("histogram", Histogram)
_histogramdd_result = named("histogramdd", Histogram)


def _limits(name: str, x: Tensor, low: float, high: float) -> tuple[float, float]:
    """The range given, or that of the elements where it is empty; never of no width."""
    if low == high:
        data = x._concrete(f"{name}() without a range")
        low, high = (float(data.min()), float(data.max())) if data.size else (0.0, 1.0)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ArgumentError(f"{name}: range of [{low:g}, {high:g}] is not finite")
    if low > high:
        raise ArgumentError(f"{name}: max must be larger than min")
    return low, high


def histc(
    input: Tensor,
    bins: int = 100,
    min: float = 0,
    max: float = 0,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Elements in `bins` equal parts of [min, max], by default their own range: [bins].

    Elements elsewhere are not counted. The input's dtype. Not differentiable.
    """
    if bins <= 0:
        raise ArgumentError("bins must be > 0")
    x = input.detach().reshape(-1)
    low, high = _limits("torch.histc", x, float(min), float(max))
    if low == high:
        low, high = low - 1, high + 1
    wide = x if x.dtype is dt.float64 else x.to(dt.float32)
    inside = (wide >= low) & (wide <= high)
    place = ((wide - low) / (high - low) * bins).masked_fill(~inside, 0).to(dt.int64)
    place = place.clamp(max=bins - 1)
    counts = x.new_zeros(bins, dtype=dt.int64).scatter_add(0, place, inside.to(dt.int64))
    return finish(counts.to(input.dtype), out)


def _edges(x: Tensor, bins: Any, low: float, high: float, name: str) -> Tensor:
    """The edges of bins that are given as edges or as a number."""
    if hasattr(bins, "_data"):
        if bins.dtype is not x.dtype:
            raise DTypeError(f"{name}(): bins must have the dtype of the input, {x.dtype.name}")
        edges: Tensor = bins
        return edges
    low, high = _limits(name, x, low, high)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return linspace(low, high, bins + 1, dtype=x.dtype, device=device_for_like(x, None))


def _bin_of(x: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """The bin of each element, the last one closed, and whether it is in any."""
    from .ordering import searchsorted

    count = edges._data.shape[0] - 1
    first, last = edges[0], edges[-1]
    inside = (x >= first) & (x <= last)
    place = searchsorted(edges, x.contiguous(), right=True) - 1
    return place.clamp(0, count - 1), inside


def _counted(
    points: Tensor, edges: Sequence[Tensor], weight: Tensor | None, density: bool
) -> Tensor:
    """The histogram of points [n, d]: [bins of each of d]."""
    sizes = [e._data.shape[0] - 1 for e in edges]
    at: Any = 0
    inside: Any = None
    for i, e in enumerate(edges):
        place, within = _bin_of(points[:, i], e)
        at = at * sizes[i] + place
        inside = within if inside is None else inside & within
    amount = inside.to(points.dtype)
    if weight is not None:
        amount = weight.reshape(-1).masked_fill(~inside, 0)
    hist = points.new_zeros(math.prod(sizes)).scatter_add(0, at, amount).reshape(sizes)
    if not density:
        return hist
    volume: Any = 1
    for i, e in enumerate(edges):
        line = [1] * len(sizes)
        line[i] = sizes[i]
        volume = volume * (e[1:] - e[:-1]).reshape(line)
    return hist / hist.sum() / volume  # type: ignore[no-any-return]


def _checked(name: str, input: Tensor, weight: Tensor | None) -> None:
    if input.dtype.category != dt.FLOAT:
        raise DTypeError(f'"{name}" not implemented for {input.dtype.name}')
    if weight is not None and weight.dtype is not input.dtype:
        raise DTypeError(f"{name}(): weight must have the dtype of the input")


def histogram(
    input: Tensor,
    bins: Any = 100,
    *,
    range: Any = None,
    weight: Tensor | None = None,
    density: bool = False,
    out: Any = None,
) -> Any:
    """(hist, bin_edges): the weight in each bin, whose edges are given or `bins` equal ones.

    `density` makes the integral 1. Shapes: hist [bins], bin_edges [bins + 1]. Not differentiable.
    """
    _checked("histogram", input, weight)
    x = input.detach().reshape(-1)
    low, high = (0.0, 0.0) if range is None else map(float, range)
    edges = _edges(x, bins, low, high, "histogram")
    hist = _counted(x.unsqueeze(1), [edges], None if weight is None else weight.detach(), density)
    if out is not None:
        hist, edges = finish(hist, out[0]), finish(edges, out[1])
    return _histogram_result((hist, edges))


def histogramdd(
    input: Tensor,
    bins: Any,
    *,
    range: Any = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Any:
    """(hist, bin_edges) of points in D dimensions, the last dimension of the input.

    `bins`: a number for all, one each, or edges each. `range`: 2 D numbers. Shapes: hist [bins of
    each], bin_edges a tuple of D. Not differentiable.
    """
    _checked("histogramdd", input, weight)
    size = input._data.shape[-1]
    points = input.detach().reshape(-1, size)
    each = [bins] * size if isinstance(bins, int) else list(bins)
    if len(each) != size:
        raise ArgumentError(
            f"histogramdd(): expected {size} sequences of bin edges, got {len(each)}"
        )
    limits = [0.0] * (2 * size) if range is None else [float(v) for v in range]
    if len(limits) != 2 * size:
        raise ArgumentError(f"histogramdd(): range should have {2 * size} elements")
    edges = tuple(
        _edges(points[:, i], b, limits[2 * i], limits[2 * i + 1], "histogramdd")
        for i, b in enumerate(each)
    )
    hist = _counted(points, edges, None if weight is None else weight.detach(), density)
    return _histogramdd_result((hist, edges))
