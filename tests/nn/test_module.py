"""Module: registration, traversal, state, modes, hooks, copies."""

from __future__ import annotations

import copy
import pickle
import re
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.scale = nn.Parameter(dg.ones(3))
        self.register_buffer("count", dg.zeros(1))
        self.register_buffer("scratch", dg.zeros(2), persistent=False)

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        return self.linear(x) * self.scale


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Block()
        self.rest = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(3, 2)
        self.shared = self.head

    def forward(self, x: dg.Tensor) -> dg.Tensor:
        x = self.first(x)
        for block in self.rest:
            x = block(x)
        return self.head(x)


def names(pairs: Any) -> list[str]:
    return [name for name, _ in pairs]


# -- registration and traversal -------------------------------------------------------------------


def test_traversal() -> None:
    net = Net()
    block = ["scale", "linear.weight", "linear.bias"]
    wanted = [f"{b}.{p}" for b in ("first", "rest.0", "rest.1") for p in block]
    assert names(net.named_parameters()) == [*wanted, "head.weight", "head.bias"]
    assert len(list(net.parameters())) == 11
    every = names(net.named_parameters(remove_duplicate=False))
    assert every[-2:] == ["shared.weight", "shared.bias"]
    assert names(net.named_buffers())[:2] == ["first.count", "first.scratch"]
    assert names(net.named_modules())[:4] == ["", "first", "first.linear", "rest"]
    assert names(net.named_children()) == ["first", "rest", "head"]
    assert names(net.first.named_parameters(recurse=False)) == ["scale"]
    assert net.get_submodule("rest.1.linear") is net.rest[1].linear
    assert net.get_parameter("first.scale") is net.first.scale
    assert net.get_buffer("first.count") is net.first.count
    for call in (net.get_submodule, net.get_parameter, net.get_buffer):
        with pytest.raises(AttributeError, match="has no attribute `missing`"):
            call("first.missing")
    with pytest.raises(AttributeError, match="is not an nn.Parameter"):
        net.get_parameter("first.count")


def test_attributes_register() -> None:
    m = nn.Module()
    m.a = nn.Parameter(dg.ones(2))
    m.b = nn.Linear(1, 1)
    m.c = nn.Buffer(dg.ones(3), persistent=False)
    assert names(m.named_parameters(recurse=False)) == ["a"]
    assert names(m.named_children()) == ["b"]
    assert list(m.state_dict()) == ["a", "b.weight", "b.bias"]
    assert names(m.named_buffers()) == ["c"]
    m.c = dg.zeros(3)  # still a buffer
    assert names(m.named_buffers()) == ["c"]
    m.a = None
    assert m.a is None
    assert names(m.named_parameters(recurse=False)) == []
    m.a = nn.Linear(1, 1)  # another kind takes the name over
    assert "a" not in m._parameters
    m.plain = dg.ones(1)
    assert "plain" not in m._buffers
    del m.b
    with pytest.raises(AttributeError, match="'Module' object has no attribute 'b'"):
        m.b  # noqa: B018
    assert "a" in dir(m)


def test_registration_is_checked() -> None:
    m = nn.Module()
    m.weight = nn.Parameter(dg.ones(2))
    with pytest.raises(TypeError, match="cannot assign .* as parameter 'weight'"):
        m.weight = dg.ones(2)
    with pytest.raises(TypeError, match="cannot assign 'int' object to buffer"):
        m.register_buffer("b", 3)
    with pytest.raises(KeyError, match="already exists"):
        m.register_buffer("weight", dg.ones(1))
    with pytest.raises(KeyError, match="can.*t contain"):
        m.register_parameter("a.b", None)
    with pytest.raises(KeyError, match="empty string"):
        m.add_module("", nn.Identity())
    with pytest.raises(TypeError, match="is not a Module subclass"):
        m.add_module("x", 3)
    product = nn.Parameter(dg.ones(1))
    product._fn = (product * 2)._fn
    with pytest.raises(ValueError, match="Cannot assign non-leaf Tensor"):
        m.p = product

    class Early(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match="before Module.__init__"):
        Early()
    with pytest.raises(NotImplementedError, match='missing the required "forward"'):
        nn.Module()(1)


def test_parameter() -> None:
    data = dg.ones(2)
    p = nn.Parameter(data)
    assert p.requires_grad
    assert p.is_leaf
    assert isinstance(p, dg.Tensor)
    p.data.fill_(3.0)
    assert data.tolist() == [3.0, 3.0]  # memory is shared
    assert repr(p) == "Parameter containing:\ntensor([3., 3.], requires_grad=True)"
    assert not nn.Parameter(dg.ones(1), requires_grad=False).requires_grad
    with pytest.raises(RuntimeError, match="floating point and complex"):
        nn.Parameter(dg.tensor([1]))
    for twin in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert type(twin) is nn.Parameter
        assert twin.tolist() == [3.0, 3.0]
        assert twin.requires_grad


# -- modes and conversion -------------------------------------------------------------------------


def test_modes() -> None:
    net = Net()
    assert net.training
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())
    with pytest.raises(ValueError, match="boolean"):
        net.train("yes")
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_zero_grad() -> None:
    net = Net()
    net(dg.ones(1, 3)).sum().backward()
    grads = [p.grad for p in net.parameters()]
    assert all(g is not None for g in grads)
    net.zero_grad(set_to_none=False)
    assert not any(g.numpy().any() for g in grads if g is not None)
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_apply_visits_children_first() -> None:
    seen: list[str] = []
    nn.Sequential(nn.Linear(1, 1), nn.ReLU()).apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "ReLU", "Sequential"]


def test_conversion_keeps_the_parameters() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = list(net.parameters())
    net(dg.ones(3, 2)).sum().backward()
    assert net.double() is net
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    assert {p.dtype for p in net.parameters()} == {dg.float64}
    assert all(p.grad is not None and p.grad.dtype is dg.float64 for p in before)
    assert net[1].running_mean.dtype is dg.float64
    assert net[1].num_batches_tracked.dtype is dg.int64
    net.to(dg.float32).to("cpu").to(dg.ones(1, dtype=dg.float16))
    assert net[0].weight.dtype is dg.float16
    net.to("cpu", dg.float32)
    assert net[0].weight.dtype is dg.float32
    assert net.half()[0].weight.dtype is dg.float16
    assert net.bfloat16()[0].weight.dtype is dg.bfloat16
    assert net.float()[0].weight.dtype is dg.float32
    with pytest.raises(TypeError, match="only accepts floating point"):
        net.to(dg.int64)


# -- state ----------------------------------------------------------------------------------------


def test_state_dict() -> None:
    net = Net()
    state = net.state_dict()
    assert "first.count" in state
    assert "first.scratch" not in state
    assert state["head.weight"] is not net.head.weight
    assert not state["head.weight"].requires_grad
    assert net.state_dict(keep_vars=True)["head.weight"] is net.head.weight
    assert state._metadata["first"] == {"version": 1}
    other = Net()
    assert str(other.load_state_dict(state)) == "<All keys matched successfully>"
    x = dg.randn(4, 3)
    assert dg.equal(net(x), other(x))
    state["head.weight"].fill_(0.0)  # shares memory with the net, not with the copy
    assert not net.head.weight.detach().numpy().any()
    assert other.head.weight.detach().numpy().any()


def test_load_reports_everything_that_does_not_fit() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = net.state_dict()
    del state["0.bias"]
    state["extra"] = dg.ones(1)
    state["1.weight"] = dg.ones(2, 2)
    text = (
        "Error(s) in loading state_dict for Sequential:\n"
        '\tMissing key(s) in state_dict: "0.bias". \n'
        '\tUnexpected key(s) in state_dict: "extra". \n'
        "\tsize mismatch for 1.weight: copying a param with shape dualgraph.Size([2, 2]) from "
        "checkpoint, the shape in current model is dualgraph.Size([1, 3])."
    )
    with pytest.raises(RuntimeError, match=re.escape(text)):
        net.load_state_dict(state)
    state["1.weight"] = dg.ones(1, 3)
    keys = net.load_state_dict(state, strict=False)
    assert keys.missing_keys == ["0.bias"]
    assert keys.unexpected_keys == ["extra"]
    state["1.weight"] = 3
    with pytest.raises(RuntimeError, match='named "1.weight", expected a Tensor'):
        net.load_state_dict(state, strict=False)
    with pytest.raises(TypeError, match="dict-like"):
        net.load_state_dict([1])


def test_load_by_assignment() -> None:
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    state = {"weight": dg.ones(1, 2), "bias": dg.ones(1)}
    layer.load_state_dict(state, assign=True)
    assert layer.weight._data is state["weight"]._data
    assert isinstance(layer.weight, nn.Parameter)
    assert layer.weight.requires_grad
    assert not layer.bias.requires_grad


def test_loading_converts_the_dtype() -> None:
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": dg.ones(1, 2).double(), "bias": dg.ones(1).half()})
    assert layer.weight.dtype is dg.float32


def test_old_batch_norm_state() -> None:
    state = nn.BatchNorm1d(2).state_dict()
    del state["num_batches_tracked"]
    nn.BatchNorm1d(2).load_state_dict(OrderedDict(state), strict=False)
    state._metadata[""]["version"] = 1
    nn.BatchNorm1d(2).load_state_dict(state)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def get_extra_state(self) -> Any:
        return self.calls

    def set_extra_state(self, state: Any) -> None:
        self.calls = state


def test_extra_state() -> None:
    m = nn.Sequential(Counting())
    m[0].calls = 5
    state = m.state_dict()
    assert state == {"0._extra_state": 5}
    other = nn.Sequential(Counting())
    other.load_state_dict(state)
    assert other[0].calls == 5
    with pytest.raises(RuntimeError, match=r"Missing key.*0\._extra_state"):
        other.load_state_dict({})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*_extra_state"):
        nn.Sequential(nn.ReLU()).load_state_dict(state)


def test_state_hooks() -> None:
    m = nn.Sequential(nn.Linear(1, 1))
    log: list[str] = []
    m.register_state_dict_pre_hook(lambda *a: log.append("before"))
    m.register_state_dict_post_hook(lambda module, state, *rest: state.__delitem__("0.bias"))
    state = m.state_dict()
    assert list(state) == ["0.weight"]
    m[0].register_load_state_dict_pre_hook(
        lambda module, state, prefix, *rest: state.update({prefix + "bias": dg.ones(1)})
    )
    m.register_load_state_dict_post_hook(lambda module, keys: log.append("after"))
    m.load_state_dict(state)
    assert m[0].bias.tolist() == [1.0]
    assert log == ["before", "after"]


# -- hooks ----------------------------------------------------------------------------------------


def test_forward_hooks() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    log: list[str] = []

    def double(module: Any, args: Any) -> Any:
        log.append("pre")
        return args[0] * 2

    def add(module: Any, args: Any, output: Any) -> Any:
        log.append("post")
        return output + 10

    one = layer.register_forward_pre_hook(double)
    two = layer.register_forward_hook(add)
    layer.register_forward_pre_hook(lambda *a: log.append("first"), prepend=True)
    assert layer(dg.tensor([3.0])).item() == 16.0
    assert log == ["first", "pre", "post"]
    one.remove()
    with two:
        assert layer(dg.tensor([3.0])).item() == 13.0
    assert layer(dg.tensor([3.0])).item() == 3.0


def test_forward_hooks_with_keywords() -> None:
    class Scale(nn.Module):
        def forward(self, x: dg.Tensor, factor: float = 1.0) -> dg.Tensor:
            if factor < 0:
                raise ValueError("negative")
            return x * factor

    m = Scale()
    m.register_forward_pre_hook(
        lambda module, args, kwargs: (args, {"factor": kwargs["factor"] + 1}), with_kwargs=True
    )
    seen: list[Any] = []
    m.register_forward_hook(
        lambda module, args, kwargs, out: seen.append((kwargs, out)),
        with_kwargs=True,
        always_call=True,
    )
    assert m(dg.tensor(2.0), factor=2.0).item() == 6.0
    assert seen[0][0] == {"factor": 3.0}
    with pytest.raises(ValueError, match="negative"):
        m(dg.tensor(2.0), factor=-5.0)
    assert seen[1] == ({"factor": -4.0}, None)


def test_backward_hooks() -> None:
    layer = nn.Linear(2, 3)
    log: list[Any] = []
    layer.register_full_backward_pre_hook(lambda module, go: (go[0] * 2,))
    handle = layer.register_full_backward_hook(lambda module, gi, go: log.append((gi, go)))
    x = dg.ones(4, 2, requires_grad=True)
    layer(x).sum().backward()
    ((gi,), (go,)) = log[0]
    assert go.tolist() == [[2.0] * 3] * 4
    np.testing.assert_allclose(
        gi.numpy(), np.full((4, 3), 2.0) @ layer.weight.detach().numpy(), rtol=1e-6
    )
    assert x.grad is not None
    assert dg.equal(x.grad, gi)
    assert layer.bias.grad is not None
    assert layer.bias.grad.tolist() == [8.0] * 3
    handle.remove()
    layer.register_full_backward_hook(lambda module, gi, go: (dg.zeros(4, 2),))
    x.grad = None
    layer(x).sum().backward()
    assert not x.grad.numpy().any()


def test_backward_hook_of_a_module_whose_input_needs_no_gradient() -> None:
    layer = nn.Linear(2, 3)
    log: list[Any] = []
    layer.register_full_backward_hook(lambda module, gi, go: log.append((gi, len(go))))
    layer(dg.ones(4, 2)).sum().backward()
    assert log == [((), 1)]


def test_global_hooks() -> None:
    from dualgraph.nn.modules.module import register_module_forward_hook

    log: list[str] = []
    net = nn.Sequential(nn.ReLU(), nn.Tanh())
    with register_module_forward_hook(lambda m, a, o: log.append(type(m).__name__)):
        net(dg.ones(1))
    net(dg.ones(1))
    assert log == ["ReLU", "Tanh", "Sequential"]


# -- copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_independent(twin_of: Any) -> None:
    net = Net()
    net.register_forward_hook(print_nothing)
    twin = twin_of(net)
    x = dg.randn(2, 3)
    assert dg.equal(net(x), twin(x))
    assert twin.shared is twin.head
    assert isinstance(twin.head.weight, nn.Parameter)
    nn.init.zeros_(twin.head.weight)
    assert not dg.equal(net(x), twin(x))


def print_nothing(*args: Any) -> None:
    """A hook that can be pickled."""


# -- containers -----------------------------------------------------------------------------------


def test_sequential() -> None:
    a, b, c = nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3)
    s = nn.Sequential(a, b, c)
    assert len(s) == 3
    assert s[0] is a
    assert s[-1] is c
    assert isinstance(s[1:], nn.Sequential)
    assert list(s[1:]) == [b, c]
    assert names(s[1:].named_children()) == ["1", "2"]
    assert tuple(s(dg.ones(5, 1)).shape) == (5, 3)
    s[1] = nn.Tanh()
    assert isinstance(s[1], nn.Tanh)
    del s[1]
    assert names(s.named_children()) == ["0", "1"]
    s.append(b).extend([nn.Identity()]).insert(0, nn.Identity())
    assert [type(m).__name__ for m in s] == ["Identity", "Linear", "Linear", "ReLU", "Identity"]
    assert isinstance(s.pop(-1), nn.Identity)
    named = nn.Sequential(OrderedDict(one=a, two=c))
    assert named.two is c
    assert names(named.named_children()) == ["one", "two"]
    with pytest.raises(IndexError, match="index 9 is out of range"):
        s[9]
    assert len(named + s) == 6


def test_module_list_and_dict() -> None:
    layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))
    layers += [nn.ReLU()]
    assert len(layers) == 4
    assert isinstance(layers[1:3], nn.ModuleList)
    assert layers[-1] in layers
    table = nn.ModuleDict({"a": nn.ReLU()})
    table["b"] = nn.Tanh()
    table.update([("c", nn.Identity())])
    assert list(table) == ["a", "b", "c"]
    assert "b" in table
    assert isinstance(table.pop("b"), nn.Tanh)
    assert list(table.keys()) == ["a", "c"]
    del table["a"]
    table.clear()
    assert len(table) == 0


def test_parameter_list_and_dict() -> None:
    params = nn.ParameterList([dg.ones(2), dg.ones(3)])
    params.append(dg.ones(4))
    assert [p.numel() for p in params] == [2, 3, 4]
    assert list(params.state_dict()) == ["0", "1", "2"]
    assert all(isinstance(p, nn.Parameter) for p in params)
    params[0] = dg.zeros(1)
    assert params[-3].tolist() == [0.0]
    table = nn.ParameterDict({"w": dg.ones(2)})
    table["b"] = dg.ones(1)
    assert list(table) == ["w", "b"]
    assert list(table.state_dict()) == ["w", "b"]
    del table["w"]
    assert "w" not in table
    with pytest.raises(KeyError):
        table["w"]


def test_text_of_containers_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")

    def build(n: Any) -> Any:
        block = lambda: n.Sequential(n.Linear(2, 2), n.ReLU())  # noqa: E731
        return n.ModuleDict(
            {
                "list": n.ModuleList([block(), block(), n.Tanh()]),
                "named": n.Sequential(OrderedDict(conv=n.Conv2d(1, 2, 3), empty=n.ModuleList())),
                "none": n.Sequential(),
            }
        )

    assert repr(build(nn)) == repr(build(torch.nn))
    mine, theirs = (
        n.ParameterList([t.ones(2, 3), t.ones(())]) for n, t in ((nn, dg), (torch.nn, torch))
    )
    assert repr(mine) == repr(theirs).replace("torch.", "dualgraph.")
