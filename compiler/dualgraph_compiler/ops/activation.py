"""Activations that are primitive: their formula, written out, would overflow or lose its edges.

See :mod:`.composite` for those made of others.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..dtypes import FLOAT, INT, float32
from ..kernels import activations
from ..kernels.arrays import narrow, widen
from ..types import type_of
from . import f
from .base import Array, Grad, Onnx, op
from .extremum import in_range, limit
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import Writer, emit
from .pointwise import FloatPointwise, Pointwise, RealPointwise


@op
class Relu(Pointwise):
    """max(x, 0); NaN stays NaN; the gradient at 0 is 0. Source: ONNX Relu-14."""

    categories = (INT, FLOAT)
    onnx = Onnx("Relu", 6)

    def to_onnx(self, ctx: Export, x: str) -> str:
        dtype = ctx.type(x).dtype
        if ctx.opset < 14 and dtype.category == INT:  # Relu takes integers since then
            return emit(ctx, dtype, "Max", x, ctx.constant(0, dtype))
        return Pointwise.to_onnx(self, ctx, x)

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.maximum(x, x.dtype.type(0))

    def eager_into(self, xp: Any, out: Array, x: Array) -> None:
        xp.maximum(x, x.dtype.type(0), out=out)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (f.where(f.less_equal(y, 0), 0, g),)


@op
class Hardtanh(Pointwise):
    """x limited to [min, max]; unlike Clip's, the gradient at the bounds is 0.

    NaN stays NaN. Relu6 is Hardtanh(0, 6). Source: PyTorch hardtanh; ONNX Clip-13.
    """

    min: float = -1.0
    max: float = 1.0
    categories: ClassVar[tuple[int, ...]] = (INT, FLOAT)

    def eager(self, xp: Any, x: Array) -> Array:
        return limit(xp, x, self.min, self.max)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: f.where(self._outside(x), 0, g),)

    def _outside(self, x: Array) -> Array:
        low, high = f.less_equal(x, self.min), f.greater_equal(x, self.max)
        return f.logical_or(low, high)

    def to_onnx(self, ctx: Export, x: str) -> str:
        dtype = ctx.type(x).dtype
        ends = [ctx.constant(in_range(dtype, v), dtype) for v in (self.min, self.max)]
        return emit(ctx, dtype, "Clip", x, *ends)


@op
class LeakyRelu(RealPointwise):
    """x where x > 0, else alpha x. Source: ONNX LeakyRelu-16."""

    alpha: float = 0.01
    onnx: ClassVar[Onnx | None] = Onnx("LeakyRelu", 6)

    def eager(self, xp: Any, x: Array) -> Array:
        return xp.where(x > 0, x, x * x.dtype.type(self.alpha))

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: f.where(f.greater(x, 0), g, g * f.like(g, self.alpha)),)


@op
class Prelu(RealPointwise):
    """x where x > 0, else slope x; the slope broadcasts. Source: ONNX PRelu-16."""

    onnx = Onnx("PRelu", 7)

    def eager(self, xp: Any, x: Array, slope: Array) -> Array:
        if slope.dtype is not x.dtype:
            self.infer(type_of(x), type_of(slope))
        return xp.where(x > 0, x, x * slope)

    def vjp(self, g: Array, _y: Array, x: Array, slope: Array) -> tuple[Grad, ...]:
        positive = f.greater(x, 0)
        return (
            lambda: f.unbroadcast(f.where(positive, g, g * slope), x.shape),
            lambda: f.unbroadcast(f.where(positive, 0, g * x), slope.shape),
        )

    def to_onnx(self, ctx: Export, x: str, slope: str) -> str:
        w = Writer(ctx, ctx.type(x).dtype)
        slopes, shape = ctx.type(slope).shape, ctx.type(x).shape
        grows = len(slopes) > len(shape) or any(
            d != 1 and d != size for d, size in zip(reversed(slopes), reversed(shape))
        )
        if grows:  # ONNX broadcasts the slope alone
            return w("Where", w("Greater", x, w.number(0)), x, w("Mul", x, slope))
        return w("PRelu", x, slope)


@op
class Sigmoid(FloatPointwise):
    """1 / (1 + e**-x). Source: ONNX Sigmoid-13."""

    onnx = Onnx("Sigmoid", 6)

    def eager(self, xp: Any, x: Array) -> Array:
        return activations.sigmoid(xp, x)

    def eager_into(self, xp: Any, out: Array, x: Array) -> None:
        activations.sigmoid(xp, x, out)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        return (lambda: g * f.conj((f.like(y, 1) - y) * y),)


@op
class LogSigmoid(RealPointwise):
    """log(sigmoid(x)), accurate where sigmoid underflows. Source: PyTorch logsigmoid."""

    is_costly = True

    def eager(self, xp: Any, x: Array) -> Array:
        return activations.log_sigmoid(xp, x)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * f.sigmoid(-x),)

    def to_onnx(self, ctx: Export, x: str) -> str:
        w = Writer(ctx, ctx.type(x).dtype)
        return w("Neg", w("Softplus", w("Neg", x)))


@op
class Softplus(RealPointwise):
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold.

    Source: PyTorch softplus; ONNX Softplus-22 (beta 1, no threshold).
    """

    is_costly = True
    beta: float = 1.0
    threshold: float = 20.0

    def eager(self, xp: Any, x: Array) -> Array:
        return activations.softplus(xp, x, self.beta, self.threshold)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * self._slope(x),)

    def _slope(self, x: Array) -> Array:
        scaled = x * f.like(x, self.beta)
        return f.where(f.greater(scaled, self.threshold), 1, f.sigmoid(scaled))

    def to_onnx(self, ctx: Export, x: str) -> str:
        w = Writer(ctx, ctx.type(x).dtype)
        if self.beta == 1.0 and self.threshold >= 20.0:  # beyond, both are x to 2e-9
            return w("Softplus", x)
        scaled = w("Mul", x, w.number(self.beta))
        y = w("Div", w("Softplus", scaled), w.number(self.beta))
        return w("Where", w("Greater", scaled, w.number(self.threshold)), x, y)


@from_onnx("Softplus")
def _import_softplus(ctx: Import, x: Any) -> Any:
    return Softplus()(x)


@op
class Elu(RealPointwise):
    """x where x > 0, else alpha (e**x - 1). Source: ONNX Elu-22."""

    is_costly = True
    alpha: float = 1.0
    onnx: ClassVar[Onnx | None] = Onnx("Elu", 6)

    def eager(self, xp: Any, x: Array) -> Array:
        wide = widen(x)
        low = xp.expm1(xp.minimum(wide, 0)) * wide.dtype.type(self.alpha)
        return narrow(xp.where(wide > 0, wide, low), x.dtype)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * self._slope(x),)

    def _slope(self, x: Array) -> Array:
        # The minimum keeps the branch not taken from overflowing, also in the second derivative.
        positive = f.greater(x, 0)
        low = f.exp(f.where(positive, 0, x)) * f.like(x, self.alpha)
        return f.where(positive, 1, low)


@op
class Celu(RealPointwise):
    """x where x > 0, else alpha (e**(x / alpha) - 1). Source: ONNX Celu-12."""

    is_costly = True
    alpha: float = 1.0

    def eager(self, xp: Any, x: Array) -> Array:
        wide = widen(x)
        alpha = wide.dtype.type(self.alpha)
        low = xp.expm1(xp.minimum(wide, 0) / alpha) * alpha
        return narrow(xp.where(wide > 0, wide, low), x.dtype)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * self._slope(x),)

    def _slope(self, x: Array) -> Array:
        positive = f.greater(x, 0)
        return f.where(positive, 1, f.exp(f.where(positive, 0, x) / f.like(x, self.alpha)))

    def to_onnx(self, ctx: Export, x: str) -> str:
        w = Writer(ctx, ctx.type(x).dtype)
        if w.dtype is float32:
            return w("Celu", x, alpha=self.alpha)
        alpha = w.number(self.alpha)  # ONNX has Celu in float32 only
        return w("Mul", w("Elu", w("Div", x, alpha)), alpha)


@from_onnx("Celu")
def _import_celu(ctx: Import, x: Any) -> Any:
    return Celu(ctx.attr("alpha", 1.0))(x)


@op
class Selu(RealPointwise):
    """gamma times Elu(alpha). Source: ONNX Selu-22; PyTorch's constants to the last bit."""

    is_costly = True
    alpha: float = 1.6732632423543772848170429916717
    gamma: float = 1.0507009873554804934193349852946
    onnx: ClassVar[Onnx | None] = Onnx("Selu", 6)

    def eager(self, xp: Any, x: Array) -> Array:
        wide = widen(x)
        low = xp.expm1(xp.minimum(wide, 0)) * wide.dtype.type(self.alpha)
        return narrow(xp.where(wide > 0, wide, low) * wide.dtype.type(self.gamma), x.dtype)

    def vjp(self, g: Array, _y: Array, x: Array) -> tuple[Grad, ...]:
        return (lambda: g * (Elu(self.alpha)._slope(x) * f.like(x, self.gamma)),)


@op
class HardSigmoid(RealPointwise):
    """alpha x + beta limited to [0, 1]; the gradient at the bounds is 0.

    PyTorch's alpha is 1/6, ONNX's default 0.2. Source: ONNX HardSigmoid-22.
    """

    alpha: float = 1 / 6
    beta: float = 0.5

    onnx: ClassVar[Onnx | None] = Onnx("HardSigmoid", 6)

    def eager(self, xp: Any, x: Array) -> Array:
        wide = widen(x)
        line = wide * wide.dtype.type(self.alpha) + wide.dtype.type(self.beta)
        return narrow(xp.clip(line, 0, 1), x.dtype)

    def vjp(self, g: Array, y: Array, _x: Array) -> tuple[Grad, ...]:
        rising = f.greater(y, 0) & f.less(y, 1)
        return (f.where(rising, g * f.like(g, self.alpha), 0),)


@from_onnx("HardSigmoid")
def _import_hard_sigmoid(ctx: Import, x: Any) -> Any:
    return HardSigmoid(ctx.attr("alpha", 0.2), ctx.attr("beta", 0.5))(x)
