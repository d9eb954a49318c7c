"""Sorting kernels against Python's sort, which is stable, with NaN as the greatest key."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.kernels import sorting

DTYPES = ["f2", "f4", "f8", "i4", "i8", "u1", "?", ml_dtypes.bfloat16]


def sample(shape: Any, dtype: Any, nan: bool = False, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 5, shape).astype(dtype)
    if nan and x.dtype.kind not in "iub":
        x[rng.random(shape) < 0.2] = np.nan
    return x


def order(row: Any, descending: bool) -> list[int]:
    def key(i: int) -> tuple[bool, float]:
        v = float(row[i])
        return (math.isnan(v), 0.0 if math.isnan(v) else v)

    indices = list(range(len(row)))
    if not descending:
        return sorted(indices, key=key)
    return sorted(indices, key=lambda i: (not key(i)[0], -key(i)[1]))


@pytest.mark.parametrize("nan", [False, True])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sort(dtype: Any, descending: bool, nan: bool) -> None:
    x = sample((4, 9, 3), dtype, nan)
    for axis in (0, 1, -1):
        values, indices = sorting.sort(np, x, axis, descending)
        expected = np.apply_along_axis(order, axis, x.astype("f8"), descending)
        np.testing.assert_array_equal(indices, expected)
        taken = np.take_along_axis(x, expected, axis)
        np.testing.assert_array_equal(values.astype("f8"), taken.astype("f8"))
        assert indices.dtype == np.int64
        assert values.dtype == x.dtype


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("nan", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [7, 200])
def test_topk(size: int, dtype: Any, nan: bool, largest: bool) -> None:
    x = sample((3, size, 2), dtype, nan)
    for k in (0, 1, 5):
        values, indices = sorting.topk(np, x, k, 1, largest)
        expected = np.apply_along_axis(order, 1, x.astype("f8"), largest)[:, :k]
        np.testing.assert_array_equal(indices, expected)
        taken = np.take_along_axis(x, expected, 1)
        np.testing.assert_array_equal(values.astype("f8"), taken.astype("f8"))
        _, loose = sorting.topk(np, x, k, 1, largest, sorted=False)
        np.testing.assert_array_equal(np.sort(loose, 1), np.sort(expected, 1))


def test_topk_refuses_k_beyond_the_axis() -> None:
    with pytest.raises(ValueError, match="0 <= k <= 3"):
        sorting.topk(np, np.zeros(3), 4)


def test_zero_d_and_empty() -> None:
    scalar = np.array(2.0)
    for f in (sorting.sort, lambda xp, x: sorting.topk(xp, x, 1)):
        values, indices = f(np, scalar)
        assert (values.shape, indices.shape) == ((), ())
        assert (values, indices) == (2.0, 0)
    assert sorting.argmax(np, scalar).shape == ()
    assert sorting.cumsum(np, scalar, 0) == 2.0
    empty = np.zeros((2, 0))
    assert sorting.sort(np, empty)[1].shape == (2, 0)
    assert sorting.topk(np, empty, 0)[0].shape == (2, 0)
    assert sorting.cumsum(np, empty, 1).shape == (2, 0)
    with pytest.raises(ValueError, match="empty range"):
        sorting.argmax(np, empty, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_argmax_and_argmin(dtype: Any) -> None:
    x = sample((5, 6), dtype)
    for f, g in ((sorting.argmax, np.argmax), (sorting.argmin, np.argmin)):
        np.testing.assert_array_equal(f(np, x, 1), g(x.astype("f8"), 1))
        assert f(np, x) == g(x.astype("f8"))
        assert f(np, x).dtype == np.int64
        assert f(np, x, 0, keepdims=True).shape == (1, 6)
        assert f(np, x, keepdims=True).shape == (1, 1)


def test_argmax_finds_the_first_nan() -> None:
    x = np.array([1, np.nan, 3, np.nan])
    assert sorting.argmax(np, x) == 1
    assert sorting.argmin(np, x) == 1
    assert sorting.argmax(np, x.astype(ml_dtypes.bfloat16)) == 1


def test_cumulative() -> None:
    x = np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    assert sorting.cumsum(np, x, 1).tolist() == [[1, 3, 6], [4, 9, 15]]
    assert sorting.cumsum(np, x, 1).dtype == np.int32
    assert sorting.cumsum(np, x, 1, reverse=True).tolist() == [[6, 5, 3], [15, 11, 6]]
    assert sorting.cumsum(np, x, -1, exclusive=True).tolist() == [[0, 1, 3], [0, 4, 9]]
    both = sorting.cumsum(np, x, 1, exclusive=True, reverse=True)
    assert both.tolist() == [[5, 3, 0], [11, 6, 0]]
    assert sorting.cumprod(np, x, 0).tolist() == [[1, 2, 3], [4, 10, 18]]
    ones = np.ones(1000, ml_dtypes.bfloat16)
    assert sorting.cumsum(np, ones, 0)[-1] == 1000  # a bfloat16 running sum would stop at 256


def test_against_torch() -> None:
    torch = pytest.importorskip("torch")
    x = sample((4, 300), "f4", nan=True)
    tx = torch.tensor(x)
    for descending in (False, True):
        values, indices = sorting.sort(np, x, 1, descending)
        expected = torch.sort(tx, dim=1, descending=descending, stable=True)
        np.testing.assert_array_equal(values, expected.values)
        np.testing.assert_array_equal(indices, expected.indices)
        np.testing.assert_array_equal(
            sorting.topk(np, x, 7, 1, descending)[0], tx.topk(7, 1, descending).values
        )
    np.testing.assert_array_equal(sorting.argmax(np, x, 1), tx.argmax(1))
    np.testing.assert_array_equal(sorting.argmin(np, x, 0), tx.argmin(0))
