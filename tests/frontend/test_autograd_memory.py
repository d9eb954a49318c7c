"""What the tape keeps alive, for how long, and that long tapes are no problem."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph._tensor import Tensor
from dualgraph.autograd import Function
from dualgraph.autograd.tape import CustomNode, Leaf, Node, Pick


class Exp(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[1]


def leaf() -> Tensor:
    return dg.ones(3, requires_grad=True)


def views_and_writes() -> None:
    y = leaf() * 1
    v = y[:2]
    v.mul_(2)
    y.sum().backward()
    assert v.requires_grad


def hooks() -> None:
    x = leaf()
    x.register_post_accumulate_grad_hook(lambda t: None)
    y = x * 1
    y.register_hook(lambda g: g * y.shape[0])
    y.retain_grad()
    y.sum().backward()


def second_derivative() -> None:
    x = leaf()
    (g,) = dg.autograd.grad((x**3).sum(), [x], create_graph=True)
    g.sum().backward()


def backward_twice() -> None:
    y = (leaf() * 2).sum()
    y.backward()
    with pytest.raises(RuntimeError):
        y.backward()


def network() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU(inplace=True))
    model(dg.ones(2, 3)).sum().backward()


def recurrent() -> None:
    y, _ = nn.LSTM(3, 4)(dg.ones(5, 2, 3))
    y.sum().backward()


COMPILED = dg.compile(lambda x: (x * x).sum())

PROGRAMS: list[Callable[[], object]] = [
    lambda: (leaf() * 2).exp().sum(),
    lambda: (leaf() * 2).exp().sum().backward(),
    lambda: Exp.apply(leaf()),
    lambda: Exp.apply(leaf()).sum().backward(),
    lambda: leaf().topk(2).values.sum().backward(),
    lambda: COMPILED(leaf()).backward(),
    views_and_writes,
    second_derivative,
    backward_twice,
    network,
    recurrent,
]


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive() -> int:
    kinds = (Node, Leaf, Pick, CustomNode, Tensor)
    return sum(issubclass(type(o), kinds) for o in gc.get_objects())  # isinstance() may run code


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("index", range(len(PROGRAMS)))
def test_reference_counts_alone_free_a_tape(index: int) -> None:
    PROGRAMS[index]()  # fills caches
    gc.collect()
    before = alive()
    PROGRAMS[index]()
    assert alive() == before


@pytest.mark.usefixtures("no_collector")
def test_kept_gradients_and_hooks_make_no_cycles() -> None:
    x = leaf()
    x.register_post_accumulate_grad_hook(lambda t: None)
    y = x * 1
    y.retain_grad()
    y.register_hook(lambda g: None)
    y.sum().backward()
    gone = [weakref.ref(x), weakref.ref(y)]
    del x, y
    assert [r() for r in gone] == [None, None]


def test_backward_frees_what_was_saved() -> None:
    x = dg.ones(1000, requires_grad=True)
    y = x.exp()
    z = (y * y).sum()
    saved = weakref.ref(y._data)
    del y
    assert saved() is not None
    z.backward(retain_graph=True)
    assert saved() is not None
    z.backward()
    assert saved() is None


def test_nothing_is_kept_that_no_gradient_needs() -> None:
    x = dg.ones(1000, requires_grad=True)
    y = x + 1
    kept = weakref.ref(y._data)
    z = (y + 1).sum()
    del y
    assert kept() is None
    z.backward()


def build(length: int, x: Tensor) -> Tensor:
    y = x
    for i in range(length):
        if i % 20 == 0:
            y = Exp.apply(y) * 0
        elif i % 20 == 1:
            y = y.topk(2).values
        else:
            y = y + 1
    return y


def test_a_long_tape_runs_backward_and_is_freed() -> None:
    x = dg.ones(2, requires_grad=True)
    y = build(100_000, x)
    del y  # by one frame after the other: the C stack must not run out
    y = x
    for _ in range(100_000):
        y = y + 1
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_a_long_tape_is_freed_in_a_thread_with_a_small_stack() -> None:
    x = dg.ones(2, requires_grad=True)
    done = []

    def work() -> None:
        y = build(20_000, x)
        del y
        done.append(True)

    # From 3.13 on CPython frees nested containers recursively up to a larger depth.
    small = 256 if sys.version_info < (3, 13) else 1024
    before = threading.stack_size(small * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert done


def test_a_long_chain_of_writes_through_views() -> None:
    x = dg.ones(2, requires_grad=True)
    y = x * 1
    for _ in range(5_000):
        y[:1].mul_(1.0)
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]
