"""The tape and its backward pass: what PyTorch promises, against PyTorch where it computes."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph.autograd import Function, grad
from dualgraph_compiler.errors import AutogradError

from .parity import array, compare, torch


def leaf(*shape: int, seed: int = 0) -> Any:
    return dg.from_numpy(array(*shape, seed=seed)).requires_grad_()


# -- backward -------------------------------------------------------------------------------------


def test_accumulation() -> None:
    x = leaf(3)
    for i in range(1, 4):
        (x * 2).sum().backward()
        assert x.grad.tolist() == [2.0 * i] * 3
    x.grad = None
    (x.sum() + (x * x).sum()).backward()
    np.testing.assert_allclose(x.grad.numpy(), 1 + 2 * x.detach().numpy())


def test_shared_subexpressions() -> None:
    def run(s):
        x = s.tensor(array(3, 4))
        y = x * x
        z = y + y.T.reshape(3, 4)
        return (z * y).sum(0), y.mean()

    compare(run, "diamond")


def test_deep_chains() -> None:
    x = leaf(2)
    y = x
    for _ in range(5000):
        y = y + 1
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]
    del y


def test_gradient_argument() -> None:
    x = leaf(3)
    y = x * 2
    with pytest.raises(RuntimeError, match="scalar outputs"):
        y.backward()
    y.backward(dg.tensor([1.0, 2.0, 3.0], dtype=dg.float64))
    assert x.grad.tolist() == [2, 4, 6]
    with pytest.raises(RuntimeError, match="shape"):
        (x * 2).backward(dg.ones(2, dtype=dg.float64))


def test_what_cannot_be_differentiated() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        dg.ones(3).sum().backward()
    with pytest.raises(RuntimeError, match="floating point"):
        dg.ones(3, dtype=dg.int64).requires_grad_()
    x = leaf(3)
    assert not x.argmax().requires_grad
    assert not (x > 0).requires_grad
    assert not x.to(dg.int64).requires_grad


def test_retain_graph() -> None:
    x = leaf(3)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 4 * x.detach().numpy())
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_inputs_argument() -> None:
    x, y = leaf(2), leaf(2, seed=1)
    (x * y).sum().backward(inputs=[x])
    assert x.grad is not None
    assert y.grad is None


def test_several_roots() -> None:
    x = leaf(2)
    dg.autograd.backward([(x * 2).sum(), (x * 3).sum()])
    assert x.grad.tolist() == [5, 5]
    dg.autograd.backward(
        [x * 2, x * 3], [dg.ones(2, dtype=dg.float64), dg.zeros(2, dtype=dg.float64)]
    )
    assert x.grad.tolist() == [7, 7]


def test_the_gradient_of_a_leaf_root() -> None:
    x = dg.tensor(2.0, requires_grad=True)
    x.backward()
    assert x.grad.item() == 1


def test_gradients_have_memory_of_their_own() -> None:
    x, y = leaf(3), leaf(3, seed=1)
    (x + y).sum().backward()
    x.grad.zero_()
    assert y.grad.tolist() == [1, 1, 1]
    g = dg.ones(3, dtype=dg.float64)
    x.grad = y.grad = None
    (x + y).backward(g)
    x.grad += 1
    assert y.grad.tolist() == [1, 1, 1]
    assert g.tolist() == [1, 1, 1]


def test_broadcast_gradients() -> None:
    a, b, c = array(3, 1), array(2, 1, 4), array(1)
    compare(lambda s: s.tensor(a) * s.tensor(b) + s.tensor(c), "broadcast")


def test_gradient_dtypes() -> None:
    a, b, c = array(3, dtype=np.float32), array(3), array(3, dtype=np.float16)
    compare(lambda s: s.tensor(a) * s.tensor(b) + s.tensor(c), "mixed dtypes", scale=100)


# -- grad() ---------------------------------------------------------------------------------------


def test_grad() -> None:
    x, y = leaf(3), leaf(3, seed=1)
    z = (x * y).sum()
    gx, gy = grad(z, [x, y])
    assert dg.equal(gx, y.detach())
    assert dg.equal(gy, x.detach())
    assert x.grad is None
    assert not gx.requires_grad


def test_grad_of_intermediate_values() -> None:
    x = leaf(3)
    y = x * 2
    z = (y * y).sum()
    (gy,) = grad(z, y, retain_graph=True)
    np.testing.assert_allclose(gy.numpy(), 2 * y.detach().numpy())
    gx, gy = grad(z, (x, y))
    np.testing.assert_allclose(gx.numpy(), 2 * gy.numpy())


def test_unused_inputs() -> None:
    x, y = leaf(3), leaf(3)
    with pytest.raises(RuntimeError, match="not have been used"):
        grad((x * 2).sum(), [x, y])
    assert grad((x * 2).sum(), [x, y], allow_unused=True)[1] is None
    assert grad((x * 2).sum(), [x, y], materialize_grads=True)[1].tolist() == [0, 0, 0]
    with pytest.raises(RuntimeError, match="does not require grad"):
        grad((x * 2).sum(), dg.ones(3))


def test_grad_outputs() -> None:
    x = leaf(3)
    (g,) = grad(x * 3, x, grad_outputs=dg.tensor([1.0, 0.0, 2.0], dtype=dg.float64))
    assert g.tolist() == [3, 0, 6]


# -- higher derivatives ---------------------------------------------------------------------------

FUNCTIONS = {
    "exp": lambda m, x: m.exp(x),
    "log": lambda m, x: m.log(x.abs() + 1),
    "pow": lambda m, x: x**3,
    "div": lambda m, x: 1 / (x * x + 1),
    "tanh": lambda m, x: m.tanh(x),
    "sigmoid": lambda m, x: m.sigmoid(x),
    "softmax": lambda m, x: m.softmax(x, 1),
    "log_softmax": lambda m, x: m.log_softmax(x, 1),
    "matmul": lambda m, x: m.matmul(x, x.T) @ x,
    "prod": lambda m, x: x.prod(1),
    "std": lambda m, x: x.std(1),
    "norm": lambda m, x: x.norm(dim=1),
    "index": lambda m, x: (x[:, 1:] * x[1]) ** 2 if x.shape[1] == 1 else x[1:] ** 3 * x[:1],
    "cat": lambda m, x: m.cat([x, x * x]) ** 2,
    "where": lambda m, x: m.where(x > 0, x**3, x**2),
    "cumsum": lambda m, x: x.cumsum(0) ** 3,
    "max": lambda m, x: x.max(1).values ** 3,
    "logsumexp": lambda m, x: m.logsumexp(x, 0),
    "einsum": lambda m, x: m.einsum("ij,kj,ij->ik", x, x, x),
    "var": lambda m, x: x.var(0) ** 2,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives(name: str) -> None:
    f = FUNCTIONS[name]

    def run(s):
        x = s.tensor(array(3, 4))
        y = f(s.module, x)
        (g,) = s.module.autograd.grad(y.sum(), x, create_graph=True)
        return (g * g).sum() if g.requires_grad else y

    compare(run, name, scale=10)


def test_third_derivatives() -> None:
    x = dg.tensor(1.5, dtype=dg.float64, requires_grad=True)
    y = x**5
    for factor, power in ((5, 4), (20, 3), (60, 2)):
        (y,) = grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(factor * 1.5**power)


def test_create_graph_in_backward() -> None:
    x = leaf(3)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    (g,) = grad(x.grad.sum(), x)
    np.testing.assert_allclose(g.numpy(), 6 * x.detach().numpy())


def test_gradient_penalty() -> None:
    def run(s):
        x, w = s.tensor(array(4, 3)), s.tensor(array(3, 1, seed=1))
        out = s.module.tanh(x @ w)
        (g,) = s.module.autograd.grad(out.sum(), x, create_graph=True)
        return ((g.norm(dim=1) - 1) ** 2).mean()

    compare(run, "gradient penalty")


# -- grad mode ------------------------------------------------------------------------------------


def test_no_grad() -> None:
    x = leaf(3)
    with dg.no_grad():
        assert not dg.is_grad_enabled()
        assert not (x * 2).requires_grad
        with dg.enable_grad():
            assert (x * 2).requires_grad
    assert (x * 2).requires_grad

    @dg.no_grad()
    def f(t: Any) -> Any:
        return t * 2

    assert not f(x).requires_grad
    with dg.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    with dg.inference_mode():
        assert not (x * 2).requires_grad
    dg.set_grad_enabled(False)
    assert not dg.is_grad_enabled()
    dg.set_grad_enabled(True)


def test_grad_mode_survives_exceptions_and_threads() -> None:
    with pytest.raises(ZeroDivisionError), dg.no_grad():
        1 / 0  # noqa: B018
    assert dg.is_grad_enabled()
    seen = []
    with dg.no_grad():
        thread = threading.Thread(target=lambda: seen.append(dg.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_detach() -> None:
    x = leaf(3)
    y = (x * 2).detach()
    assert not y.requires_grad
    z = x.detach()
    assert z.data_ptr() == x.data_ptr()
    assert z.is_leaf
    w = x * 2
    w.detach_()
    assert w.grad_fn is None


# -- leaves, hooks, .grad -------------------------------------------------------------------------


def test_leaves() -> None:
    x = leaf(3)
    y = x * 2
    assert x.is_leaf
    assert not y.is_leaf
    assert x.grad_fn is None
    assert y.grad_fn.name == "MulBackward0"
    assert y.grad_fn.next_functions[0][0] is not None
    with pytest.raises(RuntimeError, match="leaf"):
        y.requires_grad_(False)
    assert dg.ones(2).is_leaf


def test_grad_of_a_non_leaf_warns() -> None:
    y = leaf(3) * 2
    with pytest.warns(UserWarning, match="non-leaf|not a leaf"):
        assert y.grad is None


def test_retain_grad() -> None:
    x = leaf(3)
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(y.grad.numpy(), 2 * y.detach().numpy())
    x.retain_grad()
    with pytest.raises(RuntimeError):
        dg.ones(2).retain_grad()


def test_assigning_grad() -> None:
    x = leaf(3)
    x.grad = dg.ones(3, dtype=dg.float64)
    with pytest.raises(RuntimeError):
        x.grad = dg.ones(2, dtype=dg.float64)
    with pytest.raises(RuntimeError):
        x.grad = dg.ones(3, dtype=dg.float32)
    x.grad = None
    assert x.grad is None


def test_hooks() -> None:
    x = leaf(3)
    seen: list[Any] = []
    handle = x.register_hook(seen.append)
    y = x * 2
    y.register_hook(lambda g: g * 10)
    y.sum().backward()
    assert x.grad.tolist() == [20, 20, 20]
    assert seen[0].tolist() == [20, 20, 20]
    handle.remove()
    (x * 2).sum().backward()
    assert len(seen) == 1
    x.grad = None
    with x.register_hook(lambda g: g * 0):
        (x * 2).sum().backward()
    assert x.grad.tolist() == [0, 0, 0]
    with pytest.raises(RuntimeError):
        dg.ones(2).register_hook(print)


def test_a_leaf_hook_sees_the_sum() -> None:
    x = leaf(2)
    seen: list[Any] = []
    x.register_hook(lambda g: seen.append(g.tolist()))
    (x + x * 3).sum().backward()
    assert seen == [[4, 4]]


def test_post_accumulate_hooks() -> None:
    x = leaf(2)
    seen: list[Any] = []
    x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.tolist()))
    (x * 3).sum().backward()
    assert seen == [[3, 3]]
    with pytest.raises(RuntimeError):
        (x * 2).register_post_accumulate_grad_hook(print)


# -- in place -------------------------------------------------------------------------------------


def test_leaves_are_protected() -> None:
    x = leaf(3)
    for write in (
        lambda: x.add_(1),
        lambda: x.zero_(),
        lambda: x[0].fill_(1),
        lambda: x.__setitem__(0, 1),
    ):
        with pytest.raises(RuntimeError, match="leaf"):
            write()
    with dg.no_grad():
        x.add_(1)
    assert x.is_leaf
    assert x.requires_grad


def test_stale_values_are_an_error() -> None:
    x = leaf(3)
    y = x * 1
    z = y.exp()
    z.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    y = x * 1
    z = y * y
    y[0] = 3
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    y = x * 1
    z = y + 1  # saves nothing
    y.zero_()
    z.sum().backward()


IN_PLACE = {
    "chain": lambda s, x: (x * 2).add_(1).mul_(x).exp_().sin(),
    "row": lambda s, x: _write(x * 2, lambda y: y[0].mul_(3)),
    "column slice": lambda s, x: _write(x * 2, lambda y: y[:, 1:3].add_(x[:, :2])),
    "view of view": lambda s, x: _write(x * 2, lambda y: y.T[1:3][0].mul_(4)),
    "reshape": lambda s, x: _write(x * 2, lambda y: y.view(-1)[2:5].zero_()),
    "setitem": lambda s, x: _write(x * 2, lambda y: y.__setitem__((0, 1), 5.0)),
    "setitem tensor": lambda s, x: _write(x * 2, lambda y: y.__setitem__(0, x[1] * 3)),
    "setitem mask": lambda s, x: _write(x * 2, lambda y: y.__setitem__(y > 1, 0.5)),
    "diagonal": lambda s, x: _write(x * 2, lambda y: y.diagonal().mul_(3)),
    "constant base": lambda s, x: _write(
        s.module.zeros(3, 4, dtype=x.dtype), lambda y: y[1].add_(x[0])
    ),
    "zero": lambda s, x: _write(x * 2, lambda y: y[1].zero_()),
    "fill": lambda s, x: _write(x * 2, lambda y: y.fill_(3)),
    "copy": lambda s, x: _write(x * 2, lambda y: y[0].copy_(x[2])),
    "unsqueeze": lambda s, x: _write(x * 2, lambda y: y.unsqueeze(0)[0, 1].sub_(1)),
    "iadd": lambda s, x: _write(x * 2, lambda y: y.__iadd__(x)),
}


def _write(y: Any, write: Any) -> Any:
    write(y)
    return y * 1


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_gradients(name: str) -> None:
    compare(lambda s: IN_PLACE[name](s, s.tensor(array(3, 4))), name)


def test_factors_that_nothing_needs_are_not_watched() -> None:
    def run(s):
        x, w = s.tensor(array(3, 4)), s.make(array(4, 2, seed=1), False)
        y = x * 2
        z, u = y * 3, y @ w
        y.add_(1)
        return z, u, y * 1

    compare(run, "constant factors")


def test_views_follow_their_base() -> None:
    def run(s):
        x = s.tensor(array(3, 4))
        y = x * 2
        row, column = y[0], y[:, 1]
        y.mul_(3)
        first = row * 1
        column.add_(x[:, 0])
        return first, row * 2, column * 1, y * 1

    compare(run, "views and base")


def test_views_of_leaves_see_writes_without_grad() -> None:
    x = leaf(3)
    v = x[1:]
    with dg.no_grad():
        x.fill_(2)
    assert v.tolist() == [2, 2]
    (v * v).sum().backward()
    assert x.grad.tolist() == [0, 4, 4]


def test_detached_views_bump_the_version() -> None:
    x = leaf(3)
    y = x * 1
    z = (y * y).sum()
    y.detach().zero_()
    with pytest.raises(RuntimeError, match="inplace"):
        z.backward()
    assert y._version == 1


def test_data_is_unwatched() -> None:
    x = leaf(3)
    z = (x * x).sum()
    x.data.mul_(0)
    z.backward()
    assert x.grad.tolist() == [0, 0, 0]


def test_writing_to_an_expanded_tensor_is_refused() -> None:
    x = dg.zeros(1, 3).expand(2, 3)
    with pytest.raises(RuntimeError, match="clone"):
        x.add_(1)


# -- custom functions -----------------------------------------------------------------------------


class Cube(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * 3 * x**2


class Split(Function):
    @staticmethod
    def forward(ctx: Any, x: Any, scale: float) -> Any:
        ctx.scale = scale
        return x * scale, x + scale

    @staticmethod
    def backward(ctx: Any, g1: Any, g2: Any) -> Any:
        return g1 * ctx.scale + g2, None


def test_custom_functions() -> None:
    x = leaf(3)
    y = Cube.apply(x)
    assert y.grad_fn.name == "CubeBackward"
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * x.detach().numpy() ** 2)
    assert not Cube.apply(dg.ones(2)).requires_grad


def test_custom_functions_differentiate_twice() -> None:
    x = leaf(3)
    (g,) = grad(Cube.apply(x).sum(), x, create_graph=True)
    (gg,) = grad(g.sum(), x)
    np.testing.assert_allclose(gg.numpy(), 6 * x.detach().numpy())


def test_custom_functions_with_several_outputs() -> None:
    x = leaf(3)
    a, b = Split.apply(x, 3.0)
    (a * 2 + b).sum().backward()
    assert x.grad.tolist() == [7, 7, 7]
    x.grad = None
    a, _ = Split.apply(x, 3.0)  # the other output's gradient arrives as zeros
    a.sum().backward()
    assert x.grad.tolist() == [3, 3, 3]


def test_custom_functions_watch_versions() -> None:
    x = leaf(3)
    y = x * 1
    z = Cube.apply(y)
    y.zero_()
    with pytest.raises(RuntimeError, match="inplace"):
        z.sum().backward()


def test_custom_functions_count_their_gradients() -> None:
    class Bad(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, y: Any) -> Any:
            return x + y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    with pytest.raises(RuntimeError, match="number of gradients"):
        Bad.apply(leaf(2), leaf(2)).sum().backward()


# -- copies ---------------------------------------------------------------------------------------


def test_deepcopy() -> None:
    x = leaf(3)
    (x * 2).sum().backward()
    y = copy.deepcopy(x)
    assert y.requires_grad
    assert y.is_leaf
    assert dg.equal(y.detach(), x.detach())
    assert y.data_ptr() != x.data_ptr()
    assert y.grad.tolist() == [2, 2, 2]
    with pytest.raises(RuntimeError):
        copy.deepcopy(x * 2)
    pair = copy.deepcopy([x, x])
    assert pair[0] is pair[1]


def test_pickling() -> None:
    x = leaf(3)
    y = pickle.loads(pickle.dumps(x))
    assert y.requires_grad
    assert dg.equal(y.detach(), x.detach())
    b = dg.ones(2, dtype=dg.bfloat16)
    assert pickle.loads(pickle.dumps(b)).dtype is dg.bfloat16
    assert pickle.loads(pickle.dumps(dg.float32)) is dg.float32


def test_nothing_leaks() -> None:
    import gc
    import weakref

    x = leaf(3)
    y = (x * 2).exp()
    gone = weakref.ref(y._fn)
    y.sum().backward()
    del y
    gc.collect()
    assert gone() is None


def test_threads_have_tapes_of_their_own() -> None:
    x = leaf(50)

    def work() -> None:
        for _ in range(20):
            (x * 2).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert x.grad[0].item() == 160


def test_against_pytorch_on_a_network() -> None:
    def run(s):
        m = s.module
        x, w1, b1 = s.tensor(array(5, 8)), s.tensor(array(8, 16)), s.tensor(array(16))
        w2 = s.tensor(array(16, 3))
        h = m.relu(x @ w1 + b1)
        h = h / (h.norm(dim=1, keepdim=True) + 1e-3)
        logits = h @ w2
        return -(m.log_softmax(logits, 1)[m.arange(5), m.tensor([0, 2, 1, 1, 0])]).mean()

    compare(run, "network")
    assert torch is not None


def test_grad_by_nothing_is_refused() -> None:
    with pytest.raises(AutogradError, match="got none"):
        dg.autograd.grad(dg.ones(1, requires_grad=True).sum(), [], allow_unused=True)


def test_retained_gradients_are_those_that_hooks_leave() -> None:
    x = dg.ones(2, requires_grad=True)
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 3)
    y.register_hook(lambda g: g + 1)
    (y**2).sum().backward()
    assert y.grad.tolist() == [13, 13]
    assert x.grad.tolist() == [26, 26]
