"""Attention as one kernel: what is found in a graph, and its results against float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.graph import parse_graph
from dualgraph_compiler.native import Target, build
from dualgraph_runtime.native import Executable, compile_graph, find_compiler

pytestmark = pytest.mark.compiler

Array = np.ndarray[Any, Any]


def rand(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def reference(q: Array, k: Array, v: Array, scale: float, add: Array | None = None) -> Array:
    """In float64, with a matrix of scores."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    with np.errstate(all="ignore"):
        scores = q @ np.swapaxes(k, -1, -2) * scale + (0 if add is None else add)
        e = np.exp(scores - scores.max(-1, keepdims=True))
        return np.asarray(e / e.sum(-1, keepdims=True) @ v)


def close(got: Array, want: Array) -> None:
    np.testing.assert_allclose(
        got, want, atol=3e-6 * max(1, np.abs(want[np.isfinite(want)]).max(initial=0))
    )


PLAIN = """
graph g(%q: f32[n, 3, l, {d}], %k: f32[n, 3, s, {d}], %v: f32[n, 3, s, {e}]):
  const %c: f32[] = 0.25
  %1: f32[n, 3, {d}, s] = permute(%k, axes=(0, 1, 3, 2))
  %2: f32[n, 3, l, {d}] = mul(%q, %c)
  %3: f32[n, 3, l, s] = matmul(%2, %1)
  %4: f32[n, 3, l, s] = softmax(%3, axis=3)
  %5: f32[n, 3, l, {e}] = matmul(%4, %v)
  return %5 as output
"""


@pytest.mark.parametrize("vector_bytes", [16, 32])
@pytest.mark.parametrize(("d", "e"), [(8, 16), (33, 5), (64, 64)])
def test_any_length(vector_bytes: int, d: int, e: int) -> None:
    """One query and many, more keys than a block has; sums of every width."""
    compiler = find_compiler()
    assert compiler is not None
    program = build(parse_graph(PLAIN.format(d=d, e=e)), Target(vector_bytes))
    assert len(program.kernels) == 1
    run = Executable(program, compiler)
    for n, length, s in (
        (1, 1, 1),
        (2, 1, 300),
        (1, 4, 7),
        (2, 5, 128),
        (1, 100, 129),
        (1, 49, 17),
    ):
        q, k, v = rand(n, 3, length, d, seed=1), rand(n, 3, s, d, seed=2), rand(n, 3, s, e, seed=3)
        (y,) = run.run([q, k, v])
        close(y, reference(q, k, v, 0.25))


def test_large_scores_that_grow_along_the_keys() -> None:
    """Each block of keys raises the maximum, by up to more than float32's exponentials reach."""
    run = compile_graph(parse_graph(PLAIN.format(d=8, e=16)))
    for size in (1.0, 30.0, 1000.0):
        q, k, v = np.ones((1, 3, 50, 8), np.float32), rand(1, 3, 500, 8), rand(1, 3, 500, 16)
        k += np.linspace(-size, size, 500, dtype=np.float32)[:, None]
        close(run.run([q, k, v])[0], reference(q, k, v, 0.25))


def test_heads_are_read_where_they_are() -> None:
    """Out of one matrix of queries, keys and values."""
    graph = parse_graph("""
graph g(%x: f32[t, 2, 144]):
  %0: f32[t, 2, 9, 16] = reshape(%x, shape=(t, 2, 9, 16))
  %1: f32[t, 2, 3, 16] = slice(%0, starts=(0, 0, 0, 0), stops=(t, 2, 3, 16), steps=(1, 1, 1, 1))
  %2: f32[t, 2, 3, 16] = slice(%0, starts=(0, 0, 3, 0), stops=(t, 2, 6, 16), steps=(1, 1, 1, 1))
  %3: f32[t, 2, 3, 16] = slice(%0, starts=(0, 0, 6, 0), stops=(t, 2, 9, 16), steps=(1, 1, 1, 1))
  %q: f32[2, 3, t, 16] = permute(%1, axes=(1, 2, 0, 3))
  %k: f32[2, 3, 16, t] = permute(%2, axes=(1, 2, 3, 0))
  %v: f32[2, 3, t, 16] = permute(%3, axes=(1, 2, 0, 3))
  %4: f32[2, 3, t, t] = matmul(%q, %k)
  %5: f32[2, 3, t, t] = softmax(%4, axis=3)
  %6: f32[2, 3, t, 16] = matmul(%5, %v)
  %7: f32[2, 3, t, 16] = relu(%6)
  %8: f32[t, 2, 3, 16] = permute(%7, axes=(2, 0, 1, 3))
  %9: f32[t, 2, 48] = reshape(%8, shape=(t, 2, 48))
  return %9 as output
""")
    run = compile_graph(graph)
    for t in (1, 3, 60, 200):
        x = rand(t, 2, 144)
        q, k, v = np.moveaxis(x.reshape(t, 2, 3, 3, 16), 2, 0).transpose(0, 2, 3, 1, 4)
        want = np.maximum(reference(q, k, v, 1.0), 0).transpose(2, 0, 1, 3).reshape(t, 2, 48)
        close(run.run([x])[0], want)


MASKED = """
graph g(%q: f32[2, l, 8], %k: f32[2, s, 8], %v: f32[2, s, 8], %m: {dtype}[{shape}]):
  const %c: f32[] = 3.0
  const %none: f32[] = -inf
  const %zero: f32[] = 0.0
  %1: f32[2, 8, s] = permute(%k, axes=(0, 2, 1))
  %2: f32[2, l, s] = matmul(%q, %1)
  %3: f32[2, l, s] = div(%2, %c)
  %4: f32[2, l, s] = {masked}
  %5: f32[2, l, s] = softmax(%4, axis=2)
{rest}
"""
OUT = "  %6: f32[2, l, 8] = matmul(%5, %v)\n  return %6 as output"
OR_ZERO = """
  %7: bool[2, l, s] = equal(%4, %none)
  %8: bool[2, l, 1] = all(%7, axes=(2,), keepdims=True)
  %9: f32[2, l, s] = where(%8, %zero, %5)
  %6: f32[2, l, 8] = matmul(%9, %v)
  return %6 as output"""


@pytest.mark.parametrize("shape", ["2, l, s", "l, s", "1, s", "s", "2, 1, s"])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("kind", ["add", "where"])
def test_masks(shape: str, zero: bool, kind: str) -> None:
    """Added or chosen by; of rows without a key NaN or 0, as the graph has it."""
    masked = "add(%3, %m)" if kind == "add" else "where(%m, %3, %none)"
    dtype = "f32" if kind == "add" else "bool"
    rest = OR_ZERO.lstrip("\n") if zero else OUT
    text = MASKED.format(dtype=dtype, shape=shape, masked=masked, rest=rest)
    graph = parse_graph(text)
    assert len(build(graph).kernels) == 1
    run = compile_graph(graph)
    for length, s in ((1, 5), (7, 19), (60, 150)):
        q, k, v = rand(2, length, 8, seed=1), rand(2, s, 8, seed=2), rand(2, s, 8, seed=3)
        sizes = tuple({"l": length, "s": s}.get(d.strip()) or int(d) for d in shape.split(","))
        keep = rand(*sizes, seed=4) > -0.5
        if len(sizes) > 1:
            keep[..., 0, :] = False  # a row without a key
        mask = np.where(keep, rand(*sizes) if kind == "add" else 0, -math.inf)
        want = reference(q, k, v, 1 / 3, mask)
        if zero:
            want = np.where(np.isnan(want), 0, want)
        close(run.run([q, k, v, mask.astype(np.float32) if kind == "add" else keep])[0], want)


def test_weights_that_are_read_elsewhere_stay() -> None:
    graph = parse_graph("""
graph g(%q: f32[5, 8], %k: f32[8, 6], %v: f32[6, 8]):
  %1: f32[5, 6] = matmul(%q, %k)
  %2: f32[5, 6] = softmax(%1, axis=1)
  %3: f32[5, 8] = matmul(%2, %v)
  return %3 as a, %2 as b
""")
    assert len(build(graph).kernels) == 3
    q, k, v = rand(5, 8), rand(8, 6), rand(6, 8)
    close(compile_graph(graph).run([q, k, v])[0], reference(q, k.T, v, 1.0))


def test_no_keys_and_values_that_are_not_finite() -> None:
    run = compile_graph(parse_graph(PLAIN.format(d=8, e=16)))
    empty = rand(1, 3, 0, 8), rand(1, 3, 0, 16)
    assert not run.run([rand(1, 3, 4, 8), *empty])[0].any()
    q, k, v = rand(1, 3, 4, 8), rand(1, 3, 150, 8), rand(1, 3, 150, 16)
    q[0, 0, 1, 2], v[0, 1, 140, 3] = math.nan, math.inf
    (y,) = run.run([q, k, v])
    assert np.isnan(y[0, 0, 1]).all()
    assert np.isfinite(y[0, 0, 0]).all()
    assert np.isinf(y[0, 1, :, 3]).all()


@pytest.mark.parametrize("cap", [0.5, 30.0])
def test_capped_scores(cap: float) -> None:
    """Scores bounded by a hyperbolic tangent, before masks."""
    graph = parse_graph(f"""
graph g(%q: f32[2, l, 8], %k: f32[2, s, 8], %v: f32[2, s, 8], %m: bool[l, s]):
  const %below: f32[] = {1 / cap}
  const %cap: f32[] = {cap}
  const %none: f32[] = -inf
  %1: f32[2, 8, s] = permute(%k, axes=(0, 2, 1))
  %2: f32[2, l, s] = matmul(%q, %1)
  %3: f32[2, l, s] = mul(%2, %below)
  %4: f32[2, l, s] = tanh(%3)
  %5: f32[2, l, s] = mul(%4, %cap)
  %6: f32[2, l, s] = where(%m, %5, %none)
  %7: f32[2, l, s] = softmax(%6, axis=2)
  %8: f32[2, l, 8] = matmul(%7, %v)
  return %8 as output
""")
    assert len(build(graph).kernels) == 1
    run = compile_graph(graph)
    for length, s in ((1, 5), (7, 19), (60, 150)):
        q, k, v = rand(2, length, 8, seed=1), rand(2, s, 8, seed=2), rand(2, s, 8, seed=3)
        keep = rand(length, s, seed=4) > -1
        keep[:, 0] = True
        scores = cap * np.tanh(q.astype(np.float64) @ k.transpose(0, 2, 1) / cap)
        e = np.where(keep, np.exp(scores), 0)
        close(run.run([q, k, v, keep])[0], e / e.sum(-1, keepdims=True) @ v)


def test_blocks_of_keys_that_nothing_sees() -> None:
    """Passed by, the first of them too: queries see keys near themselves only."""
    graph = parse_graph(
        MASKED.format(dtype="bool", shape="l, s", masked="where(%m, %3, %none)", rest=OUT)
    )
    run = compile_graph(graph)
    for length, s, near in ((300, 300, 5), (200, 700, 40), (60, 500, 0)):
        q, k, v = rand(2, length, 8, seed=1), rand(2, s, 8, seed=2), rand(2, s, 8, seed=3)
        at = np.arange(length)[:, None] + (s - length)
        keep = abs(at - np.arange(s)) <= near
        want = reference(q, k, v, 1 / 3, np.where(keep, 0, -math.inf))
        close(run.run([q, k, v, keep])[0], want)
