"""Ops that find so many things as there are."""

from __future__ import annotations

from typing import Any

import numpy as np

from dualgraph_compiler.errors import DTypeError
from dualgraph_compiler.ops.selection import (
    Beginning,
    NonMaxSuppression,
    Positions,
    Range,
    Unique,
)

from . import FLOATS, INTS, OpSamples, Refused, Sample, rand, strided, t

SPARSE = rand(3, 4) * (rand(3, 4, seed=1) > 0)

POSITIONS = OpSamples(
    Positions,
    lambda op, x: np.array(np.nonzero(np.atleast_1d(x))),
    [
        Sample(Positions(int(np.count_nonzero(SPARSE))), (SPARSE,)),
        Sample(Positions(2), (np.array([True, False, True]),)),
        Sample(Positions(1), (np.array(3.0),), "0-d"),
        Sample(Positions(0), (np.zeros((2, 0)),), "empty"),
        Sample(Positions(0), (np.zeros((2, 2), np.int64),), "nothing found"),
        Sample(Positions(8), (strided(rand(2, 4)),), "not contiguous"),
        *(Sample(Positions(2), (np.array([[1, 0], [0, 2]], d),)) for d in (*INTS, *FLOATS)),
    ],
)


def unique(op: Any, x: Any) -> Any:
    """Slice by slice, in the order of first occurrence, then sorted."""
    rows = [r.tolist() for r in (x.reshape(-1) if op.axis is None else np.moveaxis(x, op.axis, 0))]
    found: list[Any] = []
    for row in rows:
        if row not in found:
            found.append(row)
    if op.sorted:
        found.sort()
    values = np.array(found, x.dtype)
    if op.axis is not None:
        rest = [d for i, d in enumerate(x.shape) if i != op.axis]
        values = np.moveaxis(values.reshape(len(found), *rest), 0, op.axis)
    first = [rows.index(v) for v in found]
    counts = [rows.count(v) for v in found]
    return values, first, [found.index(r) for r in rows], counts


NUMBERS = np.array([2, 1, 1, 3, 4, 3], np.float32)
ROWS = np.array([[1, 0, 0], [1, 0, 0], [2, 3, 4], [0, 9, 9]], np.int64)

UNIQUE = OpSamples(
    Unique,
    unique,
    [
        Sample(Unique(4), (NUMBERS,)),
        Sample(Unique(4, None, False), (NUMBERS,), "as they occur"),
        Sample(Unique(3, 0), (ROWS,), "rows"),
        Sample(Unique(3, 0, False), (ROWS,), "rows as they occur"),
        Sample(Unique(3, 1), (ROWS.astype(np.float64),), "columns"),
        Sample(Unique(3, 1, False), (ROWS,), "columns as they occur"),
        Sample(Unique(1), (np.array(3.0),), "0-d", runtime="ONNX Runtime refuses 0-d operands"),
        Sample(Unique(0), (np.zeros((0,), np.float32),), "nothing"),
        Sample(Unique(6), (strided(ROWS),), "not contiguous"),
        *(Sample(Unique(3), (np.array([2, 0, 2, 1]).astype(d),)) for d in (*INTS, *FLOATS)),
    ],
    [
        Refused(Unique(1), (t("c64[2]"),), DTypeError, "order"),
        Refused(Unique(1, 2), (t("f32[2]"),), IndexError, "out of range"),
    ],
)


def suppressed(op: Any, boxes: Any, scores: Any, most: Any, overlap: Any, least: Any) -> Any:
    found = []
    for n, c in np.ndindex(*scores.shape[:2]):
        kept: list[int] = []
        order = sorted(range(scores.shape[2]), key=lambda i: -scores[n, c, i])
        for i in order:
            if scores[n, c, i] <= least or len(kept) >= most:
                continue
            if all(shared(op, boxes[n, i], boxes[n, j]) <= overlap for j in kept):
                kept.append(i)
        found += [[n, c, i] for i in kept]
    return np.array(found, np.int64).reshape(-1, 3)


def shared(op: Any, a: Any, b: Any) -> float:
    """Intersection over union."""
    sides = []
    for axis in (0, 1):
        spans = []
        for box in (a, b):
            p, q = box[axis], box[axis + 2]
            spans.append((p - q / 2, p + q / 2) if op.centered else (min(p, q), max(p, q)))
        (p, q), (r, s) = spans
        sides.append((max(min(q, s) - max(p, r), 0), q - p, s - r))
    inside = sides[0][0] * sides[1][0]
    union = sides[0][1] * sides[1][1] + sides[0][2] * sides[1][2] - inside
    return inside / union if inside > 0 and union > 0 else 0.0


def _nms(count: int, seed: int, dtype: Any, limits: tuple[Any, ...], centered: bool) -> Sample:
    boxes = np.abs(rand(2, count, 4, dtype=dtype, seed=seed))
    scores = rand(2, 3, count, dtype=dtype, seed=seed, low=0, high=1)
    most, overlap, least = limits
    numbers = (np.array(most), np.array(overlap, dtype), np.array(least, dtype))
    operands = (boxes, scores, *numbers)
    op = NonMaxSuppression(len(suppressed(NonMaxSuppression(0, centered), *operands)), centered)
    return Sample(op, operands)


_TYPES = "f32[2,5,4]", "f32[2,3,5]", "i64[]", "f32[]", "f32[]"

NMS = OpSamples(
    NonMaxSuppression,
    suppressed,
    [
        *(
            _nms(20, seed, np.float32, limits, bool(seed % 2))
            for seed, limits in enumerate(
                [(4, 0.5, 0.3), (100, 0.2, 0.0), (3, 0.9, -1.0), (100, 0.0, 0.5), (0, 0.5, 0.1)]
            )
        ),
        _nms(200, 9, np.float32, (150, 0.3, -np.inf), False),
        _nms(20, 5, np.float64, (8, 0.4, 0.2), True),
        _nms(1, 6, np.float32, (8, 0.4, 0.2), False),
    ],
    [
        Refused(NonMaxSuppression(1), tuple(map(t, ("f32[2,5,3]", *_TYPES[1:]))), match="boxes"),
        Refused(
            NonMaxSuppression(1), tuple(map(t, ("f64[2,5,4]", *_TYPES[1:]))), DTypeError, "one"
        ),
        Refused(NonMaxSuppression(1), tuple(map(t, (*_TYPES[:4], "f32[1]"))), match="single"),
    ],
    widen=False,
)


BEGINNING = OpSamples(
    Beginning,
    lambda op, x, count: x[: int(count)],
    [
        Sample(Beginning(2), (rand(5, 3, dtype=d), np.array(2)))
        for d in (np.float32, np.float64, np.int32, np.int64, np.bool_)
    ]
    + [
        Sample(Beginning(0), (rand(4), np.array(0))),
        Sample(Beginning(0), (rand(0, 2), np.array(3))),
    ],
    [
        Refused(Beginning(1), (t("f32[3]"), t("i64[1]")), DTypeError, "count"),
        Refused(Beginning(1), (t("f32[]"), t("i64[]")), match="axis"),
    ],
)


def _range(a: Any, b: Any, s: Any, dtype: Any) -> Sample:
    return Sample(Range(len(np.arange(a, b, s))), tuple(np.array(v, dtype) for v in (a, b, s)))


RANGE = OpSamples(
    Range,
    lambda op, a, b, s: np.arange(a, b, s),
    [
        *(_range(1, 10, 3, d) for d in (np.int16, np.int32, np.int64, *FLOATS)),
        _range(10, 4, -2, np.int64),
        _range(0.5, 3.25, 0.25, np.float32),
        _range(3, 3, 1, np.float64),
        _range(3, 1, 1, np.int32),
    ],
    [
        Refused(Range(1), (t("i64[]"), t("i64[]"), t("i32[]")), DTypeError, "one dtype"),
        Refused(Range(1), (t("i64[]"), t("i64[1]"), t("i64[]")), match="single"),
        Refused(Range(1), (t("bool[]"), t("bool[]"), t("bool[]")), DTypeError, "real"),
    ],
)

SAMPLES = [POSITIONS, UNIQUE, NMS, BEGINNING, RANGE]
