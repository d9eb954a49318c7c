"""Datasets and helpers that the tests of the DataLoader share; workers can import them."""

from __future__ import annotations

import gc
import glob
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info


def seeded(seed: int) -> Any:
    return dg.Generator().manual_seed(seed)


class Rows(Dataset[Any]):
    """Row i: an array full of i, big enough to go through shared memory, and i itself."""

    def __init__(self, size: int = 20, width: int = 20_000) -> None:
        self.size = size
        self.width = width

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return np.full(self.width, index, np.float32), index


class Stream(IterableDataset[int]):
    """0 to size - 1, divided among workers in turn."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[int]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(range(first, self.size, step))

    def __len__(self) -> int:
        return self.size


class Failing(Dataset[int]):
    """Sample 3 raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> int:
        if index == 3:
            raise self.error
        return index


class Dying(Dataset[int]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


class Slow(Dataset[int]):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> int:
        time.sleep(self.seconds)
        return index


class Facts(Dataset[Any]):
    """What a worker knows of itself, and what its generators give."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        info = get_worker_info()
        assert info is not None
        draws = random.random(), float(np.random.random()), float(dg.rand(1).item())  # noqa: NPY002
        return os.getpid(), info.id, info.num_workers, info.seed, info.dataset is self, draws


class Picky(Exception):
    """An exception that cannot be made from a message."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(a, b)


def same(value: Any) -> Any:
    return value


def first(values: list[Any]) -> Any:
    return values[0]


def fail_to_start(worker_id: int) -> None:
    raise ValueError(f"no start for {worker_id}")


def values(loader: DataLoader[Any]) -> list[Any]:
    return [batch.tolist() for batch in loader]


def blocks(pid: int | None = None) -> set[str]:
    return set(glob.glob(f"/dev/shm/dg{pid or os.getpid():x}-*"))


class Ragged(Dataset[Any]):
    """Some samples are large enough for shared memory, some not; none is like the one before."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        return np.ones(((index * 7) % 40) * 1000, np.float32)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = blocks()
    yield
    gc.collect()
    assert blocks() <= before
    assert multiprocessing.active_children() == []
