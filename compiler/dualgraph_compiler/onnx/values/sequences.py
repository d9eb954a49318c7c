"""Operators on sequences and optionals. Source: ONNX 28, each operator's own definition."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ...dtypes import BY_ONNX
from ...errors import OnnxError
from .registry import Array, ValueContext, on_values


@on_values("SequenceConstruct", any_tensors=True)
def _construct(_ctx: ValueContext, *elements: Any) -> list[Any]:
    return list(elements)


@on_values("SequenceEmpty", any_tensors=True)
def _empty(_ctx: ValueContext) -> list[Any]:
    return []


@on_values("SequenceLength", any_tensors=True)
def _length(_ctx: ValueContext, sequence: list[Any]) -> Array:
    return np.array(len(_sequence(sequence)), np.int64)


@on_values("SequenceAt", any_tensors=True)
def _at(_ctx: ValueContext, sequence: list[Any], position: Array) -> Any:
    return _sequence(sequence)[_position(position, len(sequence))]


@on_values("SequenceInsert", any_tensors=True)
def _insert(
    _ctx: ValueContext, sequence: list[Any], element: Any, position: Array | None = None
) -> list[Any]:
    n = len(_sequence(sequence))
    at = n if position is None else _position(position, n, at_end=True)
    return [*sequence[:at], element, *sequence[at:]]


@on_values("SequenceErase", any_tensors=True)
def _erase(_ctx: ValueContext, sequence: list[Any], position: Array | None = None) -> list[Any]:
    n = len(_sequence(sequence))
    at = _position(np.array(-1) if position is None else position, n)
    return [*sequence[:at], *sequence[at + 1 :]]


@on_values("SplitToSequence", any_tensors=True)
def _split(ctx: ValueContext, x: Array, split: Array | None = None) -> list[Array]:
    axis = axis_of(ctx.attr("axis", 0), x.ndim)
    parts = _pieces(x, piece_lengths(x.shape[axis], split), axis)
    if split is None and not ctx.attr("keepdims", 1):
        return [ctx.xp.squeeze(p, axis) for p in parts]
    return parts


def piece_lengths(size: int, split: Array | None) -> list[int]:
    """The lengths of the pieces that SplitToSequence makes of an axis of this size.

    Raises:
        OnnxError: they do not make it up.
    """
    if split is None:
        return [1] * size
    if split.ndim == 0:
        step = int(split)
        if step <= 0:
            raise OnnxError(f"expected pieces of at least 1, got {step}")
        return [min(step, size - at) for at in range(0, size, step)] or [0]
    lengths = [int(n) for n in split]
    if min(lengths, default=0) < 0 or sum(lengths) != size:
        raise OnnxError(f"pieces of {lengths} do not make up {size}")
    return lengths


@on_values("ConcatFromSequence", any_tensors=True)
def _concat(ctx: ValueContext, sequence: list[Any]) -> Any:
    if not _sequence(sequence):
        raise OnnxError("an empty sequence cannot be concatenated")
    stacked = bool(ctx.attr("new_axis", 0))
    axis = axis_of(ctx.attr("axis"), sequence[0].ndim + stacked)
    return ctx.xp.stack(sequence, axis) if stacked else ctx.xp.concatenate(sequence, axis)


@on_values("SequenceMap", any_tensors=True)
def _map(ctx: ValueContext, first: list[Any], *others: Any) -> Any:
    """The body applied to every element; tensors beside the sequences are given to each call."""
    count = len(_sequence(first))
    sequences = [first, *others]
    if any(isinstance(s, list) and len(s) != count for s in sequences):
        raise OnnxError(f"sequences of other lengths than {count} beside the first")
    rows = [
        ctx.call("body", [s[i] if isinstance(s, list) else s for s in sequences])
        for i in range(count)
    ]
    results = tuple([row[k] for row in rows] for k in range(ctx.n_outputs))
    return results if len(results) > 1 else results[0]


# -- optionals -----------------------------------------------------------------------------------


@on_values("Optional", any_tensors=True)
def _optional(_ctx: ValueContext, element: Any = None) -> Any:
    return element


@on_values("OptionalHasElement", any_tensors=True)
def _has_element(_ctx: ValueContext, value: Any = None) -> Array:
    return np.array(value is not None)


@on_values("OptionalGetElement", any_tensors=True)
def _get_element(_ctx: ValueContext, value: Any) -> Any:
    if value is None:
        raise OnnxError("the optional has no element")
    return value


# -- any value -----------------------------------------------------------------------------------


@on_values("Identity", any_tensors=True)
def _identity(_ctx: ValueContext, value: Any) -> Any:
    return value


@on_values("Constant")
def _constant(ctx: ValueContext) -> Any:
    for name in ("value_string", "value_strings", "value"):
        value = ctx.attr(name)
        if value is not None:
            return value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
    raise OnnxError("expected a value")


def _pieces(x: Array, lengths: list[int], axis: int) -> list[Array]:
    """Pieces of these lengths along an axis."""
    ends = list(itertools.accumulate(lengths))
    before = (slice(None),) * axis
    return [x[(*before, slice(e - n, e))] for n, e in zip(lengths, ends, strict=True)]


def _sequence(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise OnnxError(f"expected a sequence, got {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, np.ndarray):
        return f"a tensor of {value.dtype}" if value.dtype != object else "a tensor of strings"
    return f"a {type(value).__name__}"


def _position(position: Array, count: int, *, at_end: bool = False) -> int:
    """A position in a sequence, counted from its end if negative."""
    at = int(np.asarray(position).reshape(()))
    if not -count <= at < count + at_end:
        raise OnnxError(f"position {at} is outside of a sequence of {count}")
    return at + count if at < 0 else at


def axis_of(axis: int, ndim: int) -> int:
    """An axis, counted from the front.

    Raises:
        OnnxError: there is none.
    """
    if not -ndim <= axis < ndim:
        raise OnnxError(f"axis {axis} is outside of a tensor of {ndim} dimensions")
    return axis % ndim


def dtype_number(number: int) -> np.dtype[Any]:
    """The NumPy dtype of one of ONNX's element types."""
    dtype = BY_ONNX.get(number)
    if dtype is None:
        raise OnnxError(f"the element type {number} is not supported")
    return dtype.np
