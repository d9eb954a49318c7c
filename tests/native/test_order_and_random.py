"""Sorting, top-k, positions of extremes and random streams, compiled, against the eager ops."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import bool_, dtype_of, float16, float32, float64, int8, int64
from dualgraph_compiler.graph import Graph, interpret
from dualgraph_compiler.native import Interpreted, Target, build
from dualgraph_compiler.ops import REGISTRY
from dualgraph_compiler.types import TensorType
from dualgraph_runtime.native import compile_graph, find_compiler

pytestmark = pytest.mark.compiler

DTYPES = ["float16", "bfloat16", "float32", "float64", "int8", "int64", "uint8", "uint64", "bool"]


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Numbers with repeats, and every special one of the dtype."""
    r = np.random.default_rng(len(name))
    if name == "bool":
        return r.random(shape) < 0.5
    if "float" not in name:
        info = np.iinfo(name)
        x = r.integers(info.min, info.max, shape, dtype=name, endpoint=True)
        return np.where(r.random(shape) < 0.3, x[:, :1], x)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-40, -1e-7]
    x = np.where(r.random(shape) < 0.4, r.choice(special, shape), r.integers(-9, 9, shape) / 4)
    with np.errstate(all="ignore"):
        return x.astype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def check(graph: Graph, arrays: list[Any]) -> None:
    run = compile_graph(graph)
    assert not any(isinstance(s, Interpreted) for s in run.program.steps)
    for got, want in zip(run.run(arrays), interpret(graph, arrays), strict=True):
        assert got.dtype == want.dtype
        assert got.tobytes() == want.tobytes()


def orders(dtype: Any, rows: Any, n: Any, k: int) -> Graph:
    """Everything that looks at order, along both axes."""
    graph = Graph("orders")
    x = graph.add_input(TensorType(dtype, (rows, n)), "x")
    out: list[Any] = []
    for turned in (False, True):
        out += REGISTRY["sort"](1, turned)(x)
        out += REGISTRY["top_k"](k, 1, turned, True)(x)
        out += REGISTRY["sort"](0, turned)(x)
    for name in ("arg_max", "arg_min"):
        out += [REGISTRY[name](0, False)(x), REGISTRY[name](1, True)(x)]
    graph.set_outputs(out)
    return graph


@pytest.mark.parametrize("name", DTYPES)
def test_order(name: str) -> None:
    x = numbers(name, (3, 41))
    check(orders(dtype_of(x), Dim("rows", min=1), Dim("n", min=1), 4), [x])
    x = numbers(name, (2, 300))
    check(orders(dtype_of(x), 2, 300, 150), [x])
    x = numbers(name, (2, 1500))
    check(orders(dtype_of(x), 2, Dim("n", min=1), 1), [x])


def test_nothing_to_sort() -> None:
    graph = Graph("empty")
    x = graph.add_input(TensorType(float32, (Dim("rows"), Dim("n"))), "x")
    graph.set_outputs([*REGISTRY["sort"](1, False)(x), *REGISTRY["sort"](0, True)(x)])
    run = compile_graph(graph)
    for shape in ((0, 3), (3, 0), (0, 0), (2, 2)):
        a = np.ones(shape, np.float32)
        for got, want in zip(run.run([a]), interpret(graph, [a]), strict=True):
            np.testing.assert_array_equal(got, want)


def draws(n: Any) -> Graph:
    """Draws that must be the eager ones bit for bit."""
    graph = Graph("draws")
    stream = [graph.add_input(TensorType(dtype_of(np.uint64(0)), ()), v) for v in ("seed", "at")]
    ops = [REGISTRY["random_uniform"]((n, 3), t) for t in (float16, float32, float64)]
    ops += [REGISTRY["random_bernoulli"]((n,), p) for p in (0.0, 0.3, 1.0)]
    for low, high, t in ((-5, 9, int8), (0, 2, bool_), (-(2**63), 2**63, int64), (3, 2**40, int64)):
        ops.append(REGISTRY["random_int"](low, high, (n, 2), t))
    if isinstance(n, int):
        ops.append(REGISTRY["random_permutation"](n))
    graph.set_outputs([op(*stream) for op in ops])
    return graph


@pytest.mark.parametrize("n", [1, 2, 5, 64, 1003])
def test_a_random_stream(n: int) -> None:
    for seed, offset in ((0, 0), (2**64 - 1, 12345), (77, 2**64 - 3)):
        check(draws(n), [np.array(seed, np.uint64), np.array(offset, np.uint64)])


def test_a_random_stream_of_any_length() -> None:
    graph = Graph("draws")
    x = graph.add_input(TensorType(float32, (Dim("n"),)), "x")
    stream = [graph.add_input(TensorType(dtype_of(np.uint64(0)), ()), v) for v in ("seed", "at")]
    mask = REGISTRY["random_bernoulli"]((Dim("n"),), 0.25)(*stream)
    zero = graph.constant(np.zeros((), np.float32))
    graph.set_outputs([REGISTRY["where"]()(mask, x, zero), mask])
    run = compile_graph(graph)
    for n in (0, 1, 3, 4, 7, 64, 129):
        arrays = [np.arange(n, dtype=np.float32), np.array(3, np.uint64), np.array(4, np.uint64)]
        for got, want in zip(run.run(arrays), interpret(graph, arrays), strict=True):
            np.testing.assert_array_equal(got, want)


def test_every_width_gives_the_same_stream() -> None:
    from dataclasses import replace

    compiler = find_compiler()
    assert compiler is not None
    arrays = [np.array(5, np.uint64), np.array(2**64 - 7, np.uint64)]
    want = interpret(draws(77), arrays)
    for width in (16, 32):
        run = compile_graph(draws(77), replace(compiler, target=Target(width)))
        for got, expected in zip(run.run(arrays), want, strict=True):
            np.testing.assert_array_equal(got, expected)
    assert "philox2_u64x8" in build(draws(77), Target(64)).text


def test_masks_are_written_a_block_of_words_at_a_time() -> None:
    """The bools of a block lie beside each other; what is left behind the last vectors, too."""
    text = build(draws(1003), Target(32)).text
    assert text.count("store_i32x4((i32 *)") >= 2
    assert "store_i32x4((i32 *)" not in build(draws(5), Target(32)).text
