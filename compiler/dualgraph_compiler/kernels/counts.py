"""Poisson and binomial variables out of uniform numbers, one each.

Probabilities are taken off a uniform number u in the order mode, mode + 1, mode - 1, mode + 2, ...
until none is left of it; so one number gives one variable on every device, and there are no
rejections. About 17 standard deviations' steps at most. (L. Devroye, "Non-uniform random variate
generation", 1986, III.2: inversion by sequential search from the mode.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import Array, narrow
from .gamma import lgamma

_Ratio = Callable[[Array], Array]


def poisson(xp: Any, u: Array, rate: Array) -> Array:
    """The Poisson variable of `rate` that u in [0, 1) stands for; NaN for a rate below 0 or NaN."""
    wide_u, wide = (v.astype(np.float64) for v in xp.broadcast_arrays(u, rate))
    with np.errstate(all="ignore"):
        valid = (wide >= 0.0) & (wide < np.inf)
        wide = xp.where(valid, wide, 0.0)
        mode = xp.floor(wide)
        log_p = xp.where(mode > 0, mode * xp.log(wide), 0.0) - wide - lgamma(xp, mode + 1.0)
        found = _search(
            xp, wide_u, mode, xp.exp(log_p), lambda k: wide / (k + 1.0), lambda k: k / wide
        )
        return narrow(xp.where(valid, found, np.nan), rate.dtype)


def binomial(xp: Any, u: Array, count: Array, p: Array) -> Array:
    """Successes among `count` trials, each with probability `p`, that u in [0, 1) stands for.

    NaN for a count below 0, a probability outside [0, 1], and NaN. Counts are rounded down.
    """
    u, n, chance = (v.astype(np.float64) for v in xp.broadcast_arrays(u, count, p))
    with np.errstate(all="ignore"):
        valid = (n >= 0.0) & (n < np.inf) & (chance >= 0.0) & (chance <= 1.0)
        n, chance = xp.where(valid, xp.floor(n), 0.0), xp.where(valid, chance, 0.0)
        mode = xp.minimum(xp.floor((n + 1.0) * chance), n)
        log_p = lgamma(xp, n + 1.0) - lgamma(xp, mode + 1.0) - lgamma(xp, n - mode + 1.0)
        log_p += xp.where(mode > 0, mode * xp.log(chance), 0.0)
        log_p += xp.where(n > mode, (n - mode) * xp.log1p(-chance), 0.0)
        odds = chance / (1.0 - chance)
        found = _search(
            xp,
            u,
            mode,
            xp.exp(log_p),
            lambda k: xp.where(k < n, (n - k) / (k + 1.0) * odds, 0.0),
            lambda k: k / ((n - k + 1.0) * odds),
        )
        return narrow(xp.where(valid, found, np.nan), p.dtype)


def _search(xp: Any, u: Array, mode: Array, p: Array, up: _Ratio, down: _Ratio) -> Array:
    """`up(k)` is P(k + 1) / P(k), `down(k)` is P(k - 1) / P(k)."""
    left = u - p
    above, below, found = mode.copy(), mode.copy(), mode.copy()
    p_above, p_below = p.copy(), p.copy()
    while True:
        # What rounding leaves of u when all probabilities are spent stays at the mode.
        searching = (left >= 0.0) & (xp.maximum(p_above, p_below) > 1e-20)
        if not bool(searching.any()):
            return found
        p_above = p_above * up(above)
        above = above + 1.0
        left = xp.where(searching, left - p_above, left)
        hit = searching & (left < 0.0)
        found = xp.where(hit, above, found)
        searching = searching & ~hit
        p_below = xp.where(below > 0.0, p_below * down(below), 0.0)
        below = xp.maximum(below - 1.0, 0.0)
        left = xp.where(searching, left - p_below, left)
        found = xp.where(searching & (left < 0.0), below, found)
