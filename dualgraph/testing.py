"""Comparing and making tensors in tests: PyTorch's ``torch.testing``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.errors import ArgumentError

from . import functions as fn
from ._tensor import Tensor

__all__ = ["assert_close", "make_tensor"]

# PyTorch's tolerances by dtype: relative, absolute.
_TOLERANCES = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
    "complex64": (1.3e-6, 1e-5),
    "complex128": (1e-7, 1e-7),
}


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """Raise AssertionError unless `actual` is `expected` up to tolerances.

    |actual - expected| <= atol + rtol * |expected| must hold for every element. Tensors, numbers
    and nested sequences and mappings of them are compared; other objects by ``==``.

    Args:
        actual, expected: what to compare.
        rtol, atol: tolerances, given together; by default those of the coarser of both dtypes.
        equal_nan: whether NaN is close to NaN.
        check_device, check_dtype, check_stride: whether these must be equal, too.
        msg: the error's message, or a function of the message that it would have.

    Raises:
        AssertionError: they differ; the message says by how much and where most.
        ArgumentError: one of the tolerances without the other.

    Source: ``torch.testing.assert_close``.
    """
    if (rtol is None) != (atol is None):
        raise ArgumentError("rtol and atol must both be given, or neither")
    checks = _Checks(rtol, atol, equal_nan, check_device, check_dtype, check_stride)
    problem = checks.compare(actual, expected, "")
    if problem is not None:
        raise AssertionError(msg(problem) if callable(msg) else msg or problem)


class _Checks:
    """What is asked of two values; `compare` says what is wrong with them."""

    def __init__(
        self,
        rtol: float | None,
        atol: float | None,
        equal_nan: bool,
        device: bool,
        dtype: bool,
        stride: bool,
    ) -> None:
        self.tolerances = None if rtol is None or atol is None else (rtol, atol)
        self.equal_nan = equal_nan
        self.device, self.dtype, self.stride = device, dtype, stride

    def compare(self, actual: Any, expected: Any, path: str) -> str | None:
        where = f"\n\nThe failure occurred for item {path}" if path else ""
        if isinstance(actual, Mapping) and isinstance(expected, Mapping):
            if actual.keys() != expected.keys():
                return f"The keys of the mappings do not match{where}"
            return self._first(path, ((k, actual[k], expected[k]) for k in expected))
        if _is_sequence(actual) and _is_sequence(expected):
            if len(actual) != len(expected):
                lengths = f"{len(actual)} != {len(expected)}"
                return f"The length of the sequences mismatch: {lengths}{where}"
            items = ((i, *pair) for i, pair in enumerate(zip(actual, expected, strict=True)))
            return self._first(path, items)
        numbers = (Tensor, np.ndarray, int, float, complex)
        if not isinstance(actual, numbers) or not isinstance(expected, numbers):
            return None if actual == expected else f"{actual!r} != {expected!r}{where}"
        return self._tensors(actual, expected, where)

    def _first(self, path: str, items: Any) -> str | None:
        for key, a, e in items:
            problem = self.compare(a, e, f"{path}[{key!r}]")
            if problem is not None:
                return problem
        return None

    def _tensors(self, actual: Any, expected: Any, where: str) -> str | None:
        if isinstance(actual, Tensor) and isinstance(expected, Tensor):
            for name in ("device", "dtype"):
                mine, other = getattr(actual, name), getattr(expected, name)
                if getattr(self, name) and mine != other:
                    return (
                        f"The values for attribute '{name}' do not match: {mine} != {other}{where}"
                    )
            if self.stride and actual.stride() != expected.stride():
                strides = f"{actual.stride()} != {expected.stride()}"
                return f"The values for attribute 'stride()' do not match: {strides}{where}"
        a, e = _array(actual), _array(expected)
        if a.shape != e.shape:
            shapes = f"{list(a.shape)} != {list(e.shape)}"
            return f"The values for attribute 'shape' do not match: {shapes}{where}"
        rtol, atol = self.tolerances or _coarser(a.dtype, e.dtype)
        return _distance(a, e, rtol, atol, self.equal_nan, where)


def _is_sequence(x: Any) -> bool:
    return isinstance(x, Sequence) and not isinstance(x, str | bytes)


def _array(x: Any) -> Any:
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def _coarser(*kinds: Any) -> tuple[float, float]:
    found = [_TOLERANCES.get(str(kind), (0.0, 0.0)) for kind in kinds]
    return max(r for r, _ in found), max(a for _, a in found)


def _distance(a: Any, e: Any, rtol: float, atol: float, equal_nan: bool, where: str) -> str | None:
    wide = np.complex128 if "c" in (a.dtype.kind, e.dtype.kind) else np.float64
    if a.dtype.kind in "biu" and e.dtype.kind in "biu" and not rtol and not atol:
        close = a == e
    else:
        close = np.isclose(a.astype(wide), e.astype(wide), rtol, atol, equal_nan)
    if close.all():
        return None
    with np.errstate(all="ignore"):
        away = np.abs(a.astype(wide) - e.astype(wide))
        share = away / np.abs(e.astype(wide))
    away, share = np.where(close, 0, away), np.where(close, 0, share)
    wrong = f"{(~close).sum()} / {close.size} ({100 * (~close).mean():.1f}%)"

    def greatest(x: Any) -> str:
        place = np.unravel_index(int(np.argmax(x)), x.shape)
        return f"{x[place]} at index {tuple(int(i) for i in place)}"

    return (
        f"Tensor-likes are not close!\n\nMismatched elements: {wrong}\n"
        f"Greatest absolute difference: {greatest(away)} (up to {atol} allowed)\n"
        f"Greatest relative difference: {greatest(share)} (up to {rtol} allowed){where}"
    )


def make_tensor(
    *shape: Any,
    dtype: DType,
    device: Any = "cpu",
    low: float | None = None,
    high: float | None = None,
    requires_grad: bool = False,
    noncontiguous: bool = False,
    exclude_zero: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """A tensor of random elements from [low, high), by default [-9, 9) (0 or 1 of bools).

    Args:
        shape: sizes, or one sequence of them.
        dtype: of the elements.
        device: where they are.
        low, high: bounds; unsigned integers start from 0.
        requires_grad: whether to ask for its gradient.
        noncontiguous: every other element in memory belongs to another tensor.
        exclude_zero: replace zeros by the smallest number that is none.

    Source: ``torch.testing.make_tensor``.
    """
    sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    drawn = (*sizes[:-1], 2 * sizes[-1]) if noncontiguous and sizes and sizes[-1] > 1 else sizes
    x = _draw(drawn, dtype, low, high).to(device)
    if exclude_zero:
        x[x == 0] = 1 if dtype.category <= dt.INT else fn.finfo(dtype).tiny
    if drawn != sizes:
        x = x[..., ::2]
    return x.requires_grad_() if requires_grad else x


def _draw(shape: tuple[int, ...], dtype: DType, low: float | None, high: float | None) -> Tensor:
    if dtype.category <= dt.INT:
        bottom = 0 if dtype.category == dt.BOOL or not dtype.is_signed else -9
        first = bottom if low is None else math.ceil(low)
        top = 2 if dtype.category == dt.BOOL else 10
        return fn.randint(first, top if high is None else math.ceil(high), shape).to(dtype)
    if dtype.is_complex:
        parts = (_draw(shape, dt.float64, low, high) for _ in range(2))
        return fn.complex(*parts).to(dtype)
    start, end = -9.0 if low is None else low, 9.0 if high is None else high
    drawn: Tensor = fn.rand(shape, dtype=dt.float64) * (end - start) + start
    return drawn.to(dtype)
