"""Normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError
from dualgraph_compiler.ops import batch_norm as bn
from dualgraph_compiler.ops import norm as nm

from . import FLOATS, OpSamples, Refused, Sample, rand, strided, t

nan = np.nan


def f64(*shape: int, seed: int = 0, low: float = -2.0) -> np.ndarray[Any, Any]:
    return rand(*shape, dtype=np.float64, seed=seed, low=low)


def narrow(d: Any) -> float | None:
    return {"float16": 1e-2, "bfloat16": 1e-1}.get(d.name)


def statistics(x: Any, axes: Any, eps: float) -> tuple[Any, Any]:
    """x with mean 0 and variance 1, and 1 / standard deviation, element by element of the rest."""
    mean = x.mean(axes, keepdims=True)
    invstd = 1 / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + eps)
    return (x - mean) * invstd, invstd


def numeric_grad(function: Any, g: Any, *inputs: Any) -> list[Any]:
    """Gradients by central differences, an independent check of the fused formulas."""
    found = []
    for k, x in enumerate(inputs):
        grad = np.zeros_like(x)
        for at in np.ndindex(x.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [v.copy() for v in inputs]
                moved[k][at] += step
                ends.append(float((function(*moved) * g).sum()))
            grad[at] = (ends[0] - ends[1]) / 2e-5
        found.append(grad)
    return found


# -- over trailing axes ----------------------------------------------------------------------------


def layer_norm(op: Any, x: Any, w: Any = 1.0, b: Any = 0.0) -> Any:
    return statistics(x, tuple(range(x.ndim - op.dims, x.ndim)), op.eps)[0] * w + b


LAYER_NORM = OpSamples(
    nm.LayerNorm,
    layer_norm,
    [
        Sample(nm.LayerNorm(1), (f64(3, 4),), grad=True),
        Sample(nm.LayerNorm(1), (f64(3, 4), f64(4, seed=1)), grad=True),
        Sample(nm.LayerNorm(2, 1e-3), (f64(2, 2, 3), f64(2, 3, seed=1), f64(2, 3)), grad=True),
        Sample(nm.LayerNorm(2), (f64(2, 3),), "no axes left", grad=True),
        Sample(nm.LayerNorm(1), (strided(rand(3, 4)), strided(rand(4))), "not contiguous"),
        Sample(nm.LayerNorm(1), (np.array([[1, nan, 2], [1, 2, 4]], np.float32),), "NaN"),
        Sample(nm.LayerNorm(1), (np.full((1, 3), 1e4, np.float32),), "no variance"),
        Sample(nm.LayerNorm(1), (rand(0, 3), rand(3)), "no rows"),
        *(
            Sample(
                nm.LayerNorm(1),
                (rand(2, 5, dtype=d), rand(5, dtype=d, seed=1), rand(5, dtype=d)),
                tol=narrow(d),
            )
            for d in FLOATS
        ),
    ],
    [
        Refused(nm.LayerNorm(3), (t("f32[2, 3]"),), match="last 3 axes"),
        Refused(nm.LayerNorm(0), (t("f32[2, 3]"),), match="last 0 axes"),
        Refused(nm.LayerNorm(1), (t("f32[2, 3]"), t("f32[2]")), match="shape \\[3\\]"),
        Refused(nm.LayerNorm(1), (t("i64[2, 3]"),), DTypeError, "floating-point"),
        Refused(nm.LayerNorm(1), (t("f32[2, 3]"), t("f64[3]")), DTypeError, "one dtype"),
    ],
)


def layer_norm_grad(op: Any, g: Any, x: Any, w: Any = None) -> Any:
    tail = x.shape[x.ndim - op.dims :]
    weight = np.ones(tail) if w is None else w
    return tuple(numeric_grad(lambda *v: layer_norm(op, *v), g, x, weight, np.zeros(tail)))


LAYER_NORM_GRAD = OpSamples(
    nm.LayerNormGrad,
    layer_norm_grad,
    [
        Sample(nm.LayerNormGrad(1, 1e-5), (f64(3, 4, seed=2), f64(3, 4)), tol=1e-6, grad=True),
        Sample(
            nm.LayerNormGrad(2, 1e-3),
            (f64(2, 2, 3, seed=2), f64(2, 2, 3), f64(2, 3, seed=1)),
            tol=1e-6,
            grad=True,
        ),
        *(
            Sample(
                nm.LayerNormGrad(1, 1e-5),
                (rand(2, 5, dtype=d, seed=2), rand(2, 5, dtype=d), rand(5, dtype=d, seed=1)),
                tol=narrow(d) or 1e-5,
            )
            for d in FLOATS
        ),
    ],
    [
        Refused(nm.LayerNormGrad(1, 1e-5), (t("f32[2, 3]"), t("f32[3, 3]")), match="a gradient"),
    ],
)


def rms_norm(op: Any, x: Any, w: Any = 1.0) -> Any:
    axes = tuple(range(x.ndim - op.dims, x.ndim))
    return x / np.sqrt((x**2).mean(axes, keepdims=True) + op.eps) * w


RMS_NORM = OpSamples(
    nm.RmsNorm,
    rms_norm,
    [
        Sample(nm.RmsNorm(1, 1e-5), (f64(3, 4),), grad=True),
        Sample(nm.RmsNorm(2, 1e-3), (f64(2, 2, 3), f64(2, 3, seed=1)), grad=True),
        Sample(nm.RmsNorm(1, 1e-5), (strided(rand(3, 4)), rand(4)), "not contiguous"),
        Sample(nm.RmsNorm(1, 1e-5), (rand(0, 3),), "no rows"),
        *(
            Sample(nm.RmsNorm(1, 1e-5), (rand(2, 5, dtype=d), rand(5, dtype=d)), tol=narrow(d))
            for d in FLOATS
        ),
    ],
    [Refused(nm.RmsNorm(1, 1e-5), (t("f32[2, 3]"), t("f32[2]")), match="shape \\[3\\]")],
)

# -- over groups of channels -----------------------------------------------------------------------


def sides(p: Any, x: Any) -> Any:
    return p.reshape(-1, *(1,) * (x.ndim - 2)) if isinstance(p, np.ndarray) else p


def group_norm(op: Any, x: Any, w: Any = 1.0, b: Any = 0.0) -> Any:
    grouped = x.reshape(x.shape[0], op.groups, -1)
    y = statistics(grouped, 2, op.eps)[0].reshape(x.shape)
    return y * sides(w, x) + sides(b, x)


GROUP_NORM = OpSamples(
    nm.GroupNorm,
    group_norm,
    [
        Sample(nm.GroupNorm(2), (f64(2, 4, 3),), grad=True),
        Sample(nm.GroupNorm(2), (f64(2, 4, 2), f64(4, seed=1), f64(4)), grad=True),
        Sample(nm.GroupNorm(3, 1e-3), (f64(2, 3, 2, 2), f64(3, seed=1), f64(3)), "instance"),
        Sample(nm.GroupNorm(2), (f64(2, 6), f64(6, seed=1), f64(6)), "no spatial axes", grad=True),
        Sample(nm.GroupNorm(1), (strided(rand(2, 3, 4)),), "not contiguous"),
        *(
            Sample(
                nm.GroupNorm(2),
                (rand(2, 4, 3, dtype=d), rand(4, dtype=d, seed=1), rand(4, dtype=d)),
                tol=narrow(d),
            )
            for d in FLOATS
        ),
    ],
    [
        Refused(nm.GroupNorm(2), (t("f32[2, 3, 4]"),), match="divides by 2 groups"),
        Refused(nm.GroupNorm(2), (t("f32[4]"),), match="N, C"),
        Refused(nm.GroupNorm(2), (t("f32[2, 4]"), t("f32[2]"), t("f32[4]")), match="bias \\[4\\]"),
        Refused(nm.GroupNorm(1), (t("bool[2, 4]"),), DTypeError, "floating-point"),
    ],
)


def group_norm_grad(op: Any, g: Any, x: Any, w: Any = None) -> Any:
    channels = x.shape[1]
    weight = np.ones(channels) if w is None else w
    return tuple(numeric_grad(lambda *v: group_norm(op, *v), g, x, weight, np.zeros(channels)))


GROUP_NORM_GRAD = OpSamples(
    nm.GroupNormGrad,
    group_norm_grad,
    [
        Sample(
            nm.GroupNormGrad(2, 1e-5), (f64(2, 4, 3, seed=2), f64(2, 4, 3)), tol=1e-6, grad=True
        ),
        Sample(
            nm.GroupNormGrad(2, 1e-3),
            (f64(2, 4, 2, seed=2), f64(2, 4, 2), f64(4, seed=1)),
            tol=1e-6,
            grad=True,
        ),
        *(
            Sample(
                nm.GroupNormGrad(1, 1e-5),
                (rand(2, 2, 3, dtype=d, seed=2), rand(2, 2, 3, dtype=d), rand(2, dtype=d)),
                tol=narrow(d) or 1e-5,
            )
            for d in FLOATS
        ),
    ],
    [
        Refused(nm.GroupNormGrad(1, 1e-5), (t("f32[2, 3]"), t("f32[3, 3]")), match="a gradient"),
    ],
)

# -- over the batch --------------------------------------------------------------------------------


def batch_norm(op: Any, x: Any, *parameters: Any) -> Any:
    *affine, mean, var = (sides(p, x) for p in parameters)
    y = (x - mean) / np.sqrt(var + op.eps)
    return y * affine[0] + affine[1] if affine else y


BATCH_NORM = OpSamples(
    bn.BatchNorm,
    batch_norm,
    [
        Sample(
            bn.BatchNorm(),
            (f64(2, 3, 2), f64(3, seed=1), f64(3, seed=2), f64(3), f64(3, low=0.5)),
            grad=True,
        ),
        Sample(bn.BatchNorm(1e-3), (f64(2, 3), f64(3, seed=1), f64(3, low=0.5)), grad=True),
        Sample(bn.BatchNorm(), (strided(rand(2, 3, 4)), rand(3), rand(3, low=1)), "not contiguous"),
        Sample(bn.BatchNorm(), (rand(0, 3), rand(3), rand(3, low=1)), "no samples"),
        Sample(
            bn.BatchNorm(),
            (np.array([[nan, 1]], np.float32), rand(2), np.array([1, -1], np.float32)),
            "NaN, and a variance below 0",
        ),
        *(
            Sample(
                bn.BatchNorm(),
                (
                    rand(2, 3, 2, dtype=d),
                    *(rand(3, dtype=d, seed=i) for i in (1, 2, 3)),
                    rand(3, dtype=d, low=0.5),
                ),
                tol=narrow(d),
            )
            for d in FLOATS
        ),
    ],
    [
        Refused(bn.BatchNorm(), (t("f32[2, 3]"), t("f32[2]"), t("f32[3]")), match="\\[3\\]"),
        Refused(bn.BatchNorm(), (t("f32[2, 3]"), t("f32[3]")), match="2 operands"),
        Refused(bn.BatchNorm(), (t("f32[3]"), t("f32[3]"), t("f32[3]")), match="N, C"),
        Refused(
            bn.BatchNorm(), (t("f32[2, 3]"), t("f64[3]"), t("f64[3]")), DTypeError, "one dtype"
        ),
    ],
)


def training(op: Any, x: Any, w: Any = 1.0, b: Any = 0.0) -> Any:
    axes = (0, *range(2, x.ndim))
    y, _ = statistics(x, axes, op.eps)
    return y * sides(w, x) + sides(b, x), x.mean(axes), x.var(axes)


BATCH_NORM_TRAINING = OpSamples(
    bn.BatchNormTraining,
    training,
    [
        Sample(bn.BatchNormTraining(), (f64(2, 3, 2), f64(3, seed=1), f64(3)), grad=True),
        Sample(bn.BatchNormTraining(1e-3), (f64(4, 2),), grad=True),
        Sample(
            bn.BatchNormTraining(), (strided(rand(2, 3, 4)), rand(3), rand(3)), "not contiguous"
        ),
        Sample(bn.BatchNormTraining(), (np.array([[nan, 1], [2, 2]], np.float32),), "NaN"),
        *(
            Sample(
                bn.BatchNormTraining(),
                (rand(3, 2, 4, dtype=d), rand(2, dtype=d, seed=1), rand(2, dtype=d)),
                tol=narrow(d),
            )
            for d in FLOATS
        ),
    ],
    [
        Refused(bn.BatchNormTraining(), (t("f32[2, 3]"), t("f32[3]")), match="weight and bias"),
        Refused(bn.BatchNormTraining(), (t("f32[3]"),), match="N, C"),
        Refused(bn.BatchNormTraining(), (t("i32[2, 3]"),), DTypeError, "floating-point"),
    ],
)


def batch_norm_grad(op: Any, g: Any, x: Any, mean: Any, var: Any, w: Any = None) -> Any:
    """The formula of the paper (Ioffe and Szegedy 2015, section 3), sum by sum."""
    c = x.shape[1]
    gx, gw, gb = np.zeros_like(x), np.zeros(c), np.zeros(c)
    for k in range(c):
        dy, centred, m = g[:, k], x[:, k] - mean[k], x[:, k].size
        scale = 1.0 if w is None else w[k]
        invstd = (var[k] + op.eps) ** -0.5
        gb[k], gw[k] = dy.sum(), (dy * centred * invstd).sum()
        d_normal = dy * scale
        d_var = (d_normal * centred).sum() * -0.5 * invstd**3
        d_mean = -(d_normal.sum() * invstd)
        gx[:, k] = d_normal * invstd + d_var * 2 * centred / m + d_mean / m
    return gx, gw, gb


BATCH_NORM_GRAD = OpSamples(
    bn.BatchNormGrad,
    batch_norm_grad,
    [
        Sample(
            bn.BatchNormGrad(1e-5),
            (f64(2, 3, 2, seed=2), f64(2, 3, 2), f64(3, seed=3), f64(3, low=0.5), f64(3, seed=1)),
            grad=True,
        ),
        Sample(
            bn.BatchNormGrad(1e-3),
            (f64(4, 2, seed=2), f64(4, 2), f64(2, seed=3), f64(2, low=0.5)),
            grad=True,
        ),
    ],
    [
        Refused(
            bn.BatchNormGrad(1e-5),
            (t("f32[2, 3]"), t("f32[3, 3]"), t("f32[3]"), t("f32[3]")),
            match="a gradient",
        ),
    ],
)

SAMPLES = [
    LAYER_NORM,
    LAYER_NORM_GRAD,
    RMS_NORM,
    GROUP_NORM,
    GROUP_NORM_GRAD,
    BATCH_NORM,
    BATCH_NORM_TRAINING,
    BATCH_NORM_GRAD,
]
