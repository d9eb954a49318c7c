"""Fourier transforms, pooling over regions."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError, IndexOutOfRange
from dualgraph_compiler.ops.fourier import Dft, InverseRealDft, RealDft
from dualgraph_compiler.ops.pairs import ViewAsComplex, ViewAsReal
from dualgraph_compiler.ops.random import FreshSeed
from dualgraph_compiler.ops.roi import MaxRoiPool, RoiAlign, RoiAlignGrad, RoiAlignMax

from . import OpSamples, Refused, Sample, bfloat16, rand, strided, t

F64 = np.dtype(np.float64)


def dft(op: Any, x: Any) -> Any:
    """The sum that defines it."""
    z = np.moveaxis(x[..., 0] + 1j * x[..., 1], op.axis, -1)
    n = z.shape[-1]
    sign = 2j if op.inverse else -2j
    y = z @ np.exp(sign * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
    y = np.moveaxis(y / n if op.inverse else y, -1, op.axis)
    return np.stack([y.real, y.imag], -1)


DFT = OpSamples(
    Dft,
    dft,
    [
        Sample(Dft(1), (rand(2, 5, 2, dtype=F64),), grad=True),
        Sample(Dft(0, True), (rand(4, 3, 2, dtype=F64),), grad=True),
        Sample(Dft(1), (rand(2, 12, 2),), tol=1e-4),
        Sample(Dft(0, True), (strided(rand(6, 2)),), tol=1e-4),
        Sample(Dft(1), (rand(0, 3, 2),), "nothing"),
        Sample(Dft(0), (rand(1, 2),), "length 1"),
        *(
            Sample(Dft(0), (rand(4, 2, dtype=d),), tol=5e-2, runtime="ONNX Runtime has no such DFT")
            for d in (np.float16, bfloat16)
        ),
    ],
    [
        Refused(Dft(0), (t("f32[3, 3]"),), match="pairs"),
        Refused(Dft(1), (t("f32[3, 2]"),), IndexOutOfRange, "axis"),
        Refused(Dft(0), (t("f32[0, 2]"),), match="above 0"),
        Refused(Dft(0), (t("i64[3, 2]"),), DTypeError, "float"),
    ],
)


def real_dft(op: Any, x: Any) -> Any:
    n = x.shape[op.axis]
    whole = dft(Dft(op.axis), np.stack([x, 0 * x], -1))
    return np.take(whole, range(n // 2 + 1), op.axis)


REAL_DFT = OpSamples(
    RealDft,
    real_dft,
    [
        Sample(RealDft(1), (rand(2, 5, dtype=F64),), grad=True),
        Sample(RealDft(0), (rand(4, 3, dtype=F64),), grad=True),
        Sample(RealDft(1), (rand(2, 12, 2),), tol=1e-4),
        Sample(RealDft(0), (strided(rand(6, 2)),), tol=1e-4),
        Sample(RealDft(1), (rand(0, 3),), "nothing"),
        Sample(RealDft(0), (rand(1),), "length 1"),
        *(
            Sample(
                RealDft(0), (rand(4, dtype=d),), tol=5e-2, runtime="ONNX Runtime has no such DFT"
            )
            for d in (np.float16, bfloat16)
        ),
    ],
    [
        Refused(RealDft(2), (t("f32[3, 3]"),), IndexOutOfRange, "axis"),
        Refused(RealDft(0), (t("f32[0, 2]"),), match="above 0"),
        Refused(RealDft(0), (t("i64[3]"),), DTypeError, "float"),
    ],
)


def inverse_real_dft(op: Any, x: Any) -> Any:
    """The inverse transform of the half given and its mirror image."""
    n = op.n
    y = np.moveaxis(x[..., 0] + 1j * x[..., 1], op.axis, -1)
    y[..., 0] = y[..., 0].real
    if n % 2 == 0:
        y[..., -1] = y[..., -1].real
    y = np.concatenate([y, y[..., 1 : (n + 1) // 2][..., ::-1].conj()], -1)
    y = y @ np.exp(2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / n
    return np.moveaxis(y, -1, op.axis).real


INVERSE_REAL_DFT = OpSamples(
    InverseRealDft,
    inverse_real_dft,
    [
        Sample(InverseRealDft(1, 5), (rand(2, 3, 2, dtype=F64),), grad=True),
        Sample(InverseRealDft(1, 4), (rand(2, 3, 2, dtype=F64),), grad=True),
        Sample(InverseRealDft(0, 1), (rand(1, 2, dtype=F64),), "length 1", grad=True),
        Sample(InverseRealDft(0, 2), (rand(2, 3, 2, dtype=F64),), "length 2", grad=True),
        Sample(InverseRealDft(1, 12), (rand(2, 7, 3, 2),), tol=1e-4),
        Sample(InverseRealDft(0, 7), (strided(rand(4, 2)),), tol=1e-4),
        Sample(InverseRealDft(1, 3), (rand(0, 2, 2),), "nothing"),
        *(
            Sample(
                InverseRealDft(0, 4),
                (rand(3, 2, dtype=d),),
                tol=5e-2,
                runtime="ONNX Runtime has no such DFT",
            )
            for d in (np.float16, bfloat16)
        ),
    ],
    [
        Refused(InverseRealDft(0, 3), (t("f32[3, 2]"),), match="n // 2"),
        Refused(InverseRealDft(0, 0), (t("f32[1, 2]"),), match="above 0"),
        Refused(InverseRealDft(0, 3), (t("f32[2, 3]"),), match="pairs"),
        Refused(InverseRealDft(1, 3), (t("f32[2, 2]"),), IndexOutOfRange, "axis"),
        Refused(InverseRealDft(0, 3), (t("i64[2, 2]"),), DTypeError, "float"),
    ],
)

C128, NO_COMPLEX = np.dtype(np.complex128), "ONNX has no complex arithmetic"

VIEW_AS_REAL = OpSamples(
    ViewAsReal,
    lambda op, x: np.stack([x.real, x.imag], -1),
    [
        Sample(ViewAsReal(), (rand(2, 3, dtype=C128),), grad=True),
        Sample(ViewAsReal(), (rand(dtype=C128),), "0-d", grad=True),
        Sample(ViewAsReal(), (strided(rand(3, 4, dtype=np.complex64)).T,), "not contiguous"),
        Sample(ViewAsReal(), (rand(0, 3, dtype=C128),), "nothing"),
    ],
    [Refused(ViewAsReal(), (t("f32[2]"),), DTypeError, "complex")],
    onnx=NO_COMPLEX,
)

VIEW_AS_COMPLEX = OpSamples(
    ViewAsComplex,
    lambda op, x: x[..., 0] + 1j * x[..., 1],
    [
        Sample(ViewAsComplex(), (rand(3, 2, dtype=F64),), grad=True),
        Sample(ViewAsComplex(), (rand(2, dtype=F64),), "to 0-d", grad=True),
        Sample(ViewAsComplex(), (rand(3, 4, 2)[:, ::2],), "pairs apart"),
        Sample(ViewAsComplex(), (strided(rand(3, 2)),), "not in pairs"),
        Sample(ViewAsComplex(), (rand(3, 5)[:, 1:3],), "at odd places"),
        Sample(ViewAsComplex(), (rand(0, 2),), "nothing"),
    ],
    [
        Refused(ViewAsComplex(), (t("f32[2, 3]"),), match="pairs"),
        Refused(ViewAsComplex(), (t("f32[]"),), match="pairs"),
        Refused(ViewAsComplex(), (t("f16[2]"),), DTypeError, "float32"),
    ],
    onnx=NO_COMPLEX,
)


FEW = "ONNX Runtime takes float32 only"


def any_seed(op: Any, inputs: Any, outputs: Any) -> None:
    (seed,) = outputs
    assert np.asarray(seed).dtype == np.uint64
    again = {int(op.eager(np)) for _ in range(4)}
    assert len(again | {int(seed)}) == 5


FRESH_SEED = OpSamples(
    FreshSeed,
    lambda op: np.uint64(0),
    [Sample(FreshSeed(), (), onnx="draws other numbers each time")],
    check=any_seed,
)


# -- regions --------------------------------------------------------------------------------------


def sampled(image: Any, y: float, x: float) -> list[float]:
    """Weighted elements around a place of image [H, W]."""
    h, w = image.shape
    if not (-1 <= y <= h and -1 <= x <= w):
        return [0.0]
    found = []
    for i, wy in around(y, h):
        for j, wx in around(x, w):
            found.append(wy * wx * image[i, j])
    return found


def around(at: float, size: int) -> list[tuple[int, float]]:
    at = max(at, 0.0)
    low = int(at)
    if low >= size - 1:
        return [(size - 1, 1.0)]
    return [(low, 1 - (at - low)), (low + 1, at - low)]


def roi_align(op: Any, x: Any, rois: Any, batch: Any) -> Any:
    out = np.zeros((len(rois), x.shape[1], op.height, op.width))
    for r, c, p, q in np.ndindex(out.shape):
        x1, y1, x2, y2 = rois[r] * op.scale - (0.5 if op.aligned else 0)
        height, width = y2 - y1, x2 - x1
        if not op.aligned:
            height, width = max(height, 1), max(width, 1)
        bh, bw = height / op.height, width / op.width
        ny, nx = (op.samples or int(np.ceil(v)) for v in (bh, bw))
        values = [
            sampled(x[batch[r], c], y1 + (p + (i + 0.5) / ny) * bh, x1 + (q + (j + 0.5) / nx) * bw)
            for i in range(ny)
            for j in range(nx)
        ]
        if not isinstance(op, RoiAlignMax):
            out[r, c, p, q] = sum(map(sum, values)) / max(ny * nx, 1)
        else:
            out[r, c, p, q] = max(map(max, values))
    return out


ROIS = np.array([[0.5, 1, 4.2, 5.1], [-3, 2, 2, 9], [1, 1, 1.2, 1.3]], np.float64)
BATCH = np.array([1, 0, 1])
IMAGES = rand(2, 2, 6, 5, dtype=F64)
SINGLE = tuple(v.astype(np.float32) for v in (IMAGES, ROIS))
KINDS = [
    (samples, scale, aligned)
    for samples, scale in ((2, 1.0), (0, 0.75))
    for aligned in (True, False)
]
HALF = tuple(v.astype(np.float16) for v in SINGLE)


def kinds(cls: Any) -> list[Sample]:
    return [
        *(Sample(cls(2, 3, *kind), (*SINGLE, BATCH), tol=1e-4) for kind in KINDS),
        Sample(cls(2, 2), (SINGLE[0], SINGLE[1][:0], BATCH[:0]), "no regions"),
        Sample(cls(2, 2, 2), (*HALF, BATCH), tol=1e-2, runtime=FEW),
    ]


def wrong(cls: Any) -> list[Refused]:
    x, op = t("f32[1,1,2,2]"), cls(1, 1)
    return [
        Refused(op, (x, t("f32[2,5]"), t("i64[2]")), match="regions"),
        Refused(op, (x, t("f32[2,4]"), t("i64[3]")), match="numbers"),
        Refused(op, (x, t("f64[2,4]"), t("i64[2]")), DTypeError, "one"),
    ]


ROI_ALIGN = OpSamples(
    RoiAlign,
    roi_align,
    [
        Sample(RoiAlign(2, 2), (IMAGES, ROIS, BATCH), grad=True, runtime=FEW),
        Sample(RoiAlign(2, 1, 3), (IMAGES, ROIS, BATCH), grad=True, runtime=FEW),
        *kinds(RoiAlign),
    ],
    wrong(RoiAlign),
    no_grad=(1,),
)

ROI_ALIGN_MAX = OpSamples(RoiAlignMax, roi_align, kinds(RoiAlignMax), wrong(RoiAlignMax))


def roi_align_grad(op: Any, g: Any, rois: Any, batch: Any) -> Any:
    """By the response to each element alone."""
    forward = RoiAlign(op.height, op.width, op.samples, op.scale, op.aligned)
    out = np.zeros(op.shape)
    for at in np.ndindex(out.shape):
        one = np.zeros(op.shape)
        one[at] = 1
        out[at] = (roi_align(forward, one, rois, batch) * g).sum()
    return out


ROI_ALIGN_GRAD = OpSamples(
    RoiAlignGrad,
    roi_align_grad,
    [
        Sample(
            RoiAlignGrad(2, 1, samples, 1.0, True, (2, 1, 3, 3)),
            (rand(3, 1, 2, 1, dtype=F64), ROIS, BATCH),
            grad=True,
        )
        for samples in (2, 0)
    ],
    no_grad=(1,),
    onnx="ONNX has no such gradient",
)


def max_roi_pool(op: Any, x: Any, rois: Any) -> Any:
    out = np.zeros((len(rois), x.shape[1], op.height, op.width))
    for r, c, p, q in np.ndindex(out.shape):
        n = int(rois[r, 0])
        x1, y1, x2, y2 = np.floor(rois[r, 1:] * op.scale + 0.5).astype(int)
        h, w = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        rows = slice(max(y1 + p * h // op.height, 0), max(y1 - (-(p + 1) * h // op.height), 0))
        columns = slice(max(x1 + q * w // op.width, 0), max(x1 - (-(q + 1) * w // op.width), 0))
        part = x[n, c, rows, columns]
        out[r, c, p, q] = part.max() if part.size else 0
    return out


NUMBERED = np.concatenate([BATCH[:, None], ROIS], 1)

MAX_ROI_POOL = OpSamples(
    MaxRoiPool,
    max_roi_pool,
    [
        *(
            Sample(MaxRoiPool(*bins, scale), (SINGLE[0], NUMBERED.astype(np.float32)))
            for bins, scale in (((2, 3), 1.0), ((3, 3), 0.6), ((1, 1), 1.0))
        ),
        Sample(MaxRoiPool(2, 2), (SINGLE[0], NUMBERED[:0].astype(np.float32)), "no regions"),
        Sample(MaxRoiPool(2, 2), (IMAGES, NUMBERED), runtime=FEW),
    ],
    [Refused(MaxRoiPool(1, 1), (t("f32[1,1,2,2]"), t("f32[2,4]")), match="regions")],
)

SAMPLES = [
    DFT,
    REAL_DFT,
    INVERSE_REAL_DFT,
    VIEW_AS_REAL,
    VIEW_AS_COMPLEX,
    FRESH_SEED,
    ROI_ALIGN,
    ROI_ALIGN_MAX,
    ROI_ALIGN_GRAD,
    MAX_ROI_POOL,
]
