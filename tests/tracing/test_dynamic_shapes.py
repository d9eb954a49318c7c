"""One trace for all sizes: what a graph with symbolic sizes gives, against the eager function."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph_compiler.compile import optimize
from dualgraph_compiler.dims import Dim, evaluate, parse_dim, symbols
from dualgraph_compiler.errors import FeedError, ShapeError, UndecidedSize
from dualgraph_compiler.graph import interpret, parse_graph, to_text, verify

from .dynamic_cases import CASES

TRACED = {"n": 3, "h": 5, "w": 6, "m": 2, "d": 8, "h5": 4}
BOUNDS = {"h5": Dim("h5", max=40)}
# Eager code refuses these where a size happens to be 0; a graph goes on with no elements, or inf.
LENIENT = re.compile(
    r"ambiguous beside 0|division by zero|raised to a negative power|modulo by zero"
)


def flat(x: Any) -> list[Any]:
    return [t for v in x for t in flat(v)] if isinstance(x, tuple | list) else [x]


def arrays(shapes: list[list[Any]], sizes: dict[str, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    made = [[evaluate(d, sizes) for d in shape] for shape in shapes]
    return [rng.normal(size=shape).astype(np.float32) for shape in made]


def outcome(run: Any) -> Any:
    try:
        with np.errstate(all="ignore"):
            return [np.asarray(x) for x in run()]
    except Exception as error:
        return error


@pytest.mark.parametrize("name", CASES)
def test_one_trace_for_all_sizes(name: str) -> None:
    """At the traced sizes, at 0, at 1, and at others."""
    function, texts = CASES[name]
    shapes = [[parse_dim(d, BOUNDS) for d in text.split()] for text in texts]
    spec = [{i: d for i, d in enumerate(s) if isinstance(d, Dim)} for s in shapes]
    graph = dg.trace(function, *map(dg.from_numpy, arrays(shapes, TRACED)), dynamic_shapes=spec)
    verify(graph)
    small = optimize(graph)
    again = parse_graph(to_text(graph, full=True), {v.name: v.data for v in graph.params})
    names = sorted({s.name for shape in shapes for d in shape for s in symbols(d)})
    varied = [{**TRACED, n: size} for n in names for size in (0, 1, 2, 4, 7)]
    for sizes in [TRACED, *varied, dict.fromkeys(TRACED, 1), dict.fromkeys(TRACED, 9)]:
        feeds = arrays(shapes, sizes)
        want = outcome(lambda: [t.detach().numpy() for t in flat(function(*map(dg.tensor, feeds)))])  # noqa: B023
        for g in (graph, small, again):
            got = outcome(lambda: interpret(g, feeds))  # noqa: B023
            check(got, want, g, sizes)


def check(got: Any, want: Any, graph: Any, sizes: dict[str, int]) -> None:
    what = f"for {sizes}"
    if isinstance(want, Exception):
        assert isinstance(got, Exception) or LENIENT.search(str(want)), f"{what}: no error, {want}"
        return
    if isinstance(got, FeedError) and "counted from the" in str(got):
        return  # the sign of a bound had to be assumed
    assert not isinstance(got, Exception), f"{what}: {got!r}"
    assert len(got) == len(want)
    for a, b, v in zip(got, want, graph.outputs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), what
        assert tuple(evaluate(d, sizes) for d in v.shape) == b.shape, f"{what}: {v.type}"
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=what)


# -- sizes that are declared ----------------------------------------------------------------------


def graph_of(function: Any, *shapes: str) -> dg.Graph:
    dims = [[parse_dim(d, BOUNDS) for d in s.split()] for s in shapes]
    spec = [{i: d for i, d in enumerate(s) if isinstance(d, Dim)} for s in dims]
    return dg.trace(function, *map(dg.from_numpy, arrays(dims, TRACED)), dynamic_shapes=spec)  # type: ignore[return-value]


def test_a_size_may_be_declared_as_a_multiple() -> None:
    graph = graph_of(lambda x: x.reshape(x.shape[0] // 2, 2), "2*n")
    assert str(graph.outputs[0].type) == "f32[n, 2]"
    assert interpret(graph, [np.zeros(8, np.float32)])[0].shape == (4, 2)
    with pytest.raises(FeedError, match=r"dimension 0 has size 7, but it is declared 2\*n"):
        interpret(graph, [np.zeros(7, np.float32)])


def test_bounds_are_kept() -> None:
    n = Dim("n", min=2, max=8)
    graph = dg.trace(lambda x: x[:2] + x[-2:], dg.ones(3), dynamic_shapes={"x": {0: n}})
    assert str(graph.outputs[0].type) == "f32[2]"
    with pytest.raises(
        FeedError, match=r"'x': dimension 0 has size 9, but n is declared at least 2 and at most 8"
    ):
        interpret(graph, [np.zeros(9, np.float32)])


def test_what_is_assumed_is_checked_and_names_the_line() -> None:
    def halves(x):
        return nn.functional.glu(x)  # this line

    graph = dg.trace(halves, dg.ones(3, 4), dynamic_shapes={"x": {1: "n"}})
    (assumption,) = graph.assumptions
    line = halves.__code__.co_firstlineno + 1
    assert "assume mod(n, 2) == 0, 'glu: halving dimension must be even" in str(graph)
    with pytest.raises(FeedError, match=rf"must be even.*{__file__}:{line}.*needs.*but n = 5"):
        interpret(optimize(graph), [np.ones((3, 5), np.float32)])
    assert assumption.loc is not None
    assert assumption.loc.line == line


def test_what_bounds_decide_is_not_assumed() -> None:
    for n in (2 * Dim("half"), 4):
        graph = dg.trace(nn.GLU(), dg.ones(3, 4), dynamic_shapes={"input": {1: n}})
        assert not graph.assumptions
    with pytest.raises(ShapeError, match="must be even"):
        dg.trace(nn.GLU(), dg.ones(3, 5), dynamic_shapes={"input": {1: 2 * Dim("half") + 1}})


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: range(x.shape[0]), "sym_int"),
        (lambda x: float(x.shape[0]), "sym_float"),
        (lambda x: int(x.shape[0] / 2), r"sym_int\(\.\.\.\), math.floor"),
        (lambda x: min(x.shape[0], 4), "whether n > 4 is not known; declare bounds"),
        (lambda x: x.shape[0] > 3, 'Dim\\("n", min=1, max=64\\)'),
        (lambda x: x.shape[0] ** 0.5 > 3, "is not known"),
        (lambda x: bool(x.shape[0]), "is zero is not known"),
        (lambda x: x.split(2), "how many pieces of 2 the symbolic size n"),
        (lambda x: x.chunk(2), r"declare the size as 2\*Dim"),
    ],
)
def test_what_a_symbolic_size_cannot_tell_is_an_error(function: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message) as caught:
        graph_of(function, "n 4")
    assert isinstance(caught.value, ValueError)


def test_questions_that_are_open_have_an_error_of_their_own() -> None:
    with pytest.raises(UndecidedSize) as caught:
        graph_of(lambda x: x if x.shape[0] < 4 else -x, "n 4")
    assert (caught.value.left, caught.value.right) == (Dim("n"), 4)
