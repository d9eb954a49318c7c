"""Samplers: the order in which a DataLoader visits a dataset."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import numpy as np

import dualgraph as dg
from dualgraph_compiler.errors import ArgumentError

__all__ = [
    "BatchSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
]

T_co = TypeVar("T_co", covariant=True)


class Sampler(Generic[T_co]):
    """An order of visiting: subclasses define `__iter__`, which yields keys of the dataset.

    `__len__`, where it is defined, is what `len(loader)` is computed from.
    """

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError("Subclasses of Sampler should implement __iter__.")


class SequentialSampler(Sampler[int]):
    """Every sample once, in the order of the dataset."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """Samples in random order.

    Args:
        data_source: the dataset.
        replacement: draw independently, so that samples may repeat, instead of shuffling.
        num_samples: how many to draw, by default as many as there are. Without replacement, more
            than there are means several shuffles in a row.
        generator: source of the order, by default the global one.

    Raises:
        ArgumentError: `num_samples` is not a positive integer.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Any = None,
    ) -> None:
        if num_samples is not None:
            _check_count("num_samples", num_samples)
        self.data_source = data_source
        self.replacement = replacement
        self.generator = generator
        self._num_samples = num_samples

    @property
    def num_samples(self) -> int:
        """How many keys an iteration yields; follows a dataset that grows."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        size, wanted = len(self.data_source), self.num_samples
        if size == 0:
            return
        if self.replacement:
            # In pieces, so that a very long draw starts at once.
            for start in range(0, wanted, 4096):
                count = min(4096, wanted - start)
                yield from dg.randint(0, size, (count,), generator=self.generator).tolist()
            return
        while wanted > 0:
            yield from dg.randperm(size, generator=self.generator).tolist()[:wanted]
            wanted -= size

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given keys in random order, without replacement."""

    def __init__(self, indices: Sequence[int], generator: Any = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for i in dg.randperm(len(self.indices), generator=self.generator).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """Keys 0 to n - 1, drawn with given weights.

    Args:
        weights: one for each key, not negative; they need not sum up to 1.
        num_samples: how many to draw.
        replacement: whether a key may be drawn more than once.
        generator: source of the draw, by default the global one.

    Raises:
        ArgumentError: weights that are negative, not finite or not a vector; or too few that are
            positive to draw from.
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Any = None,
    ) -> None:
        _check_count("num_samples", num_samples)
        self.weights = np.asarray(weights, np.float64)
        if self.weights.ndim != 1:
            raise ArgumentError(
                f"weights should be a 1d sequence but given weights have shape {self.weights.shape}"
            )
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all()):
            raise ArgumentError("weights should be finite and not negative")
        needed = 1 if replacement else num_samples
        if np.count_nonzero(self.weights) < needed:
            raise ArgumentError(
                f"cannot draw {num_samples} samples: only {np.count_nonzero(self.weights)} weights "
                "are positive"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        count = self.num_samples if self.replacement else len(self.weights)
        uniform = dg.rand(count, dtype=dg.float64, generator=self.generator).numpy()
        if self.replacement:
            ends = np.cumsum(self.weights)
            chosen = np.searchsorted(ends, uniform * ends[-1], side="right")
        else:
            # The n smallest of independent exponential times with these rates are a weighted
            # draw without replacement.
            with np.errstate(divide="ignore"):
                times = -np.log1p(-uniform) / self.weights
            chosen = np.argsort(times, kind="stable")[: self.num_samples]
        yield from chosen.tolist()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Groups the keys of another sampler into lists.

    Args:
        sampler: whose keys to group; any iterable.
        batch_size: keys in a list.
        drop_last: leave out a last list that is shorter.

    Raises:
        ArgumentError: `batch_size` is not a positive integer.
    """

    def __init__(
        self, sampler: Sampler[int] | Iterable[int], batch_size: int, drop_last: bool
    ) -> None:
        _check_count("batch_size", batch_size)
        if not isinstance(drop_last, bool):
            raise ArgumentError(
                f"drop_last should be a boolean value, but got drop_last={drop_last}"
            )
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        keys = iter(self.sampler)
        while batch := list(itertools.islice(keys, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        count = len(self.sampler)  # type: ignore[arg-type]
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ArgumentError(f"{name} should be a positive integer value, but got {name}={value}")
