"""Datasets, samplers and collation."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import dualgraph as dg
from dualgraph.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    random_split,
)
from dualgraph.utils.data.collate import collate, default_collate_fn_map
from dualgraph_compiler.errors import ArgumentError, DualGraphError


def seeded(seed: int) -> Any:
    return dg.Generator().manual_seed(seed)


class Squares(Dataset[int]):
    def __init__(self, size: int) -> None:
        self.size = size

    def __getitem__(self, index: int) -> int:
        return index * index

    def __len__(self) -> int:
        return self.size


class Count(IterableDataset[int]):
    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.size))

    def __len__(self) -> int:
        return self.size


# -- datasets -------------------------------------------------------------------------------------


def test_tensor_dataset() -> None:
    data = TensorDataset(dg.tensor([[1.0, 2.0], [3.0, 4.0]]), dg.tensor([5, 6]))
    assert len(data) == 2
    x, y = data[1]
    assert (x.tolist(), y.item()) == ([3.0, 4.0], 6)
    with pytest.raises(ArgumentError, match=r"first dimensions are \[2, 3\]"):
        TensorDataset(dg.tensor([1, 2]), dg.tensor([1, 2, 3]))


def test_concat_dataset() -> None:
    data = Squares(3) + Squares(0) + Squares(2)
    assert len(data) == 5
    assert [data[i] for i in range(5)] == [0, 1, 4, 0, 1]
    assert [data[-1], data[-5]] == [1, 0]
    with pytest.raises(IndexError, match="out of range for 5 samples"):
        data[5]
    with pytest.raises(ValueError, match="should not exceed dataset length"):
        data[-6]
    assert list(data) == [0, 1, 4, 0, 1]
    with pytest.raises(ArgumentError, match="empty iterable"):
        ConcatDataset([])
    with pytest.raises(ArgumentError, match="does not support IterableDataset"):
        ConcatDataset([Count(3)])


def test_chain_dataset() -> None:
    data = Count(2) + Count(3)
    assert isinstance(data, ChainDataset)
    assert list(data) == [0, 1, 0, 1, 2]
    assert len(data) == 5
    with pytest.raises(ArgumentError, match="only supports IterableDataset"):
        list(ChainDataset([Squares(3)]))


def test_tensor_dataset_many_at_once() -> None:
    x, y = dg.rand(5, 2, 3), dg.arange(5)
    data = TensorDataset(x, y)
    for keys in ([3, 0, -1, 3], [], [np.int64(2)], [slice(0, 2)], [[0, 1]]):
        many = data.__getitems__(keys)
        assert [[t.tolist() for t in row] for row in many] == [
            [t.tolist() for t in data[key]] for key in keys
        ]
    with pytest.raises(IndexError):
        data.__getitems__([5])
    with pytest.raises(IndexError):
        data.__getitems__([-6])
    trained = TensorDataset(dg.ones(2, requires_grad=True))
    assert trained.__getitems__([1])[0][0].requires_grad
    assert default_collate(trained.__getitems__([1, 0]))[0].requires_grad

    class Doubled(TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            return self.tensors[1][index] * 2

    assert Doubled(x, y).__getitems__([1, 2]) == [2, 4]


def test_collating_tensors_of_other_kinds() -> None:
    half, whole = dg.ones(2, dtype=dg.float16), dg.ones(2)
    assert default_collate([half, whole]).dtype is dg.float32
    with pytest.raises(RuntimeError, match="size"):
        default_collate([dg.ones(2), dg.ones(3)])
    made = default_collate([whole, whole[:]])
    made.zero_()
    assert whole.tolist() == [1, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda d: d.ConcatDataset([]),
        lambda d: list(d.ChainDataset([[1]])),
        lambda d: d.StackDataset(),
        lambda d: d.StackDataset([1], x=[1]),
        lambda d: d.StackDataset([1], [1, 2]),
        lambda d: d.Dataset()[0],
        lambda d: d.ConcatDataset([[1]])[-2],
        lambda d: d.ConcatDataset([[1]])[1],
        lambda d: d.RandomSampler([1], replacement=1),
        lambda d: d.WeightedRandomSampler([1.0], 1, replacement=1),
        lambda d: d.DistributedSampler([1], 2),
        lambda d: d.DistributedSampler([1], 2, 2),
        lambda d: d.DataLoader([1], multiprocessing_context=3, num_workers=1),
        lambda d: setattr(d.DataLoader([1]), "batch_size", 2),
    ],
)
def test_errors_are_of_the_kinds_of_pytorch(wrong: Any) -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - it is compared
        wrong(torch_data)
    with pytest.raises(theirs.type):
        wrong(dg.utils.data)


def test_stack_dataset() -> None:
    pairs = StackDataset(Squares(3), Subset(Squares(9), [8, 7, 6]))
    assert len(pairs) == 3
    assert [pairs[i] for i in range(3)] == [(0, 64), (1, 49), (4, 36)]
    assert pairs.__getitems__([2, 0]) == [(4, 36), (0, 64)]
    named = StackDataset(a=Squares(2), b=[5, 6])
    assert named[1] == {"a": 1, "b": 6}
    assert named.__getitems__([1, 0]) == [{"a": 1, "b": 6}, {"a": 0, "b": 5}]

    class Forgetful(Squares):
        def __getitems__(self, indices: list[int]) -> list[int]:
            return indices[1:]

    with pytest.raises(ArgumentError, match="Expected 2, got 1"):
        StackDataset(Forgetful(4)).__getitems__([1, 2])


def test_subset() -> None:
    data = Subset(Subset(Squares(10), [9, 7, 5, 3]), [3, 0])
    assert [data[i] for i in range(len(data))] == [9, 81]
    assert data.__getitems__([1, 0]) == [81, 9]
    tensors = Subset(TensorDataset(dg.tensor([1, 2, 3])), [2, 0])
    assert tensors[[0, 1]][0].tolist() == [3, 1]


def test_abstract_methods() -> None:
    with pytest.raises(NotImplementedError, match="should implement __getitem__"):
        Dataset()[0]
    with pytest.raises(NotImplementedError, match="should implement __iter__"):
        iter(IterableDataset())


def test_random_split_by_size() -> None:
    parts = random_split(Squares(10), [3, 7], generator=seeded(1))
    assert [len(part) for part in parts] == [3, 7]
    assert sorted(i for part in parts for i in part.indices) == list(range(10))
    again = random_split(Squares(10), [3, 7], generator=seeded(1))
    assert [part.indices for part in again] == [part.indices for part in parts]
    other = random_split(Squares(10), [3, 7], generator=seeded(2))
    assert other[0].indices != parts[0].indices
    with pytest.raises(ArgumentError, match=r"does not equal .* \[3, 8\] for 10 samples"):
        random_split(Squares(10), [3, 8])


@pytest.mark.parametrize(
    ("size", "shares"),
    [(10, [0.5, 0.5]), (11, [0.3, 0.3, 0.4]), (7, [0.1, 0.9]), (29, [0.333, 0.333, 0.334])],
)
def test_random_split_by_share_matches_pytorch(size: int, shares: list[float]) -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    expected: list[int] = [len(p) for p in torch_data.random_split(range(size), shares)]
    assert [len(part) for part in random_split(Squares(size), shares)] == expected


def test_random_split_share_errors() -> None:
    with pytest.raises(ArgumentError, match="Fraction at index 0 is not between 0 and 1"):
        random_split(Squares(4), [1.5, -0.5])
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split(Squares(1), [0.5, 0.5])


# -- samplers -------------------------------------------------------------------------------------


def test_sequential_sampler() -> None:
    assert list(SequentialSampler(range(4))) == [0, 1, 2, 3]
    assert len(SequentialSampler(range(4))) == 4


@pytest.mark.parametrize("wanted", [None, 3, 10, 25])
def test_random_sampler_without_replacement(wanted: int | None) -> None:
    sampler = RandomSampler(range(10), num_samples=wanted, generator=seeded(3))
    keys = list(sampler)
    assert len(keys) == len(sampler) == (10 if wanted is None else wanted)
    for start in range(0, len(keys), 10):
        piece = keys[start : start + 10]
        assert len(set(piece)) == len(piece)
        assert set(piece) <= set(range(10))
    assert list(sampler) != keys or wanted == 1
    assert list(RandomSampler(range(10), num_samples=wanted, generator=seeded(3))) == keys


def test_random_sampler_with_replacement() -> None:
    sampler = RandomSampler(range(5), replacement=True, num_samples=10_000, generator=seeded(4))
    counts = collections.Counter(sampler)
    assert sum(counts.values()) == 10_000
    assert set(counts) == set(range(5))
    assert min(counts.values()) > 1800
    assert list(RandomSampler(range(0))) == []
    for bad in (0, -1, 2.5, True):
        with pytest.raises(ArgumentError, match="num_samples should be a positive integer"):
            RandomSampler(range(3), num_samples=bad)


@pytest.mark.parametrize("options", [{}, {"replacement": True}, {"num_samples": 25}], ids=str)
def test_random_sampler_takes_one_draw_of_the_global_generator(options: dict[str, Any]) -> None:
    orders = []
    for disturb in (False, True):
        dg.manual_seed(7)
        order = []
        for key in RandomSampler(range(10), **options):
            if disturb:
                dg.rand(3)
            order.append(key)
        orders.append(order)
    assert orders[0] == orders[1]
    dg.manual_seed(7)
    list(RandomSampler(range(10), **options))
    after = dg.rand(1).item()
    dg.manual_seed(7)
    list(RandomSampler(range(1000)))
    assert dg.rand(1).item() == after


def test_subset_random_sampler() -> None:
    keys = list(SubsetRandomSampler([5, 6, 9], generator=seeded(0)))
    assert sorted(keys) == [5, 6, 9]


def test_weighted_random_sampler() -> None:
    sampler = WeightedRandomSampler([1, 0, 3], 8000, generator=seeded(5))
    counts = collections.Counter(sampler)
    assert len(sampler) == 8000
    assert set(counts) == {0, 2}
    assert counts[2] / counts[0] == pytest.approx(3, rel=0.1)
    firsts = collections.Counter()
    generator = seeded(6)
    for _ in range(2000):
        keys = list(WeightedRandomSampler([1, 0, 3], 2, replacement=False, generator=generator))
        assert sorted(keys) == [0, 2]
        firsts[keys[0]] += 1
    assert firsts[2] / firsts[0] == pytest.approx(3, rel=0.2)
    with pytest.raises(ArgumentError, match="only 2 weights are positive"):
        WeightedRandomSampler([1, 0, 3], 3, replacement=False)
    with pytest.raises(ArgumentError, match="finite and not negative"):
        WeightedRandomSampler([1, -1], 1)
    with pytest.raises(ArgumentError, match="1d sequence"):
        WeightedRandomSampler([[1]], 1)


def test_batch_sampler() -> None:
    assert list(BatchSampler(range(7), 3, False)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(BatchSampler(range(7), 3, True)) == [[0, 1, 2], [3, 4, 5]]
    assert list(BatchSampler(range(6), 3, True)) == [[0, 1, 2], [3, 4, 5]]
    for count, drop in [(7, False), (7, True), (6, False), (0, False)]:
        sampler = BatchSampler(range(count), 3, drop)
        assert len(sampler) == len(list(sampler))
    with pytest.raises(ArgumentError, match="batch_size=0"):
        BatchSampler(range(3), 0, False)
    with pytest.raises(ArgumentError, match="drop_last=1"):
        BatchSampler(range(3), 1, 1)


@pytest.mark.parametrize(("size", "replicas"), [(10, 3), (9, 3), (2, 5), (7, 1)])
@pytest.mark.parametrize("drop_last", [False, True])
def test_distributed_sampler_matches_pytorch(size: int, replicas: int, drop_last: bool) -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    shares = []
    for rank in range(replicas):
        arguments = (range(size), replicas, rank, False, 0, drop_last)
        ours, theirs = DistributedSampler(*arguments), torch_data.DistributedSampler(*arguments)
        assert list(ours) == list(theirs)
        assert len(ours) == len(theirs) == len(list(ours))
        shares.append(set(DistributedSampler(range(size), replicas, rank, True, 0, drop_last)))
    if not drop_last:
        assert set.union(*shares) == set(range(size))


def test_distributed_sampler_shuffles_by_epoch() -> None:
    samplers = [DistributedSampler(range(20), 2, rank, seed=3) for rank in (0, 1)]
    orders = [list(samplers[0])]
    assert set(orders[0]) | set(samplers[1]) == set(range(20))
    assert list(samplers[0]) == orders[0]
    samplers[0].set_epoch(1)
    assert list(samplers[0]) != orders[0]


# -- collation ------------------------------------------------------------------------------------


class Point(NamedTuple):
    x: Any
    y: Any


def plain(value: Any) -> Any:
    """Tensors of ours or PyTorch's as (dtype, values), containers as they are."""
    if hasattr(value, "tolist"):
        return str(value.dtype).split(".")[-1], value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(plain, value))
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return value


BATCHES: dict[str, list[Any]] = {
    "ints": [1, 2],
    "floats": [1.5, 2.5],
    "bools": [True, False],
    "strings": ["a", "b"],
    "bytes": [b"a", b"b"],
    "arrays": [np.ones(3, np.float32), np.zeros(3, np.float32)],
    "int8 arrays": [np.ones((2, 1), np.int8), np.zeros((2, 1), np.int8)],
    "numpy scalars": [np.float32(1), np.float32(2)],
    "numpy doubles": [np.float64(1), np.float64(2)],
    "numpy ints": [np.int16(1), np.int16(2)],
    "numpy bools": [np.bool_(True), np.bool_(False)],
    "tuples": [(1, "a"), (2, "b")],
    "lists": [[1, 2.0], [3, 4.0]],
    "named tuples": [Point(1, [2]), Point(3, [4])],
    "dicts": [{"a": 1, "b": (2, "x")}, {"a": 3, "b": (4, "y")}],
    "ordered dicts": [collections.OrderedDict(z=1, a=2), collections.OrderedDict(z=3, a=4)],
    "default dicts": [collections.defaultdict(int, a=1), collections.defaultdict(int, a=2)],
}


@pytest.mark.parametrize("name", BATCHES)
def test_collate_matches_pytorch(name: str) -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    ours, theirs = default_collate(BATCHES[name]), torch_data.default_collate(BATCHES[name])
    assert plain(ours) == plain(theirs)
    assert type(ours) is type(theirs) or isinstance(ours, dg.Tensor)


class TaggedList(list[Any]):
    tag = "none"


def test_collate_keeps_what_containers_hold_besides_their_items() -> None:
    first, second = TaggedList([1, "a"]), TaggedList([2, "b"])
    first.tag = "kept"
    batch = default_collate([first, second])
    assert (type(batch), batch.tag) == (TaggedList, "kept")
    assert plain(batch[0]) == ("int64", [1, 2])
    assert list(first) == [1, "a"]


@dataclasses.dataclass(frozen=True)
class Sample:
    image: Any
    label: int
    area: int = dataclasses.field(init=False, default=0)


def test_collate_dataclasses() -> None:
    batch = default_collate([Sample(np.ones(2), 3), Sample(np.zeros(2), 4)])
    assert isinstance(batch, Sample)
    assert batch.image.tolist() == [[1, 1], [0, 0]]
    assert batch.label.tolist() == [3, 4]
    assert batch.area.tolist() == [0, 0]
    assert isinstance(default_convert(Sample(np.ones(2), 3)).image, dg.Tensor)


def test_collate_with_a_map() -> None:
    class Box(Point):
        pass

    def join(batch: Any, *, collate_fn_map: Any = None) -> Any:
        return "joined", len(batch), collate_fn_map is not None

    assert collate([{"a": Point(1, 2)}] * 2, collate_fn_map={Point: join}) == {
        "a": ("joined", 2, True)
    }
    assert collate([Box(1, 2)], collate_fn_map={(Point, int): join}) == ("joined", 1, True)
    with pytest.raises(TypeError, match="found <class 'int'>"):
        collate([1, 2])
    default_collate_fn_map[Box] = join
    try:
        assert default_collate([Box(1, 2)]) == ("joined", 1, True)
    finally:
        del default_collate_fn_map[Box]


def test_collate_tensors() -> None:
    batch = default_collate([dg.tensor([1, 2]), dg.tensor([3, 4])])
    assert batch.tolist() == [[1, 2], [3, 4]]
    mixed = default_collate([{"x": dg.tensor(1.0), "y": 0}, {"x": dg.tensor(2.0), "y": 1}])
    assert mixed["x"].tolist() == [1.0, 2.0]
    assert mixed["y"].tolist() == [0, 1]


def test_collate_errors() -> None:
    with pytest.raises(DualGraphError, match="each element in list of batch should be of equal"):
        default_collate([[1, 2], [3]])
    for bad in ([object()], [np.array("text")], [np.array([object()])], [np.datetime64("2020")]):
        with pytest.raises(TypeError, match="default_collate: batch must contain tensors"):
            default_collate(bad)
    with pytest.raises(TypeError, match="found <class 'NoneType'>"):
        default_collate([None])


CONVERTED = [
    np.ones(2, np.int16),
    np.float32(2.5),
    3,
    "text",
    None,
    (np.ones(1), "a"),
    [np.ones(1), {"k": np.zeros(1)}],
    Point(np.ones(1), 2),
    np.array(["text"]),
]


@pytest.mark.parametrize("data", CONVERTED, ids=str)
def test_convert_matches_pytorch(data: Any) -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    assert plain(default_convert(data)) == plain(torch_data.default_convert(data))
