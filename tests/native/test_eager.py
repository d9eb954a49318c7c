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
from dualgraph_compiler.errors import DualGraphError, ShapeError
from dualgraph_compiler.ops.base import REGISTRY
from dualgraph_runtime.native import eager
from dualgraph_runtime.native.eager import Accelerator

pytestmark = pytest.mark.compiler


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    """Programs are built for everything, and always chosen."""
    monkeypatch.setattr(eager, "_WORTH", 0)
    monkeypatch.setattr(eager, "_CLEARLY", 1e9)
    before = {op: op.accelerator for op in REGISTRY.values()}
    yield eager.accelerate()
    for op, found in before.items():
        op.accelerator = found


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
def test_results(name: str, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    programs = []
    for n in (5, 7, 9):
        with monkeypatch.context() as m:
            for op in REGISTRY.values():
                m.setattr(op, "accelerator", None)
            want = values_of(case, n)
        for _ in range(12):
            found = values_of(case, n)
            for a, b in zip(found, want, strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5 * max(1, np.abs(b).max()))
            accelerator.wait()
        programs.append(sum(len(f.programs) for f in accelerator._families.values()))
    chosen = sum(c is not None and c.run is not None for c in accelerator._choices.values())
    assert chosen >= 6  # forward and backward, of each of the sizes
    assert programs[1] == programs[2]  # what is built for the second size serves any batch


def test_small_operands_are_not_looked_up(accelerator: Accelerator) -> None:
    for _ in range(5):
        F.softmax(rand(4, 4), dim=1).sum().backward()
    assert not accelerator._choices


def test_what_is_faster_by_numpy_stays_there(
    accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager, "_CLEARLY", 0.0)
    x = rand(40, 40)
    for _ in range(12):
        F.gelu(x)
        accelerator.wait()
    assert [*accelerator._choices.values()] == [None]


def test_operands_that_are_refused(accelerator: Accelerator) -> None:
    for _ in range(5):
        with pytest.raises(ShapeError, match="linear"):
            F.linear(rand(30, 30), rand(30, 31))
        with pytest.raises(DualGraphError, match="out of bounds for 20"):
            F.cross_entropy(rand(64, 20), classes(64) + 20)
        accelerator.wait()


def test_gradients_of_gradients(accelerator: Accelerator) -> None:
    x = rand(40, 40)
    for _ in range(10):
        (g,) = dg.autograd.grad(F.gelu(x).sum(), x, create_graph=True)
        (second,) = dg.autograd.grad(g.sum(), x)
        accelerator.wait()
    a = x.detach().numpy().astype(np.float64)
    want = np.exp(-a * a / 2) / np.sqrt(2 * np.pi) * (2 - a * a)
    np.testing.assert_allclose(second.numpy(), want, atol=1e-5)


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: dg.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam": lambda p: dg.optim.Adam(p, 0.1, amsgrad=True),
    "adamw": lambda p: dg.optim.AdamW(p, 0.1),
    "rmsprop": lambda p: dg.optim.RMSprop(p, 0.1, momentum=0.5, centered=True),
    "adagrad": lambda p: dg.optim.Adagrad(p, 0.1, lr_decay=0.01),
}


def trained(make: Callable[[Any], Any], between: Callable[[], None]) -> list[Any]:
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
        between()
    for view, p in zip(views, params, strict=True):
        np.testing.assert_array_equal(view.numpy(), p.detach().numpy())
    state = [t for p in params for t in optimizer.state[p].values() if isinstance(t, dg.Tensor)]
    return [t.detach().numpy() for t in (*params, *state)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as m:
        for op in REGISTRY.values():
            m.setattr(op, "accelerator", None)
        want = trained(OPTIMIZERS[name], lambda: None)
    found = trained(OPTIMIZERS[name], accelerator.wait)
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    choices = {k: c for k, c in accelerator._choices.items() if k[1] is None}
    assert [c is not None and c.run is not None for c in choices.values()] == [True, True]


def test_several_threads(accelerator: Accelerator) -> None:
    x = rand(64, 100).detach()
    want = F.softmax(x, dim=1).numpy()
    barrier = threading.Barrier(4)

    def work(_: int) -> None:
        barrier.wait()
        for i in range(60):
            np.testing.assert_allclose(F.softmax(x, dim=1).numpy(), want, rtol=1e-5)
            if i == 20:
                accelerator.wait()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


PROGRAM = """
import dualgraph as dg, dualgraph.nn.functional as F
from dualgraph_compiler.ops.base import REGISTRY
accelerator = REGISTRY["gelu"].accelerator
x = dg.randn(200, 200)
for _ in range(20):
    F.gelu(x)
    if accelerator is not None:
        accelerator.wait()
choices = None if accelerator is None else accelerator._choices.values()
print(choices if choices is None else [c and c.run is not None for c in choices])
"""


@pytest.mark.parametrize(
    ("execution", "compiler", "printed"),
    [
        ("", "", "None"),
        ("interpreter", "", "None"),
        ("auto", "", "[True]"),
        ("native", "none", "[None]"),
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
