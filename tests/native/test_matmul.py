"""Matrix products: every height of tiles, views as operands, and what is fused behind them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Dim, Graph, TensorType
from dualgraph_compiler.dtypes import float32
from dualgraph_compiler.graph import interpret, parse_graph
from dualgraph_compiler.native import Target, build
from dualgraph_compiler.ops import f
from dualgraph_runtime.native import Executable, compile_graph, find_compiler

pytestmark = pytest.mark.compiler


def rand(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def check(graph: Graph, arrays: list[Any]) -> None:
    """Within 1e-5 of the largest output."""
    for got, want in zip(compile_graph(graph).run(arrays), interpret(graph, arrays), strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=1e-5 * max(1, np.abs(want).max(initial=0)))


def test_every_height() -> None:
    """Rows from 1 to more than two tiles, for one program of any number of rows."""
    m = Dim("m")
    graph = Graph()
    x = graph.add_input(TensorType(float32, (m, 37)), "x")
    w = graph.constant(rand(37, 43))
    bias = graph.constant(rand(43))
    graph.set_outputs([f.tanh(f.matmul(x, w) + bias)])
    run = compile_graph(graph)
    for rows in [*range(28), 100]:
        x_ = rand(rows, 37, seed=rows)
        np.testing.assert_allclose(run.run([x_])[0], interpret(graph, [x_])[0], atol=1e-5)


@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 1, 1), (5, 0, 3), (0, 4, 4), (3, 4, 0), (13, 300, 5)]
)
def test_odd_sizes(m: int, k: int, n: int) -> None:
    graph = Graph()
    a = graph.add_input(TensorType(float32, (m, k)), "a")
    b = graph.add_input(TensorType(float32, (k, n)), "b")
    graph.set_outputs([f.matmul(a, b)])
    check(graph, [rand(m, k), rand(k, n)])


def test_what_follows_a_product_is_part_of_it() -> None:
    graph = parse_graph("""
graph g(%x: f32[20, 30], %w: f32[30, 40], %b: f32[40], %r: f32[20, 40]):
  %1: f32[20, 40] = matmul(%x, %w)
  %2: f32[20, 40] = add(%1, %b)
  %3: f32[20, 40] = gelu(%2, approximate='none')
  %4: f32[20, 40] = add(%3, %r)
  %5: bool[20, 40] = greater(%1, %r)
  return %4 as a, %1 as b, %5 as c
""")
    assert len(build(graph).kernels) == 1
    check(graph, [rand(20, 30), rand(30, 40), rand(40), rand(20, 40)])


def test_what_an_epilogue_reads_is_fetched_before() -> None:
    graph = parse_graph("""
graph g(%x: f32[3, 20, 64], %w: f32[3, 64, 40], %b: f32[40], %r: f32[3, 20, 40]):
  %1: f32[3, 20, 40] = matmul(%x, %w)
  %2: f32[3, 20, 40] = add(%1, %b)
  %3: f32[3, 20, 40] = add(%2, %r)
  return %3 as a
""")
    text = build(graph).text
    assert text.count("__builtin_prefetch(b3 + i0 * 800 + i * 40") == 1
    assert "__builtin_prefetch(b2" not in text
    check(graph, [rand(3, 20, 64), rand(3, 64, 40), rand(40), rand(3, 20, 40)])


def test_batches_broadcast() -> None:
    graph = parse_graph("""
graph g(%a: f32[2, 1, 7, 9], %b: f32[3, 9, 20], %c: f32[9, 5]):
  %1: f32[2, 3, 7, 20] = matmul(%a, %b)
  %2: f32[2, 1, 7, 5] = matmul(%a, %c)
  return %1 as x, %2 as y
""")
    check(graph, [rand(2, 1, 7, 9), rand(3, 9, 20), rand(9, 5)])


def test_constants_are_packed_once() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(float32, (4, 6)), "x")
    w = graph.constant(rand(10, 6))
    graph.set_outputs([f.matmul(x, f.transpose(w))])
    program = build(graph)
    assert program.packs
    check(graph, [rand(4, 6)])


# Of each product: rows, columns, depth, and what is constant or transposed.
SHAPES = [(1, 40, 70), (2, 33, 64), (3, 10, 401), (4, 9, 65), (5, 1, 100), (30, 1, 9), (1, 1, 500)]
SHAPES += [(7, 17, 390), (19, 130, 33), (200, 20, 800), (16, 70, 50), (13, 64, 1), (70, 7, 20)]
SHAPES += [(300, 270, 20), (21, 101, 500)]


@pytest.mark.parametrize(("vector_bytes", "symbolic"), [(16, True), (32, False)])
def test_operands_of_every_kind(vector_bytes: int, symbolic: bool) -> None:
    """Constant or not, transposed or not, with and without an epilogue; against float64."""
    graph, arrays, wanted, outputs = Graph(), [], [], []
    for number, (m, n, k) in enumerate(SHAPES):
        for kind in range(8):
            turn_a, turn_b, constant = bool(kind & 1), bool(kind & 2), bool(kind & 4)
            a = rand(*((k, m) if turn_a else (m, k)), seed=number)
            b = rand(*((n, k) if turn_b else (k, n)), seed=number + 99)
            shape = tuple(Dim(f"m{number}") if symbolic and d == m else d for d in a.shape)
            x = graph.add_input(TensorType(float32, shape), f"x{number}_{kind}")
            arrays.append(a)
            if constant:
                w = graph.constant(b)
            else:
                w = graph.add_input(TensorType(float32, b.shape), f"w{number}_{kind}")
                arrays.append(b)
            y = f.matmul(f.transpose(x) if turn_a else x, f.transpose(w) if turn_b else w)
            want = (a.T if turn_a else a).astype(np.float64) @ (b.T if turn_b else b)
            if (number + kind) % 3 == 0:
                y, want = y * y, want * want
            outputs.append(y)
            wanted.append(want)
    graph.set_outputs(outputs)
    for got, want in zip(built(graph, vector_bytes).run(arrays), wanted, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-6 * max(1, np.abs(want).max()))


def built(graph: Graph, vector_bytes: int) -> Executable:
    """A program for vectors of a width, compiled quickly."""
    compiler = find_compiler()
    assert compiler is not None
    flags = tuple("-O1" if flag == "-O2" else flag for flag in compiler.flags)
    return Executable(
        build(graph, Target(vector_bytes)), dataclasses.replace(compiler, flags=flags)
    )


def test_batches_share_or_have_panels_of_their_own() -> None:
    """Both operands under strides, symbolic batches and depths."""
    graph = parse_graph("""
graph g(%a: f32[n, 3, 20, t], %b: f32[n, 1, 33, t], %c: f32[t, 50], %d: f32[3, 21, 33]):
  %1: f32[n, 1, t, 33] = permute(%b, axes=(0, 1, 3, 2))
  %2: f32[n, 3, 20, 33] = matmul(%a, %1)
  %3: f32[n, 3, 20, 50] = matmul(%a, %c)
  %4: f32[3, 33, 21] = permute(%d, axes=(0, 2, 1))
  %5: f32[n, 3, 20, 21] = matmul(%2, %4)
  %6: f32[n, 3, 33, 20] = permute(%2, axes=(0, 1, 3, 2))
  %7: f32[n, 3, 20, 20] = matmul(%2, %6)
  return %3 as x, %5 as y, %7 as z
""")
    for n, t in ((1, 1), (2, 5), (3, 40)):
        shapes = [(n, 3, 20, t), (n, 1, 33, t), (t, 50), (3, 21, 33)]
        check(graph, [rand(*s, seed=i) for i, s in enumerate(shapes)])


def test_products_of_a_batch_turned_round() -> None:
    """The second operand is the larger one, and contiguous along what is summed."""
    graph = parse_graph("""
graph g(%a: f32[n, 3, 6, t], %b: f32[n, 1, 33, t]):
  %1: f32[n, 1, t, 33] = permute(%b, axes=(0, 1, 3, 2))
  %2: f32[n, 3, 6, 33] = matmul(%a, %1)
  %3: f32[n, 3, 6, 33] = tanh(%2)
  return %3 as x
""")
    for n, t in ((1, 1), (2, 5), (3, 40)):
        check(graph, [rand(n, 3, 6, t), rand(n, 1, 33, t, seed=1)])


def test_rows_of_a_batch_are_one_matrix() -> None:
    """What follows is computed at the places that the rows have in the batch."""
    graph = parse_graph("""
graph g(%x: f32[n, t, 30], %y: f32[t, 1, 4, 30], %w: f32[30, 20], %b: f32[t, 20]):
  %1: f32[n, t, 20] = matmul(%x, %w)
  %2: f32[n, t, 20] = add(%1, %b)
  %3: f32[n, t, 20] = gelu(%2, approximate='tanh')
  %4: f32[t, 1, 4, 20] = matmul(%y, %w)
  %5: f32[4, t, 1, 30] = permute(%y, axes=(2, 0, 1, 3))
  %6: f32[4, t, 1, 20] = matmul(%5, %w)
  %7: f32[4, t, 20] = reshape(%6, shape=(4, t, 20))
  %8: f32[4, t, 20] = add(%7, %b)
  return %3 as a, %4 as b, %8 as c
""")
    for n, t in ((1, 1), (3, 1), (1, 7), (4, 9)):
        shapes = [(n, t, 30), (t, 1, 4, 30), (30, 20), (t, 20)]
        check(graph, [rand(*s, seed=i) for i, s in enumerate(shapes)])


@pytest.mark.parametrize(("m", "n", "k"), [(24, 700, 100), (61, 1033, 77), (61, 512, 390)])
def test_few_rows_and_what_only_one_task_reads(m: int, n: int, k: int) -> None:
    """Columns are packed by the task that multiplies them, and nowhere else."""
    graph = Graph()
    a = graph.add_input(TensorType(float32, (m, k)), "a")
    b = graph.add_input(TensorType(float32, (k, n)), "b")
    y = f.matmul(a, b)
    graph.set_outputs([y, f.matmul(a, b + 1.0) * 0.5])
    text = build(graph, Target(32)).text
    assert "pack_columns_" in text
    assert "_pack(" not in text
    wanted = interpret(graph, arrays := [rand(m, k), rand(k, n, seed=1)])
    for threads in (1, 2):
        found = compile_graph(graph, num_threads=threads).run(arrays)
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5 * max(1, np.abs(want).max()))


@pytest.mark.parametrize("m", [512, 1024, 700])
def test_products_along_rows_that_are_far_apart(m: int) -> None:
    """As gradients of weights are: both operands are packed, a few rows of them at a time."""
    graph = Graph()
    a = graph.add_input(TensorType(float32, (451, m)), "a")
    b = graph.add_input(TensorType(float32, (451, 101)), "b")
    graph.set_outputs([f.matmul(f.transpose(a), b)])
    text = build(graph, Target(32)).text
    assert ("k0 + s" in text) == (m % 512 == 0)
    check(graph, [rand(451, m), rand(451, 101, seed=1)])


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_one_row_of_constant_weights(vector_bytes: int) -> None:
    """Panels of a task are read side by side: those left over, and a narrow one at the end, too."""
    graph, arrays, outputs = Graph(), [], []
    for k in (1, 9, 400):
        x = graph.add_input(TensorType(float32, (1, k)), f"x{k}")
        column = graph.add_input(TensorType(float32, (k, 1)), f"column{k}")
        arrays += [rand(1, k), rand(k, 1, seed=1)]
        for n in (1, 15, 96, 131, 300):
            w, bias = graph.constant(rand(k, n)), graph.constant(rand(n))
            outputs += [f.matmul(x, w), f.matmul(x, w) + bias]
            outputs.append(f.matmul(f.permute(column, axes=(1, 0)), w))
    graph.set_outputs(outputs)
    assert "void row" in build(graph, Target(vector_bytes)).text
    found = built(graph, vector_bytes).run(arrays)
    for got, want in zip(found, interpret(graph, arrays), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5 * max(1, np.abs(want).max()))


@pytest.mark.parametrize("symbolic", [False, True])
def test_large_products_pack_before_they_begin(symbolic: bool) -> None:
    """In a phase of its own, whose tasks are shared; against float64, for any number of threads."""
    shapes = [(130, 200, 401), (70, 100, 800), (100, 300, 90), (500, 65, 64)]
    graph, arrays, wanted, outputs = Graph(), [], [], []
    for number, (m, n, k) in enumerate(shapes):
        for kind in range(4):
            a = rand(*((k, m) if kind & 1 else (m, k)), seed=number)
            b = rand(*((n, k) if kind & 2 else (k, n)), seed=number + 99)
            shape = tuple(Dim(f"m{number}") if symbolic and d == m else d for d in a.shape)
            x = graph.add_input(TensorType(float32, shape), f"x{number}_{kind}")
            w = graph.add_input(TensorType(float32, b.shape), f"w{number}_{kind}")
            arrays += [a, b]
            y = f.matmul(f.transpose(x) if kind & 1 else x, f.transpose(w) if kind & 2 else w)
            want = (a.T if kind & 1 else a).astype(np.float64) @ (b.T if kind & 2 else b)
            outputs.append(f.clip(y, 0, None) if number % 2 else y)
            wanted.append(np.maximum(want, 0) if number % 2 else want)
    graph.set_outputs(outputs)
    assert "_pack(" in build(graph).text
    found = [compile_graph(graph, num_threads=n).run(arrays) for n in (1, 2, 3)]
    for got, want in zip(found[0], wanted, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-6 * max(1, np.abs(want).max()))
    for other in found[1:]:
        for got, want in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(got, want)


def test_tiles_begin_from_what_is_added() -> None:
    """A bias, a whole matrix, and what is broadcast in other ways or is the sums again."""
    operands = """%x: f32[5, 20, 864], %w: f32[864, 48], %b: f32[48], %r: f32[5, 20, 48],
%v: f32[48, 48], %c: f32[5, 1, 48], %d: f32[20, 1], %y: f32[n, 64], %u: f32[64, 16], %e: f32[16],
%p: f32[3, 7, 40], %q: f32[3, 40, 32], %s: f32[3, 7, 32]"""
    graph = parse_graph(f"""
graph g({" ".join(operands.split())}):
  %1: f32[5, 20, 48] = matmul(%x, %w)
  %2: f32[5, 20, 48] = add(%1, %b)
  %3: f32[5, 20, 48] = matmul(%x, %w)
  %4: f32[5, 20, 48] = add(%r, %3)
  %5: f32[n, 16] = matmul(%y, %u)
  %6: f32[n, 16] = add(%5, %e)
  %7: f32[3, 7, 32] = matmul(%p, %q)
  %8: f32[3, 7, 32] = add(%7, %s)
  %9: f32[5, 20, 48] = matmul(%r, %v)
  %10: f32[5, 20, 48] = add(%9, %c)
  %11: f32[5, 20, 48] = matmul(%r, %v)
  %12: f32[5, 20, 48] = add(%11, %d)
  %13: f32[5, 20, 48] = matmul(%r, %v)
  %14: f32[5, 20, 48] = add(%13, %13)
  return %2 as a, %4 as b, %6 as c, %8 as d, %10 as e, %12 as f, %14 as g
""")
    assert "_from(" in build(graph).text
    arrays = [
        rand(*(9 if isinstance(d, Dim) else d for d in v.shape), seed=i)
        for i, v in enumerate(graph.inputs)
    ]
    check(graph, arrays)
