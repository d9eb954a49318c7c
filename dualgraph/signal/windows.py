"""Window functions, as ``torch.signal.windows``: [M], largest in the middle.

Symmetric windows (`sym`) are for filters; the others are one period of a periodic function, for
spectra: a symmetric window of M + 1 without its last number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import ArgumentError

from ..functions.basics import dtype_or_default
from ..functions.creation import arange, ones
from ..functions.special import i0

if TYPE_CHECKING:
    from .._tensor import Tensor

__all__ = [
    "bartlett",
    "blackman",
    "cosine",
    "exponential",
    "gaussian",
    "general_cosine",
    "general_hamming",
    "hamming",
    "hann",
    "kaiser",
    "nuttall",
]


def _window(
    name: str,
    M: Any,
    sym: bool,
    dtype: Any,
    device: Any,
    requires_grad: bool,
    values: Callable[[Tensor, Any], Tensor],
) -> Tensor:
    """`values(k, last)` for the places k = 0, 1, .., of which `last` is the last of a whole window.

    Raises:
        ArgumentError: M is negative, or `dtype` is not float32 or float64.
    """
    if isinstance(M, int) and M < 0:
        raise ArgumentError(f"{name} requires non-negative window length, got M={M}")
    kind = dtype_or_default(dtype)
    if kind not in (dt.float32, dt.float64):
        raise ArgumentError(f"{name} expects float32 or float64 dtypes, got: {kind}")
    if M == 0 or M == 1:
        return ones(M, dtype=kind, device=device, requires_grad=requires_grad)
    found = values(arange(M, dtype=kind, device=device), M - 1 if sym else M)
    return found.requires_grad_() if requires_grad else found


def general_cosine(
    M: Any,
    *,
    a: Iterable[float],
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A sum of cosines with the weights `a`, every other one negative."""
    weights = list(a)
    if not weights:
        raise ArgumentError("Coefficients cannot be empty")
    return _cosines("general_cosine", M, weights, sym, dtype, device, requires_grad)


def _cosines(
    name: str, M: Any, weights: list[float], sym: bool, dtype: Any, device: Any, grad: bool
) -> Tensor:
    def values(k: Tensor, last: Any) -> Tensor:
        angle = k * (2 * math.pi / last)
        terms = ((angle * i).cos() * (-w if i % 2 else w) for i, w in enumerate(weights))
        return sum(terms)  # type: ignore[no-any-return]

    return _window(name, M, sym, dtype, device, grad, values)


def general_hamming(
    M: Any,
    *,
    alpha: float = 0.54,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Alpha - (1 - alpha) cos(2 pi k / (M - 1))."""
    weights = [alpha, 1 - alpha]
    return _cosines("general_hamming", M, weights, sym, dtype, device, requires_grad)


def hamming(
    M: Any,
    *,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Hamming's window: 0.54 - 0.46 cos(2 pi k / (M - 1))."""
    return _cosines("hamming", M, [0.54, 1 - 0.54], sym, dtype, device, requires_grad)


def hann(
    M: Any,
    *,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Hann's window: sin(pi k / (M - 1))**2."""
    return _cosines("hann", M, [0.5, 0.5], sym, dtype, device, requires_grad)


def blackman(
    M: Any,
    *,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Blackman's window: three cosines with the weights 0.42, 0.5 and 0.08."""
    return _cosines("blackman", M, [0.42, 0.5, 0.08], sym, dtype, device, requires_grad)


def nuttall(
    M: Any,
    *,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Nuttall's minimal window of four cosines (Nuttall 1981)."""
    weights = [0.3635819, 0.4891775, 0.1365995, 0.0106411]
    return _cosines("nuttall", M, weights, sym, dtype, device, requires_grad)


def bartlett(
    M: Any,
    *,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Bartlett's window, a triangle: 1 - |2 k / (M - 1) - 1|."""

    def values(k: Tensor, last: Any) -> Tensor:
        return 1 - (k * (2 / last) - 1).abs()  # type: ignore[no-any-return]

    return _window("bartlett", M, sym, dtype, device, requires_grad, values)


def cosine(
    M: Any,
    *,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Half a period of a sine: sin(pi (k + 0.5) / M)."""

    def values(k: Tensor, last: Any) -> Tensor:
        return ((k + 0.5) * (math.pi / (last + 1))).sin()  # type: ignore[no-any-return]

    return _window("cosine", M, sym, dtype, device, requires_grad, values)


def exponential(
    M: Any,
    *,
    center: float | None = None,
    tau: float = 1.0,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """exp(-|k - center| / tau); the `center` of a symmetric window is its middle.

    Raises:
        ArgumentError: `tau` is not above 0, or a `center` is given for a symmetric window.
    """
    if tau <= 0:
        raise ArgumentError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ArgumentError("Center must be None for symmetric windows")

    def values(k: Tensor, last: Any) -> Tensor:
        return ((k - (last / 2 if center is None else center)).abs() / -tau).exp()

    return _window("exponential", M, sym, dtype, device, requires_grad, values)


def gaussian(
    M: Any,
    *,
    std: float = 1.0,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """exp(-x**2 / 2), x the distance from the middle in standard deviations `std`.

    Raises:
        ArgumentError: `std` is not above 0.
    """
    if std <= 0:
        raise ArgumentError(f"Standard deviation must be positive, got: {std} instead.")

    def values(k: Tensor, last: Any) -> Tensor:
        x = (k - last / 2) / (std * math.sqrt(2))
        return (-(x * x)).exp()  # type: ignore[no-any-return]

    return _window("gaussian", M, sym, dtype, device, requires_grad, values)


def kaiser(
    M: Any,
    *,
    beta: float = 12.0,
    sym: bool = True,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Kaiser's window: I0(beta sqrt(1 - (2 k / (M - 1) - 1)**2)) / I0(beta).

    Raises:
        ArgumentError: `beta` is negative.
    """
    if beta < 0:
        raise ArgumentError(f"beta must be non-negative, got: {beta} instead.")

    def values(k: Tensor, last: Any) -> Tensor:
        x = k * (2 / last) - 1
        return i0(beta * (1 - x * x).clamp_min(0).sqrt()) / i0(k.new_full((), beta))

    return _window("kaiser", M, sym, dtype, device, requires_grad, values)
