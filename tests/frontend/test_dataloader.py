"""The DataLoader, with and without worker processes."""

from __future__ import annotations

import gc
import glob
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    TensorDataset,
    _pool,
    _transfer,
    get_worker_info,
)
from dualgraph_compiler.errors import ArgumentError, DualGraphError

WORKERS = [0, 1, 3]
METHODS = ["fork", "spawn"]


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


def blocks() -> set[str]:
    return set(glob.glob(f"/dev/shm/dg{os.getpid():x}-*"))


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    import multiprocessing

    before = blocks()
    yield
    gc.collect()
    assert blocks() <= before
    assert multiprocessing.active_children() == []


# -- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", WORKERS)
def test_batches_in_order(workers: int) -> None:
    loader = DataLoader(Rows(), batch_size=3, num_workers=workers)
    assert len(loader) == 7
    for epoch in range(2):
        batches = list(loader)
        assert len(batches) == 7, epoch
        assert [i for _, labels in batches for i in labels.tolist()] == list(range(20))
        for rows, labels in batches:
            assert tuple(rows.shape) == (len(labels), 20_000)
            assert rows.dtype is dg.float32
            np.testing.assert_array_equal(
                rows.numpy()[:, ::997].T, labels.numpy() + np.zeros((21, 1))
            )


@pytest.mark.parametrize("method", METHODS)
def test_start_methods(method: str) -> None:
    loader = DataLoader(
        TensorDataset(dg.tensor(np.arange(10.0)), dg.tensor(np.arange(10))),
        batch_size=4,
        num_workers=2,
        multiprocessing_context=method,
    )
    assert [b[1].tolist() for b in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("workers", WORKERS)
def test_options_of_batching(workers: int) -> None:
    def load(**options: Any) -> list[Any]:
        loader: DataLoader[Any] = DataLoader(range(7), num_workers=workers, **options)  # type: ignore[arg-type]
        assert len(loader) == len(list(loader))
        return list(loader)

    def lists(**options: Any) -> list[Any]:
        return [batch.tolist() for batch in load(**options)]

    assert lists(batch_size=3) == [[0, 1, 2], [3, 4, 5], [6]]
    assert lists(batch_size=3, drop_last=True) == [[0, 1, 2], [3, 4, 5]]
    assert lists() == [[0], [1], [2], [3], [4], [5], [6]]
    assert lists(batch_size=2, sampler=[5, 3, 1]) == [[5, 3], [1]]
    assert lists(batch_sampler=[[6], [1, 2]]) == [[6], [1, 2]]
    assert lists(batch_sampler=BatchSampler(SequentialSampler(range(7)), 4, True)) == [[0, 1, 2, 3]]
    assert load(batch_size=None) == [0, 1, 2, 3, 4, 5, 6]
    assert load(batch_size=3, collate_fn=same) == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("workers", WORKERS)
def test_order_does_not_depend_on_workers(workers: int) -> None:
    loader = DataLoader(
        Rows(width=1), batch_size=4, shuffle=True, num_workers=workers, generator=seeded(3)
    )
    epochs = [[i for _, b in loader for i in b.tolist()] for _ in range(2)]
    expected_loader = DataLoader(Rows(width=1), batch_size=4, shuffle=True, generator=seeded(3))
    assert epochs == [[i for _, b in expected_loader for i in b.tolist()] for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == list(range(20))


@pytest.mark.parametrize("workers", [0, 2])
def test_global_seed_decides_the_order(workers: int) -> None:
    orders = []
    for _ in range(2):
        dg.manual_seed(11)
        orders.append(values(DataLoader(range(50), 50, shuffle=True, num_workers=workers)))  # type: ignore[arg-type]
    assert orders[0] == orders[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_streams(workers: int) -> None:
    loader = DataLoader(Stream(7), batch_size=2, num_workers=workers)
    assert len(loader) == 4
    together = [i for batch in loader for i in batch.tolist()]
    assert sorted(together) == list(range(7))
    if workers == 0:
        assert together == list(range(7))
    else:
        assert values(loader) == [[0, 2], [1, 3], [4, 6], [5]]
    whole = DataLoader(Stream(7), batch_size=2, drop_last=True, num_workers=workers)
    assert all(len(batch) == 2 for batch in values(whole))
    single = DataLoader(Stream(5), batch_size=None, num_workers=workers)
    assert sorted(single) == list(range(5))


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
def test_streams_match_pytorch_with_workers() -> None:
    torch_data = pytest.importorskip("torch.utils.data")

    class TorchStream(torch_data.IterableDataset):  # type: ignore[misc,name-defined]
        def __iter__(self) -> Iterator[int]:
            # Worker 0 ends first, worker 2 last.
            info = torch_data.get_worker_info()
            return iter(range(info.id * 100, info.id * 101 + info.id * 3 + 1))

    class OurStream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            info = get_worker_info()
            assert info is not None
            return iter(range(info.id * 100, info.id * 101 + info.id * 3 + 1))

    options = {"batch_size": 2, "num_workers": 3, "multiprocessing_context": "fork"}
    theirs = [b.tolist() for b in torch_data.DataLoader(TorchStream(), **options)]
    assert values(DataLoader(OurStream(), **options)) == theirs


def test_fetching_many_at_once() -> None:
    class Many(Dataset[int]):
        def __len__(self) -> int:
            return 5

        def __getitems__(self, indices: list[int]) -> list[int]:
            return [i * 10 for i in indices]

    assert values(DataLoader(Many(), batch_size=3)) == [[0, 10, 20], [30, 40]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "bool", "complex64"])
def test_every_dtype_travels(dtype: str) -> None:
    kind = getattr(dg, dtype)
    rows = (np.arange(200_000).reshape(2, -1) % 3).astype(kind.np)
    data = TensorDataset(dg.from_numpy(rows), dg.from_numpy(rows[:, :3].copy()))
    for large, small in DataLoader(data, batch_size=1, num_workers=1):
        assert large.dtype is kind
        np.testing.assert_array_equal(small.numpy(), large.numpy()[:, :3])
        large.numpy()[:] = 0  # batches are ours to write to
        small.numpy()[:] = 0


def test_batches_outlive_the_loader() -> None:
    batches = list(DataLoader(Rows(4), batch_size=1, num_workers=2))
    gc.collect()
    for i, (row, _) in enumerate(batches):
        assert row.numpy().min() == row.numpy().max() == i


def test_batches_of_odd_things() -> None:
    odd = [{"a": "text", "b": None}, np.asfortranarray(np.ones((200, 300))), 3]
    odd.append(np.ones((400, 600))[::2, ::2])
    loader: DataLoader[Any] = DataLoader(odd, batch_size=1, collate_fn=first, num_workers=1)  # type: ignore[arg-type]
    got = list(loader)
    assert got[0] == odd[0]
    assert got[2] == 3
    np.testing.assert_array_equal(got[1], odd[1])
    np.testing.assert_array_equal(got[3], odd[3])


def test_a_full_dev_shm_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transfer, "_reserve", lambda name, size: False)
    loader = DataLoader(Rows(6), batch_size=2, num_workers=2, multiprocessing_context="fork")
    assert [labels.tolist() for _, labels in loader] == [[0, 1], [2, 3], [4, 5]]


def test_large_tasks_and_large_answers_do_not_block_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_transfer, "_reserve", lambda name, size: False)
    keys = list(range(200_000))
    loader: DataLoader[Any] = DataLoader(
        range(200_000),  # type: ignore[arg-type]
        batch_sampler=[keys] * 6,
        collate_fn=np.array,
        num_workers=1,
        prefetch_factor=4,
        multiprocessing_context="fork",
    )
    assert [int(batch.sum()) for batch in loader] == [sum(keys)] * 6


# -- workers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_worker_info_and_seeds(method: str) -> None:
    options: dict[str, Any] = {"num_workers": 2, "collate_fn": first}
    runs = []
    for seed in (1, 1, 2) if method == "fork" else (1, 2):
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
        [1],  # type: ignore[arg-type]
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
    with pytest.raises(Exception, match="pickle"):
        list(loader)


def test_death_of_a_worker_is_reported() -> None:
    iterator = iter(DataLoader(Dying(), num_workers=2))
    with pytest.raises(DualGraphError, match=r"\(pid\(s\) \d+\) exited unexpectedly \(killed by"):
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
    import multiprocessing

    iterator = iter(DataLoader(Rows(100), batch_size=2, num_workers=2))
    next(iterator)
    assert len(multiprocessing.active_children()) == 2
    del iterator
    gc.collect()
    assert multiprocessing.active_children() == []
    for _ in DataLoader(Rows(100), num_workers=2):
        break


SCRIPT = """
import os, sys, time
from dualgraph.utils.data import DataLoader

class Data:
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return bytes(200_000), os.getpid(), time.sleep({sleep}) or index

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
    if how == "exit":
        assert (process.returncode, errors) == (0, "")
    if how == "interrupt":
        assert errors.count("KeyboardInterrupt") == 1
        assert errors.count("Traceback") == 1
    if how == "exception":
        assert errors.count("Traceback") == 1
        assert errors.rstrip().endswith("ZeroDivisionError: division by zero")


# -- arguments ------------------------------------------------------------------------------------

BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"num_workers": -1}, "num_workers option should be non-negative"),
    ({"timeout": -1}, "timeout option should be non-negative"),
    ({"timeout": 1}, "timeout: this option needs num_workers > 0"),
    ({"prefetch_factor": 2}, "prefetch_factor: this option needs num_workers > 0"),
    ({"persistent_workers": True}, "persistent_workers: this option needs num_workers > 0"),
    ({"multiprocessing_context": "fork"}, "multiprocessing_context: this option needs"),
    ({"num_workers": 1, "prefetch_factor": 0}, "prefetch_factor option should be positive"),
    ({"num_workers": 1, "multiprocessing_context": "magic"}, "valid start method in .*'magic'"),
    ({"sampler": [1], "shuffle": True}, "sampler option is mutually exclusive with shuffle"),
    ({"batch_sampler": [[1]], "batch_size": 2}, "batch_sampler option is mutually exclusive"),
    ({"batch_sampler": [[1]], "drop_last": True}, "batch_sampler option is mutually exclusive"),
    ({"batch_size": None, "drop_last": True}, "batch_size=None option disables auto-batching"),
    ({"batch_size": 0}, "batch_size should be a positive integer value"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS, ids=str)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        DataLoader(Rows(), **options)


@pytest.mark.parametrize("name", ["shuffle", "sampler", "batch_sampler"])
def test_streams_have_their_own_order(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"expected unspecified {name} option"):
        DataLoader(Stream(3), **{name: [[0]]})
    assert values(DataLoader(Stream(3), shuffle=False)) == [[0], [1], [2]]


def test_pinning_without_a_gpu_warns() -> None:
    from dualgraph.utils.data import _pin

    if _pin._cuda_is_available():
        pytest.skip("there is a GPU")
    with pytest.warns(UserWarning, match="no accelerator is found"):
        assert values(DataLoader(range(2), pin_memory=True)) == [[0], [1]]  # type: ignore[arg-type]


@pytest.mark.cuda
@pytest.mark.parametrize("workers", [0, 1])
def test_pinned_batches(workers: int) -> None:
    import cupy

    loader = DataLoader(Rows(4), batch_size=2, pin_memory=True, num_workers=workers)
    for rows, labels in loader:
        for tensor in (rows, labels):
            attributes = cupy.cuda.runtime.pointerGetAttributes(tensor.numpy().ctypes.data)
            assert attributes.type == 1  # cudaMemoryTypeHost
        assert rows.numpy()[:, 0].tolist() == labels.tolist()
