"""Vectors of which only some lanes are read: padding, triangles, diagonals, at many sizes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.graph import interpret, parse_graph
from dualgraph_compiler.native import Target, build
from dualgraph_runtime.native import Executable, compile_graph, find_compiler

pytestmark = pytest.mark.compiler

MOVES = """\
graph g(%x: f32[n, m], %h: f16[n, m], %k: i64[n, m]):
  %1: f32[n + 3, m + 4] = pad(%x, pads=((1, 2), (3, 1)), value=2.5)
  %2: f16[n + 1, m + 5] = pad(%h, pads=((0, 1), (5, 0)), value=0)
  %3: f32[n, m] = tril(%x, diagonal=1)
  %4: f32[n, m] = triu(%x, diagonal=-2)
  %5: i64[n, m] = tril(%k, diagonal=0)
  %6: f32[n, m] = flip(%3, axes=(1,))
  return %1 as a, %2 as b, %3 as c, %4 as d, %5 as e, %6 as f"""

MODES = """\
graph g(%x: f32[n, m]):
  %1: f32[n + 2, m + 3] = pad_mode(%x, pads=((1, 1), (2, 1)), mode='reflect')
  %2: f32[n + 3, m + 2] = pad_mode(%x, pads=((2, 1), (1, 1)), mode='replicate')
  %3: f32[n + 2, m + 3] = pad_mode(%x, pads=((1, 1), (1, 2)), mode='circular')
  return %1 as a, %2 as b, %3 as c"""


def fixed(text: str, n: int, m: int) -> str:
    """The graph for one size."""
    for name, size in (("n", n), ("m", m)):
        for extra in range(5, 0, -1):
            text = text.replace(f"{name} + {extra}", str(size + extra))
        text = text.replace(f"[{name},", f"[{size},").replace(f", {name}]", f", {size}]")
    return text


@pytest.mark.parametrize("vector_bytes", [16, 32])
@pytest.mark.parametrize("text", [MOVES, MODES], ids=["moves", "modes"])
def test_any_size(text: str, vector_bytes: int) -> None:
    compiler = find_compiler()
    assert compiler is not None
    flags = tuple("-O1" if flag == "-O2" else flag for flag in compiler.flags)
    graph = parse_graph(text)
    run = Executable(build(graph, Target(vector_bytes)), dataclasses.replace(compiler, flags=flags))
    rng = np.random.default_rng(0)
    least = 3 if text is MODES else 0
    for n in (least, 3, 5, 17):
        for m in (*range(least, 13), 16, 31, 33):
            x = rng.standard_normal((n, m)).astype(np.float32)
            arrays: list[Any] = [x, x.astype(np.float16), rng.integers(-9, 9, (n, m))]
            arrays = arrays[: len(graph.inputs)]
            for got, want in zip(run.run(arrays), interpret(graph, arrays), strict=True):
                np.testing.assert_array_equal(got, want, str((n, m)))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 9), (13, 40)])
def test_known_sizes(n: int, m: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, m)).astype(np.float32)
    arrays: list[Any] = [x, x.astype(np.float16), rng.integers(-9, 9, (n, m))]
    graph = parse_graph(fixed(MOVES, n, m))
    for got, want in zip(compile_graph(graph).run(arrays), interpret(graph, arrays), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("rows", "columns", "diagonal"), [(1, 1, 0), (5, 19, 3), (40, 7, -30), (8, 8, 9)]
)
def test_eye(rows: int, columns: int, diagonal: int) -> None:
    for dtype in ("f32", "i64", "f64", "i8"):
        graph = parse_graph(
            f"graph g():\n  %1: {dtype}[{rows}, {columns}] = "
            f"eye(rows={rows}, columns={columns}, dtype={dtype}, diagonal={diagonal})\n"
            "  return %1 as y"
        )
        (got,) = compile_graph(graph).run([])
        np.testing.assert_array_equal(got, np.eye(rows, columns, diagonal))
        assert got.dtype == graph.outputs[0].dtype.np


def test_first_of_equal_maxima() -> None:
    """A one-hot row at each first maximum: positions and classes are compared as int32."""
    graph = parse_graph(
        """\
graph g(%x: f32[n, 37]):
  const %classes: i64[37] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, \
20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36]
  %1: i64[n, 1] = arg_max(%x, axis=1, keepdims=True)
  %2: bool[n, 37] = equal(%classes, %1)
  %3: f32[n, 37] = cast(%2, dtype=f32)
  return %3 as y"""
    )
    run = compile_graph(graph)
    assert "i64x" not in run.program.text.split("static void kernel0")[1]
    rng = np.random.default_rng(2)
    for n in (0, 1, 5):
        x = rng.integers(0, 4, (n, 37)).astype(np.float32)
        x[:1, 9] = np.nan
        (got,) = run.run([x])
        np.testing.assert_array_equal(got, np.eye(37, dtype=np.float32)[x.argmax(1)])
