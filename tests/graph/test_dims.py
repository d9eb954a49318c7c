"""Symbolic sizes: the normal form against plain evaluation on integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualgraph_compiler import Dim
from dualgraph_compiler.dims import (
    bounds,
    evaluate,
    floordiv,
    maximum,
    minimum,
    mod,
    parse_dim,
    product,
    substitute,
    symbols,
)
from dualgraph_compiler.errors import ShapeError

N, M = Dim("n", min=1, max=50), Dim("m", min=2)
ENV = st.fixed_dictionaries({"n": st.integers(1, 50), "m": st.integers(2, 90)})


# An expression is generated twice over: as a Dim, and as a function of n and m on plain integers.
class Pair:
    def __init__(self, dim, value):
        self.dim, self.value = dim, value


OPERATIONS = {
    "+": (lambda a, b: a + b, lambda a, b: a + b),
    "-": (lambda a, b: a - b, lambda a, b: a - b),
    "*": (lambda a, b: a * b, lambda a, b: a * b),
    "//": (floordiv, lambda a, b: a // b),
    "%": (mod, lambda a, b: a % b),
    "max": (maximum, max),
    "min": (minimum, min),
}
PAIR_LEAVES = st.one_of(
    st.integers(-6, 12).map(lambda i: Pair(i, lambda env: i)),
    st.just(Pair(N, lambda env: env["n"])),
    st.just(Pair(M, lambda env: env["m"])),
)


def _combine(symbol, a, b):
    on_dims, on_ints = OPERATIONS[symbol]
    return Pair(on_dims(a.dim, b.dim), lambda env: on_ints(a.value(env), b.value(env)))


def _pairs(children):
    divisors = st.one_of(
        st.integers(1, 7).map(lambda i: Pair(i, lambda env: i)),
        st.sampled_from([Pair(N, lambda env: env["n"]), Pair(M, lambda env: env["m"])]),
    )
    return st.one_of(
        st.builds(_combine, st.sampled_from(["+", "-", "*", "max", "min"]), children, children),
        st.builds(_combine, st.sampled_from(["//", "%"]), children, divisors),
    )


PAIRS = st.recursive(PAIR_LEAVES, _pairs, max_leaves=6)
EXPRESSIONS = PAIRS.map(lambda pair: pair.dim)


@given(PAIRS, ENV)
def test_normal_form_evaluates_as_the_integers_do(pair, env):
    assert evaluate(pair.dim, env) == pair.value(env)


@given(PAIRS, ENV)
def test_bounds_hold(pair, env):
    low, high = bounds(pair.dim)
    value = pair.value(env)
    assert low <= value
    assert high is None or value <= high


@given(EXPRESSIONS, ENV)
def test_text_round_trips(dim, env):
    back = parse_dim(str(dim))
    assert str(back) == str(dim)
    assert evaluate(back, env) == evaluate(dim, env)


@given(EXPRESSIONS, ENV)
def test_substitution_is_evaluation(dim, env):
    assert substitute(dim, env) == evaluate(dim, env)
    assert substitute(dim, {}) == dim


@given(EXPRESSIONS, EXPRESSIONS, ENV)
def test_decided_comparisons_are_true(a, b, env):
    x, y = evaluate(a, env), evaluate(b, env)
    for decide, holds in (
        (lambda: a < b, x < y),
        (lambda: a <= b, x <= y),
        (lambda: a > b, x > y),
        (lambda: a >= b, x >= y),
    ):
        try:
            decided = decide()
        except ShapeError:
            continue
        assert decided == holds
    if a == b:
        assert x == y
        assert hash(a) == hash(b)


def test_equal_expressions_are_equal_objects():
    assert (N + M) * (N + M) == N * N + 2 * N * M + M * M
    assert N * M == M * N
    assert N - N == 0
    assert isinstance(N - N, int)
    assert (4 * N + 6) // 2 == 2 * N + 3
    assert (4 * N + 7) // 2 == 2 * N + 3
    assert (N * M) // N == M
    assert (6 * N) % 3 == 0
    assert product((2, N, 3)) == 6 * N


def test_a_dynamic_size_is_never_one():
    assert N != 1
    assert N // N == 1


def test_comparisons_from_bounds():
    assert N >= 1
    assert N < 51
    assert M > 1
    with pytest.raises(ShapeError, match="not known"):
        bool(N < M)
    assert maximum(N, 100) == 100
    assert minimum(N, 0) == 0
    assert str(maximum(N, M)) == str(maximum(M, N))


def test_truth_needs_bounds():
    assert bool(N)
    with pytest.raises(ShapeError, match="whether the symbolic size k is zero"):
        bool(Dim("k"))


def test_a_symbolic_size_is_not_an_int():
    with pytest.raises(ShapeError, match="has no value while tracing"):
        range(N)
    with pytest.raises(ShapeError, match="'m' has no value"):
        evaluate(N + M, {"n": 3})


def test_bounds_of_a_negative_quotient():
    assert bounds(floordiv(-5 - N, M)) == (-28, -1)


@pytest.mark.parametrize(
    "text", ["", "1 +", "f(x)", "a.b", "'x'", "1.5", "a if b else c", "a ** b"]
)
def test_other_text_is_refused(text):
    with pytest.raises(ShapeError, match="expected a size"):
        parse_dim(text)


def test_names_must_be_identifiers():
    with pytest.raises(ShapeError, match="identifier"):
        Dim("batch size")


def test_symbols():
    assert {s.name for s in symbols(maximum(N * 2, M) + 1)} == {"n", "m"}
    assert symbols(3) == set()
