"""Grid sampling and deformable convolution."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from dualgraph_compiler.errors import ArgumentError, DTypeError
from dualgraph_compiler.ops.sampling import DeformConv, GridSample

from . import OpSamples, Refused, Sample, bfloat16, rand, strided, t


def mirrored(i: float, low: float, high: float) -> float:
    while i < low or i > high:
        if low == high:
            return low
        i = 2 * low - i if i < low else 2 * high - i
    return i


def pixel(image: Any, at: Any, op: Any) -> Any:
    """The element of `image` at whole coordinates that may lie outside."""
    found = []
    for i, n in zip(at, image.shape, strict=True):
        if op.padding == "border":
            i = min(max(i, 0), n - 1)
        elif op.padding == "reflection":
            i = int(mirrored(i, 0, n - 1) if op.align_corners else mirrored(i, -0.5, n - 0.5))
            i = min(max(i, 0), n - 1)
        elif not 0 <= i < n:
            return 0
        found.append(int(i))
    return image[tuple(found)]


def weights(mode: str, x: float) -> dict[int, float]:
    base = int(np.floor(x))
    d = x - base
    if mode == "nearest":
        return {base: 1.0}
    if mode == "linear":
        return {base: 1 - d, base + 1: d}
    a = -0.75
    found = {}
    for k in range(-1, 3):
        s = abs(d - k)
        near = (a + 2) * s**3 - (a + 3) * s**2 + 1
        found[base + k] = near if s <= 1 else a * s**3 - 5 * a * s**2 + 8 * a * s - 4 * a
    return found


def grid_sample(op: Any, x: Any, grid: Any) -> Any:
    n, c, *sizes = x.shape
    out = np.zeros((n, c, *grid.shape[1:-1]), x.dtype)
    for index in np.ndindex(n, *grid.shape[1:-1]):
        axes = []
        for size, place in zip(sizes, grid[index][::-1], strict=True):
            if op.align_corners:
                low, high, p = 0.0, size - 1.0, (place + 1) / 2 * (size - 1)
            else:
                low, high, p = -0.5, size - 0.5, ((place + 1) * size - 1) / 2
            p = float(np.rint(p)) if op.mode == "nearest" else p
            if op.mode != "cubic" and not low <= p <= high:
                if op.padding == "border":
                    p = min(max(p, 0), size - 1)
                elif op.padding == "reflection":
                    p = mirrored(p, low, high)
            axes.append(weights(op.mode, p))
        for at in itertools.product(*axes):
            w = np.prod([axis[i] for axis, i in zip(axes, at, strict=True)])
            for channel in range(c):
                value = pixel(x[index[0], channel], at, op)
                out[(index[0], channel, *index[1:])] += value * (1 if op.mode == "nearest" else w)
    return out


F64 = np.dtype(np.float64)
IMAGE, PLACES = rand(2, 3, 4, 5, dtype=F64), rand(2, 3, 2, 2, dtype=F64, low=-1.3, high=1.3)


def _every() -> list[Sample]:
    samples = []
    for mode, padding, corners in itertools.product(
        ("linear", "nearest", "cubic"), ("zeros", "border", "reflection"), (False, True)
    ):
        op = GridSample(mode, padding, corners)
        smooth = mode != "nearest"
        samples.append(Sample(op, (IMAGE, PLACES), grad=smooth, second_order=False, runtime=THEIRS))
        flat = IMAGE.astype(np.float32), PLACES.astype(np.float32)
        samples.append(Sample(op, flat, tol=1e-4))
    return samples


THEIRS = "ONNX Runtime samples float32 only"
NO_VOLUME = "ONNX Runtime has no cubic volumes"

VOLUMES = (("linear", "reflection"), ("nearest", "zeros"), ("cubic", "border"))
ONE_ROW = GridSample(padding="reflection", align_corners=True)

GRID_SAMPLE = OpSamples(
    GridSample,
    grid_sample,
    [
        *_every(),
        Sample(GridSample(), (IMAGE[:1], PLACES[:1]), grad=True, runtime=THEIRS),
        *(
            Sample(
                GridSample(mode, padding),
                (rand(1, 2, 3, 4, 2), rand(1, 2, 2, 3, 3)),
                "a volume",
                tol=1e-4,
                runtime=NO_VOLUME if mode == "cubic" else True,
            )
            for mode, padding in (
                ("linear", "reflection"),
                ("nearest", "zeros"),
                ("cubic", "border"),
            )
        ),
        Sample(GridSample(), (rand(1, 2, 5), rand(1, 3, 1)), "one axis", runtime="4-d or 5-d only"),
        Sample(ONE_ROW, (rand(1, 1, 1, 3), rand(1, 2, 2, 2))),
        Sample(GridSample(), (rand(1, 2, 3, 3), rand(1, 0, 2, 2)), "no places"),
        Sample(GridSample(), (strided(rand(2, 2, 4, 4)), strided(rand(2, 2, 2, 2))), "strided"),
        Sample(
            GridSample("nearest"),
            (rand(1, 2, 3, 3, dtype=np.int32, high=9), rand(1, 2, 2, 2)),
            "integers",
            onnx="the grid of ONNX is of the image's type or a float",
        ),
        *(
            Sample(
                GridSample(),
                (rand(1, 2, 3, 3, dtype=d), rand(1, 2, 2, 2, dtype=d, low=-0.75, high=0.75)),
                tol=0.1,
                runtime=THEIRS,
            )
            for d in (np.float16, bfloat16)
        ),
    ],
    [
        Refused(GridSample("area"), (t("f32[1,1,2,2]"), t("f32[1,2,2,2]")), ArgumentError, "mode"),
        Refused(
            GridSample(padding="wrap"),
            (t("f32[1,1,2,2]"), t("f32[1,2,2,2]")),
            ArgumentError,
            "padding",
        ),
        Refused(GridSample(), (t("f32[1,1,2,2]"), t("f32[1,2,2,3]")), match="grid"),
        Refused(GridSample(), (t("f32[1,1,0,2]"), t("f32[1,2,2,2]")), match="above 0"),
        Refused(GridSample(), (t("f32[1,1,2,2]"), t("i64[1,2,2,2]")), DTypeError, "grid"),
        Refused(GridSample(), (t("i64[1,1,2,2]"), t("f32[1,2,2,2]")), DTypeError, "floats"),
    ],
)


def deform_conv(op: Any, x: Any, w: Any, offset: Any, mask: Any = None) -> Any:
    n, c = x.shape[:2]
    o, inner, kh, kw = w.shape
    oh, ow = offset.shape[2:]
    g = op.offset_groups
    offset = offset.reshape(n, g, kh, kw, 2, oh, ow)
    mask = np.ones((n, g, kh, kw, oh, ow)) if mask is None else mask.reshape(n, g, kh, kw, oh, ow)
    outside = GridSample()
    y = np.zeros((n, o, oh, ow))
    for b, m, i, p, q, j, k in np.ndindex(n, o, inner, kh, kw, oh, ow):
        channel = m // (o // op.groups) * inner + i
        group = channel // (c // g)
        dy, dx = offset[b, group, p, q, :, j, k]
        at_y = j * op.stride[0] - op.padding[0][0] + p * op.dilation[0] + dy
        at_x = k * op.stride[1] - op.padding[1][0] + q * op.dilation[1] + dx
        value = sum(
            wy * wx * pixel(x[b, channel], (iy, ix), outside)
            for iy, wy in weights("linear", at_y).items()
            for ix, wx in weights("linear", at_x).items()
        )
        y[b, m, j, k] += w[m, i, p, q] * value * mask[b, group, p, q, j, k]
    return y


SIMPLE = DeformConv((1, 1), ((0, 0), (0, 0)), (1, 1))
RICH = DeformConv((2, 1), ((1, 1), (0, 1)), (1, 2), 2, 2)

DEFORM_CONV = OpSamples(
    DeformConv,
    deform_conv,
    [
        Sample(
            SIMPLE,
            (rand(1, 1, 3, 3, dtype=F64), rand(1, 1, 2, 2, dtype=F64), rand(1, 8, 2, 2, dtype=F64)),
            grad=True,
            second_order=False,
            runtime="ONNX Runtime's kernel takes float32 only",
        ),
        Sample(
            RICH,
            (rand(2, 4, 5, 5), rand(6, 2, 3, 2), rand(2, 24, 3, 4), rand(2, 12, 3, 4)),
            "groups, a mask, strides, padding and dilation",
            tol=1e-4,
        ),
        Sample(SIMPLE, (strided(rand(1, 2, 4, 4)), rand(3, 2, 3, 3), rand(1, 18, 2, 2)), tol=1e-4),
        Sample(SIMPLE, (rand(0, 2, 3, 3), rand(3, 2, 2, 2), rand(0, 8, 2, 2)), "no images"),
        Sample(
            SIMPLE,
            tuple(rand(*s, dtype=np.float16) for s in ((1, 1, 3, 3), (1, 1, 2, 2), (1, 8, 2, 2))),
            tol=2e-2,
            runtime="ONNX Runtime's kernel takes float32 only",
        ),
    ],
    [
        Refused(SIMPLE, (t("f32[1,1,3,3]"), t("f32[1,1,2,2]"), t("f32[1,4,2,2]")), match="offset"),
        Refused(SIMPLE, (t("f32[1,2,3,3]"), t("f32[1,1,2,2]"), t("f32[1,8,2,2]")), match="groups"),
        Refused(
            SIMPLE, (t("i64[1,1,3,3]"), t("i64[1,1,2,2]"), t("i64[1,8,2,2]")), DTypeError, "float"
        ),
    ],
)

SAMPLES = [GRID_SAMPLE, DEFORM_CONV]
