"""Layers beside PyTorch's database of modules: bags, unpooling, folding, clusters of classes."""

from __future__ import annotations

from typing import Any

import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn

from .parity import close, compare, copy_state, ours

torch = pytest.importorskip("torch")


def both(name: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    theirs = getattr(torch.nn, name)(*args, **kwargs)
    mine = getattr(nn, name)(*args, **{k: ours(v) for k, v in kwargs.items()})
    assert repr(mine) == repr(theirs)
    copy_state(theirs, mine)
    return mine, theirs


BAGS: list[dict[str, Any]] = [
    {"mode": "sum"},
    {"mode": "mean", "padding_idx": 2},
    {"mode": "max", "padding_idx": -1},
    {"mode": "sum", "include_last_offset": True},
    {"mode": "max", "max_norm": 1.0},
]


@pytest.mark.parametrize("options", BAGS, ids=str)
def test_embedding_bag(options: dict[str, Any]) -> None:
    mine, theirs = both("EmbeddingBag", 6, 4, **options)
    index = torch.tensor([1, 2, 5, 2, 0, 5, 5, 3])
    offsets = torch.tensor([0, 3, 3, 7, 8] if options.get("include_last_offset") else [0, 3, 3, 7])
    for args in ((index, offsets), (index.reshape(2, 4),)):
        if len(args) == 1 and options.get("include_last_offset"):
            continue
        mine.zero_grad()
        theirs.zero_grad()
        found, wanted = mine(*(ours(a) for a in args)), theirs(*args)
        close(found, wanted)
        weights = torch.rand_like(wanted)
        (wanted * weights).sum().backward()
        (found * ours(weights)).sum().backward()
        close(mine.weight.grad, theirs.weight.grad)


def test_bags_scale_gradients_by_frequency() -> None:
    table = dg.ones(6, 1, requires_grad=True)
    bags = F.embedding_bag(
        dg.tensor([[1, 2, 5], [2, 5, 5]]), table, mode="sum", scale_grad_by_freq=True
    )
    bags.sum().backward()
    assert table.grad.reshape(-1).tolist() == pytest.approx([0, 1, 1, 0, 0, 1])


def test_embedding_bag_is_compiled() -> None:
    bag = nn.EmbeddingBag(5, 3, mode="max")
    args = dg.tensor([1, 4, 4, 0]), dg.tensor([0, 1, 1])
    assert dg.equal(dg.compile(bag)(*args), bag(*args))


@pytest.mark.parametrize(
    ("args", "kwargs", "match"),
    [
        ((), {"offsets": None}, "offsets"),
        ((), {"mode": "median"}, "mode"),
        ((), {"mode": "mean", "per_sample_weights": dg.ones(3)}, "only supported"),
    ],
)
def test_bags_refused(args: Any, kwargs: dict[str, Any], match: str) -> None:
    given = {"offsets": dg.tensor([0]), **kwargs}
    with pytest.raises(ValueError, match=match):
        F.embedding_bag(dg.tensor([0, 1, 1]), dg.ones(2, 3), *args, **given)


GEOMETRY: list[tuple[Any, ...]] = [(3,), ((2, 3), (2, 1), (1, 2), (2, 1)), (2, 1, 1, 2)]


@pytest.mark.parametrize("geometry", GEOMETRY)
def test_fold(geometry: tuple[Any, ...]) -> None:
    columns = torch.nn.Unfold(*geometry)(torch.randn(2, 3, 7, 8)).detach().requires_grad_()
    mine, theirs = both("Fold", (7, 8), *geometry)
    compare(mine, theirs, (columns,))
    with pytest.raises(ValueError, match="fold: expected"):
        mine(dg.ones(2, 5, 7))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_unpool(rank: int) -> None:
    x = torch.randn(2, 3, *(6, 8, 4)[:rank])
    values, indices = getattr(torch.nn, f"MaxPool{rank}d")(2, return_indices=True)(x)
    mine, theirs = both(f"MaxUnpool{rank}d", 2)
    close(mine(ours(values), ours(indices)), theirs(values, indices))
    sizes = tuple(x.shape)
    close(mine(ours(values), ours(indices), sizes), theirs(values, indices, sizes))


@pytest.mark.parametrize("head_bias", [False, True])
def test_adaptive_log_softmax(head_bias: bool) -> None:
    mine, theirs = both("AdaptiveLogSoftmaxWithLoss", 8, 20, [4, 10, 15], 2.0, head_bias)
    x, target = torch.randn(30, 8, requires_grad=True), torch.randint(0, 20, (30,))
    own = ours(x)
    found, wanted = mine(own, ours(target)), theirs(x, target)
    close(found.output, wanted.output)
    wanted.loss.backward()
    found.loss.backward()
    close(own.grad, x.grad)
    close(mine.log_prob(own), theirs.log_prob(x))
    assert mine.predict(own).tolist() == theirs.predict(x).tolist()
    close(dg.compile(lambda a, t: mine(a, t).loss)(own, ours(target)), wanted.loss)
    close(mine(own[0], ours(target)[0]).output, theirs(x[0], target[0]).output)
    with pytest.raises(IndexError, match="Target values"):
        mine(own, ours(target) + 20)


def test_losses_with_a_distance_of_ones_own() -> None:
    x = [torch.randn(5, 4, requires_grad=True) for _ in range(3)]
    theirs = torch.nn.TripletMarginWithDistanceLoss(margin=0.5, swap=True)
    mine = nn.TripletMarginWithDistanceLoss(margin=0.5, swap=True)
    close(mine(*map(ours, x)), theirs(*x))
    far = nn.TripletMarginWithDistanceLoss(distance_function=lambda a, b: (a - b).abs().sum(-1))
    wanted = torch.nn.TripletMarginWithDistanceLoss(
        distance_function=lambda a, b: (a - b).abs().sum(-1)
    )
    close(far(*map(ours, x)), wanted(*x))


def test_batch_norms_are_replaced() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    weight = net[1].weight
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert isinstance(synced[1], nn.SyncBatchNorm)
    assert synced[1].weight is weight
    x = dg.randn(2, 3, 4, 4)
    assert synced(x).shape == (2, 4, 4, 4)


def test_data_parallel_is_transparent() -> None:
    net = nn.Linear(3, 2)
    wrapped = nn.DataParallel(net)
    assert list(wrapped.state_dict()) == ["module.weight", "module.bias"]
    x = dg.randn(4, 3)
    assert dg.equal(wrapped(x), net(x))


@pytest.mark.parametrize("name", ["celu", "elu", "hardtanh", "leaky_relu", "selu"])
def test_activations_in_place(name: str) -> None:
    x = dg.linspace(-2, 2, 7)
    wanted = getattr(F, name)(x)
    same = getattr(F, f"{name}_")(x)
    assert same is x
    assert dg.equal(x, wanted)


def test_pooling_with_indices() -> None:
    x = dg.randn(1, 2, 6, 6)
    values, indices = F.max_pool2d_with_indices(x, 2, stride=1)
    again = F.max_pool2d(x, 2, stride=1, return_indices=True)
    assert dg.equal(values, again[0])
    assert dg.equal(indices, again[1])
    assert len(F.adaptive_max_pool2d_with_indices(x, 3)) == 2
