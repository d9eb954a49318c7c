"""Activations made of other ops. They keep their name through export and give `decompose`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from ..errors import ArgumentError
from ..kernels import activations
from ..kernels.arrays import narrow, widen
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Onnx, normalize_axis, op
from .derive import export_formula
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import Writer, emit
from .pointwise import RealPointwise


class Composite(RealPointwise):
    """One real floating-point operand; the result has its type."""

    __slots__ = ()
    kind = Kind.COMPOSITE


@op
class Silu(Composite):
    """x sigmoid(x), also called swish. Source: PyTorch silu; ONNX Swish-24."""

    def eager(self, xp: Any, x: Array) -> Array:
        return activations.silu(xp, x)

    def eager_into(self, xp: Any, out: Array, x: Array) -> None:
        activations.silu(xp, x, out)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * self._slope(x),)

    def _slope(self, x: Array) -> Array:
        s, one = f.sigmoid(x), f.like(x, 1)
        return s * (one + x * (one - s))

    def decompose(self, x: Array) -> Array:
        return x * f.sigmoid(x)

    def to_onnx(self, ctx: Export, x: str) -> str:
        w = Writer(ctx, ctx.type(x).dtype)
        return w("Swish", x) if ctx.opset >= 24 else w("Mul", x, w("Sigmoid", x))


@from_onnx("Swish")
def _import_swish(ctx: Import, x: Any) -> Any:
    alpha = ctx.attr("alpha", 1.0)
    return Silu()(x) if alpha == 1.0 else x * f.sigmoid(x * f.like(x, alpha))


@op
class Gelu(Composite):
    """x Phi(x), Phi the standard normal distribution (Hendrycks and Gimpel 2016).

    `approximate` is "none" (erf) or "tanh". Source: ONNX Gelu-20.
    """

    approximate: str = "none"
    onnx: ClassVar[Onnx | None] = Onnx("Gelu", 20)

    def infer(self, x: TensorType) -> TensorType:
        if self.approximate not in ("none", "tanh"):
            raise ArgumentError(
                f"gelu: expected approximate='none' or 'tanh', got {self.approximate!r}"
            )
        return RealPointwise.infer(self, x)

    def eager(self, xp: Any, x: Array) -> Array:
        kernel = activations.gelu_tanh if self.approximate == "tanh" else activations.gelu
        return kernel(xp, x)

    def eager_into(self, xp: Any, out: Array, x: Array) -> None:
        kernel = activations.gelu_tanh if self.approximate == "tanh" else activations.gelu
        kernel(xp, x, out)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        slope = self._tanh_slope if self.approximate == "tanh" else self._erf_slope
        return (lambda: g * slope(x),)

    def _erf_slope(self, x: Array) -> Array:
        """Phi(x) + x phi(x), with phi the normal density."""
        density = f.exp(x * x * f.like(x, -0.5)) * f.like(x, 1 / math.sqrt(2 * math.pi))
        return self._phi(x) + x * density

    def _tanh_slope(self, x: Array) -> Array:
        k, one, half = math.sqrt(2 / math.pi), f.like(x, 1), f.like(x, 0.5)
        t = self._tanh(x)
        inner = f.like(x, k) + x * x * f.like(x, 3 * 0.044715 * k)
        return half * (one + t) + half * x * (one - t * t) * inner

    def _phi(self, x: Array) -> Array:
        return (f.erf(x * f.like(x, math.sqrt(0.5))) + f.like(x, 1)) * f.like(x, 0.5)

    def _tanh(self, x: Array) -> Array:
        cubic = x + x * x * x * f.like(x, 0.044715)
        return f.tanh(cubic * f.like(x, math.sqrt(2 / math.pi)))

    def decompose(self, x: Array) -> Array:
        if self.approximate == "tanh":
            return x * f.like(x, 0.5) * (self._tanh(x) + f.like(x, 1))
        return x * self._phi(x)

    def to_onnx(self, ctx: Export, x: str) -> str:
        w = Writer(ctx, ctx.type(x).dtype)
        if ctx.opset >= 20:
            return w("Gelu", x, approximate=self.approximate)
        one, half = w.number(1), w("Mul", x, w.number(0.5))
        if self.approximate == "none":
            return w("Mul", half, w("Add", w("Erf", w("Mul", x, w.number(math.sqrt(0.5)))), one))
        cube = w("Mul", w("Mul", x, w("Mul", x, x)), w.number(0.044715))
        inner = w("Mul", w("Add", x, cube), w.number(math.sqrt(2 / math.pi)))
        return w("Mul", half, w("Add", w("Tanh", inner), one))


@op
class Mish(Composite):
    """x tanh(log(1 + e**x)) (Misra 2019). Source: ONNX Mish-22."""

    onnx = Onnx("Mish", 18)

    def eager(self, xp: Any, x: Array) -> Array:
        return activations.mish(xp, x)

    def eager_into(self, xp: Any, out: Array, x: Array) -> None:
        activations.mish(xp, x, out)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * self._slope(x),)

    def _slope(self, x: Array) -> Array:
        t = f.tanh(f.softplus(x))
        return t + x * f.sigmoid(x) * (f.like(x, 1) - t * t)

    def decompose(self, x: Array) -> Array:
        return x * f.tanh(f.softplus(x))

    def to_onnx(self, ctx: Export, x: str) -> str:
        w = Writer(ctx, ctx.type(x).dtype)
        return w("Mish", x) if ctx.opset >= 18 else w("Mul", x, w("Tanh", w("Softplus", x)))


@op
class HardSwish(Composite):
    """x HardSigmoid(x); the gradient is 0 up to -3 and 1 from 3 on. Source: ONNX HardSwish-22."""

    onnx = Onnx("HardSwish", 14)

    def eager(self, xp: Any, x: Array) -> Array:
        wide = widen(x)
        return narrow(wide * xp.clip(wide + 3, 0, 6) / 6, x.dtype)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * self._slope(x),)

    def _slope(self, x: Array) -> Array:
        line = x * f.like(x, 1 / 3) + f.like(x, 0.5)
        return f.where(f.less_equal(x, -3), 0, f.where(f.greater_equal(x, 3), 1, line))

    def decompose(self, x: Array) -> Array:
        return x * f.clip(x + f.like(x, 3), 0, 6) * f.like(x, 1 / 6)

    def to_onnx(self, ctx: Export, x: str) -> Any:
        return export_formula(ctx, self, x) if ctx.opset < 14 else Composite.to_onnx(self, ctx, x)


@op
class Softsign(Composite):
    """x / (1 + |x|). Source: ONNX Softsign-22."""

    onnx = Onnx("Softsign", 1)

    def eager(self, xp: Any, x: Array) -> Array:
        wide = widen(x)
        return narrow(wide / (xp.absolute(wide) + 1), x.dtype)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * self._slope(x),)

    def _slope(self, x: Array) -> Array:
        d = f.abs(x) + f.like(x, 1)
        return f.like(x, 1) / (d * d)

    def decompose(self, x: Array) -> Array:
        return x / (f.abs(x) + f.like(x, 1))


# -- softmax -------------------------------------------------------------------------------------


class AlongAxis(Composite):
    """Normalises along `axis`, which is not negative; a 0-d operand has one element there."""

    __slots__ = ()
    axis: int

    def infer(self, x: TensorType) -> TensorType:
        normalize_axis(self.name, self.axis, x.ndim)
        return RealPointwise.infer(self, x)

    def _axes(self, x: Any) -> tuple[int, ...]:
        return (self.axis,) if x.ndim else ()

    def _shifted(self, x: Array) -> Array:
        if x.ndim and x.shape[self.axis] == 0:
            return x
        return x - f.max(x, self._axes(x), True)

    def to_onnx(self, ctx: Export, x: str) -> str:
        assert self.onnx is not None
        t = ctx.type(x)
        if t.ndim:
            return emit(ctx, t.dtype, self.onnx.name, x, axis=self.axis)
        row = emit(ctx, t.dtype, self.onnx.name, ctx.emit("Unsqueeze", x, ctx.ints(0)), axis=0)
        return ctx.emit("Squeeze", row, ctx.ints(0))  # type: ignore[no-any-return]


@op
class Softmax(AlongAxis):
    """exp(x) / sum(exp(x)) along `axis`. Source: ONNX Softmax-13."""

    axis: int
    onnx: ClassVar[Onnx | None] = Onnx("Softmax", 13)

    def eager(self, xp: Any, x: Array) -> Array:
        if not x.ndim:
            return activations.softmax(xp, x.reshape(1), 0).reshape(())
        return activations.softmax(xp, x, self.axis)

    def eager_into(self, xp: Any, out: Array, x: Array) -> None:
        if out.size and out.ndim and out.dtype.char in "fd" and out.flags.c_contiguous:
            activations.softmax(xp, x, self.axis, out)
        else:
            xp.copyto(out, self.eager(xp, x))

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        gy = g * y
        return (gy - y * f.sum(gy, self._axes(gy), True),)

    def decompose(self, x: Array) -> Array:
        e = f.exp(self._shifted(x))
        return e / f.sum(e, self._axes(x), True)


@op
class LogSoftmax(AlongAxis):
    """log(softmax(x)) along `axis`, accurate where softmax underflows.

    Source: ONNX LogSoftmax-13.
    """

    axis: int
    onnx: ClassVar[Onnx | None] = Onnx("LogSoftmax", 13)

    def eager(self, xp: Any, x: Array) -> Array:
        if not x.ndim:
            return activations.log_softmax(xp, x.reshape(1), 0).reshape(())
        return activations.log_softmax(xp, x, self.axis)

    def eager_into(self, xp: Any, out: Array, x: Array) -> None:
        if out.size and out.ndim and out.dtype.char in "fd" and out.flags.c_contiguous:
            activations.log_softmax(xp, x, self.axis, out)
        else:
            xp.copyto(out, self.eager(xp, x))

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (lambda: g - f.exp(y) * f.sum(g, self._axes(g), True),)

    def decompose(self, x: Array) -> Array:
        s = self._shifted(x)
        return s - f.log(f.sum(f.exp(s), self._axes(x), True))


@from_onnx("Softmax")
def _import_softmax(ctx: Import, x: Any) -> Any:
    return Softmax(normalize_axis("Softmax", ctx.attr("axis", -1), x.ndim))(x)


@from_onnx("LogSoftmax")
def _import_log_softmax(ctx: Import, x: Any) -> Any:
    return LogSoftmax(normalize_axis("LogSoftmax", ctx.attr("axis", -1), x.ndim))(x)


# -- ONNX activations without a PyTorch function of their own ------------------------------------


@from_onnx("ThresholdedRelu")
def _import_thresholded_relu(ctx: Import, x: Any) -> Any:
    return f.where(f.greater(x, ctx.attr("alpha", 1.0)), x, 0)


@from_onnx("Shrink")
def _import_shrink(ctx: Import, x: Any) -> Any:
    limit, bias = ctx.attr("lambd", 0.5), ctx.attr("bias", 0.0)
    above = f.where(f.greater(x, limit), x - f.like(x, bias), 0)
    return f.where(f.less(x, -limit), x + f.like(x, bias), above)
