"""Transposed convolution: the gradient of :mod:`.conv` as an operation of its own."""

from __future__ import annotations

from typing import Any

from ..dims import Shape
from ..errors import ShapeError
from ..kernels.conv import conv_input_grad
from ..kernels.sizes import conv_transpose_output_size
from ..types import TensorType, type_of
from . import f
from .base import Array, Grad, op, shape_text
from .conv import (
    Conv,
    Convolution,
    ConvWeightGrad,
    Pairs,
    add_bias,
    check_bias,
    check_operands,
    import_padding,
    indivisible,
    known_padding,
    onnx_attributes,
)
from .onnx_rules import Export, Import, from_onnx
from .onnx_types import emit


@op
class ConvTranspose(Convolution):
    """Transposed convolution, plus the bias.

    Shapes: x [N, C, *S], w [C, O/groups, *K], bias [O] (may be left out) -> [N, O, *P] with
    P = (S - 1) stride - before - after + dilation (K - 1) + 1 + output_padding.
    Source: ONNX ConvTranspose-22.
    """

    stride: tuple[int, ...]
    padding: Pairs
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def result(self, sizes: Shape, kernel: Shape) -> Shape:
        """The spatial sizes of the output."""
        return tuple(
            conv_transpose_output_size(n, k, s, lo, hi, d, extra)
            for n, k, s, (lo, hi), d, extra in zip(
                sizes,
                kernel,
                self.stride,
                self.padding,
                self.dilation,
                self.output_padding,
                strict=True,
            )
        )

    def forward(self) -> Conv:
        """The convolution of which this is the transpose, with exactly fitting sizes."""
        pairs = tuple(
            (lo, hi - extra)
            for (lo, hi), extra in zip(self.padding, self.output_padding, strict=True)
        )
        return Conv(self.stride, pairs, self.dilation, self.groups)

    def infer(self, x: TensorType, w: TensorType, *b: TensorType) -> TensorType:
        check_operands("conv_transpose", x, w, b)
        self.check(x.ndim - 2)
        if len(self.output_padding) != x.ndim - 2:
            raise ShapeError(
                f"conv_transpose: expected output_padding for {x.ndim - 2} spatial axes, got "
                f"{self.output_padding}"
            )
        for extra, s, d in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if not 0 <= extra < max(s, d):
                raise ShapeError(
                    "conv_transpose: output padding must be smaller than either stride or "
                    f"dilation, got {self.output_padding}"
                )
        if x.shape[1] != w.shape[0] or indivisible(w.shape[0], self.groups):
            raise ShapeError(
                f"conv_transpose: weight {shape_text(w.shape)} with groups={self.groups} expects "
                f"{w.shape[0]} input channels that divide by groups, got {shape_text(x.shape)}"
            )
        channels = w.shape[1] * self.groups
        check_bias("conv_transpose", b, channels)
        out = self.result(x.shape[2:], w.shape[2:])
        if any(isinstance(p, int) and p < 0 for p in out):
            raise ShapeError(
                f"conv_transpose: input {shape_text(x.shape)} is too small for padding "
                f"{self.padding}: the output would be {shape_text(out)}"
            )
        return x.with_shape((x.shape[0], channels, *out))

    def eager(self, xp: Any, x: Array, w: Array, *b: Array) -> Array:
        if (x.ndim, x.shape[1], x.dtype) != (w.ndim, w.shape[0], w.dtype):
            self.infer(type_of(x), type_of(w))
        out = self.result(x.shape[2:], w.shape[2:])
        shape = (x.shape[0], w.shape[1] * self.groups, *out)
        return add_bias(conv_input_grad(xp, x, w, shape, *self.forward().geometry()), b)

    def vjp(self, g: Array, _y: Array, x: Array, w: Array, *_b: Array) -> tuple[Grad, ...]:
        forward, kernel = self.forward(), tuple(w.shape[2:])
        grads: list[Grad] = [
            lambda: forward(g, f.conj(w)),
            lambda: ConvWeightGrad(*forward.geometry(), kernel)(f.conj(x), g),
        ]
        if _b:
            grads.append(lambda: f.sum(g, (0, *range(2, g.ndim))))
        return tuple(grads)

    def to_onnx(self, ctx: Export, x: str, w: str, *b: str) -> Any:
        pads, extras = [], []
        for (lo, hi), extra, s in zip(
            known_padding(self.padding), self.output_padding, self.stride, strict=True
        ):
            # ONNX Runtime wants output padding below the stride: crop less instead.
            moved = min(hi, extra) if extra >= s else 0
            pads.append((lo, hi - moved))
            extras.append(extra - moved)
        attributes = onnx_attributes(self, ctx.type(w).shape[2:], tuple(pads))
        attributes["output_padding"] = extras
        return emit(ctx, ctx.type(x).dtype, "ConvTranspose", x, w, *b, **attributes)


@from_onnx("ConvTranspose")
def _import_conv_transpose(ctx: Import, x: Any, w: Any, b: Any = None) -> Any:
    rank = x.ndim - 2
    stride = tuple(ctx.attr("strides", (1,) * rank))
    dilation = tuple(ctx.attr("dilations", (1,) * rank))
    extra = tuple(ctx.attr("output_padding", (0,) * rank))
    mode = ctx.attr("auto_pad", "NOTSET")
    wanted = ctx.attr("output_shape")
    if wanted is None and mode.startswith("SAME"):
        wanted = tuple(n * s for n, s in zip(x.shape[2:], stride, strict=True))
    if wanted is None:
        padding = import_padding(ctx, x.shape[2:], w.shape[2:], stride, dilation)
    else:
        pairs = []
        for n, k, s, d, e, p in zip(
            x.shape[2:], w.shape[2:], stride, dilation, extra, wanted[-rank:], strict=True
        ):
            total = conv_transpose_output_size(n, k, s, 0, 0, d, e) - p
            half = total // 2
            pairs.append((half, total - half) if mode == "SAME_UPPER" else (total - half, half))
        padding = tuple(pairs)
    operands = (x, w) if b is None else (x, w, b)
    return ConvTranspose(stride, padding, extra, dilation, ctx.attr("group", 1))(*operands)
