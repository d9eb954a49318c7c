"""``autograd.functional`` and ``autograd.forward_ad`` against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph.autograd import forward_ad as fw

from ..func.test_func import same

torch: Any = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

RNG = np.random.default_rng(0)
X, Y, M = RNG.normal(size=3), RNG.normal(size=3), RNG.normal(size=(2, 3))


def two(x: Any, y: Any) -> Any:
    return x * y.sin(), (x**2).sum() * y


def one(x: Any) -> Any:
    return (x.sin() * x.exp()).sum() * x.prod()


def pair(x: Any, y: Any) -> Any:
    return (x * y * y).sum() + (x**3).sum()


CASES: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "jacobian": lambda f, x, y, m: f.jacobian(lambda x: m @ x.sin(), x),
    "jacobian of several": lambda f, x, y, m: f.jacobian(two, (x, y)),
    "jacobian in a batch": lambda f, x, y, m: f.jacobian(two, (x, y), vectorize=True),
    "jacobian by tangents": lambda f, x, y, m: f.jacobian(
        two, (x, y), vectorize=True, strategy="forward-mode"
    ),
    "jacobian of a constant": lambda f, x, y, m: f.jacobian(lambda x, y: x * 2, (x, y)),
    "hessian": lambda f, x, y, m: f.hessian(one, x),
    "hessian of several": lambda f, x, y, m: f.hessian(pair, (x, y)),
    "hessian in a batch": lambda f, x, y, m: f.hessian(pair, (x, y), vectorize=True),
    "hessian by tangents": lambda f, x, y, m: f.hessian(
        pair, (x, y), vectorize=True, outer_jacobian_strategy="forward-mode"
    ),
    "vjp": lambda f, x, y, m: f.vjp(two, (x, y), (y, x)),
    "vjp of one": lambda f, x, y, m: f.vjp(one, x),
    "jvp": lambda f, x, y, m: f.jvp(two, (x, y), (y, x)),
    "vhp": lambda f, x, y, m: f.vhp(pair, (x, y), (y, x)),
    "hvp": lambda f, x, y, m: f.hvp(one, x, y),
}


@pytest.mark.parametrize("name", CASES)
def test_as_torch(name: str) -> None:
    ours = CASES[name](dg.autograd.functional, dg.tensor(X), dg.tensor(Y), dg.tensor(M))
    tensors = (torch.tensor(X), torch.tensor(Y), torch.tensor(M))
    same(ours, CASES[name](torch.autograd.functional, *tensors))


@pytest.mark.parametrize("name", ["jacobian", "hessian", "vjp of one", "jvp", "hvp", "vhp"])
def test_results_can_be_differentiated(name: str) -> None:
    def total(library: Any, f: Any, x: Any) -> Any:
        y = library.tensor(Y)
        found = {
            "jacobian": lambda: f.jacobian(lambda x: x.sin() * x.sum(), x, create_graph=True),
            "hessian": lambda: f.hessian(one, x, create_graph=True),
            "vjp of one": lambda: f.vjp(one, x, create_graph=True)[1],
            "jvp": lambda: f.jvp(lambda x: x.sin() * x.sum(), x, y, create_graph=True)[1],
            "hvp": lambda: f.hvp(one, x, y, create_graph=True)[1],
            "vhp": lambda: f.vhp(one, x, y, create_graph=True)[1],
        }[name]()
        (found**2).sum().backward()
        return x.grad

    a, b = dg.tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    same(total(dg, dg.autograd.functional, a), total(torch, torch.autograd.functional, b))


def test_strict() -> None:
    f, x, y = dg.autograd.functional, dg.tensor(X), dg.tensor(Y)
    with pytest.raises(RuntimeError, match="does not require gradients"):
        f.jacobian(lambda x: dg.ones(2), x, strict=True)
    with pytest.raises(RuntimeError, match="independent of input 1"):
        f.jacobian(lambda x, y: x * 2, (x, y), strict=True)
    with pytest.raises(RuntimeError, match="v can only be None"):
        f.vjp(lambda x: x * 2, x)
    with pytest.raises(RuntimeError, match="single element"):
        f.hessian(lambda x: x * 2, x)
    with pytest.raises(TypeError, match="inputs given to jacobian"):
        f.jacobian(lambda x: x, 3.0)
    assert not f.jacobian(lambda x: x * 2, x).requires_grad


# -- forward mode ---------------------------------------------------------------------------------


def test_duals_carry_tangents() -> None:
    x, v = dg.tensor(X), dg.tensor(Y)
    with fw.dual_level():
        dual = fw.make_dual(x, v)
        value, tangent = fw.unpack_dual(dual.sin() * dual.sum())
        np.testing.assert_allclose(value, np.sin(X) * X.sum())
        np.testing.assert_allclose(tangent, np.cos(X) * Y * X.sum() + np.sin(X) * Y.sum())
        assert fw.unpack_dual(x).tangent is None
        assert fw.unpack_dual(dual.detach()).tangent is None
    assert fw.unpack_dual(dual).tangent is None
    np.testing.assert_allclose((dual * 2).numpy(), X * 2)


def test_tangents_are_differentiable() -> None:
    x, v = dg.tensor(X, requires_grad=True), dg.tensor(Y)
    with fw.dual_level():
        tangent = fw.unpack_dual(one(fw.make_dual(x, v))).tangent
        tangent.backward()
    a = torch.tensor(X)
    want = torch.autograd.functional.hvp(one, a, torch.tensor(Y))[1]
    np.testing.assert_allclose(x.grad, want, rtol=1e-9)


def test_gradients_have_tangents() -> None:
    x, v = dg.tensor(X, requires_grad=True), dg.tensor(Y)
    with fw.dual_level():
        one(fw.make_dual(x, v)).backward()
        value, tangent = fw.unpack_dual(x.grad)
        value, tangent = value.detach(), tangent.detach()
    want = torch.autograd.functional.hvp(one, torch.tensor(X), torch.tensor(Y))[1]
    np.testing.assert_allclose(tangent, want, rtol=1e-9)
    slope = torch.autograd.functional.jacobian(one, torch.tensor(X))
    np.testing.assert_allclose(value, slope, rtol=1e-9)


def test_duals_of_parameters() -> None:
    model, x = nn.Linear(3, 2), dg.ones(4, 3)
    directions = {name: dg.rand_like(p) for name, p in model.named_parameters()}
    with fw.dual_level():
        for name, p in list(model.named_parameters()):
            delattr(model, name)
            setattr(model, name, fw.make_dual(p, directions[name]))
        tangent = fw.unpack_dual(model(x)).tangent
    want = x @ directions["weight"].T + directions["bias"]
    np.testing.assert_allclose(tangent.detach(), want.detach(), rtol=1e-5)


def test_in_place_and_mixed_operands() -> None:
    x, v = dg.tensor(X), dg.tensor(Y)
    with fw.dual_level():
        out = dg.zeros(3, dtype=dg.float64)
        out[1:] = fw.make_dual(x, v)[1:] * 2
        out.add_(1)
        tangent = fw.unpack_dual(out).tangent
        np.testing.assert_allclose(tangent, [0, *(2 * Y[1:])])


def test_levels() -> None:
    x = dg.tensor(X)
    with pytest.raises(RuntimeError, match="no level exists"):
        fw.make_dual(x, x)
    with pytest.raises(RuntimeError, match="exit a forward AD level"):
        fw.exit_dual_level()
    with fw.dual_level():
        with pytest.raises(RuntimeError, match="Nested forward mode"):
            fw.enter_dual_level()
        with pytest.raises(ValueError, match="same size"):
            fw.make_dual(x, x[:2])
        with pytest.raises(TypeError, match="dtype"):
            fw.make_dual(x, x.float())


# -- custom functions -----------------------------------------------------------------------------


class Cube(dg.autograd.Function):
    """x**3 with a gradient that is wrong on purpose: whoever uses it must give 2 x**2."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * 2 * x * x


class Scaled(dg.autograd.Function):
    """Everything by hand."""

    calls: list[str] = []

    @staticmethod
    def forward(x: Any, factor: float) -> Any:
        return x * factor

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.factor, None

    @staticmethod
    def jvp(ctx: Any, x: Any, _: Any) -> Any:
        Scaled.calls.append("jvp")
        return x * ctx.factor

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, factor: float) -> Any:
        Scaled.calls.append(f"vmap {info.batch_size} {in_dims}")
        return Scaled.apply(x, factor), in_dims[0]


def test_custom_rules_are_used_at_every_level() -> None:
    x = dg.tensor(X)
    want = 2 * X * X
    np.testing.assert_allclose(dg.func.grad(lambda x: Cube.apply(x).sum())(x), want)
    np.testing.assert_allclose(dg.vmap(Cube.apply)(x), X**3)
    np.testing.assert_allclose(dg.vmap(dg.func.grad(Cube.apply))(x), want)
    mapped = dg.func.grad(lambda x: dg.vmap(Cube.apply)(x).sum())
    np.testing.assert_allclose(mapped(x), want)
    np.testing.assert_allclose(dg.func.jvp(Cube.apply, (x,), (dg.ones_like(x),))[1], want)
    forward = dg.func.jacfwd(lambda x: Cube.apply(x).sum())
    np.testing.assert_allclose(forward(x), want)
    np.testing.assert_allclose(dg.func.hessian(lambda x: Cube.apply(x).sum())(x), np.diag(4 * X))


def test_rules_of_the_class() -> None:
    x = dg.tensor(X)
    Scaled.calls.clear()
    np.testing.assert_allclose(dg.func.jvp(lambda x: Scaled.apply(x, 3.0), (x,), (x,))[1], 3 * X)
    assert Scaled.calls == ["jvp"]
    np.testing.assert_allclose(dg.vmap(lambda x: Scaled.apply(x, 3.0))(x), 3 * X)
    assert Scaled.calls[1:] == ["vmap 3 (0, None)"]
    np.testing.assert_allclose(
        dg.func.grad(lambda x: Scaled.apply(x, 3.0).sum())(x), 3 * np.ones(3)
    )
