"""``nn.Module.compile`` and ``dg.compiler``, as PyTorch's users expect them."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn
from dualgraph.tracing import CaptureFailure, EagerFallbackWarning


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.compiling: list[bool] = []

    def forward(self, x: Any, scale: float = 1.0) -> Any:
        y = self.linear(x) * scale
        return y + 10 if dg.compiler.is_compiling() else y


def test_a_module_compiles_itself() -> None:
    model = Net()
    x = dg.randn(4, 3)
    eager = model(x).tolist()
    assert model.compile(fullgraph=True) is None
    np.testing.assert_allclose(model(x).tolist(), np.array(eager) + 10, rtol=1e-6)
    np.testing.assert_allclose(model(x, scale=0.0).tolist(), np.full((4, 2), 10.0))
    model.register_forward_hook(lambda m, args, out: out * 0)
    assert model(x).tolist() == [[0.0, 0.0]] * 4
    assert len(model.__dict__["_compiled_call"].graphs) == 3
    assert [*model.state_dict()] == ["linear.weight", "linear.bias"]


def test_a_compiled_module_in_another_one() -> None:
    model = nn.Sequential(Net(), nn.ReLU())
    model[0].compile()
    x = dg.randn(4, 3)
    first = model(x)
    assert (first.detach().numpy() > 5).all()  # compiled by itself
    np.testing.assert_allclose(dg.compile(model)(x).tolist(), first.tolist(), rtol=1e-6)
    first.sum().backward()
    assert model[0].linear.weight.grad is not None


def test_gradients_of_a_module_that_falls_back() -> None:
    class Asks(Net):
        def forward(self, x: Any, scale: float = 1.0) -> Any:
            return self.linear(x) * float(x.numpy().sum())

    model = Asks()
    model.compile()
    with pytest.warns(EagerFallbackWarning, match=r"compiled .*Asks runs eagerly"):
        model(dg.ones(1, 3)).sum().backward()
    assert model.linear.bias.grad.tolist() == [3.0, 3.0]


def test_copies_are_not_compiled() -> None:
    model = Net()
    model.compile()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert "_compiled_call" not in vars(other)
        assert (other(dg.zeros(1, 3)) < 5).all()


def test_is_compiling() -> None:
    def f(x: Any) -> Any:
        return x + float(dg.compiler.is_compiling())

    assert not dg.compiler.is_compiling()
    assert f(dg.zeros(1)).tolist() == [0.0]
    assert dg.compile(f)(dg.zeros(1)).tolist() == [1.0]
    assert "add" in str(dg.trace(f, dg.zeros(1)))
    with dg.Graph():
        assert not dg.compiler.is_compiling()


def test_disabled_functions_run_eagerly() -> None:
    calls = []

    @dg.compiler.disable(reason="it prints")
    def inner(x: Any) -> Any:
        """Doubles."""
        calls.append(type(x.tolist()))
        return x * 2

    def outer(x: Any) -> Any:
        return inner(x) + 1

    fast = dg.compile(outer)
    with pytest.warns(EagerFallbackWarning, match=r"inner is excluded from graphs .*it prints"):
        assert fast(dg.ones(1)).tolist() == [3.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fast(dg.ones(1)).tolist() == [3.0]
    assert calls == [list, list]
    assert inner.__doc__ == "Doubles."
    with pytest.raises(CaptureFailure, match=r"excluded from graphs.*test_compiler\.py"):
        dg.compile(outer, fullgraph=True)(dg.ones(1))
    assert dg.compile(inner) is inner
    assert inner(dg.ones(1)).tolist() == [2.0]


@pytest.mark.parametrize("recursive", [True, False])
def test_compiled_functions_in_disabled_ones(recursive: bool) -> None:
    @dg.compile
    def fast(x: Any) -> Any:
        return x + float(dg.compiler.is_compiling())

    def outer(x: Any) -> Any:
        return fast(x)

    slow = dg.compiler.disable(outer, recursive)
    assert slow(dg.zeros(1)).tolist() == [float(not recursive)]
    assert fast(dg.zeros(1)).tolist() == [1.0]


def test_disabled_modules() -> None:
    model = dg.compiler.disable(Net())
    assert isinstance(model, Net)
    assert (model(dg.zeros(1, 3)) < 5).all()
    assert dg.compile(model) is model
    whole = dg.compile(nn.Sequential(model, nn.ReLU()))
    with pytest.warns(EagerFallbackWarning, match="excluded"):
        whole(dg.zeros(1, 3))
