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
        TypeError: `replacement` is not a boolean.
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
        if not isinstance(replacement, bool):
            raise TypeError(
                f"replacement should be a boolean value, but got replacement={replacement}"
            )
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
        # One draw from the global generator, whatever else draws from it during the epoch: so the
        # order depends neither on how far workers read ahead nor on the model's dropout.
        generator = _seeded_globally() if self.generator is None else self.generator
        if size == 0:
            return
        if self.replacement:
            # In pieces, so that a very long draw starts at once.
            for start in range(0, wanted, 4096):
                count = min(4096, wanted - start)
                yield from dg.randint(0, size, (count,), generator=generator).tolist()
            return
        while wanted > 0:
            yield from dg.randperm(size, generator=generator).tolist()[:wanted]
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
        ArgumentError: weights that are negative, not finite or not a vector; too few that are
            positive to draw from; a `num_samples` or `replacement` of another type.
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Any = None,
    ) -> None:
        _check_count("num_samples", num_samples)
        _check_flag("replacement", replacement)
        self.weights = dg.as_tensor(weights, dtype=dg.float64)
        if self.weights.ndim != 1:
            raise ArgumentError(
                "weights should be a 1d sequence but given weights have shape "
                f"{tuple(self.weights.shape)}"
            )
        if not bool((dg.isfinite(self.weights) & (self.weights >= 0)).all()):
            raise ArgumentError("weights should be finite and not negative")
        positive = int(dg.count_nonzero(self.weights))
        if positive < (1 if replacement else num_samples):
            raise ArgumentError(
                f"cannot draw {num_samples} samples: only {positive} weights are positive"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        count = self.num_samples if self.replacement else len(self.weights)
        uniform = dg.rand(count, dtype=dg.float64, generator=self.generator).numpy()
        weights = self.weights.cpu().numpy()
        if self.replacement:
            ends = np.cumsum(weights)
            chosen = np.searchsorted(ends, uniform * ends[-1], side="right")
        else:
            # The n smallest of independent exponential times with these rates are a weighted
            # draw without replacement.
            with np.errstate(divide="ignore"):
                times = -np.log1p(-uniform) / weights
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
        ArgumentError: `batch_size` is not a positive integer, or `drop_last` not a boolean.
    """

    def __init__(
        self, sampler: Sampler[int] | Iterable[int], batch_size: int, drop_last: bool
    ) -> None:
        _check_count("batch_size", batch_size)
        _check_flag("drop_last", drop_last)
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


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} should be a boolean value, but got {name}={value}")


def _seeded_globally() -> Any:
    seed = int(dg.randint(0, 2**63 - 1, (), dtype=dg.int64).item())
    return dg.Generator().manual_seed(seed)
