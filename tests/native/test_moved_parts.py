"""Heads, joined parts and padded pieces, read several elements at a time where they line up."""

from __future__ import annotations

import numpy as np
import pytest

from dualgraph_compiler import Graph, TensorType
from dualgraph_compiler.dtypes import bool_, float32
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.native import Target, build
from dualgraph_compiler.ops import f
from dualgraph_runtime.native import compile_graph

from .test_blocked import WIDTHS, compiler

pytestmark = pytest.mark.compiler


def moved(heads: int, depth: int, before: int) -> Graph:
    """Heads [2, heads, 9, depth] side by side, beside and over other parts; and of bools."""
    graph = Graph()
    wide = heads * depth
    x = graph.add_input(TensorType(float32, (2, heads, 9, depth)), "x")
    y = graph.add_input(TensorType(float32, (2, 9, before)), "y")
    z = graph.add_input(TensorType(bool_, (2, heads, 9, depth)), "z")
    rows = f.reshape(f.permute(x, (0, 2, 1, 3)), (2, 9, wide))
    left = f.pad(rows, [(0, 0), (0, 0), (before, 0)])
    right = f.pad(y, [(0, 0), (0, 0), (0, wide)])
    both = f.tanh(left + right)
    held = f.pad(f.reshape(f.permute(z, (0, 2, 1, 3)), (2, 9, wide)), [(0, 0), (0, 0), (0, before)])
    total = f.sum(f.abs(both), (0, 1))
    graph.set_outputs([both, total, f.where(held, both, both * 2.0)])
    return graph


@pytest.mark.parametrize("vector_bytes", WIDTHS)
@pytest.mark.parametrize(
    ("heads", "depth", "before"), [(3, 32, 64), (2, 64, 100), (3, 20, 16), (1, 7, 5), (4, 16, 3)]
)
def test_parts(vector_bytes: int, heads: int, depth: int, before: int) -> None:
    """Whether or not parts begin at multiples of the lanes."""
    graph = moved(heads, depth, before)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=v.shape).astype(np.float32) for v in graph.inputs[:2]]
    arrays.append(rng.random(graph.inputs[2].shape) < 0.5)
    found = compile_graph(graph, compiler(vector_bytes)).run(arrays)
    for got, want in zip(found, interpret(graph, arrays), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


def test_parts_that_line_up_are_read_whole() -> None:
    text = build(moved(3, 32, 64), Target(32)).text
    assert "x_[l] = b" not in text
