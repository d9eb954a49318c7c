"""Batch normalisation: with given statistics, with the batch's own, and the latter's gradient.

x is [N, C, *S]; weight, bias and statistics are [C]. See :mod:`.norm` for dtypes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..dtypes import dtype_of
from ..errors import ShapeError
from ..kernels import norm as kernels
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Op, op, require_same_dtype, shape_text
from .derive import derived_vjp, export_formula
from .norm import check_float, inverse_std, ones, per_channel, wide_dtype, widened
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import signature


def _check(name: str, x: TensorType, *parameters: TensorType) -> None:
    check_float(name, x)
    if x.ndim < 2:
        raise ShapeError(f"{name}: expected an input [N, C, ...], got {shape_text(x.shape)}")
    for p in parameters:
        if p.shape != (x.shape[1],):
            raise ShapeError(
                f"{name}: expected weight, bias and statistics [{x.shape[1]}] for the input "
                f"{shape_text(x.shape)}, got {shape_text(p.shape)}"
            )


def _batch_axes(ndim: int) -> tuple[int, ...]:
    return (0, *range(2, ndim))


@op
class BatchNorm(Op):
    """(x - mean) / sqrt(var + eps) with given statistics, times weight, plus bias: inference.

    Operands: x, mean and var, or x, weight, bias, mean and var, of one dtype.
    Source: Ioffe and Szegedy 2015; ONNX BatchNormalization-15.
    """

    eps: float = 1e-5
    kind: ClassVar[Kind] = Kind.COMPOSITE

    def infer(self, x: TensorType, *parameters: TensorType) -> TensorType:
        if len(parameters) not in (2, 4):
            raise ShapeError(
                "batch_norm: expected x, mean and var, or x, weight, bias, mean and var; got "
                f"{1 + len(parameters)} operands"
            )
        require_same_dtype("batch_norm", x, *parameters)
        _check("batch_norm", x, *parameters)
        return x

    def eager(self, xp: Any, x: Array, *parameters: Array) -> Array:
        *affine, mean, var = map(widen, parameters)
        with np.errstate(all="ignore"):
            scale = 1 / xp.sqrt(var + var.dtype.type(self.eps))
            if affine:
                scale *= affine[0]
            shift = (affine[1] if affine else 0) - mean * scale
            sides = (-1, *(1,) * (x.ndim - 2))
            y = widen(x) * scale.reshape(sides)
            y += shift.reshape(sides)
        return narrow(y, x.dtype)

    def decompose(self, x: Array, *parameters: Array) -> Array:
        *affine, mean, var = map(widened, parameters)
        scale = inverse_std(var, self.eps)
        if affine:
            scale = scale * affine[0]
        shift = affine[1] - mean * scale if affine else -(mean * scale)
        y = widened(x) * per_channel(scale, x.ndim) + per_channel(shift, x.ndim)
        return f.cast(y, dtype_of(x))

    def vjp(self, g: Array, _y: Array, *inputs: Array) -> tuple[Grad, ...]:
        return derived_vjp(self, (g,), inputs)

    def to_onnx(self, ctx: Export, x: str, *parameters: str) -> Any:
        *affine, mean, var = parameters
        t = ctx.type(x)
        if t.dtype not in signature("BatchNormalization", ctx.opset)[1]:
            return export_formula(ctx, self, x, *parameters)
        names = affine or [ones(ctx, t.dtype, (t.shape[1],), v) for v in (1, 0)]
        return ctx.emit("BatchNormalization", x, *names, mean, var, epsilon=self.eps)


@op
class BatchNormTraining(Op):
    """Normalises each channel by its own mean and biased variance, times weight, plus bias.

    Operands: x, or x, weight and bias. Results: y like x, and mean and variance [C] (float32 for
    narrower x). Source: Ioffe and Szegedy 2015.
    """

    eps: float = 1e-5
    kind: ClassVar[Kind] = Kind.COMPOSITE
    n_outputs: ClassVar[int] = 3

    def infer(self, x: TensorType, *affine: TensorType) -> tuple[TensorType, ...]:
        if len(affine) not in (0, 2):
            raise ShapeError("batch_norm_training: expected x, or x, weight and bias")
        require_same_dtype("batch_norm_training", x, *affine)
        _check("batch_norm_training", x, *affine)
        statistic = TensorType(wide_dtype(x.dtype), (x.shape[1],))
        return x, statistic, statistic

    def eager(self, xp: Any, x: Array, w: Array | None = None, b: Array | None = None) -> Any:
        return kernels.batch_norm_forward(xp, x, w, b, self.eps)[:3]

    def decompose(self, x: Array, *affine: Array) -> tuple[Array, ...]:
        wide, axes = widened(x), _batch_axes(x.ndim)
        mean = f.mean(wide, axes)
        centred = wide - per_channel(mean, x.ndim)
        var = f.mean(centred * centred, axes)
        y = centred * per_channel(inverse_std(var, self.eps), x.ndim)
        if affine:
            w, b = (per_channel(widened(p), x.ndim) for p in affine)
            y = y * w + b
        return f.cast(y, dtype_of(x)), mean, var

    def vjp(
        self, g: tuple[Array, ...], y: tuple[Array, ...], x: Array, *affine: Array
    ) -> tuple[Grad, ...]:
        _, mean, var = y
        found: list[Any] = [None] * (1 + len(affine))
        if g[0] is not None:
            grads = BatchNormGrad(self.eps)(g[0], x, mean, var, *affine[:1])
            found = [*grads[: 1 + len(affine)]]
        if g[1] is not None or g[2] is not None:
            extra = f.cast(_statistics_grad(g, x, mean), dtype_of(x))
            found[0] = extra if found[0] is None else found[0] + extra
        return tuple(found)

    def to_onnx(self, ctx: Export, *inputs: str) -> Any:
        return export_formula(ctx, self, *inputs)


def _statistics_grad(g: tuple[Array, ...], x: Array, mean: Array) -> Array:
    """The gradient of x through the mean and the variance themselves."""
    wide, axes, n = widened(x), _batch_axes(x.ndim), x.ndim
    total = None
    if g[1] is not None:
        total = f.expand(per_channel(g[1] / f.count(wide, axes), n), tuple(x.shape))
    if g[2] is not None:
        slope = per_channel(g[2] * f.like(g[2], 2) / f.count(wide, axes), n)
        through = (wide - per_channel(mean, n)) * slope
        total = through if total is None else total + through
    return total


@op
class BatchNormGrad(Op):
    """Gradients of BatchNormTraining's y, given g of it: of x, of weight and of bias.

    Operands: g, x, the mean and variance of x, and the weight if there is one.
    """

    eps: float
    kind: ClassVar[Kind] = Kind.COMPOSITE
    n_outputs: ClassVar[int] = 3

    def infer(
        self, g: TensorType, x: TensorType, mean: TensorType, var: TensorType, *weight: TensorType
    ) -> tuple[TensorType, ...]:
        require_same_dtype("batch_norm_grad", g, x, *weight)
        _check("batch_norm_grad", x, mean, var, *weight)
        if g.shape != x.shape:
            raise ShapeError(f"batch_norm_grad: expected a gradient {x}, got {g}")
        channels = x.with_shape((x.shape[1],))
        return x, channels, channels

    def eager(
        self, xp: Any, g: Array, x: Array, mean: Array, var: Array, w: Array | None = None
    ) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            invstd = 1 / xp.sqrt(var + var.dtype.type(self.eps))
        found = kernels.batch_norm_backward(xp, g, x, w, mean, invstd)
        return tuple(narrow(v, x.dtype) for v in found)

    def decompose(
        self, g: Array, x: Array, mean: Array, var: Array, *weight: Array
    ) -> tuple[Array, ...]:
        dtype, axes, n = dtype_of(x), _batch_axes(x.ndim), x.ndim
        g, wide = widened(g), widened(x)
        invstd = inverse_std(var, self.eps)
        normal = (wide - per_channel(mean, n)) * per_channel(invstd, n)
        gb, gw = f.sum(g, axes), f.sum(g * normal, axes)
        count = f.count(wide, axes)
        gx = g - per_channel(gb / count, n) - normal * per_channel(gw / count, n)
        scale = invstd * widened(weight[0]) if weight else invstd
        return tuple(f.cast(v, dtype) for v in (gx * per_channel(scale, n), gw, gb))

    def vjp(self, g: tuple[Array, ...], _y: tuple[Array, ...], *inputs: Array) -> tuple[Grad, ...]:
        return derived_vjp(self, g, inputs)

    def to_onnx(self, ctx: Export, *inputs: str) -> Any:
        return export_formula(ctx, self, *inputs)


@from_onnx("BatchNormalization")
def _import_batch_norm(ctx: Import, x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
    eps = ctx.attr("epsilon", 1e-5)
    if not ctx.attr("training_mode", 0):
        # Parameters may be of a wider type than x.
        parameters = [f.cast(p, x.dtype) for p in (scale, bias, mean, var)]
        return BatchNorm(eps)(x, *parameters)
    momentum = ctx.attr("momentum", 0.9)
    y, *current = BatchNormTraining(eps)(x, f.cast(scale, x.dtype), f.cast(bias, x.dtype))
    running = [
        old * f.like(old, momentum) + f.cast(new, old.dtype) * f.like(old, 1 - momentum)
        for old, new in zip((mean, var), current, strict=True)
    ]
    return (y, *running)[: ctx.n_outputs] if ctx.n_outputs > 1 else y
