"""Choice by a mask against numpy.where, bit for bit, for every way it is computed."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.kernels.select import where

DTYPES = ["bool", "uint8", "int16", "int32", "int64", "float16", ml_dtypes.bfloat16, "float32"]
DTYPES += ["float64", "complex64", "complex128"]


def bits(dtype, *shape, seed=0):
    """Arrays of any bits, NaNs among them."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    raw = rng.integers(0, 256, (*shape, dtype.itemsize), dtype=np.uint8)
    return raw.view(dtype)[..., 0].copy()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [3, 100])
def test_choices(dtype, size):
    cond, other = bits(bool, size, size), bits(bool, size, size, seed=1)
    a, b = bits(dtype, size, size), bits(dtype, size, size, seed=1)
    zero, one = a.dtype.type(0), bits(dtype, 1)[0]
    cases = [
        (cond, a, b),
        (cond, zero, b),
        (cond, np.asarray(zero), b),
        (other, np.asarray(one), b),
        (cond, b, one),
        (cond.T, a, b.T),
        (cond, a.T, b),
        (cond[:1], a, b),
        (cond, a[:, :1], b),
        (cond[0, 0], a, b),
    ]
    for c, x, y in cases:
        want = np.where(c, x, y)
        got = where(np, c, x, y)
        assert got.dtype == want.dtype
        assert got.strides == want.strides
        assert got.tobytes() == want.tobytes()
        out = np.empty_like(want)
        where(np, c, x, y, out)
        assert out.tobytes() == want.tobytes()
        if np.shape(y) == want.shape:
            y = y.copy(order="K")
            assert where(np, c, x, y, y) is y
            assert y.tobytes() == want.tobytes()


def test_a_negative_zero_is_no_zero():
    cond = np.ones((80, 80), bool)
    got = where(np, cond, np.float32(-0.0), np.ones((80, 80), np.float32))
    assert np.signbit(got).all()
