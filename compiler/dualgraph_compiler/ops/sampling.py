"""Reading images between their elements: grid sampling, and convolution at shifted places.

Both are made of gathers and arithmetic, which differentiate by the image and by the places.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as combinations
from typing import Any

from ..dims import DimLike, product
from ..dtypes import DType, bfloat16, dtype_of, int64
from ..errors import ArgumentError, DTypeError, ShapeError
from ..kernels.sizes import conv_output_size
from ..types import TensorType
from . import f
from .base import Array, Grad, Kind, Op, op, require_same_dtype, shape_text
from .conv import Pairs, import_padding, known_padding
from .cumulative import Cumsum
from .derive import derived_vjp, export_formula
from .extremum import Maximum, Minimum
from .indexing import Gather
from .norm import wide_dtype
from .onnx_rules import Export, Import, from_onnx
from .quotient import Remainder
from .unary import Floor, Round

_CUBIC = -0.75  # the coefficient of Keys' kernel

# A place along one axis that is read: its index (int64, safe to use), its weight (None for 1) and
# where it lies within the axis (None where it does anyway).
_Tap = tuple[Array, Array | None, Array | None]


def size_of(x: Array, axis: int, dtype: DType) -> Array:
    """A size of x as a 0-d operand of `dtype` beside it."""
    if dtype_of(x) not in (dtype, int64) and not isinstance(x.shape[axis], int):
        x = f.cast(x, dtype)  # which holds the number
    return f.cast(f.count(x, (axis,)), dtype)


def _within(i: Array, last: Array) -> Array:
    return f.greater_equal(i, 0) & f.less_equal(i, last)


def _clamped(i: Array, last: Array) -> Array:
    return Minimum()(Maximum()(i, f.like(i, 0)), last)


def _reflected(i: Array, low: Array, high: Array) -> Array:
    """`i` mirrored at `low` and `high` until it is between them."""
    span = high - low
    # One element alone mirrors onto itself, but nothing may be divided by its span.
    period = Maximum()(span + span, f.like(i, 1e-30))
    t = Remainder()(i - low, period)
    return low + f.where(f.greater(t, span), period - t, t)


def cubic_weights(t: Array) -> list[Array]:
    """Weights of the elements at -1, 0, 1 and 2 for a place at `t` in [0, 1) (Keys 1981)."""
    a = _CUBIC

    def number(v: float) -> Array:
        return f.like(t, v)

    def near(s: Array) -> Array:
        return (number(a + 2) * s - number(a + 3)) * s * s + number(1)

    def far(s: Array) -> Array:
        return ((number(a) * s - number(5 * a)) * s + number(8 * a)) * s - number(4 * a)

    rest = number(1) - t
    return [far(t + number(1)), near(t), near(rest), far(rest + number(1))]


def _gathered(x: Array, taps: Sequence[_Tap], strides: Sequence[Array | None]) -> Array:
    """X [N, C, S], its axes flattened, at one tap of each: [N, C, P]. What lies outside is 0."""
    at: Any = None
    inside: Any = None
    for (index, _, within), stride in zip(taps, strides, strict=True):
        step = index if stride is None else index * stride
        at = step if at is None else at + step
        if within is not None:
            inside = within if inside is None else inside & within
    n, p = at.shape
    shape = (n, x.shape[1], p)
    found = Gather(2)(x, f.expand(f.reshape(at, (n, 1, p)), shape))
    if inside is None:
        return found
    return f.where(f.expand(f.reshape(inside, (n, 1, p)), shape), found, 0)


def interpolated(x: Array, axes: Sequence[Sequence[_Tap]]) -> Array:
    """The sum over all combinations of taps of x [N, C, *S]: [N, C, P].

    `axes` has the taps of each axis, whose arrays are [N, P].
    """
    rank = len(axes)
    strides: list[Array | None] = [None]
    for axis in range(rank + 1, 2, -1):
        size = size_of(x, axis, int64)
        strides.insert(0, size if strides[0] is None else size * strides[0])
    flat = f.reshape(x, (*x.shape[:2], product(tuple(x.shape[2:]))))
    total: Any = None
    for taps in combinations(*axes):
        value = _gathered(flat, taps, strides)
        weight: Any = None
        for _, w, _ in taps:
            if w is not None:
                weight = w if weight is None else weight * w
        if weight is not None:
            value = value * f.reshape(weight, (weight.shape[0], 1, weight.shape[1]))
        total = value if total is None else total + value
    return total


def linear_taps(at: Array, last: Array) -> list[_Tap]:
    """The two elements around each place; those outside count as 0."""
    base = Floor()(at)
    t = at - base
    taps: list[_Tap] = []
    for i, weight in ((base, f.like(at, 1) - t), (base + f.like(at, 1), t)):
        within = _within(i, last)
        taps.append((f.cast(f.where(within, i, 0), int64), weight, within))
    return taps


@op
class GridSample(Op):
    """x read at the places that `grid` states, -1 and 1 being the edges of the image.

    Shapes: x [N, C, *S], grid [N, *P, len(S)] with the last axis of S first -> [N, C, *P] in x's
    dtype. `mode` is "linear", "nearest" (halves to even) or "cubic"; `padding` says what lies
    outside: "zeros", "border" (the nearest element) or "reflection". Edges are the outer corners of
    the outermost elements, or their centres with `align_corners`.
    Source: ONNX GridSample-22, torch grid_sample.
    """

    mode: str = "linear"
    padding: str = "zeros"
    align_corners: bool = False
    kind = Kind.COMPOSITE

    def infer(self, x: TensorType, grid: TensorType) -> TensorType:
        if self.mode not in ("linear", "nearest", "cubic"):
            raise ArgumentError(f"grid_sample: unknown mode {self.mode!r}")
        if self.padding not in ("zeros", "border", "reflection"):
            raise ArgumentError(f"grid_sample: unknown padding {self.padding!r}")
        if not grid.dtype.is_floating_point:
            raise DTypeError(f"grid_sample: expected a floating-point grid, got {grid.dtype.name}")
        if self.mode != "nearest" and not x.dtype.is_floating_point:
            raise DTypeError(f"grid_sample: mode {self.mode!r} takes floats, got {x.dtype.name}")
        rank = x.ndim - 2
        if rank < 1 or grid.ndim != x.ndim or grid.shape[-1] != rank or grid.shape[0] != x.shape[0]:
            raise ShapeError(
                "grid_sample: expected [N, C, spatial...] and a grid [N, spatial..., rank], got "
                f"{shape_text(x.shape)} and {shape_text(grid.shape)}"
            )
        if any(d == 0 for d in x.shape[2:]):
            raise ShapeError(f"grid_sample: expected sizes above 0, got {shape_text(x.shape)}")
        return x.with_shape((*x.shape[:2], *grid.shape[1:-1]))

    def eager(self, xp: Any, x: Array, grid: Array) -> Array:
        return self.decompose(x, grid)

    def decompose(self, x: Array, grid: Array) -> Array:
        rank, dtype = x.ndim - 2, dtype_of(x)
        n, *out = grid.shape[:-1]
        places = f.reshape(grid, (n, product(tuple(out)), rank))
        coordinates = wide_dtype(dtype_of(grid))
        value_type = dtype if self.mode == "nearest" else wide_dtype(dtype)
        axes = []
        for axis in range(rank):
            at = f.cast(f.select(places, 2, rank - 1 - axis), coordinates)
            taps = self._taps(at, size_of(x, axis + 2, coordinates))
            axes.append([(i, w if w is None else f.cast(w, value_type), m) for i, w, m in taps])
        y = interpolated(f.cast(x, value_type), axes)
        return f.cast(f.reshape(y, (n, x.shape[1], *out)), dtype)

    def _taps(self, at: Array, size: Array) -> list[_Tap]:
        """What is read along an axis of `size` for normalised places `at`."""
        one, half = f.like(at, 1), f.like(at, 0.5)
        last = size - one
        if self.align_corners:
            x, low, high = (at + one) * half * last, f.like(at, 0), last
        else:
            x, low, high = ((at + one) * size - one) * half, f.like(at, -0.5), size - half
        if self.mode == "nearest":
            x = Round()(x)
        if self.mode != "cubic":  # of which only the elements that it reads are moved
            outside = f.logical_or(f.less(x, low), f.greater(x, high))
            if self.padding == "border":
                x = f.where(outside, _clamped(x, last), x)
            elif self.padding == "reflection":
                x = f.where(outside, _reflected(x, low, high), x)
        if self.mode == "nearest":
            return [self._tap(x, None, low, high, last)]
        base = Floor()(x)
        t = x - base
        if self.mode == "linear":
            weights, first = [one - t, t], 0
        else:
            weights, first = cubic_weights(t), -1
        return [
            self._tap(base + f.like(at, first + k), w, low, high, last)
            for k, w in enumerate(weights)
        ]

    def _tap(self, i: Array, weight: Array | None, low: Array, high: Array, last: Array) -> _Tap:
        if self.padding == "border":
            i = _clamped(i, last)
        elif self.padding == "reflection":
            i = _clamped(f.where(_within(i, last), i, Floor()(_reflected(i, low, high))), last)
        within = _within(i, last)  # which NaN is not
        index = f.cast(f.where(within, i, 0), int64)
        return index, weight, within

    def vjp(self, g: Array, _y: Array, x: Array, grid: Array) -> tuple[Grad, ...]:
        return derived_vjp(self, (g,), (x, grid))

    def to_onnx(self, ctx: Export, x: str, grid: str) -> Any:
        rank = ctx.type(x).ndim - 2
        dtype = ctx.type(x).dtype
        if ctx.opset < 16 or (ctx.opset < 20 and rank != 2) or dtype is bfloat16:
            return export_formula(ctx, self, x, grid)
        old = {"linear": "bilinear", "cubic": "bicubic"} if ctx.opset < 20 else {}
        attributes: dict[str, Any] = {
            "mode": old.get(self.mode, self.mode),
            "padding_mode": self.padding,
            "align_corners": int(self.align_corners),
        }
        grid = grid if ctx.type(grid).dtype is dtype else ctx.emit("Cast", grid, to=dtype)
        return ctx.emit("GridSample", x, grid, **attributes)


@from_onnx("GridSample")
def _import_grid_sample(ctx: Import, x: Any, grid: Any) -> Any:
    mode = ctx.attr("mode", "linear")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    padding = ctx.attr("padding_mode", "zeros")
    return GridSample(mode, padding, bool(ctx.attr("align_corners", 0)))(x, grid)


# -- deformable convolution -----------------------------------------------------------------------


@op
class DeformConv(Op):
    """Convolution whose taps are moved, each by an offset of its own at each place.

    Operands: x [N, C, H, W], w [O, C/groups, KH, KW], offset [N, 2 G KH KW, *P] (of y, then of x,
    for each of `offset_groups` G groups of channels and each tap), and a mask [N, G KH KW, *P] that
    values are multiplied by (may be left out) -> [N, O, *P]. Between elements x is interpolated
    linearly; outside it is 0. Source: Dai et al. 2017, Zhu et al. 2018; ONNX DeformConv-22.
    """

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int = 1
    offset_groups: int = 1
    kind = Kind.COMPOSITE

    def infer(
        self, x: TensorType, w: TensorType, offset: TensorType, *mask: TensorType
    ) -> TensorType:
        dtype = require_same_dtype("deform_conv", x, w, offset, *mask)
        if not dtype.is_floating_point:
            raise DTypeError(f"deform_conv: expected floating-point operands, got {dtype.name}")
        if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1] * self.groups:
            raise ShapeError(
                f"deform_conv: expected [N, C, H, W] and [O, C/groups, KH, KW], got "
                f"{shape_text(x.shape)} and {shape_text(w.shape)} with groups={self.groups}"
            )
        out: list[DimLike] = [
            conv_output_size(n, k, s, lo, hi, d)
            for n, k, s, (lo, hi), d in zip(
                x.shape[2:], w.shape[2:], self.stride, self.padding, self.dilation, strict=True
            )
        ]
        taps = self.offset_groups * w.shape[2] * w.shape[3]
        for t, channels in ((offset, 2 * taps), *((m, taps) for m in mask)):
            if t.shape != (x.shape[0], channels, *out):
                raise ShapeError(
                    f"deform_conv: expected an offset or mask "
                    f"{shape_text((x.shape[0], channels, *out))}, got {shape_text(t.shape)}"
                )
        return x.with_shape((x.shape[0], w.shape[0], *out))

    def eager(self, xp: Any, x: Array, w: Array, offset: Array, *mask: Array) -> Array:
        return self.decompose(x, w, offset, *mask)

    def decompose(self, x: Array, w: Array, offset: Array, *mask: Array) -> Array:
        dtype = dtype_of(x)
        x, w, offset = (f.cast(v, wide_dtype(dtype)) for v in (x, w, offset))
        n, c, h, width = x.shape
        o, _, kh, kw = w.shape
        g, taps = self.offset_groups, kh * kw
        oh, ow = offset.shape[2:]
        padding = known_padding(self.padding)
        places = f.reshape(offset, (n * g, kh, kw, 2, oh, ow))
        axes = []
        for axis, (out, k) in enumerate(((oh, kh), (ow, kw))):
            start = _steps(x, k, self.dilation[axis], -padding[axis][0])
            along = _steps(x, out, self.stride[axis], 0)
            spread = (k, 1, 1, 1) if axis == 0 else (k, 1, 1)
            base = f.reshape(start, spread) + f.reshape(along, (out, 1) if axis == 0 else (out,))
            at = f.select(places, 3, axis) + base
            last = size_of(x, axis + 2, dtype_of(x)) - f.like(x, 1)
            axes.append(linear_taps(f.reshape(at, (n * g, taps * oh * ow)), last))
        columns = interpolated(f.reshape(x, (n * g, c // g, h, width)), axes)
        if mask:
            m = f.reshape(f.cast(mask[0], dtype_of(x)), (n * g, 1, taps * oh * ow))
            columns = columns * m
        inside = (c // self.groups) * taps
        columns = f.reshape(columns, (n, self.groups, inside, oh * ow))
        y = f.matmul(f.reshape(w, (self.groups, o // self.groups, inside)), columns)
        return f.cast(f.reshape(y, (n, o, oh, ow)), dtype)

    def vjp(self, g: Array, _y: Array, *inputs: Array) -> tuple[Grad, ...]:
        return derived_vjp(self, (g,), inputs)

    def to_onnx(self, ctx: Export, x: str, w: str, offset: str, *mask: str) -> Any:
        if ctx.opset < 19:
            return export_formula(ctx, self, x, w, offset, *mask)
        pads = known_padding(self.padding)
        attributes: dict[str, Any] = {
            "strides": self.stride,
            "pads": (*(lo for lo, _ in pads), *(hi for _, hi in pads)),
            "dilations": self.dilation,
            "group": self.groups,
            "offset_group": self.offset_groups,
        }
        return ctx.emit("DeformConv", x, w, offset, *(("", *mask) if mask else ()), **attributes)


def _steps(x: Array, count: DimLike, step: int, start: int) -> Array:
    """``start, start + step, ...`` beside `x`: [count]."""
    first = f.full(x, (count,), 1)
    return Cumsum(0, True)(first * f.like(x, step)) + f.like(x, start)


@from_onnx("DeformConv")
def _import_deform_conv(
    ctx: Import, x: Any, w: Any, offset: Any, b: Any = None, mask: Any = None
) -> Any:
    stride, dilation = tuple(ctx.attr("strides", (1, 1))), tuple(ctx.attr("dilations", (1, 1)))
    padding = import_padding(ctx, x.shape[2:], w.shape[2:], stride, dilation)
    groups, offset_groups = ctx.attr("group", 1), ctx.attr("offset_group", 1)
    op = DeformConv(stride, padding, dilation, groups, offset_groups)
    y = op(x, w, offset) if mask is None else op(x, w, offset, mask)
    return y if b is None else y + f.reshape(b, (w.shape[0], 1, 1))
