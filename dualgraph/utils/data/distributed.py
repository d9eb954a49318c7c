"""The share of a dataset that one of several training processes visits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from typing import Any

import dualgraph as dg
from dualgraph.utils.data.sampler import Sampler
from dualgraph_compiler.errors import ArgumentError

__all__ = ["DistributedSampler"]


class DistributedSampler(Sampler[int]):
    """Every `num_replicas`-th key of a common order, beginning with key number `rank`.

    All processes make the same order from `seed` and the epoch, and so share the dataset without
    a word between them. Call `set_epoch` before each epoch, or every epoch has the same order.

    Args:
        dataset: the dataset.
        num_replicas: how many processes share it.
        rank: the number of this one, from 0.
        shuffle: whether the order is random.
        seed: what it depends on; the same in all processes.
        drop_last: leave out what does not divide evenly, instead of visiting some samples twice.

    Raises:
        ArgumentError: a rank outside 0 to `num_replicas` - 1; or no `num_replicas` or no `rank`,
            for there is no process group to ask.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if num_replicas is None or rank is None:
            raise ArgumentError(
                "there is no process group to ask for num_replicas and rank; please pass both"
            )
        if not 0 <= rank < num_replicas:
            raise ArgumentError(
                f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]"
            )
        self.dataset = dataset
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        count = len(dataset) / num_replicas
        self.num_samples = math.floor(count) if drop_last else math.ceil(count)
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[int]:
        size = len(self.dataset)
        order: Any = range(size)
        if self.shuffle:
            generator = dg.Generator().manual_seed(self.seed + self.epoch)
            order = dg.randperm(size, generator=generator).tolist()
        # Past the end the order begins again.
        for place in range(self.rank, self.total_size, self.num_replicas):
            yield order[place % size]

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of epoch `epoch`."""
        self.epoch = epoch
