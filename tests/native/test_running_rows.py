"""Running sums and products along an axis before long rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.graph import interpret, parse_graph
from dualgraph_runtime.native import compile_graph

pytestmark = pytest.mark.compiler

TEXT = """\
graph g(%x: f32[b, n, 515], %k: i64[n, 2, 257], %d: f64[1100, 3]):
  %1: f32[b, n, 515] = cumsum(%x, axis=1, exclusive=False, reverse=False)
  %2: f32[b, n, 515] = cumsum(%x, axis=1, exclusive=True, reverse=False)
  %3: f32[b, n, 515] = cumsum(%x, axis=0, exclusive=False, reverse=True)
  %4: i64[n, 2, 257] = cumsum(%k, axis=0, exclusive=True, reverse=True)
  %5: i64[n, 2, 257] = cumprod(%k, axis=0)
  %6: f64[3, 1100] = permute(%d, axes=(1, 0))
  %7: f64[3, 1100] = cumsum(%6, axis=0, exclusive=False, reverse=False)
  return %1 as a, %2 as b, %3 as c, %4 as d, %5 as e, %7 as f"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", ["n", 6, 1, 0])
def test_rows(n: str | int, threads: int) -> None:
    text = TEXT.replace("[n,", f"[{n},").replace(" n,", f" {n},")
    graph = parse_graph(text)
    run = compile_graph(graph, num_threads=threads)
    rng = np.random.default_rng(0)
    sizes = (5, 1, 0) if n == "n" else (int(n),)
    for leading, size in [(b, s) for b in (1, 3, 0) for s in sizes]:
        x = rng.standard_normal((leading, size, 515)).astype(np.float32)
        x[:, :1, :9] = [-0.0, np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, 3e38, -0.0]
        d = rng.standard_normal((1100, 3))
        arrays: list[Any] = [x, rng.integers(-3, 4, (size, 2, 257)), d]
        for got, want in zip(run.run(arrays), interpret(graph, arrays), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
