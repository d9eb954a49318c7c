"""Gathers and scatters against loops, and their refusals."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.kernels import indexing

RNG = np.random.default_rng(0)


def test_check_indices() -> None:
    index = np.array([0, 2, -1], np.int32)
    assert indexing.check_indices(np, index, 3, negative=True).tolist() == [0, 2, 2]
    assert indexing.check_indices(np, index, 3, negative=True).dtype == np.int64
    with pytest.raises(IndexError, match="index -1 is out of bounds: expected 0 <= index < 3"):
        indexing.check_indices(np, index, 3)
    with pytest.raises(IndexError, match="target 3 is out of bounds"):
        indexing.check_indices(np, np.array([3]), 3, what="target")
    with pytest.raises(IndexError, match="-4 is out of bounds: expected -3"):
        indexing.check_indices(np, np.array([-4]), 3, negative=True)
    with pytest.raises(IndexError, match="integer dtype, got float64"):
        indexing.check_indices(np, np.array([1.0]), 3)
    assert indexing.check_indices(np, np.zeros((0, 2), np.int32), 0).shape == (0, 2)


def test_take() -> None:
    x = RNG.standard_normal((3, 4, 5))
    index = np.array([[0, 3], [1, 1]])
    np.testing.assert_array_equal(indexing.take(np, x, index, 1), x[:, index])
    assert indexing.take(np, x, np.array(2), 1).shape == (3, 5)
    with pytest.raises(IndexError):
        indexing.take(np, x, np.array([4]), 1)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_gather_scatter_and_scatter_add(axis: int) -> None:
    x = RNG.standard_normal((3, 4, 5))
    sizes = [2, 3, 4]
    sizes[axis] = 6
    index = RNG.integers(0, x.shape[axis], sizes)
    src = RNG.standard_normal((7, 7, 7))
    kept = x.copy()
    got = indexing.gather(np, x, axis, index)
    added, put = x.copy(), x.copy()
    for at in np.ndindex(*sizes):
        to = list(at)
        to[axis] = index[at]
        assert got[at] == x[tuple(to)]
        added[tuple(to)] += src[at]
        put[tuple(to)] = src[at]
    np.testing.assert_allclose(indexing.scatter_add(np, x, axis, index, src), added, atol=1e-14)
    np.testing.assert_array_equal(indexing.scatter(np, x, axis, index, src), put)
    negative = index - x.shape[axis]
    np.testing.assert_array_equal(indexing.gather(np, x, axis, negative, negative=True), got)
    np.testing.assert_array_equal(x, kept)


def test_scatter_numbers_dtypes_and_views() -> None:
    x = np.zeros((2, 3), np.int8)
    index = np.array([[0, 0, 2]])
    assert indexing.scatter(np, x, 1, index, 5).tolist() == [[5, 0, 5], [0, 0, 0]]
    assert indexing.scatter_add(np, x, 1, index, 5).tolist() == [[10, 0, 5], [0, 0, 0]]
    view = np.zeros((3, 2)).T
    assert indexing.scatter(np, view, 1, index, 5).tolist() == [[5, 0, 5], [0, 0, 0]]
    assert indexing.scatter_add(np, view, 1, index, 5).tolist() == [[10, 0, 5], [0, 0, 0]]
    narrow = np.zeros((1, 2), ml_dtypes.bfloat16)
    many = np.zeros((1, 1000), np.int64)
    total = indexing.scatter_add(np, narrow, 1, many, np.ones(many.shape, narrow.dtype))
    assert total.dtype == narrow.dtype
    assert total.tolist() == [[1000, 0]]
    scalar = np.array(3.0)
    assert indexing.gather(np, scalar, 0, np.array(0)) == 3.0
    assert indexing.scatter_add(np, scalar, 0, np.array(0), np.array(1.0)) == 4.0


def test_refusals() -> None:
    x = np.zeros((2, 3))
    for call in (indexing.gather, lambda *a: indexing.scatter_add(*a, 1.0)):
        with pytest.raises(IndexError, match="out of bounds"):
            call(np, x, 1, np.array([[3]]))
        with pytest.raises(IndexError, match="out of bounds"):
            call(np, x, 1, np.array([[-1]]))
        with pytest.raises(IndexError, match="any dim but 1"):
            call(np, x, 1, np.zeros((3, 1), int))
        with pytest.raises(IndexError, match="must have the rank"):
            call(np, x, 1, np.array([0]))
    with pytest.raises(IndexError, match="does not cover"):
        indexing.scatter(np, x, 1, np.zeros((2, 2), int), np.zeros((2, 1)))


KEYS = [
    (slice(1, None), 2),
    (Ellipsis, None, slice(None, None, -2)),
    np.array([0, 2, 2, -1]),
    np.array([[0, 1], [1, 1]]),
    (np.array([0, 1, 1]), np.array([3, -1, 3])),
    (slice(None), np.array([1, 1, 0])),
    (np.array([[0], [2]]), slice(None), np.array([0, 0, 4])),
    np.arange(60).reshape(3, 4, 5) % 3 == 0,
    (slice(None), np.array([True, False, True, True])),
    [0, 0, 1],
    (1, [0, 0]),
    np.int64(1),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_put_add_is_the_transpose_of_indexing(key: Any) -> None:
    x = RNG.standard_normal((3, 4, 5))
    g = RNG.standard_normal(x[key].shape)
    expected = np.zeros(x.shape)
    np.add.at(expected, key, g)
    got = indexing.put_add(np, x.shape, key, g)
    assert got.shape == x.shape
    np.testing.assert_allclose(got, expected, atol=1e-14)
    ones = indexing.put_add(np, x.shape, key, np.float32(1))
    assert ones.dtype == np.float32
    assert ones.sum() == x[key].size


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "i4", ml_dtypes.bfloat16])
@pytest.mark.parametrize(("rows", "count"), [(3, 100), (50, 20), (4, 0)])
def test_add_rows(rows: int, count: int, dtype: Any) -> None:
    index = RNG.integers(0, rows, (2, count))
    g = RNG.integers(-3, 4, (2, count, 6)).astype(dtype)
    expected = np.zeros((rows, 6), np.complex128)
    np.add.at(expected, index.ravel(), g.reshape(-1, 6).astype(np.complex128))
    got = indexing.add_rows(np, rows, index, g)
    assert got.dtype == g.dtype
    np.testing.assert_array_equal(got.astype(np.complex128), expected)
    skipped = indexing.add_rows(np, rows, index, g, skip=1)
    expected[1] = 0
    np.testing.assert_array_equal(skipped.astype(np.complex128), expected)


def test_add_rows_keeps_infinities_in_their_rows() -> None:
    g = np.array([[np.inf], [1.0]])
    assert indexing.add_rows(np, 3, np.array([0, 2]), g).tolist() == [[np.inf], [0], [1]]
    with pytest.raises(IndexError):
        indexing.add_rows(np, 3, np.array([3, 0]), g)


def test_against_torch() -> None:
    torch = pytest.importorskip("torch")
    x, src = RNG.standard_normal((6, 5)), RNG.standard_normal((4, 5))
    index = RNG.integers(0, 6, (4, 5))
    tx, ts, ti = torch.tensor(x), torch.tensor(src), torch.tensor(index)
    np.testing.assert_allclose(
        indexing.scatter_add(np, x, 0, index, src), tx.scatter_add(0, ti, ts), atol=1e-14
    )
    np.testing.assert_array_equal(indexing.gather(np, x, 0, index), tx.gather(0, ti))
