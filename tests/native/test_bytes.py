"""Bytes and masks made wider and narrower, at every width of vectors and at odd sizes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.dtypes import as_dtype, bool_
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.native import Target, build
from dualgraph_compiler.ops import f
from dualgraph_runtime.native import Executable, find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")

BYTES = (np.uint8, np.int8)
OTHERS = (np.int16, np.int64, np.uint32, np.float32, np.float64)
SIZES = (1, 3, 4, 7, 8, 9, 31, 64)


def executable(graph: Graph, vector_bytes: int) -> Executable:
    compiler = find_compiler()
    assert compiler is not None
    flags = tuple("-O1" if flag == "-O2" else flag for flag in compiler.flags)
    return Executable(
        build(graph, Target(vector_bytes)), dataclasses.replace(compiler, flags=flags)
    )


@pytest.mark.parametrize("vector_bytes", [16, 32])
def test_conversions(vector_bytes: int) -> None:
    """To wider numbers and back, and what a comparison says as bytes."""
    graph = Graph()
    n = Dim("n")
    inputs: list[Any] = [graph.add_input(TensorType(as_dtype(t), (n,))) for t in (*BYTES, *OTHERS)]
    outputs = []
    for byte, x in zip(BYTES, inputs[:2], strict=True):
        for wide, y in zip(OTHERS, inputs[2:], strict=True):
            outputs += [f.cast(x, as_dtype(wide)), f.cast(y, as_dtype(byte))]
            outputs.append(f.where(f.less(x, f.like(x, 5)), y, f.like(y, 1)))
            outputs += [f.cast(f.less(y, f.like(y, 3)), as_dtype(byte)), f.cast(y, bool_)]
    graph.set_outputs(outputs)
    run = executable(graph, vector_bytes)
    rng = np.random.default_rng(0)
    for size in SIZES:
        arrays = [rng.integers(0, 256, size).astype(t) for t in BYTES]
        arrays += [rng.integers(0, 127, size).astype(t) for t in OTHERS]
        for got, want in zip(run.run(arrays), interpret(graph, arrays), strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
