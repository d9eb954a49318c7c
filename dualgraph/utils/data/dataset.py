"""Datasets: what a DataLoader draws samples from, and ways to join and divide them."""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

import dualgraph as dg
from dualgraph._dispatch import captures, make
from dualgraph._tensor import Tensor
from dualgraph_compiler.errors import ArgumentError

__all__ = [
    "ChainDataset",
    "ConcatDataset",
    "Dataset",
    "IterableDataset",
    "StackDataset",
    "Subset",
    "TensorDataset",
    "random_split",
]

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class _BadDataset(ArgumentError, AssertionError):
    """Datasets that cannot be combined, where PyTorch asserts that they can."""


class Dataset(Generic[T_co]):
    """A map from keys, usually 0 to n - 1, to samples.

    Subclasses define `__getitem__(index)` and, for the default samplers, `__len__`. One that can
    fetch many samples at once faster than one by one may define `__getitems__(indices) -> list`.
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: Dataset[T_co]) -> ConcatDataset[T_co]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """A stream of samples, for data that comes in its own order.

    Subclasses define `__iter__`. With several workers each of them iterates over its own copy:
    divide the work by `get_worker_info()`, or every sample comes once per worker.
    """

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")

    def __add__(self, other: Dataset[T_co]) -> ChainDataset[T_co]:  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Samples that are slices of tensors along their first dimension.

    Shapes: each tensor (n, ...); sample i is the tuple of their `tensor[i]`.

    Raises:
        ArgumentError: the tensors differ in their first dimension.
    """

    def __init__(self, *tensors: Tensor) -> None:
        if len({tensor.size(0) for tensor in tensors}) > 1:
            sizes = [tensor.size(0) for tensor in tensors]
            raise _BadDataset(f"Size mismatch between tensors: first dimensions are {sizes}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getitems__(self, indices: Sequence[Any]) -> list[tuple[Tensor, ...]]:
        rows = np.asarray(indices)
        if (
            type(self).__getitem__ is not TensorDataset.__getitem__  # a subclass has its own
            or captures.current is not None
            or rows.dtype.kind != "i"
            or any(type(t._data) is not np.ndarray or t.requires_grad for t in self.tensors)
            or any((rows < -len(t)).any() or (rows >= len(t)).any() for t in self.tensors)
        ):
            return [self[index] for index in indices]
        gathered = [tensor._data[rows] for tensor in self.tensors]
        return [tuple(make(data[i, ...]) for data in gathered) for i in range(len(rows))]

    def __len__(self) -> int:
        return int(self.tensors[0].size(0))


class ConcatDataset(Dataset[T_co]):
    """The samples of several datasets, one after the other.

    Raises:
        ArgumentError: no datasets, or an IterableDataset, which has no keys; or a negative index
            before the first sample.
    """

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise _BadDataset("datasets should not be an empty iterable")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise _BadDataset("ConcatDataset does not support IterableDataset")
        self.cumulative_sizes = list(itertools.accumulate(map(_size, self.datasets)))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T_co:
        if index < -len(self):
            raise ArgumentError(
                f"absolute value of index should not exceed dataset length, got {index} for "
                f"{len(self)} samples"
            )
        if index >= len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} samples")
        index %= len(self)
        which = bisect.bisect_right(self.cumulative_sizes, index)
        start = self.cumulative_sizes[which - 1] if which > 0 else 0
        return self.datasets[which][index - start]


class StackDataset(Dataset[Any]):
    """Datasets of one length side by side: sample i holds sample i of each of them.

    Args:
        args: datasets whose samples become a tuple; or
        kwargs: datasets whose samples become a dict under these names.

    Raises:
        ArgumentError: both kinds of arguments or none, or datasets of different lengths.
    """

    datasets: tuple[Dataset[Any], ...] | dict[str, Dataset[Any]]

    def __init__(self, *args: Dataset[Any], **kwargs: Dataset[Any]) -> None:
        if args and kwargs:
            raise ArgumentError(
                "Supported either ``tuple``- (via ``args``) or ``dict``- (via ``kwargs``) like "
                "input/output, but both types are given."
            )
        if not args and not kwargs:
            raise ArgumentError("At least one dataset should be passed")
        self.datasets = args or kwargs
        sizes = [_size(dataset) for dataset in args or kwargs.values()]
        if len(set(sizes)) > 1:
            raise ArgumentError(f"Size mismatch between datasets: their lengths are {sizes}")
        self._length = sizes[0]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __getitems__(self, indices: list[Any]) -> list[Any]:
        if isinstance(self.datasets, dict):
            columns = [_fetch_many(dataset, indices) for dataset in self.datasets.values()]
            return [dict(zip(self.datasets, row)) for row in zip(*columns, strict=True)]
        columns = [_fetch_many(dataset, indices) for dataset in self.datasets]
        return list(zip(*columns, strict=True))


class ChainDataset(IterableDataset[T_co]):
    """The samples of several streams, one after the other."""

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = list(datasets)

    def __iter__(self) -> Iterator[T_co]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise _BadDataset("ChainDataset only supports IterableDataset")
            yield from dataset

    def __len__(self) -> int:
        return sum(map(_size, self.datasets))


class Subset(Dataset[T_co]):
    """Sample i is sample `indices[i]` of `dataset`."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[T_co]:
        return _fetch_many(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


def random_split(
    dataset: Dataset[T], lengths: Sequence[int | float], generator: Any = None
) -> list[Subset[T]]:
    """Divide a dataset at random into parts that do not overlap.

    Args:
        dataset: what to divide.
        lengths: the sizes of the parts, which sum up to that of the dataset; or their shares, which
            sum up to 1. What rounding down leaves over goes to the parts in turn, one sample each.
        generator: source of the permutation, by default the global one.

    Raises:
        ArgumentError: sizes or shares that do not sum up, or a share outside [0, 1].
    """
    total = _size(dataset)
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        sizes = _sizes_of_shares(lengths, total)
    else:
        sizes = [int(length) for length in lengths]
    if sum(sizes) != total:
        raise ArgumentError(
            "Sum of input lengths does not equal the length of the input dataset! "
            f"{list(lengths)} for {total} samples"
        )
    order = dg.randperm(total, generator=generator).tolist()
    ends = itertools.accumulate(sizes)
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def _sizes_of_shares(shares: Sequence[float], total: int) -> list[int]:
    for index, share in enumerate(shares):
        if not 0 <= share <= 1:
            raise ArgumentError(f"Fraction at index {index} is not between 0 and 1")
    sizes = [math.floor(total * share) for share in shares]
    for i in range(total - sum(sizes)):
        sizes[i % len(sizes)] += 1
    for index, size in enumerate(sizes):
        if size == 0:
            warnings.warn(
                f"Length of split at index {index} is 0. This might result in an empty dataset.",
                stacklevel=3,
            )
    return sizes


def _fetch_many(dataset: Any, indices: list[Any]) -> list[Any]:
    fetch_many = getattr(dataset, "__getitems__", None)
    if not callable(fetch_many):
        return [dataset[i] for i in indices]
    samples = list(fetch_many(indices))
    if len(samples) != len(indices):
        raise ArgumentError(
            f"Nested dataset's output size mismatch. Expected {len(indices)}, got {len(samples)}"
        )
    return samples


def _size(dataset: Any) -> int:
    return len(dataset)
