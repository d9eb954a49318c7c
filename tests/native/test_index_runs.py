"""Windows added back to an image: constant indices that are runs of adjacent places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Graph, TensorType
from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import BY_NAME
from dualgraph_compiler.ops.indexing import IndexSelectGrad
from dualgraph_runtime.native import compile_graph

pytestmark = pytest.mark.compiler


def windows(height: int, width: int, taps: int, stride: int = 1) -> Any:
    """The places in an image that each element of a window meets, in the order of Col2Im."""
    rows = np.add.outer(np.arange(taps), np.arange((height - taps) // stride + 1) * stride)
    columns = np.add.outer(np.arange(taps), np.arange((width - taps) // stride + 1) * stride)
    return (rows[:, None, :, None] * width + columns[None, :, None, :]).reshape(-1)


INDICES = {
    "3x3": (windows(9, 21, 3), 9 * 21),
    "5x5 of narrow images": (windows(8, 12, 5), 96),
    "strided": (windows(9, 33, 3, 2), 9 * 33),
    "one run": (np.arange(3, 40), 50),
    "runs of two lengths": (np.r_[0:16, 4:14], 20),
    "every place once more": (np.r_[0:16, 0:16, 16:32], 32),
    "from the end": (np.arange(-16, 0), 16),
    "one": (np.array([4]), 5),
}


@pytest.mark.parametrize("dtype", ["f32", "f64", "i64", "f16"])
@pytest.mark.parametrize("name", INDICES)
def test_added_in_order(name: str, dtype: str) -> None:
    index, size = INDICES[name]
    graph = Graph()
    kind = next(t for t in BY_NAME.values() if t.short == dtype)
    x = graph.add_input(TensorType(kind, (Dim("n"), 2, len(index))), "x")
    graph.set_outputs([IndexSelectGrad(2, size)(x, graph.constant(index))])
    run = compile_graph(graph)
    rng = np.random.default_rng(0)
    for n in (1, 3, 0):
        given = (8 * rng.standard_normal((n, 2, len(index)))).astype(kind.np)
        wide = np.float32 if dtype == "f16" else kind.np
        want = np.zeros((n, 2, size), wide)
        np.add.at(want, (slice(None), slice(None), index), given.astype(wide))
        (got,) = run.run([given])
        np.testing.assert_array_equal(got, want.astype(kind.np))
