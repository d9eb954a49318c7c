"""Import rules of operators on images and signals that are made of other ops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..dims import Dim, DimLike, product
from ..dtypes import BY_ONNX, DType, float32, float64, int64
from ..errors import OnnxError
from ..graph import Value
from ..ops import f
from ..ops.base import normalize_axes, normalize_axis
from ..ops.creation import Arange, DimValue
from ..ops.norm import widened
from ..ops.onnx_rules import from_onnx
from ..ops.trigonometry import Cos

if TYPE_CHECKING:
    from .importer import Importer


def counted(ctx: Importer, n: DimLike, dtype: DType) -> Value:
    """0, 1, .. below `n`, in `dtype`."""
    if isinstance(n, int):
        return ctx.constant(np.arange(n).astype(dtype.np))
    return f.cast(ctx.graph.call(Arange(0, n, 1, int64), ()), dtype)  # type: ignore[no-any-return]


def number(ctx: Importer, n: DimLike, dtype: DType) -> Value:
    """A size as a 0-d value of `dtype`."""
    if isinstance(n, int):
        return ctx.constant(np.asarray(n, dtype.np))
    return f.cast(ctx.graph.call(DimValue(n), ()), dtype)  # type: ignore[no-any-return]


# -- images --------------------------------------------------------------------------------------


@from_onnx("AffineGrid")
def _affine_grid(ctx: Importer, theta: Value, size: Value) -> Value:
    n, _, *sizes = ctx.sizes(size, "the size of AffineGrid")
    dtype, rank = theta.dtype, len(sizes)
    columns = []
    for axis, d in reversed(list(enumerate(sizes))):  # the last axis is x
        at, length = counted(ctx, d, dtype), number(ctx, d, dtype)
        one, two = f.like(at, 1), f.like(at, 2)
        if ctx.attr("align_corners", 0):
            place = at * two / (length - one) - one
        else:
            place = (at * two + one) / length - one
        place = f.reshape(place, (d, *(1,) * (rank - 1 - axis)))
        columns.append(f.expand(place, tuple(sizes)))
    columns.append(f.full(theta, tuple(sizes), 1))
    places = f.stack(columns, rank)
    count = product(tuple(sizes))
    flat = f.reshape(places, (1, count, rank + 1))
    grid = f.matmul(f.expand(flat, (n, count, rank + 1)), f.transpose(theta))
    return f.reshape(grid, (n, *sizes, rank))  # type: ignore[no-any-return]


@from_onnx("CenterCropPad")
def _center_crop_pad(ctx: Importer, x: Value, shape: Value) -> Value:
    along = [
        normalize_axis("CenterCropPad", a, x.ndim) for a in ctx.attr("axes", tuple(range(x.ndim)))
    ]
    pads: list[tuple[DimLike, DimLike]] = [(0, 0)] * x.ndim
    wanted = ctx.sizes(shape, "the shape of CenterCropPad")
    for axis, target in zip(along, wanted, strict=True):
        difference = target - x.shape[axis]
        if isinstance(difference, Dim):
            difference = ctx.size(difference, "the difference of sizes")
        before = difference // 2 if difference >= 0 else -(-difference // 2)
        pads[axis] = (before, difference - before)
    return f.pad(x, pads)  # type: ignore[no-any-return]


# -- windows over signals -------------------------------------------------------------------------


def _window(*factors: float) -> Any:
    """The rule of a window that is a sum of cosines, with these factors."""

    def rule(ctx: Importer, size: Value) -> Value:
        (n,) = ctx.sizes(size, "the size of a window")
        dtype = BY_ONNX[ctx.attr("output_datatype", float32.onnx)]
        length = n if ctx.attr("periodic", 1) else n - 1
        turns = counted(ctx, n, float64) / number(ctx, length, float64)
        total: Any = None
        for k, factor in enumerate(factors):
            angle = turns * ctx.constant(np.float64(2 * np.pi * k))
            term = Cos()(angle) * ctx.constant(np.float64(factor))
            total = term if total is None else total + term
        return f.cast(total, dtype)  # type: ignore[no-any-return]

    return rule


from_onnx("HannWindow")(_window(0.5, -0.5))
from_onnx("HammingWindow")(_window(25 / 46, -21 / 46))
from_onnx("BlackmanWindow")(_window(0.42, -0.5, 0.08))


@from_onnx("MelWeightMatrix")
def _mel_weights(
    ctx: Importer, bins: Value, length: Value, rate: Value, lower: Value, upper: Value
) -> Value:
    (count,) = ctx.ints(bins, "the number of bins of MelWeightMatrix")
    (n,) = ctx.ints(length, "the length of MelWeightMatrix")
    (sample_rate,) = ctx.ints(rate, "the sample rate of MelWeightMatrix")
    low, high = (
        float(ctx.array(v, "the edges of MelWeightMatrix").reshape(())) for v in (lower, upper)
    )
    dtype = BY_ONNX[ctx.attr("output_datatype", float32.onnx)]
    if min(count, n, sample_rate) < 1:
        raise OnnxError(f"MelWeightMatrix: expected {count}, {n} and {sample_rate} above 0")
    return ctx.constant(mel_weights(count, n, sample_rate, low, high).astype(dtype.np))


def mel_weights(
    bins: int, length: int, sample_rate: int, low: float, high: float
) -> np.ndarray[Any, Any]:
    """Triangles evenly spaced in mel over a transform's frequencies: [length // 2 + 1, bins].

    Each rises from the centre of the one before to its own, and falls to that of the next.
    """
    mel_low, mel_high = (2595 * np.log10(1 + v / 700) for v in (low, high))
    mels = mel_low + np.arange(bins + 2) * (mel_high - mel_low) / (bins + 2)
    hertz = 700 * (10 ** (mels / 2595) - 1)
    at = ((length + 1) * hertz // sample_rate).astype(np.int64)
    first, centre, last = at[:-2], at[1:-1], at[2:]
    i = np.arange(length // 2 + 1)[:, None]
    with np.errstate(all="ignore"):
        rising = np.where(centre > first, (i - first) / (centre - first), 1)
        falling = (last - i) / (last - centre)
    out = np.where((i >= first) & (i <= centre), rising, 0)
    return np.where((i >= centre) & (i < last), np.where(last > centre, falling, out), out)


@from_onnx("MeanVarianceNormalization")
def _mean_variance(ctx: Importer, x: Value) -> Value:
    axes = normalize_axes("MeanVarianceNormalization", ctx.attr("axes", (0, 2, 3)), x.ndim)
    wide = widened(x)
    centred = wide - f.mean(wide, axes, True)
    deviation = f.sqrt(f.mean(centred * centred, axes, True))
    return f.cast(centred / (deviation + f.like(deviation, 1e-9)), x.dtype)  # type: ignore[no-any-return]
