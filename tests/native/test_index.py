"""Index arithmetic: what simplifies, and that values never change."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.native.index import (
    Axis,
    Index,
    Part,
    flatten,
    of_axis,
    reshaped,
    row_major,
    unflatten,
)


def value(index: Index, at: dict[Axis, int]) -> int:
    """What an index is for known counters."""
    total = int(index.offset)
    for atom, c in index.terms:
        if isinstance(atom, Part):
            inner = value(atom.index, at)
            term = inner % atom.size if atom.is_rest else inner // atom.size
        else:
            term = at[atom]
        total += term * int(c)
    return total


def test_splitting_and_joining_an_axis_is_nothing() -> None:
    axis = Axis(0, 2 * 3 * 4 * 5)
    for shape in [(2, 3, 4, 5), (6, 20), (1, 120), (120, 1), (2, 1, 60)]:
        assert flatten(unflatten(of_axis(axis), shape), shape) == of_axis(axis)


def test_axes_that_are_merged_have_no_quotients() -> None:
    n = Dim("n", min=1)
    axes = [Axis(0, n), Axis(1, 3), Axis(2, 8)]
    (a, b) = reshaped([of_axis(x) for x in axes], (n, 3, 8), (n, 24))
    assert str(a) == "i0"
    assert str(b) == "i1*8 + i2"


def test_axes_that_keep_their_size_keep_their_counter() -> None:
    n, m = Dim("n", min=1), Dim("m", min=1)
    axes = [Axis(0, n), Axis(1, 24), Axis(2, m)]
    a, b, c, d = reshaped([of_axis(x) for x in axes], (n, 24, m), (n, 3, 8, m))
    assert (a, d) == (of_axis(axes[0]), of_axis(axes[2]))
    assert flatten([b, c], (3, 8)) == of_axis(axes[1])


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4).map(tuple)


@given(shape=shapes(), cuts=st.lists(st.integers(1, 12), max_size=3))
def test_reshaped_coordinates_are_right(shape: tuple[int, ...], cuts: list[int]) -> None:
    size = int(np.prod(shape))
    new = []
    for cut in cuts:
        if size % cut == 0:
            new.append(cut)
            size //= cut
    new.append(size)
    axes = [Axis(i, d) for i, d in enumerate(new)]
    coords = reshaped([of_axis(a) for a in axes], tuple(new), shape)
    place = flatten(coords, shape)
    for number, at in enumerate(itertools.product(*(range(d) for d in new))):
        known = dict(zip(axes, at, strict=True))
        assert value(place, known) == number
        assert all(0 <= value(c, known) < d for c, d in zip(coords, shape, strict=True))
    assert row_major(shape)[-1] == 1
