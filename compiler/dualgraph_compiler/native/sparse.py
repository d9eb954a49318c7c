"""Products with constant matrices of few numbers a column, as interpolation along an axis has them.

Each element of the result is a weighted sum of few elements, which are read where they are: of an
axis that is not the last one whole rows at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import float32, float64
from ..graph import Node, Value
from ..ops import f
from ..ops.indexing import IndexSelect

_ROW, _GATHERED = 3, 13  # multiplications of a dense product that one element read is worth


def sparse_product(node: Node) -> Value | None:
    """A product as a sum of few terms; None where it is none, or better left dense."""
    if node.op.name != "matmul" or node.output.dtype not in (float32, float64):
        return None
    x, matrix = node.inputs
    if not matrix.is_constant or matrix.ndim != 2 or 0 in matrix.shape:
        return None
    source, axes = _source(x)
    data = matrix.data
    most = int(np.count_nonzero(data, axis=0).max())
    worth = _GATHERED if axes[-1] == x.ndim - 1 else _ROW
    if most * worth > data.shape[0]:
        return None
    at = axes[-1]
    total: Any = None
    for index, weight in taps(data, max(most, 1)):
        shape = (-1, *(1,) * (x.ndim - 1 - at))
        found = IndexSelect(at)(source, x.graph.constant(index))
        term = found * x.graph.constant(weight.reshape(shape))
        total = term if total is None else total + term
    return total if axes == sorted(axes) else f.permute(total, axes)  # type: ignore[no-any-return]


def _source(x: Value) -> tuple[Value, list[int]]:
    """What `x` is a permutation of, and where its axes lie in that."""
    axes = list(range(x.ndim))
    while x.node is not None and x.node.op.name == "permute":
        order: Sequence[int] = x.node.op.attributes()["axes"]
        axes = [order[a] for a in axes]
        x = x.node.inputs[0]
    return x, axes


def taps(matrix: Any, most: int) -> list[tuple[Any, Any]]:
    """Of a matrix with up to `most` numbers in a column: where each stands, and what it is.

    Pairs of arrays with an element for each column, the first of them int64. Of columns with fewer
    numbers the first one is split, since 0 times infinity would be NaN.
    """
    rows = np.argsort(matrix == 0, axis=0, kind="stable")[:most]
    numbers = np.take_along_axis(matrix, rows, 0)
    missing = numbers == 0
    share = numbers[0] / (missing.sum(0) + 1)
    missing[0] = True
    rows, numbers = np.where(missing, rows[:1], rows), np.where(missing, share, numbers)
    pairs = zip(rows, numbers.astype(matrix.dtype), strict=True)
    return [(r.astype(np.int64), w) for r, w in pairs]
