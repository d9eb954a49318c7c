"""Attributes of modules and of what they hold, changed between calls."""

from __future__ import annotations

import dataclasses
from typing import Any

from .harness import Cases, data, filled

cases = Cases()


def net(dg: Any, **attributes: Any) -> Any:
    """A small module with attributes that its forward reads."""

    class Net(dg.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = dg.nn.Linear(3, 3)
            for key, value in attributes.items():
                setattr(self, key, value)

        def forward(self, x: Any) -> Any:
            y = self.linear(x) * getattr(self, "scale", 1)
            if getattr(self, "squash", False):
                y = y.tanh()
            if getattr(self, "mode", None) == "double":
                y = y * 2
            for k in getattr(self, "factors", ()):
                y = y * k
            for name, w in getattr(self, "named", {}).items():
                y = y + w * len(name)
            return y

    return filled(dg, Net())


@cases()
def number_attributes_change(dg, compile):
    model = net(dg, scale=2)
    f = compile(model)
    x = data(dg, 2, 3)
    yield f(x)
    model.scale = 3
    yield f(x)
    model.scale = 0.5
    yield f(x)
    model.scale = 2
    yield f(x)
    del model.scale
    yield f(x)


@cases()
def flags_strings_and_none_change(dg, compile):
    model = net(dg, squash=False, mode=None)
    f = compile(model)
    x = data(dg, 2, 3)
    yield f(x)
    model.squash = True
    yield f(x)
    model.mode = "double"
    yield f(x)
    model.squash, model.mode = False, "single"
    yield f(x)


@cases()
def list_and_dict_attributes_change(dg, compile):
    model = net(dg, factors=[2.0], named={"a": 1})
    f = compile(model)
    x = data(dg, 2, 3)
    yield f(x)
    model.factors.append(0.5)
    yield f(x)
    model.factors[0] = 5.0
    yield f(x)
    model.named["abc"] = data(dg, 3)
    yield f(x)
    model.named["abc"] = data(dg, 3, low=4)
    yield f(x)
    model.named.clear()
    model.factors = ()
    yield f(x)


@cases()
def attributes_of_a_submodule_change(dg, compile):
    model = dg.nn.Sequential(net(dg, scale=2), dg.nn.Dropout(0.0), dg.nn.LeakyReLU(0.1))
    f = compile(model)
    x = data(dg, 2, 3)
    yield f(x)
    model[0].scale = 3
    yield f(x)
    model[2].negative_slope = 0.5
    yield f(x)


@cases()
def attributes_of_a_captured_module_change(dg, compile):
    model = net(dg, scale=2)

    @compile
    def f(x):
        return model(x) + model.scale

    x = data(dg, 2, 3)
    yield f(x)
    model.scale = 3
    yield f(x)


@cases()
def options_of_layers_change(dg, compile):
    bn, drop = dg.nn.BatchNorm1d(3), dg.nn.Dropout(0.0)
    norm = dg.nn.LayerNorm(3)
    f = compile(dg.nn.Sequential(bn, drop, norm))
    x = data(dg, 4, 3)
    yield f(x), bn
    bn.momentum = 0.5
    yield f(x), bn
    norm.eps = 0.3
    yield f(x), bn
    bn.eps = 0.2
    yield f(x)
    bn.momentum = None
    yield f(x), bn


@cases()
def an_object_behind_an_attribute_changes(dg, compile):
    @dataclasses.dataclass
    class Config:
        scale: float = 2.0
        layers: list = dataclasses.field(default_factory=lambda: [1, 2])

    model = dg.nn.Linear(3, 3)
    filled(dg, model)
    model.config = Config()

    @compile
    def f(x):
        for k in model.config.layers:
            x = model(x) * model.config.scale + k
        return x

    x = data(dg, 2, 3)
    yield f(x)
    model.config.scale = 0.5
    yield f(x)
    model.config.layers.append(7)
    yield f(x)
    model.config = Config(1.0, [3])
    yield f(x)


@cases()
def training_flags_are_switched(dg, compile):
    model = filled(
        dg, dg.nn.Sequential(dg.nn.Linear(3, 4), dg.nn.BatchNorm1d(4), dg.nn.Linear(4, 2))
    )
    f = compile(model)
    x = data(dg, 5, 3)
    yield f(x), model
    model.eval()
    yield f(x), model
    model.train()
    yield f(x), model
    model[1].eval()
    yield f(x), model
