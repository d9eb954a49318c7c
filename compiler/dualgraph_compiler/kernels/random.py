"""Counter-based random numbers: Philox4x32-10, the same bits on every device.

J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3"
(SC 2011). Block number `i` of a stream is a pure function of (key, i): four 32-bit words out of a
128-bit counter and a 64-bit key. So there is no hidden state, and any part of a stream can be
computed anywhere. A generator keeps (key, counter) and adds `counters_used(...)` after each call;
streams that share a key overlap only if their counter ranges do.

Counters are ints of up to 128 bits and wrap around. Which words a draw uses is part of the
contract, so saved generator states stay valid: element `i` of a float32 or 32-bit draw is word `i`
of the stream, element `i` of a 64-bit draw is words `2i` (high half) and `2i + 1`. The uniform
numbers are equal bit for bit on every device; normal numbers are equal up to the last ulps of the
device's log, sin and cos.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from .arrays import Array, is_numpy, narrow

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_MASK, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_BLOCK = 1 << 13  # counters a block: five uint64 lanes for each fit an L2 cache

Shape = int | Sequence[int]


def random_bits(xp: Any, key: int, counter: int, n: int) -> Array:
    """Words 0..n-1 of the stream that starts at `counter`: uint32 [n].

    Word `4 i + j` is word j of Philox4x32-10(counter + i, key). Uses ceil(n / 4) counters.
    """
    blocks = -(-n // 4)
    out = xp.empty((blocks, 4), np.uint32)
    step = _BLOCK if is_numpy(xp) else max(1, blocks)
    for start in range(0, blocks, step):
        count = min(step, blocks - start)
        _philox(xp, key, counter + start, count, out[start : start + count])
    return out.reshape(-1)[:n]


def _philox(xp: Any, key: int, counter: int, n: int, out: Array) -> None:
    """Philox4x32-10 of `n` consecutive counters into out [n, 4].

    Words are kept in uint64 lanes, where one product gives both the high and the low half.
    """
    mask, half, m0, m1 = _MASK, _HALF, _M0, _M1
    counter &= (1 << 128) - 1
    low, high = counter & ((1 << 64) - 1), counter >> 64
    c0 = xp.arange(n, dtype=np.uint64)
    c0 += np.uint64(low)
    c1 = c0 >> half
    c0 &= mask
    c2 = xp.full(n, high & 0xFFFFFFFF, np.uint64)
    c3 = xp.full(n, high >> 32, np.uint64)
    wrapped = (1 << 64) - low  # lanes from here on carry into the upper half
    if wrapped < n:
        high = (high + 1) & ((1 << 64) - 1)
        c2[wrapped:], c3[wrapped:] = high & 0xFFFFFFFF, high >> 32
    spare = xp.empty_like(c0)
    for k0, k1 in _key_schedule(key):
        c0 *= m0
        c2 *= m1
        c1 ^= xp.right_shift(c2, half, out=spare)
        c1 ^= k0
        c3 ^= xp.right_shift(c0, half, out=spare)
        c3 ^= k1
        c2 &= mask
        c0 &= mask
        c0, c1, c2, c3 = c1, c2, c3, c0
    for j, word in enumerate((c0, c1, c2, c3)):
        out[:, j] = word


@lru_cache(maxsize=16)
def _key_schedule(key: int) -> list[tuple[np.uint64, np.uint64]]:
    """Round keys: each half of the key plus multiples of a Weyl constant."""
    return [
        (
            np.uint64((key + i * _W0) & 0xFFFFFFFF),
            np.uint64(((key >> 32) + i * _W1) & 0xFFFFFFFF),
        )
        for i in range(10)
    ]


def counters_used(shape: Shape, dtype: Any = np.uint32) -> int:
    """Counters that a draw of `shape` in `dtype` uses, for every function of this module.

    Floating dtypes up to 32 bits take one word an element, wider ones and 64-bit integers two;
    complex dtypes count as twice as many elements of their real dtype.
    """
    n, dtype = _size(shape), np.dtype(dtype)
    words = 2 if dtype.itemsize > (8 if dtype.kind == "c" else 4) else 1
    return -(-n * words * (2 if dtype.kind == "c" else 1) // 4)


def uniform(xp: Any, key: int, counter: int, shape: Shape, dtype: Any = np.float32) -> Array:
    """Uniform numbers in [0, 1): multiples of 2^-24, or of 2^-53 for float64.

    float16 and bfloat16 are multiples of 2^-11 and 2^-8, the finest step that never rounds to 1.
    Uses `counters_used(shape, dtype)` counters.
    """
    dtype, n = np.dtype(dtype), _size(shape)
    if dtype == np.float64:
        return _uniform64(xp, key, counter, n).reshape(_shape(shape))
    bits = {"float32": 24, "float16": 11, "bfloat16": 8}[dtype.name]
    u = random_bits(xp, key, counter, n)
    u >>= np.uint32(32 - bits)
    u = u.astype(np.float32)
    u *= np.float32(2.0**-bits)
    return u.astype(dtype, copy=False).reshape(_shape(shape))


def _uniform64(xp: Any, key: int, counter: int, n: int) -> Array:
    u = _words64(xp, key, counter, n)
    u >>= np.uint64(11)
    u = u.astype(np.float64)
    u *= 2.0**-53
    return u


def _words64(xp: Any, key: int, counter: int, n: int) -> Array:
    """uint64 [n]; element i is words 2i (high) and 2i + 1 (low) of the stream."""
    words = random_bits(xp, key, counter, 2 * n).reshape(n, 2)
    u = words[:, 0].astype(np.uint64)
    u <<= np.uint64(32)
    u |= words[:, 1]
    return u


def normal(xp: Any, key: int, counter: int, shape: Shape, dtype: Any = np.float32) -> Array:
    """Standard normal numbers by Box & Muller (1958), whose two outputs are both used.

    Computed in float32 (float64 for float64), from a radius uniform in (0, 1]; the largest
    magnitude is 5.8 (8.6). Of complex dtypes, real and imaginary part have variance 1/2 each, as
    in PyTorch. Uses `counters_used(shape, dtype)` counters.
    """
    dtype, n = np.dtype(dtype), _size(shape)
    if dtype.kind == "c":
        real = np.float64 if dtype.itemsize == 16 else np.float32
        parts = normal(xp, key, counter, 2 * n, real)
        parts *= real(math.sqrt(0.5))
        return parts.view(dtype).reshape(_shape(shape))
    wide = np.float64 if dtype == np.float64 else np.float32
    pairs = -(-n // 2)
    out = xp.empty((pairs, 2), wide)
    step = _BLOCK * 2 if is_numpy(xp) else max(1, pairs)  # even: a block starts on a counter
    words = 2 if wide is np.float64 else 1
    for start in range(0, pairs, step):
        count = min(step, pairs - start)
        u = uniform(xp, key, counter + start * 2 * words // 4, (count, 2), wide)
        radius = xp.subtract(1, u[:, 0])
        xp.log(radius, out=radius)
        radius *= -2
        xp.sqrt(radius, out=radius)
        angle = xp.multiply(u[:, 1], wide(2 * math.pi))
        into = out[start : start + count]
        xp.multiply(xp.cos(angle), radius, out=into[:, 0])
        xp.multiply(xp.sin(angle, out=angle), radius, out=into[:, 1])
    return narrow(out.reshape(-1)[:n], dtype).reshape(_shape(shape))


def bernoulli(xp: Any, key: int, counter: int, shape: Shape, p: Any) -> Array:
    """Bool array, true with probability `p`: a float, or an array that broadcasts to `shape`.

    Compares a word with round(p 2^32), so p is met within 2^-33 and 0 and 1 are exact. Uses
    `counters_used(shape)` counters.
    """
    words = random_bits(xp, key, counter, _size(shape)).reshape(_shape(shape))
    if isinstance(p, (int, float)):
        limit = round(p * 2**32)
        return xp.ones(words.shape, bool) if limit >= 2**32 else words < np.uint32(limit)
    limits = xp.rint(xp.asarray(p, np.float64) * 2.0**32)
    return words < limits


def randint(
    xp: Any, key: int, counter: int, low: int, high: int, shape: Shape, dtype: Any = np.int64
) -> Array:
    """Integers in [low, high), each 64-bit word scaled by Lemire's multiply-and-shift.

    Without rejection, so the number of words is fixed: the bias of any value is below
    (high - low) / 2^64 of its probability. Uses `counters_used(shape, int64)` counters.
    """
    span = high - low
    if not 0 < span <= 2**64:
        raise ValueError(f"randint expects low < high, got low={low} and high={high}")
    words = _words64(xp, key, counter, _size(shape))
    if span < 2**32:
        # floor(word * span / 2^64) in 64-bit arithmetic, from the word's two halves.
        carry = words & np.uint64(0xFFFFFFFF)
        carry *= np.uint64(span)
        carry >>= np.uint64(32)
        words >>= np.uint64(32)
        words *= np.uint64(span)
        words += carry
        words >>= np.uint64(32)
    elif span < 2**64:
        words %= np.uint64(span)
    words += np.uint64(low & (2**64 - 1))  # wraps modulo 2^64: two's complement
    return words.view(np.int64).astype(dtype, copy=False).reshape(_shape(shape))


def permutation(xp: Any, key: int, counter: int, n: int) -> Array:
    """A random permutation of 0..n-1, int64 [n]: the order of n random 64-bit words.

    Each word's low bits are replaced by its position, so one plain sort both orders and carries
    the result, and ties have one outcome everywhere. Two elements tie, and keep their order, with
    probability below n / 2^63. Uses `counters_used(n, int64)` counters.
    """
    words = _words64(xp, key, counter, n)
    low = np.uint64((1 << max(n - 1, 0).bit_length()) - 1)
    words &= ~low
    words |= xp.arange(n, dtype=np.uint64)
    words.sort()
    words &= low
    return words.view(np.int64)


def _size(shape: Shape) -> int:
    return shape if isinstance(shape, int) else prod(shape)


def _shape(shape: Shape) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)
