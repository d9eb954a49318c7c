"""From a list of samples to a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

import dualgraph as dg
from dualgraph._tensor import Tensor
from dualgraph_compiler.errors import DualGraphError

__all__ = ["default_collate", "default_convert", "map_structure"]


def default_collate(batch: Sequence[Any]) -> Any:
    """Join samples along a new first dimension.

    Args:
        batch: samples of one kind. Tensors and NumPy arrays are stacked; numbers become a tensor
            (floats float64, ints int64, booleans bool); strings and bytes stay as they are; dicts,
            named tuples, tuples and lists are joined entry by entry.

    Shapes: n samples of shape (...) give (n, ...).

    Raises:
        TypeError: samples of another type.
        DualGraphError: lists of different lengths, or arrays of different shapes.
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return dg.stack(list(batch))
    if isinstance(first, np.ndarray):
        _check_dtype(first.dtype)
        return dg.stack([dg.from_numpy(np.asarray(array)) for array in batch])
    if isinstance(first, np.generic) and not isinstance(first, str | bytes):
        _check_dtype(first.dtype)
        return dg.from_numpy(np.array(batch))
    if isinstance(first, bool):
        return dg.tensor(list(batch))
    if isinstance(first, float):
        return dg.tensor(list(batch), dtype=dg.float64)
    if isinstance(first, int | complex):
        return dg.tensor(list(batch))
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, Mapping):
        return _rebuild(first, {key: default_collate([d[key] for d in batch]) for key in first})
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise DualGraphError("each element in list of batch should be of equal size")
        return _rebuild(first, [default_collate(column) for column in zip(*batch, strict=True)])
    raise TypeError(
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "
        f"{type(first)}"
    )


def default_convert(data: Any) -> Any:
    """Turn the NumPy arrays and scalars in a sample into tensors; keep everything else."""
    return map_structure(_convert_leaf, data)


def map_structure(function: Callable[[Any], Any], data: Any) -> Any:
    """Apply `function` to everything in nested containers, and rebuild them; tuples give lists."""
    if isinstance(data, Mapping):
        return _rebuild(data, {key: map_structure(function, data[key]) for key in data})
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return _rebuild(data, [map_structure(function, item) for item in data])
    return function(data)


def _convert_leaf(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcV":
        return dg.from_numpy(np.asarray(value))
    return value


def _rebuild(like: Any, content: Any) -> Any:
    """Make a container of the type of `like`, or a plain one where that type will not have it."""
    if type(like) is tuple:
        return content  # a plain tuple gives a list, as ever in PyTorch
    try:
        if isinstance(like, tuple) and hasattr(like, "_fields"):
            return type(like)(*content)
        if isinstance(like, MutableMapping):
            clone = copy.copy(like)  # keeps what the type holds besides its items
            clone.update(content)
            return clone
        return type(like)(content)
    except TypeError:
        return content


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "biufcV":
        raise TypeError(
            "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
            f"found {dtype}"
        )
