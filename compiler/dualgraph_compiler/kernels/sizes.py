"""Output sizes of sliding windows: convolution, transposed convolution, pooling.

Written with `+ - * //` only, so that symbolic dims pass through; where a comparison is needed
(`ceil` and its last-window rule) the sizes must be ints.
"""

from __future__ import annotations

from typing import Any


def conv_output_size(
    n: Any, k: Any, stride: Any = 1, pad_lo: Any = 0, pad_hi: Any = 0, dilation: Any = 1
) -> Any:
    """Number of windows of `k` taps that fit into `n` elements plus padding (ONNX Conv-11)."""
    return (n + (pad_lo + pad_hi - dilation * (k - 1) - 1)) // stride + 1


def conv_transpose_output_size(
    n: Any,
    k: Any,
    stride: Any = 1,
    pad_lo: Any = 0,
    pad_hi: Any = 0,
    dilation: Any = 1,
    output_padding: Any = 0,
) -> Any:
    """Output size of a transposed convolution (PyTorch ConvTranspose, ONNX ConvTranspose-11)."""
    return (n - 1) * stride + (dilation * (k - 1) + 1 + output_padding - pad_lo - pad_hi)


def pool_output_size(
    n: Any,
    k: Any,
    stride: Any = 1,
    pad_lo: Any = 0,
    pad_hi: Any = 0,
    dilation: Any = 1,
    ceil: bool = False,
) -> Any:
    """Number of pooling windows; with `ceil` a last, partial window counts too.

    PyTorch's rule (ATen/native/Pool.h, pooling_output_shape): a partial window counts only if
    it starts inside the input or its left padding, never in the right padding alone.
    """
    if not ceil:
        return conv_output_size(n, k, stride, pad_lo, pad_hi, dilation)
    out = (n + (pad_lo + pad_hi - dilation * (k - 1) - 1 + stride - 1)) // stride + 1
    if isinstance(out, int) and (out - 1) * stride >= n + pad_lo:
        out -= 1
    return out


def adaptive_bounds(n: int, out: int) -> tuple[tuple[int, int], ...]:
    """[start, end) of each of `out` bins over `n` elements: floor(i n/out), ceil((i+1) n/out).

    PyTorch's rule for adaptive pooling; bins differ by at most one element and may overlap.
    """
    return tuple((i * n // out, -(-(i + 1) * n // out)) for i in range(out))
