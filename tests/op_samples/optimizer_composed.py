"""Steps of further optimizers, against their textbook formulas in float64."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from dualgraph_compiler.ops import optimizer_composed as opt

from .optimizer import DECAYS, descent, record


def _adadelta(op: Any, p: Any, g: Any, step: Any, square: Any, delta: Any, lr: Any) -> Any:
    d = descent(op, p, g, op.weight_decay)
    square = op.rho * square + (1 - op.rho) * d**2
    change = np.sqrt(delta + op.eps) / np.sqrt(square + op.eps) * d
    return p - lr * change, step + 1, square, op.rho * delta + (1 - op.rho) * change**2


def _adamax(op: Any, p: Any, g: Any, step: Any, m: Any, u: Any, *rates: Any) -> Any:
    lr, beta1, beta2 = rates
    d = descent(op, p, g, op.weight_decay)
    m = beta1 * m + (1 - beta1) * d
    u = np.maximum(beta2 * u, np.abs(d) + op.eps)
    return p - lr / (1 - beta1 ** (step + 1)) * m / u, step + 1, m, u


def _decayed(op: Any, p: Any, g: Any, lr: Any) -> Any:
    if op.decoupled:
        return p * (1 - lr * op.weight_decay), descent(op, p, g, 0.0)
    return p, descent(op, p, g, op.weight_decay)


def _nadam(op: Any, p: Any, g: Any, step: Any, product: Any, m: Any, v: Any, *rates: Any) -> Any:
    lr, beta1, beta2 = rates
    n = step + 1
    p, d = _decayed(op, p, g, lr)
    m = beta1 * m + (1 - beta1) * d
    v = beta2 * v + (1 - beta2) * d**2
    now = beta1 * (1 - 0.5 * 0.96 ** (n * op.momentum_decay))
    later = beta1 * (1 - 0.5 * 0.96 ** ((n + 1) * op.momentum_decay))
    product = product * now
    root = np.sqrt(v / (1 - beta2**n)) + op.eps
    p = p - lr * (1 - now) / (1 - product) * d / root
    return p - lr * later / (1 - product * later) * m / root, n, product, m, v


def _radam(op: Any, p: Any, g: Any, step: Any, m: Any, v: Any, *rates: Any) -> Any:
    lr, beta1, beta2 = rates
    n = step + 1
    p, d = _decayed(op, p, g, lr)
    m = beta1 * m + (1 - beta1) * d
    v = beta2 * v + (1 - beta2) * d**2
    most = 2 / (1 - beta2) - 1
    length = most - 2 * n * beta2**n / (1 - beta2**n)
    change = m / (1 - beta1**n)
    if length > 5:
        top = (length - 4) * (length - 2) * most
        rectified = np.sqrt(top / ((most - 4) * (most - 2) * length))
        change = change * rectified * np.sqrt(1 - beta2**n) / (np.sqrt(v) + op.eps)
    return p - lr * change, n, m, v


def _asgd(op: Any, p: Any, g: Any, step: Any, eta: Any, mu: Any, ax: Any, lr: Any) -> Any:
    n = step + 1
    p = p * (1 - op.lambd * eta) - eta * descent(op, p, g, op.weight_decay)
    ax = ax + mu * (p - ax)
    return p, n, lr / (1 + op.lambd * lr * n) ** op.alpha, 1 / max(1, n - op.t0), ax


def _rprop(op: Any, p: Any, g: Any, step: Any, before: Any, size: Any) -> Any:
    d = descent(op, p, g, 0.0)
    sign = np.sign(d * before)
    factor = np.select([sign > 0, sign < 0], [op.eta_plus, op.eta_minus], 1.0)
    size = np.clip(size * factor, op.smallest, op.largest)
    d = np.where(sign < 0, 0.0, d)
    return p - np.sign(d) * size, step + 1, d, size


def _adafactor(op: Any, p: Any, g: Any, step: Any, *rest: Any) -> Any:
    *state, lr = rest
    n = step + 1
    g = -g if op.maximize else g
    fresh = n**op.beta2_decay
    size = max(np.sqrt(np.mean(p**2)), op.eps2) * min(lr, 1 / np.sqrt(n)) if p.size else 0.0
    p = p * (1 - lr * op.weight_decay)
    if op.factored:
        rows, columns = state
        rows = rows + fresh * (np.mean(g**2, -1, keepdims=True) - rows)
        columns = columns + fresh * (np.mean(g**2, -2, keepdims=True) - columns)
        variance = rows @ columns / np.maximum(rows.mean(-2, keepdims=True), op.eps1)
        state = [rows, columns]
    else:
        state = [variance := state[0] + fresh * (g**2 - state[0])]
    change = g / np.sqrt(np.maximum(variance, op.eps1**2))
    clip = max(1.0, np.sqrt(np.mean(change**2)) / op.threshold) if p.size else 1.0
    return p - size / clip * change, n, *state


def _muon(op: Any, p: Any, g: Any, buffer: Any, lr: Any) -> Any:
    def rounded(x: Any) -> Any:
        return x.astype(ml_dtypes.bfloat16).astype(np.float64)

    a, b, c = op.coefficients
    buffer = op.momentum * buffer + (1 - op.momentum) * g
    d = (1 - op.momentum) * g + op.momentum * buffer if op.nesterov else buffer
    tall = d.shape[0] > d.shape[1]
    x = rounded(d.T if tall else d)
    x = rounded(x / max(rounded(np.sqrt((x**2).sum())), op.eps))
    for _ in range(op.steps):
        gram = rounded(x @ x.T)
        x = rounded(a * x + rounded(b * gram + c * gram @ gram) @ x)
    rows, columns = p.shape
    scale = np.sqrt(max(1, rows / columns))
    if op.match_rms:
        scale = 0.2 * np.sqrt(max(rows, columns))
    return p * (1 - lr * op.weight_decay) - lr * scale * (x.T if tall else x), buffer


_ADAPTIVE = (0.1, 0.9, 0.99)
SIGNS = (False, True)

SAMPLES = [
    record(
        _adadelta,
        [opt.AdadeltaUpdate(0.9, 1e-6, decay, sign) for decay in DECAYS for sign in SIGNS],
        (0.5,),
    ),
    record(
        _adamax,
        [opt.AdamaxUpdate(1e-8, decay, sign) for decay in DECAYS for sign in SIGNS],
        _ADAPTIVE,
    ),
    record(
        _nadam,
        [
            opt.NadamUpdate(1e-8, decay, 4e-3, sign, decoupled)
            for decay in DECAYS
            for sign in SIGNS
            for decoupled in SIGNS
        ],
        _ADAPTIVE,
    ),
    record(
        _radam,
        [
            opt.RadamUpdate(1e-8, decay, sign, decoupled)
            for decay in DECAYS
            for sign in SIGNS
            for decoupled in SIGNS
        ],
        _ADAPTIVE,  # too few steps for the rectified form
        (0.1, 0.9, 0.5),  # and as many as it takes
    ),
    record(
        _asgd,
        [
            opt.AsgdUpdate(0.1, 0.75, t0, decay, sign)
            for t0 in (1e6, 1.0)
            for decay in DECAYS
            for sign in SIGNS
        ],
        (0.1,),
    ),
    record(_rprop, [opt.RpropUpdate(0.5, 1.2, 1e-6, 1.5, sign) for sign in SIGNS], ()),
    record(
        _adafactor,
        [
            opt.AdafactorUpdate(-0.8, 1e-6, 1e-3, 1.0, decay, sign, factored)
            for decay in DECAYS
            for sign in SIGNS
            for factored in SIGNS
        ],
        (0.1,),
    ),
    record(
        _muon,
        [
            opt.MuonUpdate(0.9, nesterov, decay, match_rms=match)
            for nesterov in SIGNS
            for decay in DECAYS
            for match in SIGNS
        ],
        (0.1,),
        shapes=((3, 4), (4, 3)),
        tol=2e-3,  # of a bfloat16 that rounds to the neighbour, times the learning rate
    ),
]
