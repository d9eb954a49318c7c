"""What the tests of passes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dualgraph_compiler import Graph, TensorType, interpret, parse_graph, verify
from dualgraph_compiler.dims import evaluate, symbols
from dualgraph_compiler.dtypes import BOOL, FLOAT, INT, dtype_of
from dualgraph_compiler.graph import to_text
from dualgraph_compiler.passes import Pass, PassManager


def random_array(t: TensorType, rng: np.random.Generator, sizes: dict[str, int]) -> Any:
    shape = [evaluate(d, sizes) for d in t.shape]
    if t.dtype.category == BOOL:
        return rng.random(shape) > 0.5
    if t.dtype.category == INT:
        return rng.integers(0, 9, shape).astype(t.dtype.np)
    x = rng.normal(size=shape)
    return (x if t.dtype.category == FLOAT else x + 1j * rng.normal(size=shape)).astype(t.dtype.np)


def random_inputs(graph: Graph, seed: int = 0) -> list[Any]:
    """Arrays for the inputs; symbolic sizes are 2, 3, ..."""
    rng = np.random.default_rng(seed)
    names = sorted({s.name for v in graph.inputs for d in v.shape for s in symbols(d)})
    sizes = {name: 2 + i for i, name in enumerate(names)}
    return [random_array(v.type, rng, sizes) for v in graph.inputs]


def assert_same_results(
    before: Graph, after: Graph, inputs: Sequence[Any] | None = None, tol: float = 0.0
) -> None:
    """Equal results: bit for bit (any NaN equals any other), or within `tol`."""
    inputs = random_inputs(before) if inputs is None else inputs
    assert [v.type for v in before.outputs] == [v.type for v in after.outputs]
    assert before.output_names == after.output_names
    for a, b in zip(interpret(before, inputs), interpret(after, inputs), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        if dtype_of(a).is_narrow:  # whose NaN NumPy does not know as one
            a, b = a.astype(np.float32), b.astype(np.float32)
        if tol:
            np.testing.assert_allclose(b, a, rtol=tol, atol=tol)
        else:
            np.testing.assert_array_equal(b, a)
            if a.dtype.kind == "f":
                nan = np.isnan(a)
                np.testing.assert_array_equal(np.signbit(b[~nan]), np.signbit(a[~nan]))


def run_pass(p: Pass, graph: Graph | str) -> tuple[Graph, bool]:
    """A copy of `graph` after one pass, verified; a second run must find nothing left to do."""
    graph = parse_graph(graph) if isinstance(graph, str) else graph
    out = graph.copy()
    (record,) = PassManager([p], verify=True).run(out)
    assert not PassManager([p], verify=True).run(out)[0].changed
    return out, record.changed


def check(p: Pass, before: str, after: str, *, tol: float = 0.0, ignore_dead: bool = True) -> Graph:
    """`p` turns `before` into `after` and keeps every result. Unused constants are not compared."""
    graph = parse_graph(before)
    verify(graph)
    out, changed = run_pass(p, graph)
    assert_same_results(graph, out, tol=tol)
    if ignore_dead:
        out.drop_unused()
    expected = to_text(parse_graph(after))
    assert to_text(out) == expected
    assert changed == (to_text(graph) != expected)
    return out
