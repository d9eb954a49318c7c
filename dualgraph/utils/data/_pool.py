"""The worker processes of a DataLoader, seen from the main process."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import BaseContext
from typing import Any

from dualgraph.utils.data import _transfer
from dualgraph.utils.data._worker import RESTART, Job, run
from dualgraph_compiler.errors import DualGraphError

__all__ = ["Pool", "new_token"]

# How long workers may take to finish what they are doing when the pool closes.
_GRACE = 5.0


def new_token() -> str:
    """Return a new part for the names of shared memory blocks, beginning with this process."""
    return f"{os.getpid():x}-{secrets.token_hex(3)}"


@dataclass
class _Member:
    """One worker: its process, our end of the connection, its memory, the batches it owes us."""

    id: int
    process: Any
    link: connection.Connection
    reader: _transfer.Reader
    owed: set[int] = field(default_factory=set)


class Pool:
    """Worker processes that answer tasks in the order each of them is given.

    Every worker has a connection of its own, so none can block or corrupt another one's answers.
    The processes end when the pool is closed, collected, or the interpreter exits.

    Args:
        job: what the workers run.
        context: how processes are started.

    Raises:
        Exception: whatever starting a process raises, such as a PicklingError for a dataset that
            cannot be sent to a spawned worker. No process is left behind.
    """

    def __init__(self, job: Job, context: BaseContext) -> None:
        self.epoch = 0
        self._next_index = 0
        self._first_index = 0  # of this epoch
        self._heard_last = 0
        self._members: list[_Member] = []
        self._finalizer = weakref.finalize(self, _shut_down, self._members, os.getpid())
        _start_resource_tracker()
        try:
            for worker_id in range(job.num_workers):
                self._members.append(_start(worker_id, job, context))
        except BaseException:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether the processes have been told to end."""
        return not self._finalizer.alive

    def close(self) -> None:
        """End the processes. A worker that does not finish in time is terminated."""
        self._finalizer()

    def restart(self) -> None:
        """Begin a new epoch: streams start again, answers still owed will be passed over."""
        self.epoch += 1
        self._first_index = self._next_index
        for worker in range(len(self._members)):
            self._send(worker, RESTART)

    def submit(self, worker: int, keys: Any) -> int:
        """Give worker `worker` the keys of a batch; return the number of the task."""
        index = self._next_index
        self._next_index += 1
        member = self._members[worker]
        member.owed.add(index)
        self._send(worker, (index, keys, member.reader.take_free()))
        return index

    def _send(self, worker: int, task: Any) -> None:
        # A dead worker is reported when its answer is due.
        with contextlib.suppress(OSError):
            self._members[worker].link.send(task)

    def answer(self, worker: int, index: int, timeout: float) -> Any:
        """Wait for the answer of worker `worker` to task `index`.

        Args:
            worker: the worker that was given the task.
            index: number of the task; answers to earlier ones are dropped.
            timeout: seconds to wait, 0 for as long as it takes.

        Raises:
            DualGraphError: the time is up, or the worker has died. The pool is closed.
        """
        with self._closing_on_error():
            while True:
                _, received, parts = self._receive([worker], timeout)
                if received == index:
                    return _transfer.decode(parts)

    def any_answer(self, timeout: float) -> tuple[int, int, Any]:
        """Wait for whichever answer of this epoch comes first.

        Returns:
            The worker, the number of its task, and the answer.

        Raises:
            DualGraphError: the time is up, or a worker has died. The pool is closed.
        """
        with self._closing_on_error():
            while True:
                count = len(self._members)
                # In turn, so that no worker's answers wait for ever behind another one's.
                turns = [(self._heard_last + 1 + i) % count for i in range(count)]
                owing = [worker for worker in turns if self._members[worker].owed]
                worker, received, parts = self._receive(owing, timeout)
                self._heard_last = worker
                if received >= self._first_index:
                    return worker, received, _transfer.decode(parts)

    @contextlib.contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        if self.closed:
            raise DualGraphError("the workers of this DataLoader iterator have been shut down")
        try:
            yield
        except BaseException:
            # Also for Ctrl-C, which may have come in the middle of a message.
            self.close()
            raise

    def _receive(self, workers: list[int], timeout: float) -> tuple[int, int, list[Any]]:
        """Wait for a message of one of `workers`: who sent it, its task's number, its parts."""
        members = [self._members[worker] for worker in workers]
        waited = [end for member in members for end in (member.link, member.process.sentinel)]
        ready = connection.wait(waited, timeout or None)
        if not ready:
            raise DualGraphError(f"DataLoader timed out after {timeout} seconds")
        for member in members:
            dead = member.process.sentinel in ready
            # What a dying worker has sent is read before its death is noticed.
            if member.link in ready or (dead and member.link.poll()):
                try:
                    index, parts = member.reader.receive(member.link)
                except (EOFError, OSError):
                    raise _death(member) from None
                member.owed.discard(index)
                return member.id, index, parts
            if dead:
                raise _death(member)
        raise AssertionError("connection.wait returned nothing it was given")


def _start(worker_id: int, job: Job, context: Any) -> _Member:
    ours, theirs = context.Pipe(duplex=True)
    try:
        process = context.Process(target=run, args=(worker_id, job, theirs), daemon=True)
        with warnings.catch_warnings():
            # Python warns of any fork beside running threads, such as those of a BLAS library.
            # The worker takes no lock of theirs: those libraries reset themselves on fork.
            warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
            with _interrupts_held():
                process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return _Member(worker_id, process, ours, _transfer.Reader(f"{job.token}-{worker_id}"))


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C from us, and from what is started: a worker has it ignored when it runs.

    Else one that is still importing its modules would end with a traceback of its own.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_resource_tracker() -> None:
    """Have one tracker of shared memory for all processes.

    A forked worker without one would start its own, which would remove the worker's blocks when
    the worker ends, be they read or not.
    """
    if os.name == "posix":
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()


# What usually stands behind a signal that no one in the program sent.
_LIKELY_CAUSES = {
    "SIGKILL": "; the system may have run out of memory",
    "SIGBUS": "; the system may have run out of shared memory (/dev/shm)",
}


def _death(member: _Member) -> DualGraphError:
    member.process.join(1)
    code = member.process.exitcode
    how = f"exit code {code}"
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        how = f"killed by signal: {name}{_LIKELY_CAUSES.get(name, '')}"
    return DualGraphError(
        f"DataLoader worker {member.id} (pid(s) {member.process.pid}) exited unexpectedly ({how})"
    )


def _shut_down(members: list[_Member], owner: int) -> None:
    """End the processes of a pool. Must not refer to the pool, whose finalizer this is."""
    if os.getpid() != owner:  # a forked child has inherited the pool, but not the workers
        return
    for member in members:
        with contextlib.suppress(OSError):
            member.link.send(None)
    deadline = time.monotonic() + _GRACE
    for member in members:
        _drain(member, deadline)
    for member in members:
        member.process.join(max(0.0, deadline - time.monotonic()))
        if member.process.is_alive():
            member.process.terminate()
            member.process.join(1)
        if member.process.is_alive():
            member.process.kill()
            member.process.join()
        member.reader.close(len(member.owed))
        member.link.close()


def _drain(member: _Member, deadline: float) -> None:
    """Take answers nobody wants any more until the worker has ended, lest it wait for us."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            left = max(0.0, deadline - time.monotonic())
            ready = connection.wait([member.link, member.process.sentinel], left)
            if member.link not in ready:
                return
            index, _ = member.reader.receive(member.link)
            member.owed.discard(index)
