"""Steps of optimizers, against their textbook formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import ArgumentError, DTypeError, GraphError, ShapeError
from dualgraph_compiler.ops import optimizer as opt

from . import FLOATS, OpSamples, Refused, Sample, rand, strided, t

DECAYS = (0.0, 0.1)


def descent(op: Any, p: Any, g: Any, decay: float) -> Any:
    return (-g if op.maximize else g) + decay * p


def _sgd(op: Any, p: Any, g: Any, *rest: Any) -> Any:
    *buffer, lr, momentum, first = rest
    d = descent(op, p, g, op.weight_decay)
    if not buffer:
        return p - lr * d
    b = d if first else momentum * buffer[0] + (1 - op.dampening) * d
    return p - lr * (d + momentum * b if op.nesterov else b), b


def _adam(op: Any, p: Any, g: Any, step: Any, m: Any, v: Any, *rest: Any) -> Any:
    *largest, lr, beta1, beta2 = rest
    step = step + 1
    if op.decoupled:
        p = p - lr * op.weight_decay * p
    d = descent(op, p, g, 0.0 if op.decoupled else op.weight_decay)
    m = beta1 * m + (1 - beta1) * d
    v = beta2 * v + (1 - beta2) * d**2
    top = [np.maximum(largest[0], v)] if largest else []
    root = np.sqrt((top[0] if top else v) / (1 - beta2**step))
    return p - lr * m / (1 - beta1**step) / (root + op.eps), step, m, v, *top


def _rmsprop(op: Any, p: Any, g: Any, step: Any, v: Any, *rest: Any) -> Any:
    *more, lr, momentum = rest
    d = descent(op, p, g, op.weight_decay)
    v = op.alpha * v + (1 - op.alpha) * d**2
    spread = v
    mean = []
    if op.centered:
        mean = [op.alpha * more[-1] + (1 - op.alpha) * d]
        spread = v - mean[0] ** 2
    change = d / (np.sqrt(spread) + op.eps)
    buffer = []
    if op.momentum:
        change = momentum * more[0] + change
        buffer = [change]
    return p - lr * change, step + 1, v, *buffer, *mean


def _adagrad(op: Any, p: Any, g: Any, step: Any, total: Any, lr: Any) -> Any:
    d = descent(op, p, g, op.weight_decay)
    total = total + d**2
    rate = lr / (1 + step * op.lr_decay)
    return p - rate * d / (np.sqrt(total) + op.eps), step + 1, total


def _operands(op: Any, dtype: Any, shape: tuple[int, ...], numbers: tuple[float, ...]) -> Any:
    """Positive state, since it holds means of squares, and large enough beside means."""
    state = []
    for name in op.state:
        size = op.state_shape(name, shape)
        if name in op.scalars:
            state.append(np.array(3 if name == "step" else 0.6, np.float32))
        elif name in ("exp_avg", "grad_avg", "momentum_buffer", "prev", "ax"):
            state.append(rand(*size, dtype=dtype, low=-0.3, high=0.3, seed=5))
        else:
            state.append(rand(*size, dtype=dtype, low=1, high=2, seed=6))
    param, grad = rand(*shape, dtype=dtype, seed=1), rand(*shape, dtype=dtype, seed=2)
    return (param, grad, *state, *(np.array(x, np.float64) for x in numbers))


def record(
    reference: Any,
    ops: list[Any],
    *numbers: tuple[float, ...],
    shapes: tuple[tuple[int, ...], ...] = ((5,), (), (0, 3)),
    tol: float | None = None,
) -> OpSamples:
    """Samples of an optimizer with each set of options and of numbers.

    The first of `ops` also meets each dtype, `shapes` (a vector, 0-d and empty, where it takes
    them), strides and a parameter of several blocks.
    """
    first = ops[0]
    samples = [
        Sample(op, _operands(op, np.float32, (3, 4), n), tol=tol) for op in ops for n in numbers
    ]
    samples += [Sample(first, _operands(first, d, shapes[0], numbers[0]), tol=tol) for d in FLOATS]
    samples += [
        Sample(first, _operands(first, np.float64, shape, numbers[0]), str(shape), tol=tol)
        for shape in shapes[1:]
    ]
    param, *others = _operands(first, np.float32, (3, 4), numbers[0])
    samples.append(Sample(first, (strided(param), *others), "strided", tol=tol))
    if first.elementwise:
        large = _operands(first, np.float32, (1 << 16, 3), numbers[0])
        samples.append(Sample(first, large, "several blocks", tol=tol))
    kinds = ["f32[2]", "f32[2]"]
    kinds += ["f32[]" if name in first.scalars else "f32[2]" for name in first.state]
    kinds += ["f64[]"] * len(first.numbers)
    good = [t(k) for k in kinds]
    bad_grad = [good[0], t("f32[3]"), *good[2:]]
    refused = [
        Refused(first, tuple(good[:-1]), GraphError, "operands"),
        Refused(first, tuple(bad_grad), ShapeError, "grad of the parameter's shape"),
        Refused(first, (t("i64[2]"), *good[1:]), DTypeError, "floating-point"),
    ]
    if first.numbers:
        refused.append(Refused(first, (*good[:-1], t("f32[]")), DTypeError, "0-d float64"))
    return OpSamples(type(first), reference, samples, refused)


def _norm(op: Any, x: Any) -> Any:
    flat = np.abs(x).reshape(-1)
    if np.isinf(op.order):
        return flat.max(initial=0)
    return (flat**op.order).sum() ** (1 / op.order)


SAMPLES = [
    record(
        _sgd,
        [
            opt.SgdUpdate(momentum, damp, decay, nesterov, maximize)
            for momentum, damp, nesterov in (
                (True, 0.0, False),
                (True, 0.5, False),
                (True, 0.0, True),
                (False, 0.0, False),
            )
            for decay in DECAYS
            for maximize in (False, True)
        ],
        (0.1, 0.9, 0.0),
        (0.1, 0.9, 1.0),
    ),
    record(
        _adam,
        [
            opt.AdamUpdate(1e-8, decay, amsgrad, maximize, decoupled)
            for decay in DECAYS
            for amsgrad in (False, True)
            for maximize in (False, True)
            for decoupled in (False, True)
        ],
        (0.1, 0.9, 0.99),
    ),
    record(
        _rmsprop,
        [
            opt.RmspropUpdate(momentum, centered, 0.9, 1e-8, decay, maximize)
            for momentum in (False, True)
            for centered in (False, True)
            for decay in DECAYS
            for maximize in (False, True)
        ],
        (0.01, 0.9),
    ),
    record(
        _adagrad,
        [
            opt.AdagradUpdate(slow, 1e-10, decay, maximize)
            for slow in (0.0, 0.5)
            for decay in DECAYS
            for maximize in (False, True)
        ],
        (0.1,),
    ),
    OpSamples(
        opt.VectorNorm,
        _norm,
        [
            *(
                Sample(opt.VectorNorm(order), (rand(3, 4),))
                for order in (1.0, 2.0, 3.0, float("inf"))
            ),
            *(Sample(opt.VectorNorm(), (rand(7, dtype=d),)) for d in FLOATS),
            Sample(opt.VectorNorm(), (rand(2, 3, dtype=np.complex64),), "complex"),
            Sample(opt.VectorNorm(), (rand(0, 3),), "empty"),
            Sample(opt.VectorNorm(), (strided(rand(3, 4)),), "strided"),
            Sample(opt.VectorNorm(), (rand(),), "0-d"),
        ],
        refused=[
            Refused(opt.VectorNorm(), (t("i64[2]"),), DTypeError, "floating-point"),
            Refused(opt.VectorNorm(float("nan")), (t("f32[2]"),), ArgumentError, "NaN"),
        ],
    ),
]
