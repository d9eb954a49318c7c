"""Layer, group and root-mean-square normalisation, and the fused gradients of the first two.

Statistics are computed in float32 for narrower dtypes. Weight and bias share x's dtype and may be
left out: an op takes them by the number of its operands.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..dims import Dim, Shape, differ
from ..dtypes import BY_ONNX, DType, bfloat16, dtype_of, float16, float32
from ..errors import DTypeError, ShapeError
from ..kernels import norm as kernels
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Op, op, require_same_dtype, shape_text
from .derive import derived_vjp, export_formula
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit


def check_float(name: str, *inputs: TensorType) -> None:
    """Raise DTypeError unless all operands are of one real floating-point dtype."""
    dtype = require_same_dtype(name, *inputs)
    if not dtype.is_floating_point:
        raise DTypeError(f"{name}: expected floating-point operands, got {dtype.name}")


def wide_dtype(dtype: DType) -> DType:
    """The dtype that statistics of `dtype` are computed in."""
    return float32 if dtype in (float16, bfloat16) else dtype


def widened(x: Array) -> Array:
    """`x` in the dtype of its statistics."""
    return f.cast(x, wide_dtype(dtype_of(x)))


def inverse_std(var: Array, eps: float) -> Array:
    """1 / sqrt(var + eps)."""
    return f.like(var, 1) / f.sqrt(var + f.like(var, eps))


def standardized(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """`x` with mean 0 and variance 1 over `axes`, and the factor that scaled it."""
    centred = x - f.mean(x, axes, True)
    scale = inverse_std(f.mean(centred * centred, axes, True), eps)
    return centred * scale, scale


class _Trailing(Op):
    """Normalises over the last `dims` axes; weight and bias have their shape."""

    __slots__ = ()
    kind = Kind.COMPOSITE
    dims: int
    eps: float

    def check(self, x: TensorType, *parameters: TensorType) -> None:
        """Raise unless the operands suit each other."""
        check_float(self.name, x, *parameters)
        if not 1 <= self.dims <= x.ndim:
            raise ShapeError(
                f"{self.name}: cannot normalise the last {self.dims} axes of {shape_text(x.shape)}"
            )
        tail = x.shape[x.ndim - self.dims :]
        for p in parameters:
            if p.shape != tail:
                raise ShapeError(
                    f"{self.name}: expected a weight and bias of shape {shape_text(tail)} for the "
                    f"input {shape_text(x.shape)}, got {shape_text(p.shape)}"
                )

    def axes(self, ndim: int) -> tuple[int, ...]:
        """The axes normalised over."""
        return tuple(range(ndim - self.dims, ndim))


@op
class LayerNorm(_Trailing):
    """(x - mean) / sqrt(var + eps) over the last `dims` axes, times weight, plus bias.

    Operands: x, x and weight, or x, weight and bias. Source: Ba et al. 2016; ONNX
    LayerNormalization-17.
    """

    dims: int
    eps: float = 1e-5

    def infer(self, x: TensorType, *parameters: TensorType) -> TensorType:
        self.check(x, *parameters)
        return x

    def eager(self, xp: Any, x: Array, w: Array | None = None, b: Array | None = None) -> Array:
        return kernels.layer_norm_forward(xp, x, self.dims, w, b, self.eps)[0]

    def eager_into(
        self, xp: Any, out: Array, x: Array, w: Array | None = None, b: Array | None = None
    ) -> None:
        if out.flags.c_contiguous:
            kernels.layer_norm_forward(xp, x, self.dims, w, b, self.eps, out)
        else:
            xp.copyto(out, self.eager(xp, x, w, b))

    def decompose(self, x: Array, *parameters: Array) -> Array:
        y, _ = standardized(widened(x), self.axes(x.ndim), self.eps)
        if parameters:
            y = y * widened(parameters[0])
        if len(parameters) > 1:
            y = y + widened(parameters[1])
        return f.cast(y, dtype_of(x))

    def vjp(self, g: Array, _y: Array, x: Array, *parameters: Array) -> tuple[Grad, ...]:
        grads = LayerNormGrad(self.dims, self.eps)(g, x, *parameters[:1])
        return tuple(grads[: 1 + len(parameters)])

    def to_onnx(self, ctx: Export, x: str, *parameters: str) -> Any:
        t = ctx.type(x)
        if ctx.opset < 17:
            return export_formula(ctx, self, x, *parameters)
        scale = parameters[0] if parameters else ones(ctx, t.dtype, t.shape[t.ndim - self.dims :])
        bias = parameters[1:]
        attributes: dict[str, Any] = {"axis": -self.dims, "epsilon": self.eps}
        return emit(ctx, t.dtype, "LayerNormalization", x, scale, *bias, **attributes)


def ones(ctx: Export, dtype: DType, shape: Shape, value: float = 1) -> str:
    """The name of a constant of a known shape."""
    if any(isinstance(d, Dim) for d in shape):
        return ctx.emit("Expand", ctx.constant(value, dtype), ctx.shape(shape))  # type: ignore[no-any-return]
    return ctx.constant(np.full(tuple(map(int, shape)), value), dtype)


@op
class LayerNormGrad(_Trailing):
    """Gradients of LayerNorm, given g of its result: of x, of weight and of bias.

    Operands: g, x, and the weight if there is one. The last two results have the weight's shape.
    """

    dims: int
    eps: float
    n_outputs: ClassVar[int] = 3

    def infer(self, g: TensorType, x: TensorType, *weight: TensorType) -> tuple[TensorType, ...]:
        self.check(x, *weight)
        check_float(self.name, g, x)
        if g.shape != x.shape:
            raise ShapeError(f"layer_norm_grad: expected a gradient {x}, got {g}")
        tail = x.with_shape(x.shape[x.ndim - self.dims :])
        return x, tail, tail

    def eager(self, xp: Any, g: Array, x: Array, w: Array | None = None) -> tuple[Array, ...]:
        axes = self.axes(x.ndim)
        wide = widen(x)
        with np.errstate(all="ignore"):
            mean = wide.mean(axes, keepdims=True)
            centred = wide - mean
            var = (centred * centred).mean(axes, keepdims=True)
            invstd = 1 / xp.sqrt(var + var.dtype.type(self.eps))
        gx, gw, gb = kernels.layer_norm_backward(xp, g, x, self.dims, w, mean, invstd)
        return gx, narrow(gw, x.dtype), narrow(gb, x.dtype)

    def decompose(self, g: Array, x: Array, *weight: Array) -> tuple[Array, ...]:
        dtype, axes = dtype_of(x), self.axes(x.ndim)
        g, (normal, scale) = widened(g), standardized(widened(x), axes, self.eps)
        lead = tuple(range(x.ndim - self.dims))
        weighted = g * widened(weight[0]) if weight else g
        gx = weighted - f.mean(weighted, axes, True)
        gx = (gx - normal * f.mean(weighted * normal, axes, True)) * scale
        found = gx, f.sum(g * normal, lead), f.sum(g, lead)
        return tuple(f.cast(v, dtype) for v in found)

    def vjp(self, g: tuple[Array, ...], _y: tuple[Array, ...], *inputs: Array) -> tuple[Grad, ...]:
        return derived_vjp(self, g, inputs)

    def to_onnx(self, ctx: Export, *inputs: str) -> Any:
        return export_formula(ctx, self, *inputs)


@op
class RmsNorm(_Trailing):
    """x / sqrt(mean(x^2) + eps) over the last `dims` axes, times weight if given.

    Operands: x, or x and weight. Source: Zhang and Sennrich 2019; ONNX RMSNormalization-23.
    """

    dims: int
    eps: float

    def infer(self, x: TensorType, *weight: TensorType) -> TensorType:
        self.check(x, *weight)
        return x

    def eager(self, xp: Any, x: Array, *weight: Array) -> Array:
        wide = widen(x)
        with np.errstate(all="ignore"):
            power = (wide * wide).mean(self.axes(x.ndim), keepdims=True)
            y = wide / xp.sqrt(power + power.dtype.type(self.eps))
            if weight:
                y *= widen(weight[0])
        return narrow(y, x.dtype)

    def decompose(self, x: Array, *weight: Array) -> Array:
        wide = widened(x)
        y = wide * inverse_std(f.mean(wide * wide, self.axes(x.ndim), True), self.eps)
        return f.cast(y * widened(weight[0]) if weight else y, dtype_of(x))

    def vjp(self, g: Array, _y: Array, *inputs: Array) -> tuple[Grad, ...]:
        return derived_vjp(self, (g,), inputs)

    def to_onnx(self, ctx: Export, x: str, *weight: str) -> Any:
        if ctx.opset < 23:
            return export_formula(ctx, self, x, *weight)
        t = ctx.type(x)
        scale = weight[0] if weight else ones(ctx, t.dtype, t.shape[t.ndim - self.dims :])
        return ctx.emit("RMSNormalization", x, scale, axis=-self.dims, epsilon=self.eps)


class _Grouped(Op):
    """Normalises groups of channels of each sample of x [N, C, *S]; weight and bias are [C]."""

    __slots__ = ()
    kind = Kind.COMPOSITE
    groups: int
    eps: float

    def check(self, x: TensorType, *parameters: TensorType) -> None:
        """Raise unless the operands suit each other."""
        check_float(self.name, x, *parameters)
        if x.ndim < 2:
            raise ShapeError(
                f"{self.name}: expected an input [N, C, ...], got {shape_text(x.shape)}"
            )
        channels = x.shape[1]
        groups = self.groups
        if (isinstance(groups, int) and groups < 1) or differ(channels % groups, 0):
            raise ShapeError(
                f"{self.name}: expected a number of channels that divides by {self.groups} groups, "
                f"got {shape_text(x.shape)}"
            )
        for p in parameters:
            if p.shape != (channels,):
                raise ShapeError(
                    f"{self.name}: expected a weight and bias [{channels}], got "
                    f"{shape_text(p.shape)}"
                )

    def grouped(self, x: Array) -> Array:
        """X as [N, groups, C/groups, *S]."""
        n, c, *sizes = x.shape
        return f.reshape(x, (n, self.groups, c // self.groups, *sizes))


def per_channel(p: Array, ndim: int) -> Array:
    """A [C] parameter that broadcasts against [N, C, *S] of `ndim` axes."""
    return f.reshape(p, (p.shape[0], *(1,) * (ndim - 2)))


@op
class GroupNorm(_Grouped):
    """(x - mean) / sqrt(var + eps) over groups of channels, times weight, plus bias.

    Operands: x, or x, weight and bias. With groups == C this is instance normalisation.
    Source: Wu and He 2018; ONNX GroupNormalization-21, InstanceNormalization-22.
    """

    groups: int
    eps: float = 1e-5

    def infer(self, x: TensorType, *parameters: TensorType) -> TensorType:
        self.check(x, *parameters)
        return x

    def eager(self, xp: Any, x: Array, w: Array | None = None, b: Array | None = None) -> Array:
        return kernels.group_norm_forward(xp, x, self.groups, w, b, self.eps)[0]

    def decompose(self, x: Array, *parameters: Array) -> Array:
        wide = self.grouped(widened(x))
        y, _ = standardized(wide, tuple(range(2, wide.ndim)), self.eps)
        y = f.reshape(y, tuple(x.shape))
        if parameters:
            w, b = (per_channel(widened(p), x.ndim) for p in parameters)
            y = y * w + b
        return f.cast(y, dtype_of(x))

    def vjp(self, g: Array, _y: Array, x: Array, *parameters: Array) -> tuple[Grad, ...]:
        grads = GroupNormGrad(self.groups, self.eps)(g, x, *parameters[:1])
        return tuple(grads[: 1 + len(parameters)])

    def to_onnx(self, ctx: Export, x: str, *parameters: str) -> Any:
        t = ctx.type(x)
        names = parameters or tuple(ones(ctx, t.dtype, (t.shape[1],), v) for v in (1, 0))
        if t.shape[1] == self.groups and t.ndim > 2:
            return emit(ctx, t.dtype, "InstanceNormalization", x, *names, epsilon=self.eps)
        if ctx.opset < 21 or t.ndim < 3:
            return export_formula(ctx, self, x, *parameters)
        attributes: dict[str, Any] = {"num_groups": self.groups, "epsilon": self.eps}
        return emit(ctx, t.dtype, "GroupNormalization", x, *names, **attributes)


@op
class GroupNormGrad(_Grouped):
    """Gradients of GroupNorm, given g of its result: of x, of weight and of bias.

    Operands: g, x, and the weight if there is one.
    """

    groups: int
    eps: float
    n_outputs: ClassVar[int] = 3

    def infer(self, g: TensorType, x: TensorType, *weight: TensorType) -> tuple[TensorType, ...]:
        self.check(x, *weight)
        check_float(self.name, g, x)
        if g.shape != x.shape:
            raise ShapeError(f"group_norm_grad: expected a gradient {x}, got {g}")
        channels = x.with_shape((x.shape[1],))
        return x, channels, channels

    def eager(self, xp: Any, g: Array, x: Array, w: Array | None = None) -> tuple[Array, ...]:
        n = x.shape[0]
        rows = widen(x).reshape(n, self.groups, x.size // max(1, n * self.groups))
        with np.errstate(all="ignore"):
            mean = rows.mean(2) if rows.size else xp.zeros(rows.shape[:2], rows.dtype)
            centred = rows - mean[..., None]
            var = (centred * centred).sum(2) / max(1, rows.shape[2])
            invstd = 1 / xp.sqrt(var + var.dtype.type(self.eps))
        found = kernels.group_norm_backward(xp, g, x, self.groups, w, mean, invstd)
        return tuple(narrow(v, x.dtype) for v in found)

    def decompose(self, g: Array, x: Array, *weight: Array) -> tuple[Array, ...]:
        dtype, ndim = dtype_of(x), x.ndim
        wide = self.grouped(widened(x))
        axes = tuple(range(2, wide.ndim))
        normal, scale = standardized(wide, axes, self.eps)
        g = widened(g)
        flat = f.reshape(normal, tuple(x.shape))
        weighted = g * per_channel(widened(weight[0]), ndim) if weight else g
        weighted = self.grouped(weighted)
        gx = weighted - f.mean(weighted, axes, True)
        gx = (gx - normal * f.mean(weighted * normal, axes, True)) * scale
        others = (0, *range(2, ndim))
        found = f.reshape(gx, tuple(x.shape)), f.sum(g * flat, others), f.sum(g, others)
        return tuple(f.cast(v, dtype) for v in found)

    def vjp(self, g: tuple[Array, ...], _y: tuple[Array, ...], *inputs: Array) -> tuple[Grad, ...]:
        return derived_vjp(self, g, inputs)

    def to_onnx(self, ctx: Export, *inputs: str) -> Any:
        return export_formula(ctx, self, *inputs)


# -- import ---------------------------------------------------------------------------------------


def _trailing(ctx: Import, x: Any) -> int:
    axis = ctx.attr("axis", -1)
    return int(-axis if axis < 0 else x.ndim - axis)


def _fits(p: Any, shape: Shape) -> Any:
    """A parameter broadcast to the shape normalised over, as ONNX allows."""
    lead = p.ndim - len(shape)
    if lead > 0 and all(d == 1 for d in p.shape[:lead]):
        p = f.reshape(p, p.shape[lead:])
    return f.expand(p, shape)


@from_onnx("LayerNormalization")
def _import_layer_norm(ctx: Import, x: Any, scale: Any, bias: Any = None) -> Any:
    dims, eps = _trailing(ctx, x), ctx.attr("epsilon", 1e-5)
    tail = x.shape[x.ndim - dims :]
    parameters = [_fits(p, tail) for p in (scale, bias) if p is not None]
    y = LayerNorm(dims, eps)(x, *parameters)
    if ctx.n_outputs == 1:
        return y
    axes = tuple(range(x.ndim - dims, x.ndim))
    wide = f.cast(x, BY_ONNX[ctx.attr("stash_type", 1)])
    mean = f.mean(wide, axes, True)
    centred = wide - mean
    return y, mean, inverse_std(f.mean(centred * centred, axes, True), eps)


@from_onnx("RMSNormalization")
def _import_rms_norm(ctx: Import, x: Any, scale: Any) -> Any:
    dims = _trailing(ctx, x)
    weight = _fits(scale, x.shape[x.ndim - dims :])
    return RmsNorm(dims, ctx.attr("epsilon", 1e-5))(x, weight)


@from_onnx("GroupNormalization")
def _import_group_norm(ctx: Import, x: Any, scale: Any, bias: Any) -> Any:
    groups, channels = ctx.attr("num_groups"), x.shape[1]
    if scale.shape == bias.shape == (groups,) and channels != groups:  # before opset 21
        shape = (groups, channels // groups)
        scale, bias = (
            f.reshape(f.expand(f.reshape(p, (groups, 1)), shape), (channels,))
            for p in (scale, bias)
        )
    return GroupNorm(groups, ctx.attr("epsilon", 1e-5))(x, scale, bias)


@from_onnx("InstanceNormalization")
def _import_instance_norm(ctx: Import, x: Any, scale: Any, bias: Any) -> Any:
    channels = ctx.size(x.shape[1], "the number of channels of InstanceNormalization")
    return GroupNorm(channels, ctx.attr("epsilon", 1e-5))(x, scale, bias)
