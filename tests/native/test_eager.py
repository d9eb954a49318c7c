"""Eager operations by compiled programs: the same results, chosen by what is faster."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph.backends import native
from dualgraph_compiler.errors import DualGraphError, ShapeError
from dualgraph_runtime.native import eager
from dualgraph_runtime.native.eager import Accelerator

pytestmark = pytest.mark.compiler


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    """Programs are built whatever the sizes."""
    monkeypatch.setattr(eager, "_pays", lambda op, operands: True)
    made = Accelerator()
    monkeypatch.setattr(eager, "_accelerator", made)
    with native.flags(enabled=True):
        yield made


def rand(*shape: int) -> dg.Tensor:
    values = np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
    return dg.tensor(values, requires_grad=True)


def classes(*shape: int) -> dg.Tensor:
    return dg.tensor(np.random.default_rng(0).integers(0, 20, shape))


def convolution(n: int) -> Any:
    return F.conv2d(rand(n, 4, 12, 12), rand(6, 4, 3, 3), rand(6), padding=1)


def causal_attention(n: int) -> Any:
    q, k, v = rand(n, 2, 20, 16), rand(n, 2, 20, 16) * 0.5, rand(n, 2, 20, 16) + 1
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


CASES: dict[str, Callable[[int], Any]] = {
    "conv": convolution,
    "max pool": lambda n: F.max_pool2d(rand(n, 4, 12, 12), 2),
    "avg pool": lambda n: F.avg_pool2d(rand(n, 4, 12, 12), 3, stride=2, padding=1),
    "layer norm": lambda n: F.layer_norm(rand(n, 9, 32), (32,), rand(32), rand(32)),
    "batch norm": lambda n: F.batch_norm(
        rand(n, 8, 10, 10), None, None, rand(8), rand(8), training=True
    ),
    "group norm": lambda n: F.group_norm(rand(n, 8, 10, 10), 2, rand(8), rand(8)),
    "rms norm": lambda n: F.rms_norm(rand(n, 9, 32), (32,), rand(32)),
    "softmax": lambda n: F.softmax(rand(n, 7, 40), dim=-1),
    "log softmax": lambda n: F.log_softmax(rand(n, 40, 7), dim=1),
    "gelu": lambda n: F.gelu(rand(n, 300)),
    "attention": causal_attention,
    "cross entropy": lambda n: F.cross_entropy(rand(n * 16, 20), classes(n * 16)),
    "loss of each": lambda n: F.nll_loss(rand(n * 120, 20), classes(n * 120), reduction="none"),
    "embedding": lambda n: F.embedding(classes(n, 11), rand(20, 32)),
    "linear": lambda n: F.linear(rand(n, 10, 24), rand(40, 24), rand(40)),
    "tanh": lambda n: dg.tanh(rand(n, 300)),
}


def values_of(case: Callable[[int], Any], n: int) -> list[np.ndarray[Any, Any]]:
    """A result, and the gradients of all leaves."""
    leaves: list[dg.Tensor] = []
    make = globals()["rand"]

    def noted(*shape: int) -> dg.Tensor:
        leaves.append(make(*shape))
        return leaves[-1]

    globals()["rand"] = noted
    try:
        y = case(n)
    finally:
        globals()["rand"] = make
    (y * y).sum().backward()
    return [y.detach().numpy(), *(t.grad.numpy() for t in leaves if t.grad is not None)]


@pytest.mark.parametrize("name", CASES)
def test_results(name: str, accelerator: Accelerator) -> None:
    case = CASES[name]
    programs = []
    for n in (5, 6, 13):  # no size of another dimension, which would be another pattern
        with native.flags(enabled=False):
            want = values_of(case, n)
        found = values_of(case, n)
        for a, b in zip(found, want, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5 * max(1, np.abs(b).max()))
        for a, b in zip(values_of(case, n), found, strict=True):
            np.testing.assert_array_equal(a, b)  # at the first call as at any other
        programs.append(sum(map(len, accelerator._programs.values())))
    assert sum(run is not None for run in accelerator._runs.values()) >= 3
    assert programs[0] == programs[2]  # what is built for one size serves any batch


def test_small_operands_are_not_looked_up(accelerator: Accelerator) -> None:
    for _ in range(5):
        F.softmax(rand(4, 4), dim=1).sum().backward()
    assert not accelerator._runs


@pytest.mark.parametrize(
    ("call", "pays"),
    [
        (lambda: F.gelu(rand(40, 40)), True),
        (lambda: F.gelu(rand(40, 40).double()), False),
        (lambda: rand(10, 64).exp(), False),
        (lambda: rand(100, 64).exp(), True),
        (lambda: rand(100, 64).lgamma(), True),
        (lambda: rand(100, 64).i0(), False),
        (lambda: dg.gcd(classes(100, 64), classes(100, 64)), False),
        (lambda: F.linear(rand(32, 40), rand(8, 40)), True),
        (lambda: F.linear(rand(320, 400), rand(80, 400)), False),
        (lambda: F.conv2d(rand(2, 3, 10, 10), rand(4, 3, 3, 3)), False),
        (lambda: F.conv2d(rand(8, 16, 20, 20), rand(16, 16, 3, 3)), True),
        (lambda: F.embedding(classes(900), rand(20, 32)), False),
    ],
)
def test_what_pays(call: Callable[[], Any], pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = Accelerator()
    monkeypatch.setattr(eager, "_accelerator", accelerator)
    with native.flags(enabled=True):
        call()
    assert any(run is not None for run in accelerator._runs.values()) == pays


def test_operands_that_are_refused(accelerator: Accelerator) -> None:
    for _ in range(5):
        with pytest.raises(ShapeError, match="linear"):
            F.linear(rand(30, 30), rand(30, 31))
        with pytest.raises(DualGraphError, match="out of bounds for 20"):
            F.cross_entropy(rand(64, 20), classes(64) + 20)


def test_gradients_of_gradients(accelerator: Accelerator) -> None:
    x = rand(40, 40)
    for _ in range(2):
        (g,) = dg.autograd.grad(F.gelu(x).sum(), x, create_graph=True)
        (second,) = dg.autograd.grad(g.sum(), x)
    a = x.detach().numpy().astype(np.float64)
    want = np.exp(-a * a / 2) / np.sqrt(2 * np.pi) * (2 - a * a)
    np.testing.assert_allclose(second.numpy(), want, atol=1e-5)


SHRINKING: dict[str, Callable[[Any], Any]] = {
    "conv": lambda x: F.conv2d(x, rand(8, 4, 2, 2), stride=2),
    "max pool": lambda x: F.max_pool2d(x, 2),
    "avg pool": lambda x: F.avg_pool2d(x, 2),
    "rows": lambda x: dg.index_select(x, 2, dg.arange(12)),
}


@pytest.mark.parametrize("name", SHRINKING)
def test_what_is_read_has_sizes_that_results_do_not_tell(
    name: str, accelerator: Accelerator
) -> None:
    """Images of 24 and of 25 give the same result; their gradients are images of 24 and of 25."""
    for n in (24, 25, 24):
        found, want = rand(3, 4, n, 24), rand(3, 4, n, 24)
        SHRINKING[name](found).square().sum().backward()
        with native.flags(enabled=False):
            SHRINKING[name](want).square().sum().backward()
        assert found.grad is not None
        assert want.grad is not None
        np.testing.assert_allclose(found.grad.numpy(), want.grad.numpy(), rtol=1e-4, atol=1e-4)
    assert any(run is not None for run in accelerator._runs.values())


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: dg.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam": lambda p: dg.optim.Adam(p, 0.1, amsgrad=True),
    "adamw": lambda p: dg.optim.AdamW(p, 0.1),
    "rmsprop": lambda p: dg.optim.RMSprop(p, 0.1, momentum=0.5, centered=True),
    "adagrad": lambda p: dg.optim.Adagrad(p, 0.1, lr_decay=0.01),
}


def trained(make: Callable[[Any], Any]) -> list[Any]:
    """Parameters, and what the optimizer keeps of them, after some steps."""
    params = [rand(30, 40), rand(20, 40), rand(7)]
    views = [p.detach() for p in params]  # in the same memory
    optimizer = make(params)
    for i in range(24):
        for p in params:
            p.grad = (p.detach() * 2 + i).cos()
        if i == 15:
            optimizer.param_groups[0]["lr"] = 0.01
        optimizer.step()
    for view, p in zip(views, params, strict=True):
        np.testing.assert_array_equal(view.numpy(), p.detach().numpy())
    state = [t for p in params for t in optimizer.state[p].values() if isinstance(t, dg.Tensor)]
    return [t.detach().numpy() for t in (*params, *state)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str, accelerator: Accelerator) -> None:
    with native.flags(enabled=False):
        want = trained(OPTIMIZERS[name])
    found = trained(OPTIMIZERS[name])
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    runs = [run for key, run in accelerator._runs.items() if key[1] is None]
    assert [run is not None for run in runs] == [True, True]


def test_several_threads(accelerator: Accelerator) -> None:
    x = rand(64, 100).detach()
    want = F.softmax(x, dim=1).numpy()
    barrier = threading.Barrier(4)

    def work(_: int) -> None:
        barrier.wait()
        for _ in range(60):
            np.testing.assert_array_equal(F.softmax(x, dim=1).numpy(), want)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


PROGRAM = """
import dualgraph as dg, dualgraph.nn.functional as F
from dualgraph_compiler.ops.base import REGISTRY
F.gelu(dg.randn(200, 200))
accelerator = REGISTRY["gelu"].accelerator
print(accelerator and [run is not None for run in accelerator._runs.values()])
"""


@pytest.mark.parametrize(
    ("execution", "compiler", "printed"),
    [
        ("", "", "[True]"),
        ("interpreter", "", "None"),
        ("auto", "", "[True]"),
        ("native", "none", "[False]"),
    ],
)
def test_the_variable(execution: str, compiler: str, printed: str) -> None:
    env = {**os.environ, "DUALGRAPH_EXECUTION": execution}
    if compiler:
        env["DUALGRAPH_CC"] = compiler
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == printed
