"""The DataLoader: what it returns, and the options it takes."""

from __future__ import annotations

import gc
import inspect
import multiprocessing
import os
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
    _transfer,
    get_worker_info,
)
from dualgraph_compiler.errors import ArgumentError
from dualgraph_runtime.device import Device
from tests.frontend.loading import (
    Ragged,
    Rows,
    Stream,
    blocks,
    first,
    nothing_is_left_behind,
    same,
    seeded,
    values,
)

__all__ = ["nothing_is_left_behind"]

WORKERS = [0, 1, 3]
# Also on machines with fewer processors than that.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
METHODS = ["fork", "spawn", "forkserver"]


def test_the_signature_is_that_of_pytorch() -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    theirs = inspect.signature(torch_data.DataLoader).parameters
    ours = inspect.signature(DataLoader).parameters
    assert [(p.name, p.default, p.kind) for p in ours.values()] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]
    public = {name for name in torch_data.__all__ if "Pipe" not in name and name[0].isupper()}
    assert public - set(dg.utils.data.__all__) == {"DataChunk"}


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
        loader: DataLoader[Any] = DataLoader(range(7), num_workers=workers, **options)
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
        orders.append(values(DataLoader(range(50), 50, shuffle=True, num_workers=workers)))
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

    class TorchStream(torch_data.IterableDataset):
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


@pytest.mark.parametrize("workers", [0, 2])
def test_streams_longer_than_they_say_warn(workers: int) -> None:
    class Modest(Stream):
        def __len__(self) -> int:
            return 2

    loader = DataLoader(
        Modest(6), num_workers=workers, multiprocessing_context="fork" if workers else None
    )
    assert sum(1 for _ in loader) == 6  # nobody has asked for its length
    assert len(loader) == 2
    with pytest.warns(UserWarning, match="reported to be 2 .* but .* batches have been fetched"):
        assert len(list(loader)) == 6


def test_more_workers_than_processors_warn() -> None:
    many = len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else 1000
    with pytest.warns(UserWarning, match=f"will create {many} worker processes"):
        DataLoader(Rows(), num_workers=many)


def test_attributes_that_are_settled() -> None:
    loader = DataLoader(Rows(), batch_size=2)
    for name in ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset"):
        with pytest.raises(ArgumentError, match=f"{name} attribute should not be set after Data"):
            setattr(loader, name, getattr(loader, name))
    loader.collate_fn = len
    assert list(loader) == [2] * 10


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


@pytest.mark.parametrize("in_order", [True, False])
def test_batches_of_changing_size(in_order: bool) -> None:
    loader = DataLoader(Ragged(), num_workers=2, collate_fn=first, in_order=in_order)
    for _ in range(2):
        sizes = [(len(row), float(row.sum())) for row in loader]
        expected = [((i * 7) % 40 * 1000,) * 2 for i in range(40)]
        assert (sizes if in_order else sorted(sizes)) == (
            expected if in_order else sorted(expected)
        )


def test_blocks_are_used_again() -> None:
    ours, theirs = multiprocessing.Pipe()
    token = f"{os.getpid():x}-again"
    writer, reader = _transfer.Writer(token), _transfer.Reader(token)

    def carry(index: int, count: int) -> Any:
        writer.send(theirs, index, _transfer.encode(np.full(count, index)))
        received, parts = reader.receive(ours)
        assert received == index
        return _transfer.decode(parts)

    def places() -> set[str]:
        return {name.rpartition("-")[2] for name in blocks() if "-again-" in name}

    kept = [carry(0, 50_000)]
    assert places() == ({"0"} if os.path.isdir("/dev/shm") else set())
    kept.append(carry(1, 10_000))  # not told that the first one is free
    assert len(places()) in (0, 2)
    for index in range(2, 8):
        writer.release(reader.take_free())
        # Smaller ones, larger ones, ones that need no block.
        kept.append(carry(index, (10, 50_000, 90_000)[index % 3]))
    assert len(places()) in (0, 2)
    for index, array in enumerate(kept):
        assert (array == index).all()
    # What has been sent and not received is removed, too.
    for index in range(8, 12):
        writer.send(theirs, index, _transfer.encode(np.full(50_000, index)))
    assert len(places()) in (0, 5, 6)
    reader.close(4)
    assert places() == set()


def test_batches_of_odd_things() -> None:
    odd = [{"a": "text", "b": None}, np.asfortranarray(np.ones((200, 300))), 3]
    odd.append(np.ones((400, 600))[::2, ::2])
    loader: DataLoader[Any] = DataLoader(odd, batch_size=1, collate_fn=first, num_workers=1)
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
        range(200_000),
        batch_sampler=[keys] * 6,
        collate_fn=np.array,
        num_workers=1,
        prefetch_factor=4,
        multiprocessing_context="fork",
    )
    assert [int(batch.sum()) for batch in loader] == [sum(keys)] * 6


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
    if Device("cuda").is_available():
        pytest.skip("there is a GPU")
    with pytest.warns(UserWarning, match="no accelerator is found"):
        assert values(DataLoader(range(2), pin_memory=True)) == [[0], [1]]


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
