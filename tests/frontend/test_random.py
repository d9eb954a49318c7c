"""Random numbers: distributions, seeds, generators, state."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import dualgraph as dg


def test_seeds_repeat() -> None:
    dg.manual_seed(3)
    first = [dg.rand(4), dg.randn(5), dg.randint(0, 9, (3,)), dg.randperm(6)]
    dg.manual_seed(3)
    again = [dg.rand(4), dg.randn(5), dg.randint(0, 9, (3,)), dg.randperm(6)]
    assert all(dg.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not dg.equal(dg.rand(4), first[0])
    assert dg.initial_seed() == 3


def test_draws_do_not_overlap() -> None:
    g = dg.Generator().manual_seed(0)
    long = dg.rand(64, generator=dg.Generator().manual_seed(0))
    short = dg.cat([dg.rand(16, generator=g) for _ in range(4)])
    assert dg.equal(long, short)
    assert len(set(short.tolist())) == 64


def test_generators_are_independent() -> None:
    g = dg.Generator()
    assert g.manual_seed(5) is g
    a = dg.randn(3, generator=g)
    dg.manual_seed(1)
    dg.rand(100)
    g.manual_seed(5)
    assert dg.equal(dg.randn(3, generator=g), a)
    assert g.initial_seed() == 5
    assert isinstance(g.seed(), int)
    assert g.device == dg.device("cpu")


def test_state() -> None:
    g = dg.Generator().manual_seed(7)
    dg.rand(5, generator=g)
    state = g.get_state()
    copies = [copy.deepcopy(g), pickle.loads(pickle.dumps(g)), g.clone_state()]
    a = dg.rand(5, generator=g)
    for other in copies:
        assert dg.equal(dg.rand(5, generator=other), a)
    g.set_state(state)
    assert dg.equal(dg.rand(5, generator=g), a)
    saved = dg.get_rng_state()
    b = dg.rand(3)
    dg.set_rng_state(saved)
    assert dg.equal(dg.rand(3), b)
    with pytest.raises(RuntimeError):
        dg.set_rng_state(dg.zeros(3))


def test_uniform() -> None:
    x = dg.rand(20000)
    assert x.dtype is dg.float32
    assert x.min().item() >= 0
    assert x.max().item() < 1
    assert abs(x.mean().item() - 0.5) < 0.01
    assert abs(x.var().item() - 1 / 12) < 0.005
    assert dg.rand(2, 3, dtype=dg.float64).dtype is dg.float64
    assert dg.rand_like(x[:4]).shape == (4,)


def test_normal() -> None:
    x = dg.randn(20000)
    assert abs(x.mean().item()) < 0.03
    assert abs(x.std().item() - 1) < 0.03
    y = dg.normal(2.0, 3.0, (20000,))
    assert abs(y.mean().item() - 2) < 0.1
    assert abs(y.std().item() - 3) < 0.1
    z = dg.normal(dg.tensor([0.0, 100.0]), dg.tensor([1.0, 0.0]))
    assert z[1].item() == 100
    assert dg.normal(dg.zeros(3)).shape == (3,)
    c = dg.randn(4000, dtype=dg.complex64)
    assert abs(c.abs().square().mean().item() - 1) < 0.1
    with pytest.raises(RuntimeError):
        dg.normal(0.0, -1.0, (2,))


def test_integers() -> None:
    for x in (
        dg.randint(3, 9, (5000,)),
        dg.randint(9, (5000,)),
        dg.randint(low=-4, high=9, size=(5000,)),
    ):
        assert x.dtype is dg.int64
    x = dg.randint(3, 9, (5000,))
    assert set(x.tolist()) == set(range(3, 9))
    assert dg.randint(3, (2,), dtype=dg.float32).dtype is dg.float32
    assert dg.randint_like(dg.zeros(4), 5).shape == (4,)
    with pytest.raises(RuntimeError):
        dg.randint(5, 5, (2,))


def test_permutations() -> None:
    assert sorted(dg.randperm(50).tolist()) == list(range(50))
    assert dg.randperm(0).tolist() == []
    assert dg.randperm(4, dtype=dg.int32).dtype is dg.int32


def test_bernoulli() -> None:
    p = dg.tensor([0.0, 1.0, 0.5])
    draws = dg.stack([dg.bernoulli(p) for _ in range(400)])
    assert draws[:, 0].sum().item() == 0
    assert draws[:, 1].sum().item() == 400
    assert 140 < draws[:, 2].sum().item() < 260
    assert 400 < dg.zeros(1000).bernoulli_(0.5).sum().item() < 600
    with pytest.raises(RuntimeError):
        dg.bernoulli(dg.tensor([1.5]))


def test_multinomial() -> None:
    weights = dg.tensor([[0.0, 1.0, 3.0], [5.0, 0.0, 0.0]])
    drawn = dg.multinomial(weights, 4000, replacement=True)
    assert drawn[1].sum().item() == 0
    assert drawn[0].min().item() == 1
    assert abs((drawn[0] == 2).float().mean().item() - 0.75) < 0.05
    assert sorted(dg.multinomial(dg.ones(5), 5).tolist()) == list(range(5))
    with pytest.raises(RuntimeError):
        dg.multinomial(dg.ones(3), 4)


def test_in_place() -> None:
    x = dg.empty(4000, dtype=dg.float64)
    x.uniform_(-2, 3)
    assert x.min().item() >= -2
    assert x.max().item() < 3
    assert x.uniform_().max().item() < 1
    assert abs(x.normal_(5, 0.5).mean().item() - 5) < 0.1
    assert abs(x.exponential_(2.0).mean().item() - 0.5) < 0.1
    i = dg.empty(100, dtype=dg.int64).random_(3, 6)
    assert set(i.tolist()) == {3, 4, 5}
    with pytest.raises(RuntimeError):
        x.uniform_(3, 2)


def test_in_place_on_parameters() -> None:
    w = dg.zeros(3, requires_grad=True)
    with dg.no_grad():
        w.normal_()
    assert w.is_leaf
    assert w.requires_grad
    with pytest.raises(RuntimeError):
        w.uniform_()


def test_numpy_is_left_alone() -> None:
    np.random.seed(1)  # noqa: NPY002
    a = np.random.rand(2)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    dg.rand(5)
    assert (np.random.rand(2) == a).all()  # noqa: NPY002
