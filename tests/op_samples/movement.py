"""Views, slices, padding and rearrangement."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import ArgumentError, DTypeError, IndexOutOfRange
from dualgraph_compiler.ops import movement as mv
from dualgraph_compiler.ops import padding as pd
from dualgraph_compiler.ops import rearrange as re
from dualgraph_compiler.ops import slicing as sl

from . import BOOL, COMPLEX, FLOATS, INTS, OpSamples, Refused, Sample, rand, strided, t

ALL = (BOOL, *INTS, *FLOATS, *COMPLEX)


def f64(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return rand(*shape, dtype=np.float64, seed=seed)


def every_dtype(op: Any, *shapes: tuple[int, ...]) -> list[Sample]:
    return [Sample(op, tuple(rand(*s, dtype=d, seed=i) for i, s in enumerate(shapes))) for d in ALL]


RESHAPE = OpSamples(
    mv.Reshape,
    lambda op, x: np.array(list(x.flat), x.dtype).reshape(op.shape),
    [
        Sample(mv.Reshape((6, 4)), (f64(2, 3, 4),), grad=True),
        Sample(mv.Reshape((2, 1, 12)), (strided(rand(4, 3, 2)).T,), "not contiguous"),
        Sample(mv.Reshape(()), (rand(1, 1),), "to 0-d"),
        Sample(mv.Reshape((1, 1)), (rand(),), "from 0-d"),
        Sample(mv.Reshape((0, 5)), (rand(3, 0),), "empty"),
        *every_dtype(mv.Reshape((3, 2)), (2, 3)),
    ],
    [
        Refused(mv.Reshape((5,)), (t("f32[2, 3]"),), match="invalid for input of size 6"),
        Refused(mv.Reshape((3,)), (t("f32[n]"),), match="invalid for input of size n"),
    ],
)

EXPAND = OpSamples(
    mv.Expand,
    lambda op, x: (
        np.zeros(op.shape, x.dtype) + x if x.dtype != bool else np.zeros(op.shape) + x > 0
    ),
    [
        Sample(mv.Expand((4, 2, 3)), (f64(2, 3),), grad=True),
        Sample(mv.Expand((2, 4, 3)), (f64(2, 1, 3),), grad=True),
        Sample(mv.Expand((2, 3)), (f64(),), "from 0-d", grad=True),
        Sample(mv.Expand((3, 0)), (rand(3, 1),), "empty"),
        Sample(mv.Expand((2, 3)), (strided(rand(2, 3)),), "same shape, not contiguous"),
        *every_dtype(mv.Expand((3, 2)), (2,)),
    ],
    [
        Refused(mv.Expand((3, 2)), (t("f32[3]"),), match="does not expand"),
        Refused(mv.Expand((3,)), (t("f32[3, 3]"),), match="fewer axes|does not expand"),
    ],
)

PERMUTE = OpSamples(
    mv.Permute,
    lambda op, x: np.moveaxis(x, op.axes, range(x.ndim)),
    [
        Sample(mv.Permute((2, 0, 1)), (f64(2, 3, 4),), grad=True),
        Sample(mv.Permute((1, 0)), (strided(rand(3, 2)),), "not contiguous"),
        Sample(mv.Permute(()), (rand(),), "0-d"),
        Sample(mv.Permute((1, 0)), (rand(0, 3),), "empty"),
        *every_dtype(mv.Permute((1, 0)), (2, 3)),
    ],
    [Refused(mv.Permute((0, 0)), (t("f32[2, 3]"),), match="permutation")],
)

# -- slices ----------------------------------------------------------------------------------------


def slices(op: Any) -> tuple[slice, ...]:
    return tuple(slice(*b) for b in zip(op.starts, op.stops, op.steps))


PART = (1, 0, 2), (2, 5, 6), (1, 2, 3)  # of [3, 5, 7]: [1:2, 0:5:2, 2:6:3] -> [1, 3, 2]

SLICE = OpSamples(
    sl.Slice,
    lambda op, x: x[slices(op)],
    [
        Sample(sl.Slice(*PART), (f64(3, 5, 7),), grad=True),
        Sample(sl.Slice((0,), (3,), (1,)), (rand(3),), "all of it"),
        Sample(sl.Slice((2,), (2,), (1,)), (rand(3),), "none of it"),
        Sample(sl.Slice((), (), ()), (rand(),), "0-d"),
        Sample(sl.Slice((1, 0), (3, 2), (1, 1)), (strided(rand(4, 2)),), "not contiguous"),
        *every_dtype(sl.Slice((1,), (5,), (2,)), (6,)),
    ],
    [
        Refused(sl.Slice((0,), (4,), (1,)), (t("f32[3]"),), match="not within"),
        Refused(sl.Slice((2,), (0,), (-1,)), (t("f32[3]"),), match="positive"),
        Refused(sl.Slice((0,), (1,), (1,)), (t("f32[3, 3]"),), match="each of the 2 axes"),
    ],
)


def put_in_zeros(op: Any, x: Any) -> Any:
    out = np.zeros(op.shape, x.dtype)
    out[slices(op)] = x
    return out


SLICE_GRAD = OpSamples(
    sl.SliceGrad,
    put_in_zeros,
    [
        Sample(sl.SliceGrad(*PART, (3, 5, 7)), (f64(1, 3, 2),), grad=True),
        Sample(sl.SliceGrad((2,), (2,), (1,), (3,)), (rand(0),), "nothing written"),
        Sample(sl.SliceGrad((), (), (), ()), (rand(),), "0-d"),
        *every_dtype(sl.SliceGrad((1,), (5,), (2,), (6,)), (2,)),
    ],
    [Refused(sl.SliceGrad((0,), (2,), (1,), (3,)), (t("f32[3]"),), match="expected")],
)


def overwrite(op: Any, base: Any, v: Any) -> Any:
    out = base.copy()
    out[slices(op)] = v
    return out


SLICE_UPDATE = OpSamples(
    sl.SliceUpdate,
    overwrite,
    [
        Sample(sl.SliceUpdate(*PART), (f64(3, 5, 7), f64(1, 3, 2, seed=1)), grad=True),
        Sample(sl.SliceUpdate((0,), (3,), (1,)), (rand(3), rand(3, seed=1)), "all of it"),
        Sample(sl.SliceUpdate((), (), ()), (rand(), rand(seed=1)), "0-d"),
        *every_dtype(sl.SliceUpdate((1,), (5,), (2,)), (6,), (2,)),
    ],
    [
        Refused(sl.SliceUpdate((0,), (2,), (1,)), (t("f32[3]"), t("f32[3]")), match="to write"),
        Refused(sl.SliceUpdate((0,), (2,), (1,)), (t("f32[3]"), t("f64[2]")), match="to write"),
    ],
)

# -- joining and padding ---------------------------------------------------------------------------

CONCAT = OpSamples(
    re.Concat,
    lambda op, *xs: np.concatenate(xs, op.axis),
    [
        Sample(re.Concat(1), (f64(2, 3), f64(2, 1, seed=1), f64(2, 2, seed=2)), grad=True),
        Sample(re.Concat(0), (rand(2, 3),), "one operand"),
        Sample(re.Concat(0), (rand(0, 3), rand(2, 3)), "one empty"),
        Sample(re.Concat(0), (strided(rand(2, 3)), rand(2, 3)), "not contiguous"),
        *every_dtype(re.Concat(0), (2, 3), (1, 3)),
    ],
    [
        Refused(re.Concat(0), (t("f32[2, 3]"), t("f32[2, 4]")), match="except in dimension 0"),
        Refused(re.Concat(0), (t("f32[]"), t("f32[]")), match="zero-dimensional"),
        Refused(re.Concat(0), (t("f32[2]"), t("f64[2]")), DTypeError, "one dtype"),
        Refused(re.Concat(2), (t("f32[2]"), t("f32[2]")), IndexOutOfRange, "out of range"),
    ],
)


def pad_reference(op: Any, x: Any) -> Any:
    grow = [(max(lo, 0), max(hi, 0)) for lo, hi in op.pads]
    y = np.pad(x, grow, constant_values=op.value) if grow else x
    cut = [slice(max(-lo, 0), y.shape[i] - max(-hi, 0)) for i, (lo, hi) in enumerate(op.pads)]
    return y[tuple(cut)]


PAD = OpSamples(
    pd.Pad,
    pad_reference,
    [
        Sample(pd.Pad(((1, 2), (0, 1))), (f64(2, 3),), grad=True),
        Sample(pd.Pad(((-1, 2), (1, -2)), 5.0), (f64(2, 3),), "cropping", grad=True),
        Sample(pd.Pad(((2, -1),), 1), (rand(3),), "a window moved"),
        Sample(pd.Pad(((0, 2), (1, 0)), np.inf), (rand(0, 3),), "empty"),
        Sample(pd.Pad(()), (rand(),), "0-d"),
        *every_dtype(pd.Pad(((1, 0), (0, 2)), 1), (2, 3)),
    ],
    [
        Refused(pd.Pad(((-2, -2),)), (t("f32[3]"),), match="negative sizes"),
        Refused(pd.Pad(((0, 0),)), (t("f32[3, 3]"),), match="each of the 2 axes"),
    ],
)

MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
PADS = ((1, 0), (2, 3))

PAD_MODE = OpSamples(
    pd.PadMode,
    lambda op, x: np.pad(x, op.pads, MODES[op.mode]) if op.pads else x,
    [
        *(Sample(pd.PadMode(PADS, m), (f64(3, 4),), grad=True) for m in MODES),
        Sample(pd.PadMode((), "reflect"), (rand(),), "0-d"),
        Sample(pd.PadMode(((4, 9),), "replicate"), (rand(2),), "beyond the size"),
        *(Sample(pd.PadMode(((1, 1),), "replicate"), (rand(3, dtype=d),)) for d in INTS),
    ],
    [
        Refused(pd.PadMode(((3, 0),), "reflect"), (t("f32[3]"),), match="within \\[0, 2\\]"),
        Refused(pd.PadMode(((4, 0),), "circular"), (t("f32[3]"),), match="within \\[0, 3\\]"),
        Refused(pd.PadMode(((0, -1),), "replicate"), (t("f32[3]"),), match="within"),
        Refused(pd.PadMode(((1, 0),), "replicate"), (t("f32[0]"),), match="within"),
        Refused(pd.PadMode(((1, 0),), "edge"), (t("f32[3]"),), ArgumentError, "mode"),
    ],
)


def fold_back(op: Any, g: Any) -> Any:
    """Each padded element added to the one it repeats, by marking the elements with numbers."""
    sizes = [n - lo - hi for n, (lo, hi) in zip(g.shape, op.pads)]
    marks = np.pad(np.arange(np.prod(sizes)).reshape(sizes), op.pads, MODES[op.mode])
    out = np.zeros(int(np.prod(sizes)), g.dtype)
    for at, v in zip(marks.flat, g.flat):
        out[at] += v
    return out.reshape(sizes)


PAD_MODE_GRAD = OpSamples(
    pd.PadModeGrad,
    fold_back,
    [Sample(pd.PadModeGrad(PADS, m), (f64(4, 9),), grad=True) for m in MODES],
    [Refused(pd.PadModeGrad(((3, 3),), "circular"), (t("f32[5]"),), match="negative")],
)

# -- order, diagonals, triangles -------------------------------------------------------------------

FLIP = OpSamples(
    re.Flip,
    lambda op, x: np.flip(x, op.axes),
    [
        Sample(re.Flip((0, 2)), (f64(2, 3, 4),), grad=True),
        Sample(re.Flip((0,)), (strided(rand(3, 2)),), "not contiguous"),
        Sample(re.Flip(()), (rand(2, 3),), "no axes"),
        Sample(re.Flip((1,)), (rand(2, 0),), "empty"),
        Sample(re.Flip(()), (rand(),), "0-d"),
        *every_dtype(re.Flip((0,)), (4,)),
    ],
    [
        Refused(re.Flip((0, 0)), (t("f32[3]"),), match="more than once"),
        Refused(re.Flip((1,)), (t("f32[3]"),), IndexOutOfRange, "out of range"),
    ],
)

DIAGONALS = ((0, 0, 1), (1, 0, 2), (-1, 2, 0), (2, 1, 2), (7, 0, 1))

DIAGONAL = OpSamples(
    re.Diagonal,
    lambda op, x: np.diagonal(x, op.offset, op.axis1, op.axis2),
    [
        *(Sample(re.Diagonal(*d), (f64(3, 4, 5),), grad=True) for d in DIAGONALS[:4]),
        Sample(re.Diagonal(*DIAGONALS[4]), (rand(3, 4, 5),), "past the corner", runtime="empty"),
        Sample(re.Diagonal(0, 0, 1), (rand(3, 3),), "a matrix"),
        Sample(re.Diagonal(0, 1, 0), (strided(rand(3, 2)),), "not contiguous"),
        *every_dtype(re.Diagonal(0, 0, 1), (2, 3)),
    ],
    [
        Refused(re.Diagonal(0, 0, 1), (t("f32[3]"),), match="two axes or more"),
        Refused(re.Diagonal(0, 1, 1), (t("f32[3, 3]"),), match="more than once"),
    ],
)


def write_diagonal(op: Any, base: Any, v: Any) -> Any:
    out = np.moveaxis(base.copy(), (op.axis1, op.axis2), (0, 1))
    for k in range(v.shape[-1]):
        out[k + max(-op.offset, 0), k + max(op.offset, 0)] = v[..., k]
    return np.moveaxis(out, (0, 1), (op.axis1, op.axis2))


DIAGONAL_UPDATE = OpSamples(
    re.DiagonalUpdate,
    write_diagonal,
    [
        Sample(re.DiagonalUpdate(0, 0, 1), (f64(3, 3), f64(3, seed=1)), grad=True),
        Sample(re.DiagonalUpdate(1, 0, 2), (f64(3, 2, 3), f64(2, 2, seed=1)), grad=True),
        Sample(re.DiagonalUpdate(-1, 2, 1), (f64(2, 3, 3), f64(2, 2, seed=1)), grad=True),
        *every_dtype(re.DiagonalUpdate(0, 0, 1), (2, 3), (2,)),
    ],
    [Refused(re.DiagonalUpdate(0, 0, 1), (t("f32[3, 3]"), t("f32[2]")), match="to write")],
)


def triangle(op: Any, x: Any) -> Any:
    rows, columns = np.indices(x.shape[-2:])
    above = columns - rows
    kept = above >= op.diagonal if op.name == "triu" else above <= op.diagonal
    return np.where(kept, x, np.zeros((), x.dtype))


def triangles(cls: Any) -> OpSamples:
    return OpSamples(
        cls,
        triangle,
        [
            Sample(cls(0), (f64(3, 4),), grad=True),
            Sample(cls(1), (f64(2, 3, 3),), grad=True),
            Sample(cls(-2), (strided(rand(4, 3)),), "not contiguous"),
            Sample(cls(0), (np.full((2, 2), np.nan, np.float32),), "NaN"),
            Sample(cls(0), (rand(0, 3),), "empty"),
            *every_dtype(cls(0), (3, 3)),
        ],
        [Refused(cls(0), (t("f32[3]"),), match="two axes or more")],
    )


SAMPLES = [
    RESHAPE,
    EXPAND,
    PERMUTE,
    SLICE,
    SLICE_GRAD,
    SLICE_UPDATE,
    CONCAT,
    PAD,
    PAD_MODE,
    PAD_MODE_GRAD,
    FLIP,
    DIAGONAL,
    DIAGONAL_UPDATE,
    triangles(re.Tril),
    triangles(re.Triu),
]
