"""Import rules of operators over sliding windows that are made of other ops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..dims import product
from ..dtypes import int64
from ..errors import OnnxError, ShapeError
from ..graph import Value
from ..ops import f
from ..ops.avg_pool import AvgPool, window_sums
from ..ops.base import normalize_axis
from ..ops.creation import Arange
from ..ops.indexing import IndexSelectGrad, Scatter
from ..ops.onnx_rules import from_onnx
from ..ops.pointwise import Pow
from ..ops.pool import import_windows
from ..ops.sorting import ArgMax

if TYPE_CHECKING:
    from .importer import Importer


def _power(x: Value, exponent: float) -> Value:
    """`x`, which is not negative, to a power."""
    if exponent == 1:
        return x
    if exponent == 2:
        return x * x
    if exponent == 0.5:
        return f.sqrt(x)  # type: ignore[no-any-return]
    return Pow()(x, f.like(x, exponent))  # type: ignore[no-any-return]


# -- norms ---------------------------------------------------------------------------------------


@from_onnx("LpPool")
def _lp_pool(ctx: Importer, x: Value) -> Value:
    p = float(ctx.attr("p", 2))
    kernel, stride, padding, dilation = import_windows(ctx, x)
    ceil = bool(ctx.attr("ceil_mode", 0))
    total = window_sums(_power(f.abs(x), p), kernel, stride, padding, dilation, ceil)
    return _power(total, 1 / p)


@from_onnx("GlobalLpPool")
def _global_lp_pool(ctx: Importer, x: Value) -> Value:
    p = float(ctx.attr("p", 2))
    return _power(f.sum(_power(f.abs(x), p), range(2, x.ndim), True), 1 / p)


@from_onnx("LpNormalization")
def _lp_normalization(ctx: Importer, x: Value) -> Value:
    p = ctx.attr("p", 2)
    if p not in (1, 2):
        raise OnnxError(f"LpNormalization: expected p = 1 or p = 2, got {p}")
    axis = normalize_axis("LpNormalization", ctx.attr("axis", -1), x.ndim)
    norm = _power(f.sum(_power(f.abs(x), p), (axis,), True), 1 / p)
    # Zeros stay what they are.
    return x / f.where(f.equal(norm, 0), 1, norm)  # type: ignore[no-any-return]


@from_onnx("LRN")
def _lrn(ctx: Importer, x: Value) -> Value:
    size = ctx.attr("size")
    before = (size - 1) // 2
    n, c, *sizes = x.shape
    if any(d == 0 for d in x.shape):
        return x
    # The channels as rows of one image, so that a window is over channels.
    rows = f.reshape(x * x, (n, 1, c, product(tuple(sizes))))
    pads = ((before, size - 1 - before), (0, 0))
    power = f.reshape(AvgPool((size, 1), (1, 1), pads, divisor=size)(rows), x.shape)
    base = power * f.like(x, ctx.attr("alpha", 1e-4)) + f.like(x, ctx.attr("bias", 1.0))
    return x / _power(base, ctx.attr("beta", 0.75))


# -- what undoes windows --------------------------------------------------------------------------


@from_onnx("Col2Im")
def _col2im(ctx: Importer, x: Value, image_shape: Value, block_shape: Value) -> Value:
    image = ctx.ints(image_shape, "the image shape of Col2Im")
    block = ctx.ints(block_shape, "the block shape of Col2Im")
    rank = len(image)
    strides = ctx.attr("strides", (1,) * rank)
    dilations = ctx.attr("dilations", (1,) * rank)
    pads = ctx.attr("pads", (0,) * (2 * rank))
    padded = [n + a + b for n, a, b in zip(image, pads[:rank], pads[rank:], strict=True)]
    flat = np.zeros((1,) * (2 * rank), np.int64)
    for axis, (n, k, s, d) in enumerate(zip(padded, block, strides, dilations, strict=True)):
        count = (n - d * (k - 1) - 1) // s + 1
        at = np.add.outer(np.arange(k) * d, np.arange(max(count, 0)) * s)
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = at.shape
        flat = flat * n + at.reshape(shape)
    batch, rows, length = x.shape
    taps = int(np.prod(block))
    if rows % taps != 0 or length != flat.size // max(taps, 1):
        raise ShapeError(
            f"Col2Im: {x.type} does not hold blocks of {block} for an image {image}: expected "
            f"[N, C * {taps}, {flat.size // max(taps, 1)}]"
        )
    columns = f.reshape(x, (batch, rows // taps, flat.size))
    y = IndexSelectGrad(2, int(np.prod(padded)))(columns, ctx.constant(flat.reshape(-1)))
    y = f.reshape(y, (batch, rows // taps, *padded))
    crop = [(-a, -b) for a, b in zip(pads[:rank], pads[rank:], strict=True)]
    return f.pad(y, [(0, 0), (0, 0), *crop])  # type: ignore[no-any-return]


@from_onnx("MaxUnpool")
def _max_unpool(
    ctx: Importer, x: Value, indices: Value, output_shape: Value | None = None
) -> Value:
    kernel = ctx.attr("kernel_shape")
    rank = len(kernel)
    strides = ctx.attr("strides", (1,) * rank)
    pads = ctx.attr("pads", (0,) * (2 * rank))
    sizes = [
        (n - 1) * s + k - lo - hi
        for n, s, k, lo, hi in zip(
            x.shape[2:], strides, kernel, pads[:rank], pads[rank:], strict=True
        )
    ]
    shape = (*x.shape[:2], *sizes)
    zeros = f.zeros(x, (product(shape),))
    at = f.reshape(f.cast(indices, int64), (x.size,))
    y = f.reshape(Scatter(0)(zeros, at, f.reshape(x, (x.size,))), shape)
    if output_shape is None:
        return y  # type: ignore[no-any-return]
    # Indices count in the smallest input that pools to x; what is missing to the wanted one is 0.
    wanted = ctx.sizes(output_shape, "the output shape of MaxUnpool")
    return f.pad(y, [(0, w - d) for w, d in zip(wanted, shape, strict=True)])  # type: ignore[no-any-return]


# -- others ---------------------------------------------------------------------------------------


@from_onnx("Hardmax")
def _hardmax(ctx: Importer, x: Value) -> Value:
    return hardmax(ctx, x, normalize_axis("Hardmax", ctx.attr("axis", -1), x.ndim))


def hardmax(ctx: Importer, x: Value, axis: int) -> Value:
    """1 at the first of the largest elements along an axis, 0 elsewhere."""
    if any(d == 0 for d in x.shape):
        return x
    numbers = ctx.graph.call(Arange(0, x.shape[axis], 1, int64), ())
    numbers = f.reshape(numbers, (x.shape[axis], *(1,) * (x.ndim - 1 - axis)))
    hit = f.equal(f.expand(numbers, x.shape), f.expand(ArgMax(axis, True)(x), x.shape))
    return f.cast(hit, x.dtype)  # type: ignore[no-any-return]


def _blocksize(ctx: Importer) -> int:
    b = ctx.attr("blocksize")
    if not isinstance(b, int) or b < 1:
        raise OnnxError(f"expected a blocksize of 1 or more, got {b}")
    return b


@from_onnx("DepthToSpace")
def _depth_to_space(ctx: Importer, x: Value) -> Value:
    b = _blocksize(ctx)
    n, c, h, w = x.shape
    if ctx.attr("mode", "DCR") == "DCR":
        y = f.permute(f.reshape(x, (n, b, b, c // (b * b), h, w)), (0, 3, 4, 1, 5, 2))
    else:
        y = f.permute(f.reshape(x, (n, c // (b * b), b, b, h, w)), (0, 1, 4, 2, 5, 3))
    return f.reshape(y, (n, c // (b * b), h * b, w * b))  # type: ignore[no-any-return]


@from_onnx("SpaceToDepth")
def _space_to_depth(ctx: Importer, x: Value) -> Value:
    b = _blocksize(ctx)
    n, c, h, w = x.shape
    order = (0, 3, 5, 1, 2, 4) if ctx.attr("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    y = f.permute(f.reshape(x, (n, c, h // b, b, w // b, b)), order)
    return f.reshape(y, (n, c * b * b, h // b, w // b))  # type: ignore[no-any-return]
