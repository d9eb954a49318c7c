"""Activations whose textbook formula overflows, cancels or warns; and log-sum-exp.

Floating dtypes, any shape, dtype kept. Infinities give their limits, NaN gives NaN, no warnings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import Array, narrow, widen
from .blocks import elementwise
from .special import erf, erf_rational


def sigmoid(xp: Any, x: Array, out: Array | None = None) -> Array:
    """1 / (1 + exp(-x)); exp's overflow is its limit 0, so no branch is needed."""
    return elementwise(xp, _sigmoid, x, out=out)


def _sigmoid(xp: Any, x: Array, out: Array) -> None:
    xp.negative(x, out=out)
    xp.exp(out, out=out)
    out += 1
    xp.divide(1, out, out=out)


def silu(xp: Any, x: Array, out: Array | None = None) -> Array:
    """X * sigmoid(x), also called swish; NaN at -inf, as in PyTorch."""
    return elementwise(xp, _silu, x, out=out)


def _silu(xp: Any, x: Array, out: Array) -> None:
    xp.negative(x, out=out)
    xp.exp(out, out=out)
    out += 1
    xp.divide(x, out, out=out)


def log_sigmoid(xp: Any, x: Array) -> Array:
    """log(sigmoid(x)) = min(x, 0) - log1p(exp(-|x|))."""
    return elementwise(xp, _log_sigmoid, x)


def _log_sigmoid(xp: Any, x: Array, out: Array) -> None:
    _log1p_exp(xp, x, out)
    xp.subtract(xp.minimum(x, 0), out, out=out)


def _log1p_exp(xp: Any, x: Array, out: Array) -> None:
    """log(1 + exp(-|x|)) into `out`.

    With u = fl(1 + e), log1p(e) = log(u) + (e - (u - 1)) / u to second order in the rounding of
    u; NumPy's log is vectorised and its log1p is not.
    """
    e = xp.exp(-abs(x))
    u = e + 1
    xp.subtract(u, 1, out=out)
    e -= out
    e /= u
    xp.log(u, out=out)
    out += e


def softplus(xp: Any, x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold (PyTorch's rule)."""

    def chain(xp: Any, x: Array, out: Array) -> None:
        scaled = x * beta if beta != 1.0 else x
        _log1p_exp(xp, scaled, out)
        out += xp.maximum(scaled, 0)
        if beta != 1.0:
            out /= beta
        xp.copyto(out, x, where=scaled > threshold)

    return elementwise(xp, chain, x)


def mish(xp: Any, x: Array, out: Array | None = None) -> Array:
    """X * tanh(log(1 + exp(x))) (Misra 2019).

    With n = exp(x) (exp(x) + 2), tanh(log1p(exp(x))) = n / (n + 2): one exponential, no logarithm.
    """
    return elementwise(xp, _mish, x, out=out)


def _mish(xp: Any, x: Array, out: Array) -> None:
    e = xp.exp(xp.minimum(x, 20))  # above, n / (n + 2) is 1 in float64
    xp.add(e, 2, out=out)
    out *= e
    out /= out + 2
    out *= x


def gelu(xp: Any, x: Array, out: Array | None = None) -> Array:
    """x/2 (1 + erf(x / sqrt 2)) (Hendrycks & Gimpel 2016)."""
    if x.dtype == np.float64:
        with np.errstate(all="ignore"):
            y = erf(xp, x * math.sqrt(0.5))
            y += 1
            y *= x
            y = xp.multiply(y, 0.5, out=y if out is None else out)
        return y
    return elementwise(xp, _gelu, x, np.float64, out)


def _gelu(xp: Any, x: Array, out: Array) -> None:
    erf_rational(xp, x * math.sqrt(0.5), out)
    out += 1
    out *= x > -5.54  # from here down 1 + erf is below its own error: exactly 0
    out *= x
    out *= 0.5


def gelu_tanh(xp: Any, x: Array, out: Array | None = None) -> Array:
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the approximation of the same paper."""
    return elementwise(xp, _gelu_tanh, x, out=out)


def _gelu_tanh(xp: Any, x: Array, out: Array) -> None:
    xp.multiply(x, x, out=out)
    out *= math.sqrt(2 / math.pi) * 0.044715
    out += math.sqrt(2 / math.pi)
    out *= x
    xp.tanh(out, out=out)
    out += 1
    out *= x
    out *= 0.5


def logsumexp(xp: Any, x: Array, axes: Sequence[int], keepdims: bool = False) -> Array:
    """log(sum(exp(x))) over `axes` without overflow; -inf over an empty or all -inf range."""
    axes = tuple(axes)
    wide = widen(x)
    if any(x.shape[a] == 0 for a in axes):
        total = wide.sum(axes, keepdims=keepdims)
        return narrow(xp.full_like(total, -np.inf), x.dtype)
    with np.errstate(all="ignore"):
        top = wide.max(axes, keepdims=True)
        top = xp.where(xp.isinf(top), xp.asarray(0, top.dtype), top)
        shifted = wide - top
        xp.exp(shifted, out=shifted)
        y = xp.log(shifted.sum(axes, keepdims=True))
        y += top
    return narrow(y if keepdims else y.squeeze(axes), x.dtype)


def softmax(xp: Any, x: Array, axis: int, out: Array | None = None) -> Array:
    """exp(x) / sum(exp(x)) along `axis`; NaN where a row has inf or only -inf, as in PyTorch."""
    if x.size == 0:
        return x.copy()
    with np.errstate(all="ignore"):
        y = xp.ascontiguousarray(widen(x))  # the result is laid out like it
        y = xp.subtract(y, y.max(axis, keepdims=True), out=out)
        xp.exp(y, out=y)
        y /= y.sum(axis, keepdims=True)
    return narrow(y, x.dtype)


def log_softmax(xp: Any, x: Array, axis: int, out: Array | None = None) -> Array:
    """log(softmax(x)) along `axis`, accurate where softmax underflows."""
    if x.size == 0:
        return x.copy()
    with np.errstate(all="ignore"):
        y = xp.ascontiguousarray(widen(x))  # the result is laid out like it
        y = xp.subtract(y, y.max(axis, keepdims=True), out=out)
        y -= xp.log(xp.exp(y).sum(axis, keepdims=True))
    return narrow(y, x.dtype)
