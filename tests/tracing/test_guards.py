"""Plain Python data that a trace read: when it changes, the compiled call sees it."""

from __future__ import annotations

import enum
import functools
import random
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn

SCALE = 2.0
FACTORS = [1.0, 2.0]
SETTINGS: dict[str, Any] = {"p": 3.0, "unused": 0}
COUNTER = 0


def helper(x: Any) -> Any:
    return x + SCALE


def other_helper(x: Any) -> Any:
    return x - 100


class Mode(enum.Enum):
    DOUBLE = 2
    TRIPLE = 3


class Config:
    power = 2


class Model(nn.Module):
    offset = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.p = 2
        self.name = "relu"
        self.flag = False
        self.sizes = [1.0, 2.0]
        self.table = {"a": 1.0}
        self.pair = (1.0, [2.0])
        self.mode = Mode.DOUBLE
        self.array = np.ones(3, np.float32)
        self.layers = [nn.Linear(3, 3), nn.Linear(3, 3)]
        self.inner = types.SimpleNamespace(gain=1.0)
        self.cfg = Config()
        self.act: Callable[[Any], Any] = F.relu
        self.weight_list = [dg.ones(3)]
        self.mask: Any = None
        self.unused = 0

    def forward(self, x: Any) -> Any:
        y = x * self.p + self.offset
        y = F.relu(y) if self.name == "relu" else F.tanh(y)
        if self.flag:
            y = y + 10
        for size in self.sizes:
            y = y * size
        y = y + self.table["a"] + self.pair[1][0] + self.mode.value
        y = y + dg.tensor(self.array) * self.inner.gain
        for layer in self.layers:
            y = layer(y)
        y = self.act(y) ** self.cfg.power
        for w in self.weight_list:
            y = y * w
        if self.mask is not None:
            y = y * self.mask
        return y


def check(eager: Any, fast: Any, *args: Any) -> None:
    with dg.no_grad():
        np.testing.assert_allclose(fast(*args).numpy(), eager(*args).numpy(), rtol=1e-5, atol=1e-6)


CHANGES: dict[str, Callable[[Model], Any]] = {
    "int": lambda m: setattr(m, "p", 3),
    "int to float": lambda m: setattr(m, "p", 2.5),
    "string": lambda m: setattr(m, "name", "tanh"),
    "bool": lambda m: setattr(m, "flag", True),
    "class attribute shadowed": lambda m: setattr(m, "offset", 7.0),
    "list grown": lambda m: m.sizes.append(3.0),
    "list element": lambda m: m.sizes.__setitem__(0, 9.0),
    "dict element": lambda m: m.table.update(a=5.0),
    "element of a tuple's list": lambda m: m.pair[1].__setitem__(0, 4.0),
    "enum": lambda m: setattr(m, "mode", Mode.TRIPLE),
    "array in place": lambda m: m.array.__iadd__(1),
    "array replaced": lambda m: setattr(m, "array", np.zeros(3, np.float32)),
    "module in a list": lambda m: m.layers.__setitem__(0, nn.Linear(3, 3)),
    "modules reversed": lambda m: m.layers.reverse(),
    "nested object": lambda m: setattr(m.inner, "gain", 2.0),
    "object replaced": lambda m: setattr(m, "inner", types.SimpleNamespace(gain=4.0)),
    "attribute of an instance": lambda m: setattr(m.cfg, "power", 3),
    "function": lambda m: setattr(m, "act", F.gelu),
    "tensor in a list": lambda m: m.weight_list.__setitem__(0, dg.full((3,), 2.0)),
    "tensor appended": lambda m: m.weight_list.append(dg.full((3,), 3.0)),
    "tensor where there was none": lambda m: setattr(m, "mask", dg.zeros(3)),
    "hook": lambda m: m.register_forward_hook(lambda mod, args, out: out * 2),
    "hook of a layer": lambda m: m.layers[0].register_forward_pre_hook(lambda mod, a: (a[0] * 2,)),
    "deleted": lambda m: (m.__dict__.update(offset=3.0), delattr(m, "offset")),
    "dtype of a tensor": lambda m: m.weight_list.__setitem__(0, dg.ones(3, dtype=dg.float64)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_attributes(name: str) -> None:
    model = Model()
    fast = dg.compile(model)
    x = dg.randn(2, 3)
    check(model, fast, x)
    CHANGES[name](model)
    check(model, fast, x)
    count = len(fast.graphs)
    check(model, fast, x)
    assert len(fast.graphs) == count <= 2


def test_what_is_not_read_is_not_guarded() -> None:
    model = Model()
    fast = dg.compile(model)
    x = dg.randn(2, 3)
    check(model, fast, x)
    model.unused += 1
    model.another = "attribute"
    SETTINGS["unused"] += 1
    nn.Linear(2, 2)
    model.eval()  # nothing in it looks
    check(model, fast, x)
    assert len(fast.graphs) == 1


def test_class_attributes() -> None:
    model, saved = Model(), Config.power
    fast = dg.compile(model)
    x = dg.randn(2, 3)
    check(model, fast, x)
    try:
        Config.power = 3
        check(model, fast, x)
    finally:
        Config.power = saved
    check(model, fast, x)
    assert len(fast.graphs) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("SCALE", 3.0), ("FACTORS", [5.0]), ("SETTINGS", {"p": 9.0}), ("helper", other_helper)],
)
def test_globals(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x: Any) -> Any:
        y = helper(x) * SCALE
        for factor in FACTORS:
            y = y * factor
        return y * SETTINGS["p"]

    fast = dg.compile(f)
    check(f, fast, dg.randn(3))
    monkeypatch.setitem(globals(), name, value)
    check(f, fast, dg.randn(3))
    assert len(fast.graphs) == 2


def test_one_key_of_a_global_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = dg.compile(lambda x: x * SETTINGS["p"])
    assert fast(dg.ones(1)).item() == 3
    monkeypatch.setitem(SETTINGS, "unused", 5)
    assert fast(dg.ones(1)).item() == 3
    assert len(fast.graphs) == 1
    monkeypatch.setitem(SETTINGS, "p", 5.0)
    assert fast(dg.ones(1)).item() == 5


def test_closures_and_defaults() -> None:
    scale = 2.0

    def inner(x: Any, *, by: float = 3.0) -> Any:
        return x * scale * by

    @dg.compile
    def f(x: Any) -> Any:
        g = lambda t: inner(t) + scale  # noqa: E731 - a function made inside
        return g(x)

    assert f(dg.ones(1)).item() == 8
    scale = 3.0
    assert f(dg.ones(1)).item() == 12
    assert inner.__kwdefaults__ is not None
    inner.__kwdefaults__["by"] = 1.0
    assert f(dg.ones(1)).item() == 6


def test_closures_of_one_code() -> None:
    def maker(k: float) -> Callable[[Any], Any]:
        @functools.wraps(maker)
        def by(x: Any) -> Any:
            return x * k

        def change(value: float) -> None:
            nonlocal k
            k = value

        by.change = change
        return by

    two, three = maker(2.0), maker(3.0)
    fast = dg.compile(lambda x: two(x) + three(x))
    assert fast(dg.ones(1)).item() == 5
    three.change(10.0)
    assert fast(dg.ones(1)).item() == 12
    two.change(1.0)
    assert fast(dg.ones(1)).item() == 11


def test_values_that_compare_equal_but_differ() -> None:
    model = nn.Module()
    model.k = 2
    fast = dg.compile(lambda x: x * model.k)
    x = dg.ones(2, dtype=dg.int64)
    assert fast(x).dtype is dg.int64
    model.k = 2.0
    assert fast(x).dtype is dg.float32
    model.k = 0.0
    assert str(fast(dg.ones(1)).item()) == "0.0"
    model.k = -0.0
    assert str(fast(dg.ones(1)).item()) == "-0.0"
    model.k = float("nan")
    count = len(fast.graphs)
    for _ in range(2):
        assert np.isnan(fast(dg.ones(1)).item())
    assert len(fast.graphs) == count + 1


def test_objects_reached_in_other_ways() -> None:
    @dataclass(frozen=True)
    class Key:
        name: str

    class Part:
        def __init__(self, gain: float) -> None:
            self.gain = gain

        @property
        def doubled(self) -> float:
            return self.gain * 2

        def __call__(self, x: Any) -> Any:
            return x * self.doubled

    registry = {Key("a"): Part(1.0), Key("b"): Part(2.0)}
    parts = [Part(5.0)]

    def f(x: Any) -> Any:
        for part in registry.values():
            x = part(x)
        return sum((p.gain * x for p in parts), registry[Key("a")](x))

    fast = dg.compile(f)
    check(f, fast, dg.ones(1))
    registry[Key("b")].gain = 7.0
    check(f, fast, dg.ones(1))
    parts[0].gain = 0.5
    check(f, fast, dg.ones(1))
    parts.append(Part(3.0))
    check(f, fast, dg.ones(1))
    registry[Key("a")] = Part(4.0)
    check(f, fast, dg.ones(1))


def test_attributes_by_name() -> None:
    model = nn.Module()
    model.gain0, model.gain1 = 1.0, 2.0

    def f(x: Any) -> Any:
        for i in range(2):
            x = x * getattr(model, f"gain{i}")
        return x * getattr(model, "gain0") + getattr(model, "absent", 0)  # noqa: B009

    fast = dg.compile(f)
    check(f, fast, dg.ones(1))
    model.gain1 = 5.0
    check(f, fast, dg.ones(1))
    model.absent = 3
    check(f, fast, dg.ones(1))


def test_other_attributes_of_one_name() -> None:
    """An attribute is guarded of the object whose attribute is read, not of all that have one."""

    class Trainer:
        def __init__(self) -> None:
            self.step = 0
            self.model = nn.Linear(2, 2)
            self.opt = dg.optim.SGD(self.model.parameters(), lr=0.1)

        def train(self, x: Any) -> Any:
            loss = self.model(x).sum()
            loss.backward()
            opt = self.opt
            opt.step()
            opt.zero_grad()
            return loss

    trainer = Trainer()
    fast = dg.compile(trainer.train)
    for _ in range(3):
        fast(dg.ones(1, 2))
        trainer.step += 1
    assert len(fast.graphs) == 1


def test_a_hook_that_is_removed() -> None:
    layer = nn.Linear(2, 2)
    fast = dg.compile(layer)
    x = dg.ones(1, 2)
    handle = layer.register_forward_hook(lambda m, args, out: out * 0)
    assert fast(x).tolist() == [[0, 0]]
    handle.remove()
    check(layer, fast, x)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: float(np.random.rand()),  # noqa: NPY002 - what is to be noticed
        random.random,
        lambda: random.gauss(0, 1),
    ],
    ids=["numpy", "random", "gauss"],
)
def test_random_numbers_of_others_are_not_frozen(draw: Callable[[], float]) -> None:
    fast = dg.compile(lambda x: x + draw())
    with pytest.warns(UserWarning, match="random numbers of NumPy or Python"):
        first = fast(dg.zeros(1)).item()
    assert fast(dg.zeros(1)).item() != first


def test_generators_that_are_held_are_not_frozen() -> None:
    rng = np.random.default_rng(0)
    fast = dg.compile(lambda x: x + rng.random())
    with pytest.warns(UserWarning, match="a Generator, changes as it is used"):
        values = {fast(dg.zeros(1)).item() for _ in range(3)}
    assert len(values) == 3


def test_a_failed_trace_leaves_python_data_as_it_was() -> None:
    model = nn.Module()
    model.items, model.count, model.table = [1], 0, {"a": 1}

    def f(x: Any) -> Any:
        model.items.append(x)
        model.count += 1
        model.table["b"] = x
        model.fresh = x
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        dg.compile(f)(dg.ones(2))
    assert (model.items, model.count, model.table) == ([1], 0, {"a": 1})
    assert not hasattr(model, "fresh")


def test_members_that_a_module_does_not_have() -> None:
    """Nothing among parameters, buffers or submodules is nothing at the next call, too."""
    model = nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 2))

    @dg.compile
    def step(x: dg.Tensor) -> dg.Tensor:
        out: dg.Tensor = model(x)[0].sum()
        out.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        model.zero_grad()
        return out.detach()

    for _ in range(3):
        step(dg.ones(4, 1, 2))
    assert len(step.graphs) == 1


def test_imports_inside_are_not_watched(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Import hooks change their own state, which is none of the traced function's."""

    class Hook:
        asked = 0

        def find_spec(self, *args: Any) -> None:
            self.asked += 1

    (tmp_path / "imported_while_tracing.py").write_text("factor = 3.0\nmade = []\nmade.append(1)\n")
    hook = Hook()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [hook, *sys.meta_path])

    @dg.compile
    def f(x: Any) -> Any:
        import imported_while_tracing

        return x * imported_while_tracing.factor

    for _ in range(3):
        assert f(dg.ones(1)).item() == 3.0
        hook.asked += 1
    assert len(f.graphs) == 1
    monkeypatch.delitem(sys.modules, "imported_while_tracing")
