"""From a list of samples to a batch."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any, TypeAlias

import numpy as np

import dualgraph as dg
from dualgraph._dispatch import captures, make
from dualgraph._tensor import Tensor
from dualgraph_compiler.errors import DualGraphError

__all__ = ["collate", "default_collate", "default_collate_fn_map", "default_convert"]

CollateMap: TypeAlias = dict[Any, Callable[..., Any]]


def default_collate(batch: Sequence[Any]) -> Any:
    """Join samples along a new first dimension.

    Args:
        batch: samples of one kind. Tensors and NumPy arrays are stacked; numbers become a tensor
            (floats float64, ints int64, booleans bool); strings and bytes stay as they are; dicts,
            named tuples, dataclasses, tuples and lists are joined entry by entry.

    Shapes: n samples of shape (...) give (n, ...).

    Raises:
        TypeError: samples of another type; `default_collate_fn_map` can say what becomes of them.
        DualGraphError: lists of different lengths, or arrays of different shapes.
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)


def collate(batch: Sequence[Any], *, collate_fn_map: CollateMap | None = None) -> Any:
    """Join samples entry by entry, as deep as their containers go.

    Args:
        batch: samples of one kind.
        collate_fn_map: for types, or tuples of types, the function that joins samples of them. It
            is called with the samples and `collate_fn_map=`. A sample's own type is looked up
            first, then the first entry that it is an instance of.

    Raises:
        TypeError: what is neither in the map nor a container.
        DualGraphError: lists of different lengths.
    """
    first = batch[0]
    join = _joining(first, collate_fn_map or {})
    if join is not None:
        return join(batch, collate_fn_map=collate_fn_map)

    def again(samples: Sequence[Any]) -> Any:
        return collate(samples, collate_fn_map=collate_fn_map)

    if isinstance(first, Mapping):
        return _rebuild(first, {key: again([d[key] for d in batch]) for key in first})
    if _is_dataclass(first):
        names = [field.name for field in dataclasses.fields(first)]
        columns = [again([getattr(sample, name) for sample in batch]) for name in names]
        return _with_fields(first, dict(zip(names, columns)))
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise DualGraphError("each element in list of batch should be of equal size")
        return _rebuild(first, [again(column) for column in zip(*batch, strict=True)])
    raise _cannot_join(type(first))


def default_convert(data: Any) -> Any:
    """Turn the NumPy arrays and scalars in a sample into tensors; keep everything else."""
    return map_structure(_convert_leaf, data)


def map_structure(
    function: Callable[[Any], Any], data: Any, is_leaf: Callable[[Any], bool] = lambda value: False
) -> Any:
    """Apply `function` to everything in nested containers, and rebuild them; tuples give lists.

    Containers of which `is_leaf` says so are given to `function` whole.
    """
    if is_leaf(data):
        return function(data)
    again = functools.partial(map_structure, function, is_leaf=is_leaf)
    if isinstance(data, Mapping):
        return _rebuild(data, {key: again(data[key]) for key in data})
    if _is_dataclass(data):
        fields = {f.name: again(getattr(data, f.name)) for f in dataclasses.fields(data)}
        return _with_fields(data, fields)
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return _rebuild(data, [again(item) for item in data])
    return function(data)


# -- samples that are no containers ---------------------------------------------------------------


def _stack(batch: Sequence[Any], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    arrays = [tensor._data for tensor in batch]
    first = arrays[0]
    if (
        captures.current is None
        and all(
            type(array) is np.ndarray and array.dtype == first.dtype and array.shape == first.shape
            for array in arrays
        )
        and not any(tensor.requires_grad for tensor in batch)
    ):
        # What `stack` would do, without a view of each sample on the way.
        return make(np.concatenate([array[None] for array in arrays]))
    return dg.stack(list(batch))


def _stack_arrays(batch: Sequence[Any], *, collate_fn_map: CollateMap | None = None) -> Any:
    if batch[0].dtype.kind not in "biufcV":  # text, objects, dates
        raise _cannot_join(batch[0].dtype)
    tensors = [dg.from_numpy(np.asarray(array)) for array in batch]
    return collate(tensors, collate_fn_map=collate_fn_map)


def _as_numpy(batch: Sequence[Any], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    if batch[0].dtype.kind not in "biufcV":
        raise _cannot_join(batch[0].dtype)
    return dg.from_numpy(np.array(batch))


def _as_floats(batch: Sequence[Any], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    return dg.tensor(list(batch), dtype=dg.float64)


def _as_numbers(batch: Sequence[Any], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    return dg.tensor(list(batch))


def _as_they_are(batch: Sequence[Any], *, collate_fn_map: CollateMap | None = None) -> Any:
    return batch


# What `default_collate` does with what; to be added to. In this order: np.float64 is a float, too,
# np.str_ a str, and bool an int.
default_collate_fn_map: CollateMap = {
    Tensor: _stack,
    np.ndarray: _stack_arrays,
    str: _as_they_are,
    bytes: _as_they_are,
    np.generic: _as_numpy,
    float: _as_floats,
    int: _as_numbers,
    complex: _as_numbers,
}


def _joining(sample: Any, functions: CollateMap) -> Callable[..., Any] | None:
    found = functions.get(type(sample))
    if found is None:
        found = next((join for kind, join in functions.items() if isinstance(sample, kind)), None)
    return found


def _cannot_join(kind: Any) -> TypeError:
    return TypeError(
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
        f"found {kind}"
    )


def _convert_leaf(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcV":
        return dg.from_numpy(np.asarray(value))
    return value


# -- containers -----------------------------------------------------------------------------------


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
        if isinstance(like, MutableSequence):
            copied = copy.copy(like)
            for index, item in enumerate(content):
                copied[index] = item
            return copied
        return type(like)(content)
    except TypeError:
        return content


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _with_fields(like: Any, content: dict[str, Any]) -> Any:
    """A copy of a dataclass with other values, also for fields that its constructor lacks."""
    clone = copy.copy(like)
    for name, value in content.items():
        object.__setattr__(clone, name, value)  # frozen ones, too
    return clone
