"""Attributes of modules and of what they hold, changed between calls."""

from __future__ import annotations

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
