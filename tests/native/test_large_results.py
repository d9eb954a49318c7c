"""Results too large for the caches, which are written past them; rows fetched ahead."""

from __future__ import annotations

import numpy as np
import pytest

from dualgraph_compiler.graph import Graph, interpret, parse_graph
from dualgraph_compiler.native import Target, build
from dualgraph_runtime.native import compile_graph

from .test_blocked import WIDTHS, compiler

pytestmark = pytest.mark.compiler


def row_wise(rows: int, width: int) -> Graph:
    """Two results of a fold over rows: one no one reads, the other read by a product."""
    return parse_graph(f"""
graph g(%x: f32[{rows}, {width}], %w: f32[{width}, 1]):
  %1: f32[{rows}, 1] = mean(%x, axes=(1,), keepdims=True)
  %2: f32[{rows}, {width}] = sub(%x, %1)
  %3: f32[{rows}, {width}] = tanh(%2)
  %4: f32[{rows}, {width}] = abs(%2)
  %5: f32[{rows}, 1] = matmul(%4, %w)
  return %3 as a, %5 as b
""")


@pytest.mark.parametrize("vector_bytes", WIDTHS)
@pytest.mark.parametrize(("rows", "width"), [(4100, 512), (3001, 701)])
def test_large_results(vector_bytes: int, rows: int, width: int) -> None:
    """Aligned or not, they are what small ones are."""
    graph = row_wise(rows, width)
    text = build(graph, Target(vector_bytes)).text
    assert f"stream_f32x{vector_bytes // 4}(" in text
    assert "streamed();" in text
    assert "__builtin_prefetch(b0" in text
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s).astype(np.float32) for s in ((rows, width), (width, 1))]
    found = compile_graph(graph, compiler(vector_bytes)).run(arrays)
    for got, want in zip(found, interpret(graph, arrays), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())


def test_small_results_stay_in_caches() -> None:
    text = build(row_wise(64, 512), Target(32)).text
    assert "stream_" not in text
    assert "__builtin_prefetch(b0 + i0" not in text
