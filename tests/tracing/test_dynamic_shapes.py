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

from .dynamic_cases import CASES, TABLE

TRACED = {"n": 3, "h": 5, "w": 6, "m": 2, "d": 8, "h5": 4}
BOUNDS = {"h5": Dim("h5", max=40)}
# Eager code refuses these where a size happens to be 0; a graph goes on with no elements, or inf.
LENIENT = re.compile(
    r"ambiguous beside 0|division by zero|raised to a negative power|modulo by zero"
)
# The sign of a bound had to be assumed, or that a pooled image is there.
ASSUMED = re.compile(r"counted from the|avg_pool3d: .*needs (\w+) >= 1, but \1 = 0")


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
    if isinstance(got, FeedError) and ASSUMED.search(str(got)):
        return
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
    return dg.trace(function, *map(dg.from_numpy, arrays(dims, TRACED)), dynamic_shapes=spec)


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


# -- sizes that contradict ------------------------------------------------------------------------


def add_of_two(x: Any, y: Any) -> Any:
    left = x.relu()
    right = y * 2
    return left + right


ADDED = add_of_two.__code__.co_firstlineno


def refused(function: Any, *shapes: str) -> str:
    with pytest.raises(ShapeError) as caught:
        graph_of(function, *shapes)
    return str(caught.value)


def test_both_sides_are_shown_with_types_lines_and_declarations() -> None:
    message = refused(add_of_two, "n 4", "m 4")
    assert f"f32[n, 4]: the result of relu at {__file__}:{ADDED + 1}" in message
    assert f"f32[m, 4]: the result of mul at {__file__}:{ADDED + 2}" in message
    assert re.search(r"n: declared as dimension 0 of 'x' \(test_dynamic_shapes.py:\d+\)", message)
    assert re.search(r"m: declared as dimension 0 of 'y' \(test_dynamic_shapes.py:\d+\)", message)
    assert "n and m may differ: if they are always equal, declare both with one name" in message


@pytest.mark.parametrize(
    ("function", "shapes", "message"),
    [
        (add_of_two, ("n 4", "3 4"), "n may be other than 3: give that dimension its size, 3"),
        (add_of_two, ("n 4", "n+1 4"), r"n and n \+ 1 differ, whatever the symbolic sizes are"),
        (add_of_two, ("2*n 4", "2*m+1 4"), "differ, whatever"),
        (lambda x, y: x @ y, ("2 n", "4 3"), "n columns against 4 rows(.|\n)*may be other than 4"),
        (lambda x, y: dg.cat([x, y], 1), ("n 4", "m 4"), "n and m may differ"),
        (lambda x: x.expand(5, 4), ("n 4",), "n may be other than 5"),
        (lambda x: x.reshape(-1, 2), ("n",), r'declare n as a multiple, 2\*Dim\("n"\)'),
        (lambda x: x + TABLE[0, : x.shape[0]], ("n 4",), r'they are where n <= 40; declare Dim\("n", max=40\)'),  # noqa: E501
        (nn.Linear(4, 3), ("2 n",), "'weight': a parameter or buffer(.|\n)*n: declared as dim"),
    ],
)  # fmt: skip
def test_contradictions_say_what_to_declare(function: Any, shapes: Any, message: str) -> None:
    assert re.search(message, refused(function, *shapes))


def test_static_sizes_that_do_not_fit_show_where_they_were_made() -> None:
    with pytest.raises(ShapeError, match=rf"\[3, 4\]: the result of relu at .*:{ADDED + 1}\n"):
        dg.trace(add_of_two, dg.ones(3, 4), dg.ones(2, 4))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"x": {0: "n"}, "y": {0: "n"}}, "'y': dimension 0 has size 4, .* n is 3 in dimension 0"),
        ({"x": {0: "2*n"}}, r"dimension 0 has size 3, but it is declared 2\*n"),
        ({"x": {0: Dim("n", min=5)}}, "size 3, but n is declared at least 5"),
        ({"x": {0: Dim("n", min=1)}, "y": {0: Dim("n", max=9)}}, "'n' within .* and within"),
        ({"x": {0: "two words"}}, "expected a size such as"),
        ({"x": {0: 1.5}}, "expected a name, a Dim or an int"),
    ],
)
def test_declarations_that_contradict(spec: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dg.trace(lambda x, y: x, dg.ones(3, 2), dg.ones(4, 2), dynamic_shapes=spec)


def test_bounds_given_once_hold_everywhere() -> None:
    spec = {"x": {0: "n"}, "y": {0: Dim("n", max=40)}}
    graph = dg.trace(lambda x, y: y + TABLE[0, : x.shape[0]], dg.ones(3), dg.ones(3, 4), dynamic_shapes=spec)  # noqa: E501  # fmt: skip
    assert str(graph.outputs[0].type) == "f32[n, 4]"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x if x.shape[0] == 1 else -x,
        lambda x: x if x.shape[0] != 4 else -x,
        lambda x: x if x.shape[0] % 2 == 0 else -x,
        lambda x: x if x.shape == (3, 4) else -x,
        lambda x: x if x.shape[0] in (1, 2) else -x,
    ],
)
def test_user_code_does_not_branch_on_an_open_equality(function: Any) -> None:
    with pytest.raises(UndecidedSize, match=rf"whether .* == .* not known \(at {__file__}:\d+"):
        graph_of(function, "n 4")


def test_equalities_that_bounds_decide() -> None:
    def f(x):
        wide, odd = x.shape[1] == x.shape[0] + 1, x.shape[0] % 2 == 1
        return x if x.shape[0] != 1 and wide and odd and x.shape[1:] != (0,) else None

    k = Dim("k", min=1)
    spec = {"x": {0: 2 * k + 1, 1: 2 * k + 2}}
    assert len(dg.trace(f, dg.ones(3, 4), dynamic_shapes=spec).outputs) == 1
