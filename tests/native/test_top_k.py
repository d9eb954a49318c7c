"""The best of long rows of floats, which are compared a vector at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dualgraph_compiler.graph import interpret, parse_graph
from dualgraph_compiler.native import Target, build
from dualgraph_runtime.native import Executable, find_compiler

pytestmark = pytest.mark.compiler


@pytest.mark.parametrize("vector_bytes", [16, 32])
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_ties_and_not_a_number(k: int, largest: bool, vector_bytes: int) -> None:
    compiler = find_compiler()
    assert compiler is not None
    flags = tuple("-O1" if flag == "-O2" else flag for flag in compiler.flags)
    graph = parse_graph(
        f"graph g(%x: f32[r, n]):\n  %1: f32[r, {k}], %2: i64[r, {k}] = "
        f"top_k(%x, k={k}, axis=1, largest={largest}, sorted=True)\n  return %1 as v, %2 as i"
    )
    run = Executable(build(graph, Target(vector_bytes)), dataclasses.replace(compiler, flags=flags))
    assert "x[own[" in run.program.text
    rng = np.random.default_rng(0)
    for n in (*range(k, 12), 31, 64, 259):
        x = rng.integers(-9, 9, (40, n)).astype(np.float32)
        x[10:20] = rng.standard_normal((10, n)).astype(np.float32)
        x[20:30][rng.random((10, n)) < 0.1] = np.nan
        x[30:35][rng.random((5, n)) < 0.4] = -0.0
        x[35:38] = np.inf
        x[36, -1] = -np.inf
        x[38] = np.nan
        x[39] = np.arange(n)
        for got, want in zip(run.run([x]), interpret(graph, [x]), strict=True):
            np.testing.assert_array_equal(got, want)
