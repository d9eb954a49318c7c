"""The DataLoader's worker processes: their life, their failures and their end."""

from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dualgraph.utils.data import (
    DataLoader,
    Dataset,
    _pool,
    get_worker_info,
)
from dualgraph_compiler.errors import DualGraphError
from tests.frontend.loading import (
    Dying,
    Facts,
    Failing,
    Picky,
    Rows,
    Slow,
    Stream,
    blocks,
    fail_to_start,
    first,
    nothing_is_left_behind,
    seeded,
    values,
)

__all__ = ["nothing_is_left_behind"]

METHODS = ["fork", "spawn"]


# -- workers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_worker_info_and_seeds(method: str) -> None:
    options: dict[str, Any] = {"num_workers": 2, "collate_fn": first}
    runs = []
    for seed in (1, 1, 2) if method == "fork" else (1,):
        loader = DataLoader(
            Facts(), generator=seeded(seed), multiprocessing_context=method, **options
        )
        runs.append(list(loader))
    for facts in runs:
        pids, ids, counts, seeds, own_dataset, draws = zip(*facts, strict=True)
        assert ids == (0, 1, 0, 1)
        assert counts == (2,) * 4
        assert len(set(pids)) == 2
        assert os.getpid() not in pids
        assert seeds[1] == seeds[0] + 1
        assert all(own_dataset)
        assert len(set(draws)) == 4
    if method == "fork":
        assert [f[3:] for f in runs[0]] == [f[3:] for f in runs[1]]
        assert runs[0][0][3] != runs[-1][0][3]
    assert get_worker_info() is None


def test_worker_init_fn() -> None:
    class Shared(Dataset[int]):
        value = 0

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> int:
            return Shared.value

    def init(worker_id: int) -> None:
        Shared.value = 100 + worker_id

    loader = DataLoader(
        Shared(), num_workers=2, worker_init_fn=init, multiprocessing_context="fork"
    )
    assert values(loader) == [[100], [101], [100], [101]]


def test_persistent_workers_are_kept() -> None:
    loader = DataLoader(
        Facts(), num_workers=2, persistent_workers=True, collate_fn=first, generator=seeded(0)
    )
    epochs = [[(pid, draws) for pid, *_, draws in loader] for _ in range(3)]
    assert len({pid for epoch in epochs for pid, _ in epoch}) == 2
    assert len({draws for epoch in epochs for _, draws in epoch}) == 12
    del loader


@pytest.mark.parametrize("dataset", [Rows(30), Stream(30)], ids=["map", "stream"])
def test_persistent_workers_after_an_early_break(dataset: Dataset[Any]) -> None:
    loader = DataLoader(dataset, batch_size=2, num_workers=2, persistent_workers=True)
    for wanted in (1, 3, 0):
        iterator = iter(loader)
        for _ in range(wanted):
            next(iterator)
    stale = iterator
    batches = [batch[1] if isinstance(batch, list) else batch for batch in loader]
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(30))
    with pytest.raises(DualGraphError, match="newer iteration over this DataLoader"):
        next(stale)


# -- out of order ---------------------------------------------------------------------------------


def test_out_of_order_slow_batches_do_not_hold_up_others() -> None:
    last_is_loaded = multiprocessing.get_context("fork").Event()

    class Uneven(Dataset[int]):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> int:
            if index == 0:
                assert last_is_loaded.wait(60)
            if index == 11:
                last_is_loaded.set()
            return index

    loader = DataLoader(
        Uneven(), num_workers=2, in_order=False, multiprocessing_context="fork", timeout=90
    )
    order = [batch.item() for batch in loader]
    assert sorted(order) == list(range(12))
    # Worker 0 has been given the slow sample and one more; worker 1 did the rest meanwhile.
    assert sorted(order[:9]) == [1, *range(3, 11)]
    in_order = DataLoader(Uneven(), num_workers=2, multiprocessing_context="fork")
    assert [batch.item() for batch in in_order] == list(range(12))


@pytest.mark.parametrize("persistent", [False, True])
def test_out_of_order_streams_and_epochs(persistent: bool) -> None:
    loader = DataLoader(Stream(21), 4, num_workers=2, in_order=False, persistent_workers=persistent)
    for wanted in (100, 1, 100):
        seen = [i for batch in itertools.islice(loader, wanted) for i in batch.tolist()]
        assert len(set(seen)) == len(seen)
        assert wanted == 1 or sorted(seen) == list(range(21))


def test_out_of_order_failures() -> None:
    options: dict[str, Any] = {"num_workers": 2, "in_order": False}
    seen, failures = [], 0
    iterator = iter(DataLoader(Failing(ValueError("bad")), **options))
    while True:
        try:
            seen.append(next(iterator).item())
        except StopIteration:
            break
        except ValueError:
            failures += 1
    assert (sorted(seen), failures) == ([0, 1, 2, 4, 5], 1)
    with pytest.raises(DualGraphError, match="killed by signal: SIGKILL"):
        list(DataLoader(Dying(), **options))


def test_two_iterators_at_once() -> None:
    loader = DataLoader(Rows(8), batch_size=2, num_workers=2)
    pairs = [(a[1].tolist(), b[1].tolist()) for a, b in zip(loader, loader, strict=True)]
    assert pairs == [([i, i + 1], [i, i + 1]) for i in range(0, 8, 2)]


def test_an_exhausted_iterator_stays_exhausted() -> None:
    iterator = iter(DataLoader(Rows(2), num_workers=1))
    assert len(list(iterator)) == 2
    assert list(iterator) == []


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_exceptions_come_back_with_type_and_traceback(method: str) -> None:
    loader = DataLoader(
        Failing(KeyError("no such key")), num_workers=2, multiprocessing_context=method
    )
    iterator = iter(loader)
    assert [next(iterator).item() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError) as caught:
        next(iterator)
    text = str(caught.value)
    assert text.startswith("Caught KeyError in DataLoader worker process 1.\nOriginal Traceback")
    assert "raise self.error" in text
    assert "no such key" in text
    assert [batch.item() for batch in iterator] == [4, 5]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Picky(1, 2), RuntimeError),
        (StopIteration(), RuntimeError),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), RuntimeError),
        (type("Local", (Exception,), {})("x"), RuntimeError),
        (ZeroDivisionError("x"), ZeroDivisionError),
    ],
    ids=lambda v: getattr(type(v), "__name__", ""),
)
def test_exceptions_that_cannot_come_back(error: Exception, kind: type[Exception]) -> None:
    loader = DataLoader(Failing(error), num_workers=1, multiprocessing_context="fork")
    with pytest.raises(kind, match="in DataLoader worker process 0"):
        list(loader)


def test_stop_iteration_does_not_end_the_loop() -> None:
    with pytest.raises(RuntimeError, match="the dataset raised StopIteration"):
        list(DataLoader(Failing(StopIteration())))


def test_batches_that_cannot_be_sent() -> None:
    loader: DataLoader[Any] = DataLoader(
        [1],
        collate_fn=lambda batch: lambda: batch,
        num_workers=1,
        multiprocessing_context="fork",
    )
    with pytest.raises(Exception, match="pickle.*lambda|Can't get local object"):
        list(loader)


def test_failing_init() -> None:
    loader = DataLoader(Rows(), num_workers=2, worker_init_fn=fail_to_start)
    with pytest.raises(ValueError, match="no start for 0"):
        list(loader)


def test_datasets_that_cannot_be_spawned() -> None:
    loader: DataLoader[Any] = DataLoader(
        Rows(), collate_fn=lambda x: x, num_workers=2, multiprocessing_context="spawn"
    )
    with pytest.raises(Exception, match="pickle|local object"):
        list(loader)


def test_death_of_a_worker_is_reported() -> None:
    iterator = iter(DataLoader(Dying(), num_workers=2))
    with pytest.raises(
        DualGraphError,
        match=r"worker 0 \(pid\(s\) \d+\) exited unexpectedly \(killed by signal: SIGKILL",
    ):
        list(iterator)
    with pytest.raises(DualGraphError, match="have been shut down"):
        list(iterator)


def test_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pool, "_GRACE", 0.1)
    loader = DataLoader(Slow(30), num_workers=1, timeout=0.2)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"DataLoader timed out after 0.2 seconds"):
        list(loader)
    assert time.monotonic() - start < 10


def test_early_break_and_collection_end_the_workers() -> None:
    iterator = iter(DataLoader(Rows(100), batch_size=2, num_workers=2))
    next(iterator)
    assert len(multiprocessing.active_children()) == 2
    del iterator
    gc.collect()
    assert multiprocessing.active_children() == []
    for _ in DataLoader(Rows(100), num_workers=2):
        break


SCRIPT = """
import os, signal, sys, time
import numpy as np
from dualgraph.utils.data import DataLoader

# What starts in the background of a shell ignores Ctrl-C, and so do the processes it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Data:
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return np.ones(50_000), os.getpid(), time.sleep({sleep}) or index

def run():
    loader = DataLoader(Data(), num_workers=2, collate_fn=list, multiprocessing_context="fork")
    for batch in loader:
        print(batch[0][1], flush=True)
        {body}

run()
"""


def start_script(body: str, sleep: float = 0.0) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    script = SCRIPT.format(body=body, sleep=sleep)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


STARTING = """
import signal
from dualgraph.utils.data import DataLoader
from tests.frontend.loading import Slow

# What starts in the background of a shell ignores Ctrl-C, and so do the processes it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

loader = DataLoader(Slow(0.01), num_workers=2, multiprocessing_context="spawn")
print("starting", flush=True)
for batch in loader:
    pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_while_workers_start() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        [sys.executable, "-c", STARTING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.4)  # both have been started, and are importing
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1
    deadline = time.monotonic() + 20
    while (left := living_members(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def living_members(group: int) -> list[str]:
    """The processes of a group that are not zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text().rpartition(")")
            state, _, its_group = rest.split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(name)
    return found


def assert_processes_end(pids: set[int]) -> None:
    deadline = time.monotonic() + 20
    alive = set(pids)
    while alive and time.monotonic() < deadline:
        for pid in list(alive):
            try:
                os.kill(pid, 0)
                # A zombie of a process whose parent is gone may linger in a container.
                with open(f"/proc/{pid}/stat") as file:
                    if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                        alive.discard(pid)
            except (ProcessLookupError, FileNotFoundError):
                alive.discard(pid)
        time.sleep(0.05)
    assert not alive


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("how", ["exit", "exception", "interrupt", "kill", "hard exit"])
def test_every_way_to_end_the_main_process(how: str) -> None:
    bodies = {"exit": "sys.exit(0)", "exception": "1 / 0", "hard exit": "os._exit(0)"}
    process = start_script(bodies.get(how, "pass"), sleep=0.01)
    assert process.stdout is not None
    pids = {int(process.stdout.readline())}
    if how in ("interrupt", "kill"):
        pids.add(int(process.stdout.readline()))
        # Ctrl-C goes to the whole group.
        if how == "interrupt":
            os.killpg(process.pid, signal.SIGINT)
        else:
            os.kill(process.pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert_processes_end(pids)
    deadline = time.monotonic() + 20
    while (left := blocks(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)  # the system's helper that removes them notices the end a little later
    assert not left
    if how == "exit":
        assert (process.returncode, errors) == (0, "")
    if how == "interrupt":
        assert errors.count("KeyboardInterrupt") == 1
        assert errors.count("Traceback") == 1
    if how == "exception":
        assert errors.count("Traceback") == 1
        assert errors.rstrip().endswith("ZeroDivisionError: division by zero")
