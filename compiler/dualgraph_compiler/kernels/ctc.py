"""Connectionist temporal classification: sums over alignments, in log space.

A label sequence of S classes is written with a blank before, between and after them: 2 S + 1
states. An alignment starts in one of the first two states, ends in one of the last two, and goes on
by one state, or by two where that skips a blank between different classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import Array


def states(xp: Any, targets: Array, blank: int) -> tuple[Array, Array]:
    """The class of each state [N, 2 S + 1], and whether it may be reached from two before."""
    n, s = targets.shape
    labels = xp.full((n, 2 * s + 1), blank, targets.dtype)
    labels[:, 1::2] = targets
    skips = xp.zeros(labels.shape, bool)
    if s > 1:
        skips[:, 3::2] = targets[:, 1:] != targets[:, :-1]
    return labels, skips


def _moved(xp: Any, x: Array, by: int) -> Array:
    """`x` [N, L] with state s at s + by; -inf where nothing comes from."""
    out = xp.full(x.shape, -np.inf, x.dtype)
    if by >= 0:
        out[:, by:] = x[:, : max(x.shape[1] - by, 0)]
    else:
        out[:, :by] = x[:, -by:]
    return out


def forward(
    xp: Any, logs: Array, targets: Array, lengths: Array, counts: Array, blank: int
) -> tuple[Array, Array]:
    """The negative log-likelihoods [N], and log alpha [T, N, 2 S + 1].

    Args:
        logs: log-probabilities [T, N, C].
        targets: classes [N, S], of which the first `counts` [N] of a row count.
        lengths: how many of the T steps of a sequence count [N].
        blank: the class that stands for none.
    """
    steps, n = logs.shape[:2]
    labels, skips = states(xp, targets, blank)
    width = labels.shape[1]
    rows = xp.arange(n)
    alpha = xp.full((steps, n, width), -np.inf, logs.dtype)
    last = xp.full((n, width), -np.inf, logs.dtype)  # alpha at each sequence's own last step
    last[:, 0] = 0  # of a sequence without steps: no label has been emitted
    with np.errstate(all="ignore"):
        for t in range(steps):
            emitted = logs[t][rows[:, None], labels]
            if t == 0:
                alpha[0, :, 0] = emitted[:, 0]
                if width > 1:
                    alpha[0, :, 1] = emitted[:, 1]
            else:
                before = alpha[t - 1]
                total = xp.logaddexp(before, _moved(xp, before, 1))
                jumped = xp.where(skips, _moved(xp, before, 2), -np.inf)
                alpha[t] = xp.logaddexp(total, jumped) + emitted
            last = xp.where((lengths == t + 1)[:, None], alpha[t], last)
        ends = 2 * counts
        found = last[rows, ends]
        other = last[rows, xp.maximum(ends - 1, 0)]
        found = xp.where(counts > 0, xp.logaddexp(found, other), found)
    return -found, alpha


def backward(
    xp: Any,
    logs: Array,
    targets: Array,
    lengths: Array,
    counts: Array,
    blank: int,
) -> tuple[Array, Array]:
    """The losses, and their gradients by the log-probabilities [T, N, C], taken for normalised.

    A gradient is exp(logs) minus how probable it is, given the labels, that step t emits class c; 0
    after a sequence's end; NaN where no alignment is possible. Arguments as for `forward`.
    """
    losses, alpha = forward(xp, logs, targets, lengths, counts, blank)
    steps, n = logs.shape[:2]
    labels, skips = states(xp, targets, blank)
    width = labels.shape[1]
    rows = xp.arange(n)
    at = xp.arange(width)[None, :]
    ends = (2 * counts)[:, None]
    final = (at == ends) | ((at == ends - 1) & (ends > 0))
    start = xp.where(final, logs.dtype.type(0), logs.dtype.type(-np.inf))
    grad = xp.zeros_like(logs)
    beta = xp.full((n, width), -np.inf, logs.dtype)
    with np.errstate(all="ignore"):
        for t in range(steps - 1, -1, -1):
            emitted = logs[t][rows[:, None], labels]
            ahead = xp.where(skips, beta, -np.inf)
            going = xp.logaddexp(beta, _moved(xp, beta, -1))
            going = xp.logaddexp(going, _moved(xp, ahead, -2)) if width > 2 else going
            ending = (lengths == t + 1)[:, None]
            beta = xp.where(ending, start, going) + emitted
            taken = xp.exp(alpha[t] + beta - emitted + losses[:, None])
            taken = xp.where(beta == -np.inf, 0, taken)
            step = xp.exp(logs[t])
            for s in range(width):
                step[rows, labels[:, s]] -= taken[:, s]
            step = xp.where(xp.isinf(losses)[:, None], xp.nan, step)
            grad[t] = xp.where((lengths > t)[:, None], step, 0)
    return losses, grad
