"""Index operands of compiled graphs: out of range, negative, of no elements, behind other ops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.errors import IndexOutOfRange
from dualgraph_compiler.graph import Graph, interpret, parse_graph
from dualgraph_compiler.native import Interpreted
from dualgraph_compiler.ops.base import REGISTRY
from dualgraph_runtime.native import compile_graph

pytestmark = pytest.mark.compiler

LEAST, MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max

# Ops on an index [n] within 5 rows of 3, and whether the index may count from the end.
CASES = {
    "index_select": (
        "%1: f32[n, 3] = index_select(%x, %i, axis=0)",
        True,
    ),
    "embedding": ("%1: f32[n, 3] = embedding(%x, %i, padding_idx=1)", False),
    "index": ("%1: f32[n, 3] = index(%x, %i, axes=(0,))", True),
    "gather": (
        "%j: i64[n, 1] = reshape(%i, shape=(n, 1))\n  %1: f32[n, 1] = gather(%x, %j, axis=0)",
        True,
    ),
    "one_hot": ("%1: f32[n, 5] = one_hot(%i, depth=5, dtype=f32)", False),
}


# Ops that write `%v`, at an index [n], into 5 rows of 3.
WRITES = {
    "scatter": "%2: f32[5, 3] = scatter(%x, %j, %v, axis=0)",
    "scatter_add": "%2: f32[5, 3] = scatter_add(%x, %j, %v, axis=0)",
    "index_put": "%2: f32[5, 3] = index_put(%x, %v, %i, axes=(0,), accumulate=False)",
    "index_put, adding": "%2: f32[5, 3] = index_put(%x, %v, %i, axes=(0,), accumulate=True)",
    "index_add": "%2: f32[5, 3] = index_add(%x, %i, %v, axis=0)",
    "index_select_grad": "%2: f32[5, 3] = index_select_grad(%v, %i, axis=0, size=5)",
    "embedding_grad": "%2: f32[5, 3] = embedding_grad(%v, %i, rows=5, padding_idx=1)",
}


def writing_graph(name: str) -> Graph:
    return parse_graph(f"""
graph g(%x: f32[5, 3], %v: f32[n, 3], %i: i64[n]):
  %k: i64[n, 1] = reshape(%i, shape=(n, 1))
  %j: i64[n, 3] = expand(%k, shape=(n, 3))
  {WRITES[name]}
  return %2 as y
""")


def graph_of(name: str) -> Graph:
    body, _ = CASES[name]
    result = body.rsplit("%1: ", 1)[1].split(" = ")[0]
    graph = parse_graph(
        f"graph g(%x: f32[5, 3], %i: i64[n]):\n  {body}\n"
        f"  %2: {result} = add(%1, %1)\n  return %2 as y\n"
    )
    return graph


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    return {name: compile_graph(graph_of(name)) for name in CASES}


def rand(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [0, 1, 9, 40])
def test_indices_in_range(compiled: dict[str, Any], name: str, n: int) -> None:
    low = -5 if CASES[name][1] else 0
    index = np.random.default_rng(n).integers(low, 5, n)
    x = rand(5, 3)
    run = compiled[name]
    assert not any(isinstance(s, Interpreted) for s in run.program.steps)
    (want,) = interpret(graph_of(name), [x, index])
    np.testing.assert_array_equal(run.run([x, index])[0], want)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("wrong", [5, -6, LEAST, MOST, -1])
@pytest.mark.parametrize("n", [1, 9, 40])
def test_an_index_out_of_range_is_named(
    compiled: dict[str, Any], name: str, wrong: int, n: int
) -> None:
    if CASES[name][1] and wrong == -1:
        return
    index = np.zeros(n, np.int64)
    index[-1] = wrong
    message = f"{name}: index.* {wrong} is out of bounds: expected .* < 5"
    for _ in range(2):  # the second time by a short way
        with pytest.raises(IndexOutOfRange, match=message):
            compiled[name].run([rand(5, 3), index])
    np.testing.assert_array_equal(compiled[name].run([rand(5, 3), index * 0])[0].shape[0], n)


@pytest.fixture(scope="module")
def writing() -> dict[str, Any]:
    return {name: compile_graph(writing_graph(name)) for name in WRITES}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("n", [0, 1, 9, 40])
def test_repeated_indices_are_written_in_order(writing: dict[str, Any], name: str, n: int) -> None:
    low = 0 if name == "embedding_grad" else -5
    index = np.random.default_rng(n).integers(low, 5, n)
    arrays = [rand(5, 3), rand(n, 3), index]
    run = writing[name]
    assert not any(isinstance(s, Interpreted) for s in run.program.steps)
    (want,) = interpret(writing_graph(name), arrays)
    # Eager sums over many repeats are pairwise.
    tolerance = 0 if n < 40 else 1e-6
    np.testing.assert_allclose(run.run(arrays)[0], want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("wrong", [5, -6, LEAST, MOST])
def test_nothing_is_written_out_of_range(writing: dict[str, Any], name: str, wrong: int) -> None:
    for n in (1, 40):
        index = np.zeros(n, np.int64)
        index[-1] = wrong
        with pytest.raises(IndexOutOfRange, match=f" {wrong} is out of bounds: expected .* < 5"):
            writing[name].run([rand(5, 3), rand(n, 3), index])


def test_nothing_to_write_into() -> None:
    graph = parse_graph("""
graph g(%x: f32[rows, 3], %v: f32[n, 3], %i: i64[n]):
  %1: f32[rows, 3] = index_put(%x, %v, %i, axes=(0,), accumulate=False)
  return %1 as y
""")
    run, none = compile_graph(graph), np.zeros((0, 3), np.float32)
    assert run.run([none, none, np.zeros(0, np.int64)])[0].shape == (0, 3)
    with pytest.raises(IndexOutOfRange):
        run.run([none, rand(2, 3), np.zeros(2, np.int64)])


@pytest.mark.parametrize("n", [0, 1, 7])
def test_what_a_mask_selects(n: int) -> None:
    graph = parse_graph("""
graph g(%x: f32[n, 3], %m: bool[n, 3], %s: f32[k]):
  %1: f32[n, 3] = masked_scatter(%x, %m, %s)
  %2: f32[2] = masked_gather(%x, %m, size=2)
  %3: f32[n, 3] = add(%1, %x)
  return %3 as y, %2 as first
""")
    run = compile_graph(graph)
    mask = np.random.default_rng(n).random((n, 3)) < 0.5
    count = int(mask.sum())
    arrays = [rand(n, 3), mask, np.arange(count, dtype=np.float32)]
    for got, want in zip(run.run(arrays), interpret(graph, arrays), strict=True):
        np.testing.assert_array_equal(got, want)
    if count:
        with pytest.raises(IndexOutOfRange, match="masked_scatter: place in the source"):
            run.run([*arrays[:2], arrays[2][:-1]])


def test_large_tables_are_shared_among_threads() -> None:
    """Sums into a table: the same bits for every number of threads, as they are in order."""
    graph = parse_graph("""
graph g(%v: f32[n, 200], %i: i64[n]):
  %1: f32[500, 200] = index_select_grad(%v, %i, axis=0, size=500)
  return %1 as y
""")
    index = np.random.default_rng(0).integers(0, 500, 3000)
    values = rand(3000, 200)
    (want,) = interpret(graph, [values, index])
    np.testing.assert_array_equal(compile_graph(graph).run([values, index])[0], want)


def test_no_rows_to_take() -> None:
    graph = parse_graph(
        "graph g(%x: f32[rows, 4], %i: i64[n]):\n"
        "  %1: f32[n, 4] = index_select(%x, %i, axis=0)\n  return %1 as y\n"
    )
    run = compile_graph(graph)
    empty = np.zeros((0, 4), np.float32)
    assert run.run([empty, np.zeros(0, np.int64)])[0].shape == (0, 4)
    with pytest.raises(IndexOutOfRange):
        run.run([empty, np.zeros(3, np.int64)])


def test_a_size_of_one_is_checked_too() -> None:
    graph = parse_graph(
        "graph g(%x: f32[1, 4], %i: i64[n]):\n"
        "  %1: f32[n, 4] = index_select(%x, %i, axis=0)\n  return %1 as y\n"
    )
    run = compile_graph(graph)
    np.testing.assert_array_equal(run.run([rand(1, 4), np.array([0, -1])])[0], rand(1, 4)[[0, 0]])
    with pytest.raises(IndexOutOfRange):
        run.run([rand(1, 4), np.array([1])])


def test_indices_found_by_indices_and_read_under_padding() -> None:
    """A gather whose index is gathered, moved and padded: nothing outside is read or checked."""
    graph = parse_graph("""
graph g(%x: f32[5, 3], %i: i64[n], %j: i64[m]):
  %1: i64[m] = index_select(%i, %j, axis=0)
  %2: f32[m, 3] = index_select(%x, %1, axis=0)
  %3: f32[3, m] = permute(%2, axes=(1, 0))
  %4: f32[3, m + 4] = pad(%3, pads=((0, 0), (1, 3)), value=7.0)
  return %4 as y
""")
    x, i, j = rand(5, 3), np.array([4, -5, 2]), np.array([0, 0, -1, 1, 2, -3, 1, 1, 1, 0])
    (want,) = interpret(graph, [x, i, j])
    run = compile_graph(graph)
    assert not any(isinstance(s, Interpreted) for s in run.program.steps)
    np.testing.assert_array_equal(run.run([x, i, j])[0], want)
    with pytest.raises(IndexOutOfRange, match="5 is out of bounds"):
        run.run([x, np.array([4, 5, 2]), j])


def test_behind_a_matrix_product() -> None:
    """What may fail is not computed as a product is stored, but on its own."""
    graph = parse_graph("""
graph g(%x: f32[6, 8], %w: f32[8, 16], %b: f32[4, 16], %i: i64[6]):
  %1: f32[6, 16] = matmul(%x, %w)
  %2: f32[6, 16] = embedding(%b, %i)
  %3: f32[6, 16] = add(%1, %2)
  return %3 as y
""")
    run = compile_graph(graph)
    arrays = [rand(6, 8), rand(8, 16), rand(4, 16), np.array([0, 3, 1, 2, 2, 0])]
    (want,) = interpret(graph, arrays)
    np.testing.assert_allclose(run.run(arrays)[0], want, rtol=1e-5, atol=1e-5)
    with pytest.raises(IndexOutOfRange):
        run.run([*arrays[:3], np.array([0, 3, 1, 4, 2, 0])])


CROSS_ENTROPY = """
graph g(%x: f32[n, 7], %t: i64[n], %g: f32[]):
  %1: f32[] = cross_entropy(%x, %t, reduction='mean', ignore_index=-100)
  %2: f32[n, 7] = nll_loss_grad(%g, %t, classes=7, reduction='mean', ignore_index=-100)
  %3: f32[n, 1] = sum(%2, axes=(1,), keepdims=True)
  %4: f32[n, 7] = softmax(%x, axis=1)
  %5: f32[n, 7] = mul(%4, %3)
  %6: f32[n, 7] = sub(%2, %5)
  return %1 as loss, %6 as gradient
"""


def test_cross_entropy_and_its_gradient() -> None:
    graph = parse_graph(CROSS_ENTROPY)
    run = compile_graph(graph)
    assert not any(isinstance(s, Interpreted) for s in run.program.steps)
    for n in (1, 5, 33):
        target = np.random.default_rng(n).integers(0, 7, n)
        target[n // 2 :: 5] = -100
        arrays = [5 * rand(n, 7), target, np.float32(1.5).reshape(())]
        for got, want in zip(run.run(arrays), interpret(graph, arrays), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    with pytest.raises(IndexOutOfRange, match="nll_loss: target 7 is out of bounds"):
        run.run([rand(2, 7), np.array([0, 7]), np.float32(1).reshape(())])


@pytest.mark.parametrize(
    "move",
    ["flip(%2, axes=(1,))", "permute(%2, axes=(1, 0))", "index_select(%2, %i, axis=1)"],
)
def test_an_operand_read_elsewhere_than_where_the_loops_are(move: str) -> None:
    """A sum that only a turned or indexed read needs is not computed in the reader's loops."""
    graph = parse_graph(f"""
graph g(%x: f32[8, 8], %a: f32[8, 8], %b: f32[8, 8], %i: i64[8]):
  %1: f32[8, 8] = softmax(%x, axis=1)
  %2: f32[8, 8] = add(%a, %b)
  %3: f32[8, 8] = {move}
  %4: f32[8, 8] = mul(%1, %3)
  return %4 as y
""")
    arrays = [rand(8, 8), rand(16, 8)[8:], rand(24, 8)[16:], np.arange(7, -1, -1)]
    (want,) = interpret(graph, arrays)
    np.testing.assert_allclose(compile_graph(graph).run(arrays)[0], want, rtol=1e-5)


def test_an_index_out_of_range_inside_a_loop() -> None:
    graph = parse_graph("""
graph g(%limit: i64[], %x: f64[n], %i: i64[n]):
  const %go: bool[] = True
  %1: f64[n] = loop(%limit, %go, %x, %i, carried=1, trips=0, sizes=())
    body(%k: i64[], %a: f64[n], %j: i64[n]):
      const %go: bool[] = True
      %1: f64[n] = index_select(%a, %j, axis=0)
      %2: f64[n] = add(%1, %a)
      return %go as go, %2 as a
  return %1 as y
""")
    run = compile_graph(graph)
    arrays = [np.array(3), np.linspace(0.0, 1.0, 4), np.array([3, 0, -1, 2])]
    np.testing.assert_allclose(run.run(arrays)[0], interpret(graph, arrays)[0])
    with pytest.raises(IndexOutOfRange, match="index_select: index 9 is out of bounds"):
        run.run([*arrays[:2], np.array([3, 0, 9, 2])])


def test_constants_within_range_are_not_checked_at_each_read() -> None:
    """Others are: from the end, and out of range."""
    x = np.arange(60, dtype=np.float32).reshape(5, 12)
    for at, is_checked in ([4, 0, 2], False), ([1, -1, 0], True), ([1, 5], True):
        graph = parse_graph("graph g(%x: f32[5, 12]):\n  return %x as y")
        columns = graph.constant(np.array([11, 0, 3, 3, 7, 8, 2, 10, 1, 0, 5]))
        rows = graph.constant(np.array(at))
        select = REGISTRY["index_select"]
        graph.set_outputs([select(1)(select(0)(graph.inputs[0], rows), columns)])
        run = compile_graph(graph)
        assert bool(run.program.index_errors) is is_checked
        if 5 in at:
            with pytest.raises(IndexOutOfRange):
                run.run([x])
        else:
            np.testing.assert_array_equal(run.run([x])[0], x[at][:, columns.data])
