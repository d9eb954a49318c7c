"""Compiled functions with strict numerics: eager bits, whatever lies how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim

pytestmark = [pytest.mark.compiler, pytest.mark.interpreted]


def strict(function: Any, **options: Any) -> Any:
    return dg.compile(function, numerics="strict", execution="native", **options)


def same(found: Any, wanted: Any) -> None:
    """Values, zeros' signs and how they lie in memory."""
    pairs = zip(found, wanted, strict=True) if isinstance(wanted, tuple) else [(found, wanted)]
    for a, b in pairs:
        x, y = a.detach().numpy(), b.detach().numpy()
        assert x.tobytes() == y.tobytes()
        assert x.strides == y.strides


def is_compiled(fast: Any) -> bool:
    return bool(fast.wait())


def attend(x: Any) -> Any:
    """Heads that lie across, as operands of products and sums."""
    q = x.reshape(2, 5, 3, 4).permute(0, 2, 1, 3) * 0.5
    return (q @ q.transpose(2, 3)).sum(-1), q + 1, q.sum((0, 2))


def test_values_lie_as_in_eager_code() -> None:
    """Products and sums of what lies across are those of eager code, as are results."""
    fast = strict(attend)
    for _ in range(3):
        x = dg.randn(2, 5, 12)
        same(fast(x), attend(x))
    assert is_compiled(fast)
    assert "does not lie in C order" in str(fast.report())


def test_arguments_across() -> None:
    """Arguments that do not lie in C order are served, too."""

    def f(x: Any) -> Any:
        y = F.relu(x * 2 - 1)
        return y, y.sum(0), (y / 3).sum()

    fast = strict(f)
    for _ in range(3):
        x = dg.randn(40, 30)
        for given in (x, x.t().contiguous().t(), x[::2, ::3]):
            same(fast(given), f(given))
    assert is_compiled(fast)


def test_sizes_decide_how_values_lie() -> None:
    """A graph for any sizes: of size 1, what lies across is in C order."""

    def f(x: Any, y: Any) -> Any:
        z = x.t() + y
        return z, z.sum(0), z.sum(1)

    fast = strict(f, dynamic_shapes={"x": {0: "n", 1: "m"}, "y": {0: "m", 1: "n"}})
    for n, m in [(5, 7), (5, 7), (1, 7), (1, 7), (9, 1), (64, 33), (64, 33)]:
        x, y = dg.randn(n, m), dg.randn(m, n)
        same(fast(x, y), f(x, y))


def test_zeros_and_nan() -> None:
    def f(x: Any, y: Any) -> Any:
        return F.relu(x), dg.maximum(x, y), dg.minimum(x, y), x.clamp(0, 1), -F.relu(-x), x.sign()

    fast = strict(f)
    numbers = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0], np.float32)
    pairs = np.array(np.meshgrid(numbers, numbers), np.float32).reshape(2, -1)
    for _ in range(3):
        x, y = (dg.tensor(np.tile(p, 5)) for p in pairs)
        same(fast(x, y), f(x, y))
    assert is_compiled(fast)
    assert "interpreted node" not in str(fast.report())


def test_gradients_of_a_shared_view() -> None:
    """Results that show intermediate values keep theirs when memory is used again."""

    def f(x: Any) -> Any:
        y = x.exp() * 2
        z = (y + 1) * y - x
        return y.t(), (z * 3 + x) / 2, y[:, 1:3], z.sum()

    fast = strict(f)
    kept = []
    for _ in range(4):
        x = dg.randn(20, 30, requires_grad=True)
        found, wanted = fast(x), f(x)
        same(found, wanted)
        same(dg.autograd.grad(found[-1], x), dg.autograd.grad(wanted[-1], x))
        kept.append((found[:3], wanted[:3]))
    for found, wanted in kept:
        same(found, wanted)


def normalised(x: Any, w: Any) -> Any:
    """What eager code leaves to kernels, and what it does not."""
    h = F.gelu(F.layer_norm(x @ w, (w.shape[1],)))
    return F.softmax(h, -1) * x.sum(-1, keepdim=True)


def differentiated(f: Any, *operands: Any) -> tuple[Any, ...]:
    y = f(*operands)
    leaves = [t for t in operands if t.requires_grad]
    return (y, *dg.autograd.grad((y * y).sum(), leaves))


@pytest.mark.parametrize("execution", ["native", "interpreter"])
def test_kernels_of_eager_code(execution: str) -> None:
    """The bits of the same kernels; of NumPy, as soon as eager code uses that."""
    fast = dg.compile(normalised, numerics="strict", execution=execution)
    for kernels in (False, False, True, True, False, True):
        x, w = dg.randn(40, 64, requires_grad=True), dg.randn(64, 48, requires_grad=True)
        with dg.backends.native.flags(enabled=kernels):
            found, wanted = (differentiated(f, x, w) for f in (fast, normalised))
        same(found, wanted)
    with dg.backends.native.flags(enabled=False):
        assert found[0].tolist() != normalised(x, w).tolist()  # there is something to tell apart


def test_kernels_of_eager_code_for_sizes() -> None:
    """Sizes decide what is left to kernels: from 512 elements on."""
    fast = strict(normalised, dynamic_shapes={"x": {0: "n"}, "w": None})
    w = dg.randn(64, 48, requires_grad=True)
    with dg.backends.native.flags(enabled=True):
        for n in (3, 3, 40, 9, 40, 3):
            x = dg.randn(n, 64, requires_grad=True)
            same(differentiated(fast, x, w), differentiated(normalised, x, w))


def test_kernels_of_eager_code_in_branches() -> None:
    def f(x: Any, flag: Any) -> Any:
        return dg.cond(flag > 0, lambda x: F.softmax(x, 1) * 3, lambda x: F.gelu(x) + 1, (x,))

    fast = strict(f)
    with dg.backends.native.flags(enabled=True):
        for sign in (1.0, -1.0, 1.0, -1.0):
            x = dg.randn(32, 48, requires_grad=True)
            same(*(differentiated(g, x, dg.tensor(sign)) for g in (fast, f)))


STEPS: dict[str, Any] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True),
    "adam": lambda p: optim.Adam(p, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, lr=1e-2, weight_decay=0.01),
    "rmsprop": lambda p: optim.RMSprop(p, centered=True, momentum=0.9),
    "adagrad": lambda p: optim.Adagrad(p, lr_decay=0.01),
}


def trained(name: str, wrap: Any) -> tuple[list[bytes], Any]:
    """Losses, parameters and state after some steps, and the step."""
    dg.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    optimizer = STEPS[name](model.parameters())

    def step(x: Any, target: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        return loss

    run = wrap(step)
    tensors = [run(dg.randn(8, 20), dg.randint(0, 5, (8,))) for _ in range(12)]
    for p in model.parameters():
        tensors += [p, *(x for x in optimizer.state[p].values() if isinstance(x, dg.Tensor))]
    return [x.detach().numpy().tobytes() for x in tensors], run


@pytest.mark.parametrize("name", STEPS)
def test_steps_of_optimizers(name: str) -> None:
    """Compiled, over the old values, with the bits of the optimizers' own kernels."""
    (found, run), (wanted, _) = (trained(name, wrap) for wrap in (strict, lambda f: f))
    assert found == wanted
    report = str(run.report())
    assert "written over the old value" in report
    assert "_update(" not in report  # all of it is kernels


def test_sums_of_negative_zeros() -> None:
    def f(x: Any) -> Any:
        return dg.cumsum(x, 0), x.sum(1), dg.cumprod(x, 1)

    fast = strict(f)
    x = dg.tensor([[-0.0, -0.0, 1.0], [-0.0, 2.0, -0.0]])
    for _ in range(3):
        same(fast(x), f(x))
