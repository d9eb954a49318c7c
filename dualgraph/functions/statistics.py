"""Variance, norms, medians and quantiles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dims import product
from dualgraph_compiler.errors import ArgumentError, DTypeError, ShapeError

from .._promote import Defaults, cast
from .basics import axes_of, axis_of, finish
from .reduction import amax, amin, mean, sum
from .results import ValuesIndices, named
from .sizes import require_size, sym_max

if TYPE_CHECKING:
    from .._tensor import Tensor

_median_result = named("median", ValuesIndices)
_nanmedian_result = named("nanmedian", ValuesIndices)
_kthvalue_result = named("kthvalue", ValuesIndices)


def _correction(dim: Any, unbiased: Any, correction: Any) -> tuple[Any, Any]:
    """The two generations of PyTorch's arguments: ``var(x, unbiased)`` and ``correction=``."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return dim, correction


def _moments(input: Tensor, dim: Any, correction: Any, keepdim: bool) -> tuple[Tensor, Tensor]:
    if input.dtype.category < dt.FLOAT:
        raise DTypeError(
            f"std and var only support floating point and complex dtypes, got {input.dtype.name}"
        )
    axes = axes_of("var", dim, input._data.ndim)
    center = mean(input, axes, True) if axes else input
    gap = input - center
    squares = gap.abs() ** 2 if input.dtype.is_complex else gap * gap
    count = product(tuple(input._data.shape[a] for a in axes))
    weight = count - correction
    weight = sym_max(weight, 0)
    spread = sum(squares, axes, keepdim) if axes else squares
    shape = tuple(spread._data.shape)
    return spread / weight, center if keepdim else center.reshape(shape)


def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """The variance over `dim` (default all): squared distances from the mean by n - correction."""
    dim, correction = _correction(dim, unbiased, correction)
    return finish(_moments(input, dim, correction, keepdim)[0], out)


def std(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """The square root of `var`; its gradient is 0 where it is 0.

    Shapes: the input without `dim`, which keepdim leaves with size 1.
    """
    return finish(_root(var(input, dim, unbiased, keepdim, correction=correction)), out)


def var_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
) -> tuple[Tensor, Tensor]:
    """(var, mean) over `dim` (default all)."""
    dim, correction = _correction(dim, unbiased, correction)
    return _moments(input, dim, correction, keepdim)


def std_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
) -> tuple[Tensor, Tensor]:
    """(std, mean) over `dim` (default all)."""
    spread, center = var_mean(input, dim, unbiased, keepdim, correction=correction)
    return _root(spread), center


def _root(x: Tensor) -> Tensor:
    """sqrt(x) with gradient 0 where x is 0, instead of infinite."""
    if not _is_differentiated(x):
        return x.sqrt()
    zero = x == 0
    return x.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def _is_differentiated(x: Tensor) -> bool:
    """Whether anything may ask for a derivative: backward, or what `func` makes of the tensor."""
    return x.requires_grad or hasattr(x._data, "level")


# -- norms ----------------------------------------------------------------------------------------


def vector_norm(
    x: Tensor,
    ord: Any = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """(sum |x|**ord)**(1/ord) over `dim` (default all); inf, -inf and 0 as limits of that."""
    if dtype is not None:
        x = cast(x, dt.as_dtype(dtype))
    if x.dtype.category < dt.FLOAT:
        raise DTypeError(
            "linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
            f"{x.dtype.name}"
        )
    p = float(ord)
    if p == 2:
        square = x.abs() ** 2 if x.dtype.is_complex else x * x
        return finish(_root(sum(square, dim, keepdim)), out)
    size = x.abs()
    if p == math.inf:
        return finish(amax(size, dim, keepdim), out)
    if p == -math.inf:
        return finish(amin(size, dim, keepdim), out)
    if p == 0:
        return finish(sum(size.sign().abs(), dim, keepdim), out)  # with gradients of 0
    if p == 1:
        return finish(sum(size, dim, keepdim), out)
    return finish(_power_norm(size, p, dim, keepdim), out)


def _power_norm(size: Tensor, p: float, dim: Any, keepdim: bool) -> Tensor:
    if not _is_differentiated(size):
        return sum(size**p, dim, keepdim) ** (1 / p)
    if p < 1:  # the power has no slope at 0; 0 counts as one
        zeros = size == 0
        powers = (size.masked_fill(zeros, 1) ** p).masked_fill(zeros, math.inf if p < 0 else 0)
    else:
        powers = size**p
    total = sum(powers, dim, keepdim)
    zero = total == 0
    return (total.masked_fill(zero, 1) ** (1 / p)).masked_fill(zero, 0)


def norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    out: Tensor | None = None,
    dtype: Any = None,
) -> Tensor:
    """The p-norm over `dim` (default all); "fro" is the 2-norm, "nuc" that of singular values."""
    if p is None or p == "fro":
        p = 2
    if p == "nuc":
        from ..linalg.norms import matrix_norm

        return matrix_norm(
            input, p, (-2, -1) if dim is None else dim, keepdim, dtype=dtype, out=out
        )
    if isinstance(p, str):
        raise ArgumentError(f"norm: expected a number, 'fro' or 'nuc' as p, got {p!r}")
    return vector_norm(input, p, dim, keepdim, dtype=dtype, out=out)


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of input - other.

    Shapes: two that broadcast -> [].
    """
    return norm(input - other, p)


# -- order statistics -----------------------------------------------------------------------------


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest element along `dim` (counted from 1), and where it is."""
    axis = axis_of("kthvalue", dim, input._data.ndim)
    size = input._data.shape[axis] if input._data.ndim else 1
    why = f"kthvalue(): selected number k out of range for dimension {axis}"
    require_size(k, ">=", 1, why, ArgumentError)
    require_size(size, ">=", k, why, ArgumentError)
    if not input._data.ndim:
        return _kthvalue_result((input.clone(), input.new_zeros((), dtype=dt.int64)))
    values, indices = input.sort(axis)
    values, indices = values.narrow(axis, k - 1, 1), indices.narrow(axis, k - 1, 1)
    if not keepdim:
        values, indices = values.squeeze(axis), indices.squeeze(axis)
    return _kthvalue_result((values, indices))


def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median (the lower of two): of all elements, or (values, indices) along `dim`.

    NaN if there is a NaN.
    """
    if dim is None:
        flat = input.reshape(-1)
        if flat._data.size == 0:
            return input.new_full((), math.nan)
        return _median(flat, 0, False)[0]
    return _median_result(_median(input, dim, keepdim))


def _median(input: Tensor, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    axis = axis_of("median", dim, input._data.ndim)
    if not input._data.ndim:
        return input.clone(), input.new_zeros((), dtype=dt.int64)
    size = input._data.shape[axis]
    values, indices = input.sort(axis, stable=True)
    at = (size - 1) // 2
    if input.dtype.category == dt.FLOAT:
        # NaN sorts last: where the last is NaN, the first NaN is the median.
        nans = values.isnan()
        first = size - sum(nans, axis, True)
        where = first.where(first < size, first * 0 + at)
        values, indices = values.gather(axis, where), indices.gather(axis, where)
    else:
        values, indices = values.narrow(axis, at, 1), indices.narrow(axis, at, 1)
    return (values, indices) if keepdim else (values.squeeze(axis), indices.squeeze(axis))


def quantile(
    input: Tensor,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
    out: Tensor | None = None,
) -> Tensor:
    """The `q`-th quantiles (numbers in [0, 1]) along `dim`, or of all elements.

    A 1-d `q` gives a leading dimension. `interpolation` between two elements is "linear", "lower",
    "higher", "midpoint" or "nearest". NaN where there is a NaN.
    """
    return finish(_quantile("quantile", input, q, dim, keepdim, interpolation), out)


def nanquantile(
    input: Tensor,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
    out: Tensor | None = None,
) -> Tensor:
    """As `quantile`, of the elements that are no NaN; NaN where there is none."""
    return finish(_quantile("nanquantile", input, q, dim, keepdim, interpolation), out)


def _quantile(
    name: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str
) -> Tensor:
    from .data import tensor

    x = input.reshape(-1) if dim is None or not input._data.ndim else input
    axis = axis_of(name, 0 if dim is None else dim, x._data.ndim)
    levels = q if hasattr(q, "_data") else tensor(q, dtype=x.dtype)
    ordered = x.sort(axis)[0].movedim(axis, -1)  # NaN last
    nans = x.isnan()
    last: Any
    if name == "nanquantile":
        last = ((~nans).sum(axis).unsqueeze(-1).to(x.dtype) - 1).clamp_min(0)
    else:
        last = int(x._data.shape[axis]) - 1
    rank = _at_rank(name, (levels.reshape(-1) * last).to(x.dtype), interpolation)
    low, high = rank.floor().to(dt.int64), rank.ceil().to(dt.int64)
    weight = (rank * 0 + 0.5) * (high != low) if interpolation == "midpoint" else rank - low
    if name == "nanquantile":
        below, above = ordered.gather(-1, low), ordered.gather(-1, high)
    else:
        below, above = ordered.index_select(-1, low), ordered.index_select(-1, high)
    found = below + (above - below) * weight
    if name == "quantile" and x.dtype.category == dt.FLOAT:
        found = found.masked_fill(nans.any(axis).unsqueeze(-1), math.nan)
    found = found.movedim(-1, 0)
    if keepdim:
        shape = [1] * input._data.ndim
        if dim is not None and shape:
            shape = list(x._data.shape)
            shape[axis] = 1
        found = found.reshape((found._data.shape[0], *shape))
    return found if levels._data.ndim else found.squeeze(0)  # type: ignore[no-any-return]


def _at_rank(name: str, rank: Tensor, interpolation: str) -> Tensor:
    """Ranks, made whole where one element is to be taken."""
    if interpolation == "lower":
        return rank.floor()
    if interpolation == "higher":
        return rank.ceil()
    if interpolation == "nearest":
        return rank.round()
    if interpolation not in ("linear", "midpoint"):
        raise ArgumentError(
            f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, "
            f"but got {interpolation}"
        )
    return rank


def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """As `median`, of the elements that are no NaN."""
    if input.dtype.category != dt.FLOAT:
        return median(input, dim, keepdim)
    if dim is None:
        flat = input.reshape(-1)
        if flat._data.size == 0:
            return input.new_full((), math.nan)
        return _nanmedian(flat, 0, False)[0]
    return _nanmedian_result(_nanmedian(input, dim, keepdim))


def _nanmedian(input: Tensor, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    axis = axis_of("nanmedian", dim, input._data.ndim)
    if not input._data.ndim:
        return input.clone(), input.new_zeros((), dtype=dt.int64)
    values, indices = input.sort(axis, stable=True)
    counts = (~input.isnan()).sum(axis, keepdim=True)
    at = ((counts - 1) // 2).clamp_min(0)
    values, indices = values.gather(axis, at), indices.gather(axis, at)
    return (values, indices) if keepdim else (values.squeeze(axis), indices.squeeze(axis))


def cov(
    input: Tensor,
    *,
    correction: int = 1,
    fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:
    """The covariances of variables, in rows, over observations, in columns: [n, n].

    `fweights` says how often each observation counts, `aweights` how much. Source: numpy.cov.
    """
    if input._data.ndim > 2:
        raise ShapeError(
            "cov(): expected input to have two or fewer dimensions but got an input with "
            f"{input._data.ndim} dimensions"
        )
    x = input.reshape(1, -1) if input._data.ndim < 2 else input
    if x.dtype.category < dt.FLOAT:
        x = x.to(Defaults.dtype)
    weights = [w for w in (fweights, aweights) if w is not None]
    if not weights:
        total: Any = x._data.shape[1]
        mean = x.sum(1, keepdim=True) / total
        spread = total - correction
        centered = weighted = x - mean
    else:
        w = weights[0] if len(weights) == 1 else weights[0] * weights[1]
        total = w.sum()
        mean = (x * w).sum(1, keepdim=True) / total
        if aweights is None or correction == 0:
            spread = total - correction
        else:
            spread = total - correction * (w * aweights).sum() / total
        centered = x - mean
        weighted = centered * w
    spread = spread.clamp_min(0) if hasattr(spread, "_data") else max(spread, 0)
    found = weighted @ centered.transpose(0, 1).conj() / spread
    return found.squeeze()  # type: ignore[no-any-return]


def corrcoef(input: Tensor) -> Tensor:
    """The correlations of variables, in rows, over observations, in columns: [n, n]."""
    found = cov(input)
    if not found._data.ndim:
        return found / found
    deviations = found.diagonal().real.sqrt() if found.is_complex() else found.diagonal().sqrt()
    scaled = found / deviations.unsqueeze(1) / deviations.unsqueeze(0)
    if not scaled.is_complex():
        return scaled.clamp(-1, 1)
    from .creation import complex as join

    return join(scaled.real.clamp(-1, 1), scaled.imag.clamp(-1, 1))
