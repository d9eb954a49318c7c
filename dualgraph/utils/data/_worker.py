"""A worker process of the DataLoader: what it runs, and how it reports.

The main process sends tasks over a connection: (index, keys, blocks that are free again) for a
batch, `RESTART` before a new epoch, `None` to stop. Every batch asked for gets one answer, in
order: the batch, a `Failure`, or `END` when a stream has no more.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import random
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from typing import Any, NoReturn

import numpy as np

import dualgraph as dg
from dualgraph.utils.data import _transfer
from dualgraph.utils.data._fetch import END, Fetch, make_fetch

__all__ = ["RESTART", "Failure", "Job", "WorkerInfo", "get_worker_info", "run"]

RESTART = "restart"


@dataclass(frozen=True)
class WorkerInfo:
    """What `get_worker_info` tells a worker: its number, how many there are, its seed and data."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """Return facts about the DataLoader worker this process is, or `None` in the main process."""
    return _info


@dataclass(frozen=True)
class Job:
    """What a worker is started with."""

    dataset: Any
    batched: bool
    collate_fn: Callable[[Any], Any]
    drop_last: bool
    init_fn: Callable[[int], Any] | None
    num_workers: int
    base_seed: int
    token: str

    def make_fetch(self) -> Fetch:
        """Open the dataset."""
        return make_fetch(
            self.dataset,
            batched=self.batched,
            collate_fn=self.collate_fn,
            drop_last=self.drop_last,
        )


class _Message(str):
    """Text that prints as it is where an exception prints its argument's repr (KeyError)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Failure:
    """An exception on its way to the main process: its type and the worker's traceback."""

    def __init__(self, error: Exception, worker_id: int) -> None:
        kind: type[Exception] = type(error)
        # StopIteration would end the loop over the loader without a word.
        if isinstance(error, StopIteration) or not _can_be_pickled(kind):
            kind = RuntimeError
        self.kind = kind
        text = "".join(traceback.format_exception(error))
        self.message = (
            f"Caught {type(error).__name__} in DataLoader worker process {worker_id}.\n"
            f"Original {text}"
        )

    def reraise(self) -> NoReturn:
        """Raise an exception of the same type, which shows the worker's traceback."""
        try:
            error = self.kind(_Message(self.message))
        except Exception:  # a type that wants other arguments
            error = RuntimeError(self.message)
        raise error


def _can_be_pickled(kind: type[Exception]) -> bool:
    try:
        return pickle.loads(pickle.dumps(kind)) is kind
    except Exception:
        return False


def run(worker_id: int, job: Job, link: connection.Connection) -> None:
    """Be worker `worker_id` until the main process says stop, or is gone."""
    # Ctrl-C reaches every process of the terminal; the main one decides what becomes of us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held back until now
    global _info
    seed = job.base_seed + worker_id
    _info = WorkerInfo(worker_id, job.num_workers, seed, job.dataset)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator is what users draw from
    dg.manual_seed(seed)

    # Tasks are received as they come, so the main process never waits for us to take one, even
    # while we wait for it to take an answer.
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(link, tasks), daemon=True).start()
    worker = _Worker(worker_id, job)
    writer = _transfer.Writer(f"{job.token}-{worker_id}")
    with contextlib.suppress(ConnectionError):  # nobody is left to answer
        while (task := tasks.get()) is not None:
            if task == RESTART:
                worker.open()
            else:
                index, keys, free = task
                writer.release(free)
                writer.send(link, index, worker.answer(keys))


def _receive(link: connection.Connection, tasks: queue.SimpleQueue[Any]) -> None:
    """Queue what comes over the connection, and a `None` when the main process is gone."""
    parent = parent_process()
    assert parent is not None
    task: Any = ...
    try:
        with contextlib.suppress(EOFError, OSError):
            while task is not None and link in connection.wait([link, parent.sentinel]):
                task = link.recv()
                tasks.put(task)
    finally:  # also for keys that cannot be unpickled, which end the worker
        tasks.put(None)


class _Worker:
    def __init__(self, worker_id: int, job: Job) -> None:
        self._id = worker_id
        self._job = job
        self._initialised = False
        self.open()

    def open(self) -> None:
        """Open the dataset, for the first epoch or another one."""
        try:
            if self._job.init_fn is not None and not self._initialised:
                self._job.init_fn(self._id)
            self._initialised = True
            self._fetch = self._job.make_fetch()
        except Exception as error:
            failure = Failure(error, self._id)
            self._fetch = lambda keys: failure

    def answer(self, keys: Any) -> list[_transfer.Part]:
        """Fetch one batch and encode it, or what went wrong."""
        try:
            batch = self._fetch(keys)
            if batch is END:
                self._fetch = lambda keys: END
            return _transfer.encode(batch)
        except Exception as error:
            return _transfer.encode(Failure(error, self._id))
