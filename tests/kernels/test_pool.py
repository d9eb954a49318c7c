"""Pooling kernels against windows written out one by one, and against PyTorch."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.kernels import pool
from dualgraph_compiler.kernels import windows as geometry
from dualgraph_compiler.kernels.sizes import adaptive_bounds, pool_output_size

MAX_CASES = [
    # sizes, kernel, stride, padding, dilation, ceil_mode
    ((7,), (3,), (2,), ((1, 1),), (1,), True),
    ((5, 6), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), False),
    ((5, 6), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), True),
    ((6, 7), (3, 2), (1, 2), ((1, 0), (0, 1)), (1, 2), False),
    ((9, 9), (3, 3), (2, 3), ((1, 1), (1, 1)), (2, 1), True),
    ((4, 4), (1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), False),
    ((3, 4, 5), (2, 3, 2), (1, 2, 2), ((1, 1), (1, 1), (0, 0)), (1, 1, 2), False),
    ((20, 20), (17, 17), (1, 1), ((0, 0), (0, 0)), (1, 1), False),
]


def windows(sizes: Any, out: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    """For each output pixel, the input positions of its window that are inside the input."""
    for pixel in np.ndindex(*out):
        axes = [
            [q for t in range(k) if 0 <= (q := p * s + t * d - lo) < n]
            for p, n, k, s, (lo, _), d in zip(pixel, sizes, kernel, stride, padding, dilation)
        ]
        yield pixel, list(itertools.product(*axes))


def brute_max(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> Any:
    sizes = x.shape[2:]
    out = [
        pool_output_size(n, k, s, lo, hi, d, ceil)
        for n, k, s, (lo, hi), d in zip(sizes, kernel, stride, padding, dilation)
    ]
    y = np.zeros((*x.shape[:2], *out), x.dtype)
    positions = np.zeros(y.shape, np.int64)
    for pixel, reads in windows(sizes, out, kernel, stride, padding, dilation):
        for image in np.ndindex(*x.shape[:2]):
            best = reads[0]
            for at in reads:
                if x[(*image, *at)] > x[(*image, *best)] or x[(*image, *at)] != x[(*image, *at)]:
                    best = at
            y[(*image, *pixel)] = x[(*image, *best)]
            positions[(*image, *pixel)] = np.ravel_multi_index(best, sizes)
    return y, positions


def sample(rng: Any, sizes: Any, special: str) -> Any:
    x = rng.integers(-3, 4, (2, 3, *sizes)).astype(np.float64)
    if special == "nan":
        x[rng.random(x.shape) < 0.2] = np.nan
    elif special == "inf":
        x[rng.random(x.shape) < 0.7] = -np.inf
        x[0] = -np.inf
    return x


@pytest.mark.parametrize("special", ["ties", "nan", "inf"])
@pytest.mark.parametrize("case", MAX_CASES, ids=str)
def test_max_pool(case: Any, special: str, monkeypatch: Any) -> None:
    sizes, *args = case
    x = sample(np.random.default_rng(0), sizes, special)
    y, positions = brute_max(x, *args)
    for bytes_per_block in (1 << 18, 1):
        monkeypatch.setattr(geometry, "_BLOCK_BYTES", bytes_per_block)
        got, at = pool.max_pool(np, x, *args)
        np.testing.assert_array_equal(got, y)
        np.testing.assert_array_equal(at, positions)
        assert at.dtype == np.int64
        np.testing.assert_array_equal(pool.max_pool_values(np, x, *args), y)
    np.testing.assert_array_equal(pool.gather_at_indices(np, x, at), y)
    g = np.random.default_rng(1).standard_normal(y.shape)
    expected = np.zeros(x.shape)
    for image in np.ndindex(2, 3):
        np.add.at(expected[image].reshape(-1), positions[image].ravel(), g[image].ravel())
    np.testing.assert_allclose(pool.max_pool_backward(np, g, at, x.shape), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", ["f2", "f4", "i4", "u1", "i8", ml_dtypes.bfloat16])
def test_max_pool_dtypes_and_strides(dtype: Any) -> None:
    x = np.random.default_rng(2).integers(0, 9, (5, 6, 3, 2)).astype(dtype).transpose(3, 2, 1, 0)
    args = ((2, 2), (2, 2), ((1, 1), (0, 1)), (1, 1), True)
    y, positions = brute_max(x, *args)
    got, at = pool.max_pool(np, x, *args)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal(at, positions)


def test_backward_without_overlap_is_the_same_scatter() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 3, 6, 6)).astype("f4")
    y, at = pool.max_pool(np, x, (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))
    g = rng.standard_normal(y.shape).astype("f4")
    np.testing.assert_array_equal(
        pool.max_pool_backward(np, g, at, x.shape, overlapping=False),
        pool.max_pool_backward(np, g, at, x.shape),
    )


AVG_CASES = [
    ((7,), (3,), (2,), ((1, 1),), True),
    ((5, 6), (2, 3), (2, 1), ((1, 0), (1, 1)), False),
    ((5, 6), (3, 3), (2, 2), ((1, 1), (1, 1)), True),
    ((3, 4, 5), (2, 2, 2), (1, 2, 2), ((1, 1), (0, 0), (1, 1)), True),
    ((5, 5), (2, 2), (3, 3), ((0, 0), (0, 0)), False),
]


@pytest.mark.parametrize(("include", "override"), [(True, None), (False, None), (True, 5)])
@pytest.mark.parametrize("case", AVG_CASES, ids=str)
def test_avg_pool(case: Any, include: bool, override: int | None) -> None:
    sizes, kernel, stride, padding, ceil = case
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 3, *sizes))
    y = pool.avg_pool(np, x, kernel, stride, padding, ceil, include, override)
    out, dilation = y.shape[2:], (1,) * len(sizes)
    expected = np.zeros(y.shape)
    for pixel, reads in windows(sizes, out, kernel, stride, padding, dilation):
        count = len(reads)
        if include:
            spans = [
                min(p * s - lo + k, n + hi) - (p * s - lo)
                for p, s, (lo, hi), k, n in zip(pixel, stride, padding, kernel, sizes)
            ]
            count = int(np.prod(spans))
        total = sum(x[(..., *at)] for at in reads)
        expected[(..., *pixel)] = total / (override or count)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    g, dx = rng.standard_normal(y.shape), rng.standard_normal(x.shape)
    gx = pool.avg_pool_backward(np, g, x.shape, kernel, stride, padding, ceil, include, override)
    dy = pool.avg_pool(np, dx, kernel, stride, padding, ceil, include, override)
    assert gx.shape == x.shape
    np.testing.assert_allclose(np.sum(gx * dx), np.sum(g * dy), atol=1e-10)


@pytest.mark.parametrize("sizes", [(6,), (8, 8), (7, 5), (2, 3), (4, 5, 6)], ids=str)
@pytest.mark.parametrize("out", [1, 2, 3, 5])
def test_adaptive(sizes: Any, out: int) -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 3, *sizes))
    target = (out, 2, 3)[: len(sizes)]
    y = pool.adaptive_avg_pool(np, x, target)
    values, at = pool.adaptive_max_pool(np, x, target)
    bins = [adaptive_bounds(n, p) for n, p in zip(sizes, target)]
    for pixel in np.ndindex(*target):
        window = x[(..., *(slice(*b[p]) for b, p in zip(bins, pixel)))].reshape(2, 3, -1)
        np.testing.assert_allclose(y[(..., *pixel)], window.mean(-1), atol=1e-12)
        np.testing.assert_array_equal(values[(..., *pixel)], window.max(-1))
    np.testing.assert_array_equal(pool.gather_at_indices(np, x, at), values)
    g, dx = rng.standard_normal(y.shape), rng.standard_normal(x.shape)
    gx = pool.adaptive_avg_pool_backward(np, g, x.shape)
    np.testing.assert_allclose(
        np.sum(gx * dx), np.sum(g * pool.adaptive_avg_pool(np, dx, target)), atol=1e-10
    )


def test_empty_batch_and_integers() -> None:
    x = np.zeros((0, 3, 4, 4), "f4")
    args = ((2, 2), (2, 2), ((0, 0), (0, 0)))
    y, at = pool.max_pool(np, x, *args, (1, 1))
    assert y.shape == at.shape == (0, 3, 2, 2)
    assert pool.avg_pool(np, x, *args).shape == (0, 3, 2, 2)
    assert pool.max_pool_backward(np, y, at, x.shape).shape == x.shape
    assert pool.avg_pool_backward(np, y, x.shape, *args).shape == x.shape
    assert pool.adaptive_avg_pool(np, x, (1, 1)).shape == (0, 3, 1, 1)
    assert pool.adaptive_max_pool(np, x, (3, 3))[0].shape == (0, 3, 3, 3)
    n = np.array([[[-7, 0, 3, 4]]])
    np.testing.assert_array_equal(pool.avg_pool(np, n, (2,), (2,), ((0, 0),)), [[[-3, 3]]])


def test_window_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pool.max_pool(np, np.zeros((1, 1, 2)), (3,), (1,), ((0, 0),), (1,))


def test_dilated_window_of_padding_alone() -> None:
    with pytest.raises(ValueError, match="padding alone"):
        pool.max_pool(np, np.zeros((1, 1, 1)), (2,), (1,), ((1, 1),), (2,))


def test_against_torch() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn.functional
    rng = np.random.default_rng(6)
    done = 0
    while done < 80:
        rank = int(rng.integers(1, 4))
        sizes, kernel = rng.integers(1, 10, rank).tolist(), rng.integers(1, 5, rank).tolist()
        stride, dilation = rng.integers(1, 4, rank).tolist(), rng.integers(1, 3, rank).tolist()
        pad = [int(rng.integers(0, k // 2 + 1)) for k in kernel]
        ceil = bool(rng.integers(2))
        if any(n + 2 * p < d * (k - 1) + 1 for n, p, d, k in zip(sizes, pad, dilation, kernel)):
            continue
        if any(p > 0 and n <= d for n, p, d in zip(sizes, pad, dilation)):
            continue  # a window of padding alone: PyTorch gives a position outside the input
        done += 1
        x = rng.integers(-2, 3, (2, 2, *sizes)).astype("f4")
        if done % 3 == 0:
            x[rng.random(x.shape) < 0.1] = np.nan
        pairs, tx = [(p, p) for p in pad], torch.tensor(x)
        call = (nn.max_pool1d, nn.max_pool2d, nn.max_pool3d)[rank - 1]
        ty, tat = call(tx, kernel, stride, pad, dilation, ceil, return_indices=True)
        y, at = pool.max_pool(np, x, kernel, stride, pairs, dilation, ceil)
        np.testing.assert_array_equal(y, ty)
        np.testing.assert_array_equal(at, tat)
        include = bool(rng.integers(2))
        call = (nn.avg_pool1d, nn.avg_pool2d, nn.avg_pool3d)[rank - 1]
        if all(n >= k for n, k in zip(sizes, kernel)):
            ty = call(tx, kernel, stride, pad, ceil, include)
            y = pool.avg_pool(np, x, kernel, stride, pairs, ceil, include)
            np.testing.assert_allclose(y, ty, rtol=1e-5, atol=1e-6)
        target = rng.integers(1, 7, rank).tolist()
        avg = (nn.adaptive_avg_pool1d, nn.adaptive_avg_pool2d, nn.adaptive_avg_pool3d)[rank - 1]
        best = (nn.adaptive_max_pool1d, nn.adaptive_max_pool2d, nn.adaptive_max_pool3d)[rank - 1]
        y = pool.adaptive_avg_pool(np, x, target)
        np.testing.assert_allclose(y, avg(tx, target), rtol=1e-5, atol=1e-6)
        ty, tat = best(tx, target, return_indices=True)
        y, at = pool.adaptive_max_pool(np, x, target)
        np.testing.assert_array_equal(y, ty)
        np.testing.assert_array_equal(at, tat)
