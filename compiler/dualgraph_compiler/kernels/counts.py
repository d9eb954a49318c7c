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

from .arrays import Array, is_numpy, narrow
from .gamma import lgamma

_Ratio = Callable[..., Array]


def poisson(xp: Any, u: Array, rate: Array) -> Array:
    """The Poisson variable of `rate` that u in [0, 1) stands for; NaN for a rate below 0 or NaN."""
    wide_u, wide = (v.astype(np.float64) for v in xp.broadcast_arrays(u, rate))
    with np.errstate(all="ignore"):
        valid = (wide >= 0.0) & (wide < np.inf)
        wide = xp.where(valid, wide, 0.0)
        mode = xp.floor(wide)
        log_p = xp.where(mode > 0, mode * xp.log(wide), 0.0) - wide - lgamma(xp, mode + 1.0)

        def up(k: Array, rate: Array) -> Array:
            return rate / (k + 1.0)

        def down(k: Array, rate: Array) -> Array:
            return k / rate

        found = _search(xp, wide_u, mode, xp.exp(log_p), up, down, (wide,))
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

        def up(k: Array, n: Array, odds: Array) -> Array:
            return xp.where(k < n, (n - k) / (k + 1.0) * odds, 0.0)

        def down(k: Array, n: Array, odds: Array) -> Array:
            return k / ((n - k + 1.0) * odds)

        parameters = (n, chance / (1.0 - chance))
        found = _search(xp, u, mode, xp.exp(log_p), up, down, parameters)
        return narrow(xp.where(valid, found, np.nan), p.dtype)


def _search(
    xp: Any,
    u: Array,
    mode: Array,
    p: Array,
    up: _Ratio,
    down: _Ratio,
    parameters: tuple[Array, ...],
) -> Array:
    """`up(k, *parameters)` is P(k + 1) / P(k), `down` is P(k - 1) / P(k)."""
    found = mode.reshape(-1).copy()
    u, mode, p, *rest = (v.reshape(-1) for v in (u, mode, p, *parameters))
    # Rows of what is kept for each element: what is left of u, k above and below, P of these,
    # parameters. Where memory is the host's, elements that are done leave.
    rows = [u - p, mode, mode, p, p, *rest]
    places = xp.arange(found.size)
    while True:
        left, above, below, p_above, p_below, *rest = rows
        # What rounding leaves of u when all probabilities are spent stays at the mode.
        searching = (left >= 0.0) & (xp.maximum(p_above, p_below) > 1e-20)
        if not bool(searching.any()):
            return found.reshape(xp.shape(parameters[0]))
        if is_numpy(xp):
            places = places[searching]
            left, above, below, p_above, p_below, *rest = (v[searching] for v in rows)
            searching = True
        p_above = p_above * up(above, *rest)
        above = above + 1.0
        p_below = xp.where(below > 0.0, p_below * down(below, *rest), 0.0)
        below = xp.maximum(below - 1.0, 0.0)
        after = left - p_above
        hit_above = searching & (left >= 0.0) & (after < 0.0)
        left = after
        after = left - p_below
        hit_below = searching & (left >= 0.0) & (after < 0.0)
        found[places] = xp.where(hit_above, above, xp.where(hit_below, below, found[places]))
        rows = [after, above, below, p_above, p_below, *rest]
