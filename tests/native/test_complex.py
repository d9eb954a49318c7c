"""Complex numbers in compiled graphs, which compute on their parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler.graph import interpret, parse_graph
from dualgraph_compiler.native import Interpreted
from dualgraph_compiler.native.complex_rules import RULES
from dualgraph_runtime.native import compile_graph

pytestmark = pytest.mark.compiler


def rand(*shape: int) -> np.ndarray[Any, Any]:
    r = np.random.default_rng(len(shape))
    return (r.normal(size=shape) + 1j * r.normal(size=shape)).astype(np.complex64)


def test_a_chain_between_complex_inputs_and_outputs() -> None:
    graph = parse_graph("""
graph g(%x: c64[n, 4], %y: c64[4], %i: i64[k]):
  %1: c64[n, 4] = mul(%x, %y)
  %2: c64[n, 4] = exp(%1)
  %3: c64[4, n] = permute(%2, axes=(1, 0))
  %4: c64[k, n] = index_select(%3, %i, axis=0)
  %5: c64[n] = sum(%4, axes=(0,), keepdims=False)
  %6: f32[n] = abs(%5)
  %7: c64[n] = conj(%5)
  return %4 as picked, %6 as size, %7 as conjugate, %x as same
""")
    run = compile_graph(graph)
    assert not any(isinstance(s, Interpreted) for s in run.program.steps)
    for n in (1, 5, 0, 33):
        arrays = [rand(n, 4), rand(4), np.array([3, 0, -1])]
        found = run.run(arrays)
        for got, want in zip(found, interpret(graph, arrays), strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
        assert not np.shares_memory(found[3], arrays[0])


def test_real_numbers_made_complex_move() -> None:
    """Their imaginary part is one zero, which has the shape of all."""
    graph = parse_graph("""
graph g(%x: f32[n, 4]):
  %1: c64[n, 4] = cast(%x, dtype=c64)
  %2: c64[4, n] = permute(%1, axes=(1, 0))
  %3: c64[4] = sum(%2, axes=(1,), keepdims=False)
  %4: f32[n, 4, 2] = view_as_real(%1)
  return %2 as moved, %3 as total, %4 as parts
""")
    run = compile_graph(graph)
    x = rand(5, 4).real
    for got, want in zip(run.run([x]), interpret(graph, [x]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_around_an_interpreted_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RULES, "pow")
    graph = parse_graph("""
graph g(%x: c128[n]):
  const %two: c128[] = 2
  %1: c128[n] = mul(%x, %two)
  %2: c128[n] = pow(%1, %x)
  %3: c128[n] = add(%2, %1)
  return %3 as y
""")
    run = compile_graph(graph)
    assert sum(isinstance(s, Interpreted) for s in run.program.steps) == 1
    x = rand(7).astype(np.complex128)
    np.testing.assert_allclose(run.run([x])[0], interpret(graph, [x])[0], rtol=1e-12)


@pytest.mark.parametrize("op", ["sqrt", "abs", "reciprocal", "isnan", "isfinite", "sign", "log"])
def test_edges(op: str) -> None:
    """Zeros of both signs, infinities and NaN in either part, numbers whose squares overflow."""
    edges = np.array([0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan, 1e30, 1e-30], np.float32)
    x = np.empty(81, np.complex64)
    x.imag = np.tile(edges, 9)
    x.real = np.repeat(edges, 9)
    finite = np.isfinite(x.real) & np.isfinite(x.imag)
    x = x if op in ("abs", "isnan", "isfinite") else x[finite & (x != 0)]
    kind = {"abs": "f32", "isnan": "bool", "isfinite": "bool"}.get(op, "c64")
    graph = parse_graph(f"graph g(%x: c64[n]):\n  %1: {kind}[n] = {op}(%x)\n  return %1 as y\n")
    (want,) = interpret(graph, [x])
    (got,) = compile_graph(graph).run([x])
    np.testing.assert_allclose(got.real, want.real, rtol=2e-6)
    np.testing.assert_allclose(got.imag, want.imag, rtol=2e-6)
    if op == "sqrt":
        np.testing.assert_array_equal(np.signbit(got.imag), np.signbit(want.imag))
