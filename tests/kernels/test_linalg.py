"""Matrix products in every dtype against exact sums."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.kernels.linalg import matmul

SHAPES = [
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((5, 1, 2, 3), (4, 3, 2)),
    ((3,), (5, 3, 2)),
    ((2, 0), (0, 3)),
    ((0, 3), (3, 2)),
    ((0, 2, 3), (3, 2)),
]
DTYPES = ["f2", "f4", "f8", "c8", "i1", "u1", "i2", "i4", "i8", ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_matmul(shapes: Any, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 5, s).astype(dtype) for s in shapes)
    y = matmul(np, a, b)
    expected = np.matmul(a.astype(complex), b.astype(complex))
    assert isinstance(y, np.ndarray)
    assert y.dtype == a.dtype
    assert y.shape == expected.shape
    np.testing.assert_array_equal(y.astype(complex), expected)


def test_integers_wrap_as_numpy_does() -> None:
    rng = np.random.default_rng(1)
    for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32):
        info = np.iinfo(dtype)
        a = rng.integers(info.min, info.max, (4, 300), dtype, endpoint=True)
        b = rng.integers(info.min, info.max, (300, 5), dtype, endpoint=True)
        np.testing.assert_array_equal(matmul(np, a, b), a @ b)


def test_mixed_dtypes_bool_views_and_infinities() -> None:
    a = np.array([[True, False], [True, True]])
    assert matmul(np, a, a).tolist() == [[True, False], [True, True]]
    assert matmul(np, a.astype("i4"), a.astype("f8")).dtype == np.float64
    x = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(matmul(np, x.T[::2], x[:, ::-1]), x.T[::2] @ x[:, ::-1])
    assert np.isnan(matmul(np, np.array([np.inf, 1.0]), np.array([0.0, 1.0])))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="mismatch"):
        matmul(np, np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="dimensions"):
        matmul(np, np.zeros(()), np.zeros(3))
    with pytest.raises(ValueError, match="dimensions"):
        matmul(np, np.zeros((), np.int8), np.zeros(3, np.int8))


def test_long_sums_in_narrow_floats() -> None:
    ones = np.ones(1000, ml_dtypes.bfloat16)
    assert matmul(np, ones, ones) == 1000
