"""Convolution of any spatial rank and its gradients.

Convolution is linear in x and in w, so three ops are closed under differentiation: the forward map
and its transposes in x (ConvInputGrad) and in w (ConvWeightGrad). For complex operands the vjps
conjugate the other operand.
"""

from __future__ import annotations

from typing import Any

from ..dims import Dim, DimLike, Shape, maximum, product
from ..errors import DTypeError, OnnxError, ShapeError
from ..kernels.conv import conv_forward, conv_input_grad, conv_weight_grad
from ..kernels.sizes import conv_output_size, conv_transpose_output_size
from ..types import TensorType, type_of
from . import f
from .base import Array, Grad, Kind, Op, op, require_same_dtype, shape_text
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit

Pairs = tuple[tuple[DimLike, DimLike], ...]  # padding (before, after) per spatial axis


class Convolution(Op):
    """The attributes that all convolutions share: one entry per spatial axis."""

    __slots__ = ()
    kind = Kind.CONTRACTION
    is_bilinear = True
    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int

    def check(self, rank: int) -> None:
        """Raise ShapeError unless the attributes suit `rank` spatial axes."""
        for what in ("stride", "padding", "dilation"):
            value = getattr(self, what)
            if len(value) != rank:
                raise ShapeError(
                    f"{self.name}: expected {what} for {rank} spatial axes, got {value}"
                )
        if min((*self.stride, *self.dilation, self.groups), default=1) < 1:
            raise ShapeError(
                f"{self.name}: stride, dilation and groups must be positive, got {self.stride}, "
                f"{self.dilation} and {self.groups}"
            )

    def output(self, sizes: Shape, kernel: Shape) -> Shape:
        """The spatial sizes of the forward convolution's output."""
        out = tuple(
            conv_output_size(n, k, s, lo, hi, d)
            for n, k, s, (lo, hi), d in zip(
                sizes, kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        if any(isinstance(p, int) and p < 1 for p in out):
            raise ShapeError(
                f"{self.name}: a kernel of {shape_text(kernel)} (dilation {self.dilation}) is "
                f"larger than the padded input of size {shape_text(sizes)} + {self.padding}"
            )
        return out

    def geometry(self) -> tuple[Any, Any, Any, Any]:
        """stride, padding, dilation and groups, as kernels and sibling ops take them."""
        return self.stride, self.padding, self.dilation, self.groups


def check_operands(name: str, x: TensorType, w: TensorType, b: tuple[TensorType, ...]) -> None:
    """Checks that convolutions and transposed ones share."""
    require_same_dtype(name, x, w, *b)
    if x.dtype.name == "bool":
        raise DTypeError(f"{name}: expected numeric operands, got bool")
    if x.ndim < 3:
        raise ShapeError(
            f"{name}: expected an input [N, C, spatial...] of three axes or more, got "
            f"{shape_text(x.shape)}"
        )
    if w.ndim != x.ndim:
        raise ShapeError(
            f"{name}: expected a weight of {x.ndim} axes for the input {shape_text(x.shape)}, got "
            f"{shape_text(w.shape)}"
        )
    if len(b) > 1:
        raise ShapeError(f"{name}: expected x, weight and at most one bias")


def check_bias(name: str, b: tuple[TensorType, ...], channels: DimLike) -> None:
    """Raise ShapeError unless the bias, if any, has one element per output channel."""
    if b and b[0].shape != (channels,):
        raise ShapeError(f"{name}: expected a bias [{channels}], got {shape_text(b[0].shape)}")


def add_bias(y: Array, b: tuple[Array, ...]) -> Array:
    """`y`, a fresh array, with the bias (if any) added in place."""
    if b:
        y += b[0].reshape(-1, *(1,) * (y.ndim - 2))
    return y


@op
class Conv(Convolution):
    """Cross-correlation of x with w, plus the bias.

    Shapes: x [N, C, *S], w [O, C/groups, *K], bias [O] (may be left out) -> [N, O, *P] with
    P = (S + before + after - dilation (K - 1) - 1) // stride + 1. Negative padding crops.
    Source: ONNX Conv-22.
    """

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int = 1

    def infer(self, x: TensorType, w: TensorType, *b: TensorType) -> TensorType:
        check_operands("conv", x, w, b)
        self.check(x.ndim - 2)
        if x.shape[1] != w.shape[1] * self.groups or indivisible(w.shape[0], self.groups):
            raise ShapeError(
                f"conv: weight {shape_text(w.shape)} with groups={self.groups} expects "
                f"{w.shape[1] * self.groups} input channels and outputs that divide by groups, got "
                f"input {shape_text(x.shape)}"
            )
        check_bias("conv", b, w.shape[0])
        out = self.output(x.shape[2:], w.shape[2:])
        return x.with_shape((x.shape[0], w.shape[0], *out))

    def flops(self, y: TensorType, *inputs: TensorType) -> DimLike:
        return y.size * product(inputs[1].shape[1:]) * 2

    def eager(self, xp: Any, x: Array, w: Array, *b: Array) -> Array:
        if (x.ndim, x.shape[1], x.dtype) != (w.ndim, w.shape[1] * self.groups, w.dtype) or (
            b and b[0].dtype is not w.dtype
        ):
            self.infer(type_of(x), type_of(w), *map(type_of, b))
        y = conv_forward(xp, x, w, *self.geometry())
        if 0 in y.shape[2:]:
            self.infer(type_of(x), type_of(w))
        return add_bias(y, b)

    def vjp(self, g: Array, _y: Array, x: Array, w: Array, *_b: Array) -> tuple[Grad, ...]:
        sizes, kernel = tuple(x.shape[2:]), tuple(w.shape[2:])
        grads: list[Grad] = [
            lambda: ConvInputGrad(*self.geometry(), sizes)(g, f.conj(w)),
            lambda: ConvWeightGrad(*self.geometry(), kernel)(g, f.conj(x)),
        ]
        if _b:
            grads.append(lambda: f.sum(g, (0, *range(2, g.ndim))))
        return tuple(grads)

    def to_onnx(self, ctx: Export, x: str, w: str, *b: str) -> Any:
        t = ctx.type(w)
        x, pads = _crop(ctx, x, t.ndim, self.padding)
        return emit(ctx, t.dtype, "Conv", x, w, *b, **onnx_attributes(self, t.shape[2:], pads))


def indivisible(channels: DimLike, groups: int) -> bool:
    """Whether a known number of channels does not divide by `groups`."""
    return isinstance(channels, int) and channels % groups != 0


@op
class ConvInputGrad(Convolution):
    """The transpose of Conv in x: g [N, O, *P], w [O, C/groups, *K] -> [N, C, *sizes].

    Source: ONNX ConvTranspose-22.
    """

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int
    sizes: Shape

    def infer(self, g: TensorType, w: TensorType) -> TensorType:
        check_operands("conv_input_grad", g, w, ())
        self.check(g.ndim - 2)
        out = self.output(self.sizes, w.shape[2:])
        if g.shape[1:] != (w.shape[0], *out):
            raise ShapeError(
                f"conv_input_grad: expected a gradient [N, {w.shape[0]}, "
                f"{', '.join(map(str, out))}], got {shape_text(g.shape)}"
            )
        return g.with_shape((g.shape[0], w.shape[1] * self.groups, *self.sizes))

    def flops(self, y: TensorType, *inputs: TensorType) -> DimLike:
        return inputs[0].size * product(inputs[1].shape[1:]) * 2

    def eager(self, xp: Any, g: Array, w: Array) -> Array:
        shape = (g.shape[0], w.shape[1] * self.groups, *self.sizes)
        return conv_input_grad(xp, g, w, shape, *self.geometry())

    def vjp(self, g: Array, _y: Array, x: Array, w: Array) -> tuple[Grad, ...]:
        kernel = tuple(w.shape[2:])
        return (
            lambda: Conv(*self.geometry())(g, f.conj(w)),
            lambda: ConvWeightGrad(*self.geometry(), kernel)(f.conj(x), g),
        )

    def to_onnx(self, ctx: Export, g: str, w: str) -> Any:
        kernel, out = ctx.type(w).shape[2:], ctx.type(g).shape[2:]
        extra = _output_padding(self, out, kernel)
        grown = tuple((max(-lo, 0), max(-hi, 0)) for lo, hi in known_padding(self.padding))
        pads = tuple((max(lo, 0), max(hi, 0)) for lo, hi in known_padding(self.padding))
        attributes = onnx_attributes(self, kernel, pads)
        dtype = ctx.type(g).dtype
        y = emit(ctx, dtype, "ConvTranspose", g, w, **attributes, output_padding=extra)
        return _pad_spatial(ctx, y, grown) if any(map(any, grown)) else y


@op
class ConvWeightGrad(Convolution):
    """The transpose of Conv in w: g [N, O, *P], x [N, C, *S] -> [O, C/groups, *kernel]."""

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int
    kernel: tuple[int, ...]

    def infer(self, g: TensorType, x: TensorType) -> TensorType:
        check_operands("conv_weight_grad", g, x, ())
        self.check(x.ndim - 2)
        out = self.output(x.shape[2:], self.kernel)
        if (g.shape[0], *g.shape[2:]) != (x.shape[0], *out) or indivisible(x.shape[1], self.groups):
            raise ShapeError(
                f"conv_weight_grad: expected a gradient [{x.shape[0]}, O, "
                f"{', '.join(map(str, out))}], got {shape_text(g.shape)}"
            )
        return g.with_shape((g.shape[1], x.shape[1] // self.groups, *self.kernel))

    def flops(self, y: TensorType, *inputs: TensorType) -> DimLike:
        return inputs[0].size * product(y.shape[1:]) * 2

    def eager(self, xp: Any, g: Array, x: Array) -> Array:
        shape = (g.shape[1], x.shape[1] // self.groups, *self.kernel)
        return conv_weight_grad(xp, g, x, shape, *self.geometry())

    def vjp(self, g: Array, _y: Array, dy: Array, x: Array) -> tuple[Grad, ...]:
        sizes = tuple(x.shape[2:])
        return (
            lambda: Conv(*self.geometry())(f.conj(x), g),
            lambda: ConvInputGrad(*self.geometry(), sizes)(f.conj(dy), g),
        )

    def to_onnx(self, ctx: Export, g: str, x: str) -> Any:
        # A convolution over x with g as the kernel: the sums run over samples and pixels, so batch
        # and channels change places, and so do stride and dilation.
        (n, _, *out), (_, c, *sizes) = ctx.type(g).shape, ctx.type(x).shape
        dtype = ctx.type(g).dtype
        rank, k = len(out), self.groups
        spatial = tuple(range(3, 3 + rank))
        x = ctx.emit("Reshape", x, ctx.shape((n, k, c // k, *sizes)))
        x = ctx.emit("Transpose", x, perm=(2, 1, 0, *spatial))
        x = ctx.emit("Reshape", x, ctx.shape((c // k, k * n, *sizes)))
        g = ctx.emit("Transpose", g, perm=(1, 0, *range(2, 2 + rank)))
        x, pads = _crop(ctx, x, 2 + rank, self.padding)
        swapped = Conv(self.dilation, self.padding, self.stride, k)
        y = emit(ctx, dtype, "Conv", x, g, **onnx_attributes(swapped, tuple(out), pads))
        y = ctx.emit("Transpose", y, perm=(1, 0, *range(2, 2 + rank)))
        axes = tuple(range(2, 2 + rank))
        zeros = ctx.ints(*(0,) * rank)
        return ctx.emit("Slice", y, zeros, ctx.ints(*self.kernel), ctx.ints(*axes))


# -- export ---------------------------------------------------------------------------------------


def known_padding(pairs: Pairs) -> tuple[tuple[int, int], ...]:
    """Padding whose amounts are plain ints; OnnxError otherwise."""
    if any(isinstance(v, Dim) for pair in pairs for v in pair):
        raise OnnxError(f"convolution: ONNX takes padding of known sizes only, got {pairs}")
    return pairs  # type: ignore[return-value]


def onnx_attributes(
    op: Convolution, kernel: Shape, pads: tuple[tuple[int, int], ...]
) -> dict[str, Any]:
    """The attributes of ONNX Conv and ConvTranspose."""
    if any(isinstance(k, Dim) for k in kernel):
        raise OnnxError(f"convolution: ONNX takes kernels of known sizes only, got {kernel}")
    return {
        "kernel_shape": kernel,
        "strides": op.stride,
        "pads": (*(lo for lo, _ in pads), *(hi for _, hi in pads)),
        "dilations": op.dilation,
        "group": op.groups,
    }


def _crop(
    ctx: Export, x: str, ndim: int, padding: Pairs
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """`x` with what cannot be an ONNX attribute (cropping, symbolic amounts) done beforehand."""
    if all(isinstance(v, int) and v >= 0 for pair in padding for v in pair):
        return x, padding  # type: ignore[return-value]
    return _pad_spatial(ctx, x, padding), ((0, 0),) * (ndim - 2)


def _pad_spatial(ctx: Export, x: str, pairs: Pairs) -> str:
    amounts = (0, 0, *(lo for lo, _ in pairs), 0, 0, *(hi for _, hi in pairs))
    return ctx.emit("Pad", x, ctx.shape(amounts))  # type: ignore[no-any-return]


def _output_padding(op: ConvInputGrad, out: Shape, kernel: Shape) -> tuple[int, ...]:
    """What the forward convolution's rounded division left over, per spatial axis."""
    extra = []
    for size, n, k, s, (lo, hi), d in zip(
        op.sizes, out, kernel, op.stride, op.padding, op.dilation, strict=True
    ):
        left = size - conv_transpose_output_size(n, k, s, lo, hi, d)
        if not isinstance(left, int):
            raise OnnxError(
                f"the input gradient of a convolution with stride {op.stride} over the symbolic "
                f"size {size} has no ONNX form; make that size static"
            )
        extra.append(left)
    return tuple(extra)


# -- import ---------------------------------------------------------------------------------------


def import_padding(
    ctx: Import, sizes: Shape, kernel: Shape, stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Pairs:
    """The padding of a sliding-window operator from `pads` or `auto_pad`."""
    rank = len(sizes)
    mode = ctx.attr("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = ctx.attr("pads", (0,) * (2 * rank))
        return tuple(zip(pads[:rank], pads[rank:], strict=True))
    if mode == "VALID":
        return ((0, 0),) * rank
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise OnnxError(f"unknown auto_pad {mode!r}")
    pairs = []
    for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        # As many windows as ceil(n / stride); an odd element goes to the upper or lower end.
        reach = d * (k - 1) + 1
        total = reach - 1 if s == 1 else maximum((-(-n // s) - 1) * s + reach - n, 0)
        half = total // 2
        pairs.append((half, total - half) if mode == "SAME_UPPER" else (total - half, half))
    return tuple(pairs)


@from_onnx("Conv")
def _import_conv(ctx: Import, x: Any, w: Any, b: Any = None) -> Any:
    rank = x.ndim - 2
    stride = tuple(ctx.attr("strides", (1,) * rank))
    dilation = tuple(ctx.attr("dilations", (1,) * rank))
    padding = import_padding(ctx, x.shape[2:], w.shape[2:], stride, dilation)
    operands = (x, w) if b is None else (x, w, b)
    return Conv(stride, padding, dilation, ctx.attr("group", 1))(*operands)
