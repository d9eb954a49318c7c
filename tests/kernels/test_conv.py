"""Convolution kernels against PyTorch and against sums written out tap by tap."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dualgraph_compiler.kernels import conv
from dualgraph_compiler.kernels.sizes import conv_output_size, conv_transpose_output_size


def brute(
    x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: int, dtype: Any = None
) -> Any:
    """The definition: one addition per output, input channel and tap."""
    dtype = dtype or x.dtype
    n, c, *sizes = x.shape
    o, c_g, *kernel = w.shape
    xp = np.zeros((n, c, *(s + a + b for s, (a, b) in zip(sizes, padding, strict=True))), dtype)
    inside = tuple(slice(a, a + s) for s, (a, _) in zip(sizes, padding, strict=True))
    xp[(..., *inside)] = x
    out = [
        conv_output_size(s, k, t, a, b, d)
        for s, k, t, (a, b), d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    ]
    y = np.zeros((n, o, *out), dtype)
    for b, oc, ic in itertools.product(range(n), range(o), range(c_g)):
        channel = oc // (o // groups) * c_g + ic
        for pixel in np.ndindex(*out):
            for tap in np.ndindex(*kernel):
                at = tuple(
                    p * s + t * d for p, s, t, d in zip(pixel, stride, tap, dilation, strict=True)
                )
                y[(b, oc, *pixel)] += xp[(b, channel, *at)] * w[(oc, ic, *tap)].astype(dtype)
    return y


def inner(a: Any, b: Any) -> Any:
    return np.sum(a * b)


CASES = [
    # x, w, stride, padding, dilation, groups
    ((2, 3, 7), (4, 3, 3), (1,), ((1, 1),), (1,), 1),
    ((2, 4, 9), (6, 2, 3), (2,), ((2, 0),), (2,), 2),
    ((3, 2, 5, 6), (4, 2, 3, 2), (1, 1), ((1, 1), (0, 1)), (1, 1), 1),
    ((2, 2, 6, 5), (3, 2, 3, 3), (2, 3), ((0, 2), (3, 1)), (1, 2), 1),
    ((2, 4, 5, 5), (8, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 4),
    ((2, 4, 5, 5), (4, 1, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 4),
    ((20, 4, 4, 4), (5, 4, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((20, 4, 4, 4), (5, 4, 2, 2), (2, 2), ((1, 0), (0, 1)), (1, 1), 1),
    ((3, 4, 4, 4), (5, 4, 4, 4), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((2, 4, 4, 4), (5, 4, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((2, 8, 4, 4), (5, 8, 1, 1), (2, 2), ((1, 1), (0, 0)), (1, 1), 1),
    ((1, 1, 3, 3), (1, 1, 3, 3), (1, 1), ((5, 5), (4, 4)), (1, 1), 1),
    ((2, 2, 3, 4, 3), (4, 1, 2, 2, 2), (1, 2, 1), ((1, 0), (0, 1), (1, 1)), (1, 1, 2), 2),
    ((0, 2, 5, 5), (3, 2, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((2, 2, 2, 2), (3, 2, 3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
]


@pytest.fixture(params=["one block", "many blocks", "every row a block"])
def blocks(request: Any, monkeypatch: Any) -> None:
    if request.param == "many blocks":
        monkeypatch.setattr(conv, "_CACHE_BYTES", 1000)
    elif request.param == "every row a block":
        monkeypatch.setattr(conv, "_CACHE_BYTES", 1)
        monkeypatch.setattr(conv, "_HOST_BYTES", 1)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_and_both_transposes(case: Any, blocks: None) -> None:
    xs, ws, stride, padding, dilation, groups = case
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(xs), rng.standard_normal(ws)
    args = (stride, padding, dilation, groups)
    kept = x.copy(), w.copy()
    expected = brute(x, w, *args)
    y = conv.conv_forward(np, x, w, *args)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    g = rng.standard_normal(y.shape)
    gx = conv.conv_input_grad(np, g, w, xs, *args)
    gw = conv.conv_weight_grad(np, g, x, ws, *args)
    assert gx.shape == xs
    assert gw.shape == ws
    # A linear map and its transpose: <g, A dx> == <A^T g, dx>, for every direction dx.
    dx, dw = rng.standard_normal(xs), rng.standard_normal(ws)
    np.testing.assert_allclose(inner(g, brute(dx, w, *args)), inner(gx, dx), atol=1e-10)
    np.testing.assert_allclose(inner(g, brute(x, dw, *args)), inner(gw, dw), atol=1e-10)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(w, kept[1])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16", "i4", "i8", ml_dtypes.bfloat16])
@pytest.mark.parametrize("groups", [1, 4])
def test_dtypes(dtype: Any, groups: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(-4, 5, (3, 4, 5, 5)).astype(dtype)
    w = rng.integers(-4, 5, (4, 4 // groups, 3, 3)).astype(dtype)
    if x.dtype.kind == "c":
        x = x + 1j * rng.integers(-4, 5, x.shape).astype(x.dtype)
    wide = np.complex128 if x.dtype.kind == "c" else np.float64
    args = ((1, 1), ((1, 1), (1, 1)), (1, 1), groups)
    y = conv.conv_forward(np, x, w, *args)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, brute(x, w, *args, dtype=wide).astype(x.dtype))
    gx = conv.conv_input_grad(np, y, w, x.shape, *args)
    gw = conv.conv_weight_grad(np, y, x, w.shape, *args)
    assert gx.dtype == x.dtype
    assert gw.dtype == x.dtype


def test_strided_views_and_broadcast_inputs() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((6, 5, 4, 3)).transpose(3, 2, 1, 0)[:, ::-1, ::2]
    w = np.broadcast_to(rng.standard_normal((4, 2, 2)), (3, 4, 2, 2))
    args = ((1, 1), ((0, 0), (1, 0)), (1, 1), 1)
    np.testing.assert_allclose(conv.conv_forward(np, x, w, *args), brute(x, w, *args), atol=1e-12)


def test_kernel_that_does_not_fit() -> None:
    x, w = np.zeros((1, 1, 2)), np.zeros((1, 1, 5))
    with pytest.raises(ValueError, match="does not fit"):
        conv.conv_forward(np, x, w, (1,), ((0, 0),), (1,), 1)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_against_torch(dims: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(dims)
    call = (torch.conv1d, torch.conv2d, torch.conv3d)[dims - 1]
    transposed = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)[dims - 1]
    done = 0
    while done < 60:
        n, groups = int(rng.choice([1, 2, 17])), int(rng.choice([1, 2, 3]))
        c_g, o_g = int(rng.choice([1, 2, 5])), int(rng.choice([1, 3, 8]))
        kernel, sizes = rng.integers(1, 5, dims).tolist(), rng.integers(1, 9, dims).tolist()
        stride, dilation = rng.integers(1, 4, dims).tolist(), rng.integers(1, 3, dims).tolist()
        pad = rng.integers(0, 4, dims).tolist()
        pairs = [(p, p) for p in pad]
        out = [
            conv_output_size(s, k, t, p, p, d)
            for s, k, t, p, d in zip(sizes, kernel, stride, pad, dilation, strict=True)
        ]
        if min(out) < 1:
            continue
        done += 1
        x = rng.standard_normal((n, groups * c_g, *sizes))
        w = rng.standard_normal((groups * o_g, c_g, *kernel))
        g = rng.standard_normal((n, groups * o_g, *out))
        tx, tw = (torch.tensor(a, requires_grad=True) for a in (x, w))
        y = call(tx, tw, stride=stride, padding=pad, dilation=dilation, groups=groups)
        gx, gw = torch.autograd.grad(y, (tx, tw), torch.tensor(g))
        args = (stride, pairs, dilation, groups)
        np.testing.assert_allclose(conv.conv_forward(np, x, w, *args), y.detach(), atol=1e-10)
        np.testing.assert_allclose(conv.conv_input_grad(np, g, w, x.shape, *args), gx, atol=1e-10)
        np.testing.assert_allclose(conv.conv_weight_grad(np, g, x, w.shape, *args), gw, atol=1e-10)
        spatial = [
            conv_transpose_output_size(o, k, t, p, p, d)
            for o, k, t, p, d in zip(out, kernel, stride, pad, dilation, strict=True)
        ]
        if min(spatial) < 1:
            continue
        up = transposed(
            torch.tensor(g),
            torch.tensor(w),
            stride=stride,
            padding=pad,
            dilation=dilation,
            groups=groups,
        )
        assert list(up.shape[2:]) == spatial
        shape = (n, groups * c_g, *spatial)
        np.testing.assert_allclose(conv.conv_input_grad(np, g, w, shape, *args), up, atol=1e-10)


def test_infinities_and_nan_pass_silently() -> None:
    x, w = np.ones((1, 1, 4)), np.array([[[0.0, 1.0]]])
    x[0, 0, 0], x[0, 0, 3] = np.inf, -np.inf
    args = ((1,), ((1, 1),), (1,), 1)
    y = conv.conv_forward(np, x, w, *args)
    np.testing.assert_array_equal(y, [[[np.inf, np.nan, 1, -np.inf, np.nan]]])
    assert np.isnan(conv.conv_input_grad(np, y, w, x.shape, *args)).any()
    assert np.isnan(conv.conv_weight_grad(np, y, x, w.shape, *args)).any()
