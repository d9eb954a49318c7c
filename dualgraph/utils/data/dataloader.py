"""The DataLoader: batches from a dataset, in this process or from workers."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.context import BaseContext
from typing import Any, Generic, TypeVar

import dualgraph as dg
from dualgraph.utils.data._fetch import END, make_fetch
from dualgraph.utils.data._pin import pin_memory
from dualgraph.utils.data._pool import Pool, new_token
from dualgraph.utils.data._worker import Failure, Job
from dualgraph.utils.data.collate import default_collate, default_convert
from dualgraph.utils.data.dataset import Dataset, IterableDataset
from dualgraph.utils.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
)
from dualgraph_compiler.errors import ArgumentError, DualGraphError

__all__ = ["DataLoader"]

T_co = TypeVar("T_co", covariant=True)


class DataLoader(Generic[T_co]):
    """Iterates over a dataset in batches.

    The batches of an epoch and their order depend on the sampler and the random state alone, not
    on `num_workers`.

    Args:
        dataset: a `Dataset`, anything else with `__getitem__` and `__len__`, or an
            `IterableDataset`.
        batch_size: samples in a batch; `None` gives samples, through `default_convert`.
        shuffle: visit the samples in a new random order each epoch.
        sampler: order of visiting, an iterable of keys.
        batch_sampler: order and grouping, an iterable of lists of keys.
        num_workers: processes that load; 0 loads in this one.
        collate_fn: makes a batch of a list of samples, by default `default_collate`.
        pin_memory: return tensors in page-locked memory.
        drop_last: leave out a last batch that is too short.
        timeout: seconds to wait for a worker, 0 for as long as it takes.
        worker_init_fn: called with the worker's number in each worker before it loads.
        multiprocessing_context: how workers are started, `"fork"`, `"spawn"` or `"forkserver"`, by
            default Python's own choice. Started by anything but fork, they need a dataset and
            functions that can be pickled.
        generator: source of the order and of the workers' seeds, by default the global one.
        prefetch_factor: batches that each worker works ahead, by default 2.
        persistent_workers: keep the workers from one epoch to the next.
        pin_memory_device: accepted and without effect, as in PyTorch.
        in_order: return batches in the order of the sampler. Otherwise as they arrive, which is
            faster where some take much longer to load than others.

    Worker i seeds `random`, NumPy and dualgraph with a base seed plus i; the base seed is drawn
    when an iteration begins. An exception in a worker is raised here with the same type, and the
    worker's traceback in its message.

    Raises:
        ArgumentError: arguments out of range, or that exclude each other; setting `batch_size`,
            `sampler` and the like later.
        TypeError: `multiprocessing_context` is neither a name nor a context.
    """

    _initialized = False

    def __init__(
        self,
        dataset: Dataset[T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: str | BaseContext | None = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        self.dataset = dataset
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.prefetch_factor = 2 if prefetch_factor is None and num_workers else prefetch_factor
        self.persistent_workers = persistent_workers
        self.in_order = in_order
        self._check_worker_options(multiprocessing_context)
        self.multiprocessing_context = multiprocessing_context
        self._streaming = isinstance(dataset, IterableDataset)
        if self._streaming:
            _check_stream_options(shuffle, sampler, batch_sampler)
        if sampler is not None and shuffle:
            raise ArgumentError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ArgumentError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, "
                    "and drop_last"
                )
            batch_size = None
        elif batch_size is None and drop_last:
            raise ArgumentError(
                "batch_size=None option disables auto-batching and is mutually exclusive with "
                "drop_last"
            )
        if sampler is None and not self._streaming and batch_sampler is None:
            source: Any = dataset
            if shuffle:
                sampler = RandomSampler(source, generator=generator)
            else:
                sampler = SequentialSampler(source)
        if batch_size is not None and batch_sampler is None:
            # Grouping nothing, the sampler of a stream only checks the options.
            batch_sampler = BatchSampler(sampler or (), batch_size, drop_last)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        batched = batch_sampler is not None
        self.collate_fn = collate_fn or (default_collate if batched else default_convert)
        self._pool: Pool | None = None
        self._reported_length: int | None = None
        self._initialized = True
        self.check_worker_number_rationality()

    def __setattr__(self, name: str, value: Any) -> None:
        if self._initialized and name in _FIXED:
            raise ArgumentError(
                f"{name} attribute should not be set after {type(self).__name__} is initialized"
            )
        super().__setattr__(name, value)

    @property
    def multiprocessing_context(self) -> Any:
        """How workers are started; `None` stands for Python's own choice."""
        return self._context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context: str | BaseContext | None) -> None:
        self._context = None if context is None else _context(context)

    def check_worker_number_rationality(self) -> None:
        """Warn if there are more workers than processors that this process may use."""
        try:
            processors: int | None = len(os.sched_getaffinity(0))
        except (AttributeError, OSError):  # not every system has it
            processors = os.cpu_count()
        if processors is not None and self.num_workers > processors:
            warnings.warn(
                f"This DataLoader will create {self.num_workers} worker processes in total. Our "
                f"suggested max number of worker in current system is {processors}, which is "
                "smaller than what this DataLoader is going to create. Please be aware that "
                "excessive worker creation might get DataLoader running slow or even freeze, lower "
                "the worker number to avoid potential slowness/freeze if necessary.",
                stacklevel=3,
            )

    def _check_worker_options(self, context: Any) -> None:
        workers = self.num_workers
        if workers < 0:
            raise ArgumentError(
                "num_workers option should be non-negative; use num_workers=0 to disable "
                "multiprocessing."
            )
        if self.timeout < 0:
            raise ArgumentError("timeout option should be non-negative")
        if self.prefetch_factor is not None and self.prefetch_factor < 1:
            raise ArgumentError("prefetch_factor option should be positive")
        needing_workers = {
            "prefetch_factor": self.prefetch_factor is not None,
            "persistent_workers": self.persistent_workers,
            "timeout": self.timeout > 0,
            "multiprocessing_context": context is not None,
        }
        if workers == 0 and any(needing_workers.values()):
            names = ", ".join(name for name, given in needing_workers.items() if given)
            raise ArgumentError(f"{names}: this option needs num_workers > 0")

    def __iter__(self) -> Iterator[Any]:
        # Drawn without workers too, so that their number does not change what is drawn next.
        base_seed = int(dg.randint(0, 2**63 - 1, (), generator=self.generator).item())
        if self.num_workers == 0:
            return self._load_here()
        if self._pool is not None and not self._pool.closed:
            self._pool.restart()
            return _WorkerIterator(self, self._pool)
        job = Job(
            dataset=self.dataset,
            batched=self.batch_sampler is not None,
            collate_fn=self.collate_fn,
            drop_last=self.drop_last,
            init_fn=self.worker_init_fn,
            num_workers=self.num_workers,
            base_seed=base_seed,
            token=new_token(),
        )
        pool = Pool(job, self._context or multiprocessing.get_context())
        if self.persistent_workers:
            self._pool = pool
        return _WorkerIterator(self, pool)

    def _load_here(self) -> Iterator[Any]:
        fetch = make_fetch(
            self.dataset,
            batched=self.batch_sampler is not None,
            collate_fn=self.collate_fn,
            drop_last=self.drop_last,
        )
        # As with workers, the order is drawn when the iteration begins.
        keys = self._keys()
        first = list(itertools.islice(keys, 1))

        def batches() -> Iterator[Any]:
            for count, key in enumerate(itertools.chain(first, keys), 1):
                batch = fetch(key)
                if batch is END:
                    return
                self._compare_length(count)
                yield pin_memory(batch) if self.pin_memory else batch

        return batches()

    def _keys(self) -> Iterator[Any]:
        """Yield what `fetch` needs for each batch; for a stream, a list as long as the batch."""
        if self._streaming:
            size = self.batch_size
            return itertools.repeat(None if size is None else [None] * size)
        source: Any = self.sampler if self.batch_sampler is None else self.batch_sampler
        return iter(source)

    def __len__(self) -> int:
        """Return the number of batches; for a stream an estimate from its length, if it has one."""
        source: Any = self.sampler if self.batch_sampler is None else self.batch_sampler
        if not self._streaming:
            return len(source)
        stream: Any = self.dataset
        count = len(stream)
        if self.batch_size is not None:
            whole = count // self.batch_size
            count = whole if self.drop_last else -(-count // self.batch_size)
        self._reported_length = count
        return count

    def _compare_length(self, count: int) -> None:
        """Warn if a stream yields its `count`-th batch after it was said to have fewer."""
        if self._reported_length is None or count <= self._reported_length:
            return
        sharing = (
            " Each worker has its own copy of the stream: see get_worker_info for how to share it."
            if self.num_workers
            else ""
        )
        warnings.warn(
            f"Length of IterableDataset {self.dataset} was reported to be {self._reported_length} "
            f"(when accessing len(dataloader)), but {count} batches have been fetched.{sharing}",
            stacklevel=3,
        )


class _WorkerIterator:
    """One epoch, loaded by workers.

    Batch k goes to worker k modulo their number, and batches are returned in this order; so the
    result is the same in every run, and only the worker whose turn it is needs to be waited for.
    Out of order, whoever answers first gets the next batch to load.
    """

    def __init__(self, loader: DataLoader[Any], pool: Pool) -> None:
        self._pool = pool
        self._epoch = pool.epoch
        self._loader = loader
        self._count = 0
        self._keys = loader._keys()
        self._turns = itertools.cycle(range(loader.num_workers))
        self._active = set(range(loader.num_workers))
        self._pending: deque[tuple[int, int]] = deque()  # (worker, task), in order
        for _ in range((loader.prefetch_factor or 1) * loader.num_workers):
            self._submit()

    def __iter__(self) -> Iterator[Any]:
        return self

    def _submit(self, worker: int | None = None) -> None:
        """Give the next batch to `worker`, or the next worker in turn that still has data."""
        if not self._active:
            return
        keys = next(self._keys, END)
        if keys is not END:
            if worker not in self._active:
                worker = next(w for w in self._turns if w in self._active)
            self._pending.append((worker, self._pool.submit(worker, keys)))

    def _answer(self) -> tuple[int, Any]:
        """The next answer, and the worker that gave it."""
        timeout = self._loader.timeout
        if self._loader.in_order:
            worker, task = self._pending.popleft()
            if worker not in self._active:
                return worker, END
            return worker, self._pool.answer(worker, task, timeout)
        worker, task, batch = self._pool.any_answer(timeout)
        self._pending.remove((worker, task))
        return worker, batch

    def __next__(self) -> Any:
        if self._pending and self._epoch != self._pool.epoch:
            raise DualGraphError(
                "a newer iteration over this DataLoader has taken over its persistent workers"
            )
        while self._pending:
            worker, batch = self._answer()
            if batch is END:
                if worker in self._active:
                    self._active.discard(worker)
                    self._submit()
                continue
            self._submit(None if self._loader.in_order else worker)
            if isinstance(batch, Failure):
                batch.reraise()
            self._count += 1
            self._loader._compare_length(self._count)
            return pin_memory(batch) if self._loader.pin_memory else batch
        if not self._loader.persistent_workers:
            self._pool.close()
        raise StopIteration


# What an iteration has settled, and so cannot change any more.
_FIXED = frozenset(
    ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")
)


def _context(context: Any) -> BaseContext:
    valid = multiprocessing.get_all_start_methods()
    if isinstance(context, str):
        if context in valid:
            return multiprocessing.get_context(context)
        raise ArgumentError(
            "multiprocessing_context option should specify a valid start method in "
            f"{valid!r}, but got multiprocessing_context={context!r}"
        )
    if isinstance(context, BaseContext):
        return context
    raise TypeError(
        "multiprocessing_context option should be a valid context object or a string specifying "
        f"the start method, but got multiprocessing_context={context}"
    )


def _check_stream_options(shuffle: Any, sampler: Any, batch_sampler: Any) -> None:
    options: Sequence[tuple[str, Any]] = (
        ("shuffle", shuffle or None),
        ("sampler", sampler),
        ("batch_sampler", batch_sampler),
    )
    for name, value in options:
        if value is not None:
            raise ArgumentError(
                f"DataLoader with IterableDataset: expected unspecified {name} option, but got "
                f"{name}={value}"
            )
