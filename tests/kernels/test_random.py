"""Philox against Random123's known answers, and the distributions against their moments."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.kernels import random

# Random123 1.09, tests/kat_vectors: philox4x32 10, counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def number(words: str) -> int:
    return sum(int(w, 16) << (32 * i) for i, w in enumerate(words.split()))


def philox(counter: int, key: int) -> list[int]:
    """The definition, in Python's ints."""
    c = [(counter >> s) & 0xFFFFFFFF for s in (0, 32, 64, 96)]
    k = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        p, q = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(q >> 32) ^ c[1] ^ k[0], q & 0xFFFFFFFF, (p >> 32) ^ c[3] ^ k[1], p & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_known_answers(counter: str, key: str, result: str) -> None:
    words = random.random_bits(np, number(key), number(counter), 4)
    assert words.dtype == np.uint32
    assert words.tolist() == [int(w, 16) for w in result.split()]


@pytest.mark.parametrize("counter", [0, 2**32 - 2, 2**64 - 2, 2**96 - 1, 2**128 - 2, 12345])
def test_counter_carries(counter: int) -> None:
    key = 0x0123456789ABCDEF
    expected = [w for i in range(4) for w in philox((counter + i) % 2**128, key)]
    assert random.random_bits(np, key, counter, 16).tolist() == expected
    assert random.random_bits(np, key, counter, 5).tolist() == expected[:5]


def test_any_part_of_a_stream() -> None:
    whole = random.random_bits(np, 7, 100, 100_000)
    np.testing.assert_array_equal(random.random_bits(np, 7, 100 + 10_000, 1000), whole[40000:41000])
    assert random.random_bits(np, 7, 0, 0).shape == (0,)
    u = random.uniform(np, 7, 0, 50_000, np.float64)
    at = random.counters_used(20_000, np.float64)
    np.testing.assert_array_equal(random.uniform(np, 7, at, 100, np.float64), u[20_000:20_100])
    for dtype in (np.float32, np.float64):
        z = random.normal(np, 7, 0, 40_000, dtype)
        at = random.counters_used(20_000, dtype)
        np.testing.assert_array_equal(random.normal(np, 7, at, 100, dtype), z[20_000:20_100])


def test_counters_used() -> None:
    assert random.counters_used((2, 3)) == 2
    assert random.counters_used(5, np.float64) == 3
    assert random.counters_used(4, np.float16) == 1
    assert random.counters_used(4, np.complex64) == 2
    assert random.counters_used(4, np.complex128) == 4
    assert random.counters_used(()) == 1
    assert random.counters_used((0, 4)) == 0


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ml_dtypes.bfloat16])
def test_uniform(dtype: Any) -> None:
    u = random.uniform(np, 3, 0, (300, 400), dtype)
    assert u.dtype == dtype
    assert u.shape == (300, 400)
    v = u.astype("f8")
    assert v.min() >= 0
    assert v.max() < 1
    assert abs(v.mean() - 0.5) < 0.005
    assert abs(v.var() - 1 / 12) < 0.002
    counts = np.bincount((v * 16).astype(int).ravel(), minlength=16)
    assert np.sum((counts - 7500) ** 2 / 7500) < 45  # chi squared, 15 degrees: p = 1e-4
    assert random.uniform(np, 3, 0, ()).shape == ()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ml_dtypes.bfloat16])
def test_normal(dtype: Any) -> None:
    z = random.normal(np, 5, 1, (200, 500), dtype)
    assert z.dtype == dtype
    v = np.sort(z.astype("f8").ravel())
    assert np.isfinite(v).all()
    assert abs(v.mean()) < 0.015
    assert abs(v.std() - 1) < 0.01
    assert abs(np.mean(v**4) - 3) < 0.1
    cdf = np.array([0.5 * math.erfc(-t / math.sqrt(2)) for t in v[::100]])
    assert np.abs(cdf - np.arange(1000) / 1000).max() < 0.01  # Kolmogorov-Smirnov
    assert random.normal(np, 5, 1, 3, dtype).shape == (3,)


def test_complex_normal() -> None:
    z = random.normal(np, 5, 1, (100, 100), np.complex64)
    assert z.dtype == np.complex64
    assert abs(np.mean(np.abs(z) ** 2) - 1) < 0.05
    assert abs(np.mean(z * z)) < 0.05


def test_bernoulli() -> None:
    assert abs(random.bernoulli(np, 1, 0, 100_000, 0.3).mean() - 0.3) < 0.006
    assert not random.bernoulli(np, 1, 0, 10_000, 0.0).any()
    assert random.bernoulli(np, 1, 0, 10_000, 1).all()
    p = np.array([0.0, 0.25, 1.0])
    hits = random.bernoulli(np, 1, 0, (50_000, 3), p)
    assert hits.dtype == bool
    np.testing.assert_allclose(hits.mean(0), p, atol=0.01)
    assert hits[:, 0].sum() == 0
    assert hits[:, 2].all()


def test_randint() -> None:
    n = random.randint(np, 1, 0, -3, 4, 70_000)
    assert n.dtype == np.int64
    counts = np.bincount(n + 3)
    assert len(counts) == 7
    assert np.sum((counts - 10_000) ** 2 / 10_000) < 28  # chi squared, 6 degrees: p = 1e-4
    words = random.random_bits(np, 1, 0, 20).astype(object)
    wide = words[0::2] * 2**32 + words[1::2]
    assert random.randint(np, 1, 0, -3, 4, 10).tolist() == [w * 7 // 2**64 - 3 for w in wide]
    assert random.randint(np, 1, 0, 5, 6, (2, 2), np.uint8).tolist() == [[5, 5], [5, 5]]
    whole = random.randint(np, 1, 0, -(2**63), 2**63, 1000)
    assert whole.min() < -(2**62)
    assert whole.max() > 2**62
    big = random.randint(np, 1, 0, 0, 2**40, 1000)
    assert big.min() >= 0
    assert big.max() < 2**40
    with pytest.raises(ValueError, match="low < high"):
        random.randint(np, 1, 0, 3, 3, 1)


def test_permutation() -> None:
    p = random.permutation(np, 9, 0, 1000)
    assert p.dtype == np.int64
    np.testing.assert_array_equal(np.sort(p), np.arange(1000))
    assert (p != np.arange(1000)).mean() > 0.95
    assert random.permutation(np, 9, 0, 0).shape == (0,)
    assert random.permutation(np, 9, 0, 1).tolist() == [0]
    firsts = [int(random.permutation(np, 9, i * 10, 4)[0]) for i in range(2000)]
    assert np.abs(np.bincount(firsts, minlength=4) - 500).max() < 90
