"""Operators on tensors of strings. Source: ONNX 28, each operator's own definition."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import OnnxError
from .registry import Array, ValueContext, on_values, strings
from .sequences import dtype_number

_STRING = 8  # TensorProto.STRING
_SPECIAL = {"nan": "NaN", "inf": "INF", "-inf": "-INF"}


@on_values("StringConcat")
def _concat(_ctx: ValueContext, x: Array, y: Array) -> Array:
    return strings(np.add(x, y))


@on_values("StringSplit")
def _split(ctx: ValueContext, x: Array) -> tuple[Array, Array]:
    """The pieces, padded with empty ones to the longest row, and how many each string has."""
    delimiter, most = ctx.attr("delimiter") or None, ctx.attr("maxsplit", -1)
    pieces = [str(s).split(delimiter, most) for s in x.flat]
    counts = np.array([len(p) for p in pieces], np.int64)
    longest = int(counts.max(initial=0))
    table = np.full((x.size, longest), "", dtype=object)
    for row, found in zip(table, pieces, strict=True):
        row[: len(found)] = found
    return table.reshape(*x.shape, longest), counts.reshape(x.shape)


@on_values("StringNormalizer")
def _normalize(ctx: ValueContext, x: Array) -> Array:
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[0] != 1):
        raise OnnxError(f"expected strings of shape [C] or [1, C], got {list(x.shape)}")
    action = ctx.attr("case_change_action", "NONE")
    changes: dict[str, Callable[[str], str]] = {"NONE": str, "LOWER": str.lower, "UPPER": str.upper}
    if action not in changes:
        raise OnnxError(f"unknown case_change_action {action!r}")
    fold: Callable[[str], str] = str if ctx.attr("is_case_sensitive", 0) else str.lower
    stop = {fold(word) for word in ctx.attr("stopwords", ())}
    kept = [changes[action](s) for s in x.flat if fold(s) not in stop] or [""]
    return strings(kept).reshape((1,) * (x.ndim - 1) + (len(kept),))


@on_values("RegexFullMatch")
def _full_match(ctx: ValueContext, x: Array) -> Array:
    pattern = ctx.attr("pattern")
    try:
        matches = re.compile(pattern).fullmatch
    except re.error as error:
        raise OnnxError(f"the pattern {pattern!r} is none: {error}") from error
    return np.array([matches(s) is not None for s in x.flat], bool).reshape(x.shape)


@on_values("Cast")
def _cast(ctx: ValueContext, x: Array) -> Array:
    return _convert(x, ctx.attr("to"))


@on_values("CastLike")
def _cast_like(_ctx: ValueContext, x: Array, like: Array) -> Array:
    from ...dtypes import dtype_of

    return _convert(x, _STRING if like.dtype == object else dtype_of(like).onnx)


def _convert(x: Array, to: int) -> Array:
    if to == _STRING:
        return strings([_written(v) for v in x.flat]).reshape(x.shape)
    dtype = dtype_number(to)
    if x.dtype != object:
        return x.astype(dtype)
    read: Callable[[str], Any] = _read_bool if dtype.kind == "b" else float
    if dtype.kind in "iu":
        read = _read_int
    try:
        return np.array([read(s.strip()) for s in x.flat], dtype).reshape(x.shape)
    except (ValueError, OverflowError) as error:
        raise OnnxError(f"a string is no {dtype}: {error}") from error


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    shown = str(value)
    return _SPECIAL.get(shown, shown)


def _read_int(s: str) -> int:
    try:
        return int(s)
    except ValueError:
        return int(float(s))


def _read_bool(s: str) -> bool:
    return bool(float(s)) if s.lower() not in ("true", "false") else s.lower() == "true"
