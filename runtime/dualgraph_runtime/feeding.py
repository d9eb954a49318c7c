"""What callers feed, as arrays, or everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from dualgraph_compiler.dtypes import BY_NUMPY
from dualgraph_compiler.errors import FeedError
from dualgraph_compiler.feeds import bind_shapes
from dualgraph_compiler.types import TensorType

from .values import OrtValue, held

Types = Mapping[str, TensorType]


def as_arrays(feed: Any, types: Types) -> list[np.ndarray[Any, Any]]:
    """The arrays of a feed in the order of the inputs.

    Raises:
        FeedError: a name that is missing or unknown, or something that is no array of the type; the
            message tells of all inputs that do not fit.
    """
    if not isinstance(feed, Mapping):
        raise FeedError(f"expected a dict of inputs by name, got {type(feed).__name__}")
    wrong = wrong_names(feed, types)
    arrays = {}
    for name, t in types.items():
        try:
            if name in feed:
                arrays[name] = as_array(name, feed[name], t)
        except FeedError as error:
            wrong.append(str(error))
    if wrong:
        wrong += _misfits({n: types[n] for n in arrays}, arrays)
        raise FeedError("; ".join(wrong))
    return list(arrays.values())


def explain_misfit(arrays: list[np.ndarray[Any, Any]], types: Types, error: FeedError) -> FeedError:
    """An error that tells of all inputs that do not fit, not only of the first."""
    wrong = _misfits(types, dict(zip(types, arrays, strict=True)))
    return FeedError("; ".join(wrong)) if len(wrong) > 1 else error


def wrong_names(feed: Mapping[str, Any], types: Collection[str]) -> list[str]:
    """What is wrong with the names of a feed, if anything."""
    missing = [n for n in types if n not in feed]
    unknown = [n for n in feed if n not in types]
    wrong = [f"missing input {listed(missing)}"] if missing else []
    wrong += [f"unknown input {listed(unknown)}"] if unknown else []
    return [f"{' and '.join(wrong)}; the inputs are {listed(types)}"] if wrong else []


def _misfits(types: Types, arrays: Mapping[str, Any]) -> list[str]:
    """What is wrong with each array by itself, then with the sizes they share."""
    wrong = []
    for name, t in types.items():
        try:
            bind_shapes([(name, t)], [arrays[name]])
        except FeedError as error:
            if not _is_shared(t):  # its own sizes cannot tell all of it
                wrong.append(str(error))
    if not wrong:
        try:
            bind_shapes(list(types.items()), [arrays[n] for n in types])
        except FeedError as error:
            wrong.append(str(error))
    return wrong


def _is_shared(t: TensorType) -> bool:
    """Whether a size is computed from sizes that other inputs may tell."""
    return any(not isinstance(d, int) and d.name is None for d in t.shape)


def listed(names: Any) -> str:
    """Names for a message."""
    return ", ".join(map(repr, names)) or "none"


def as_array(name: str, value: Any, t: TensorType) -> np.ndarray[Any, Any]:
    """A feed as an array: arrays as they are, anything else converted to the declared type."""
    if isinstance(value, OrtValue):
        value = held(value)
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
    else:
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as error:
            raise FeedError(f"input {name!r}: expected an array {t}: {error}") from error
        found = BY_NUMPY.get(array.dtype)
        if found is not None and (found.category <= t.dtype.category or array.size == 0):
            array = array.astype(t.dtype.np)
    if array.dtype not in BY_NUMPY:
        raise FeedError(f"input {name!r}: expected dtype {t.dtype.name}, got {array.dtype}")
    return array
