"""Data that code reaches in roundabout ways: a changed value is seen by the next call."""

from __future__ import annotations

import builtins
import functools
import importlib
import inspect
import operator
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dualgraph as dg
from dualgraph import nn

SCALE = 2.0
TABLE = {"a": 1.0}
NAMES = ["gain"]


class Plain:
    def __init__(self) -> None:
        self.x, self.y = 1.0, 5.0


class Slotted:
    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = 1.0


class Computed:
    """A descriptor."""

    def __get__(self, owner: Any, cls: Any = None) -> Any:
        return owner.__dict__["gain"]


class Model(nn.Module):
    level = 1.0
    computed = Computed()

    def __init__(self, read: Callable[[Any], Any]) -> None:
        super().__init__()
        self.read = read
        self.gain, self.gain0, self.name = 1.0, 1.0, "gain"
        self.items, self.plain, self.slotted = [1.0, 2.0], Plain(), Slotted()

    @property
    def prop(self) -> Any:
        return self.__dict__["gain"]

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["gain"] * 2 if name == "virtual" else super().__getattr__(name)

    def forward(self, x: Any) -> Any:
        return x * self.read(self)


def gain(m: Model) -> None:
    m.gain = 3.0


def gain_in_dict(m: Model) -> None:
    m.__dict__["gain"] = 3.0


def gain_in_vars(m: Model) -> None:
    vars(m).update(gain=3.0)


def gain0(m: Model) -> None:
    m.gain0 = 3.0


def plain(m: Model) -> None:
    m.plain.x = 3.0


def plain_in_dict(m: Model) -> None:
    vars(m.plain)["x"] = 3.0


def new_attribute(m: Model) -> None:
    m.plain.z = m.z = 4.0


def slotted(m: Model) -> None:
    m.slotted.x = 3.0


def items(m: Model) -> None:
    m.items.append(7.0)


def level(m: Model) -> None:
    Model.level = 5.0


def scale(m: Model) -> None:
    global SCALE
    SCALE = 7.0


def table(m: Model) -> None:
    TABLE["a"] = 7.0


def environment(m: Model) -> None:
    os.environ["DUALGRAPH_TEST_VALUE"] = "5"


def training(m: Model) -> None:
    m.eval()


def _called_with(x: float = 0.0, y: float = 0.0) -> float:
    return x + y


READS: dict[str, tuple[Callable[[Any], Any], list[Callable[[Model], None]]]] = {
    "attribute": (lambda m: m.gain, [gain, gain_in_dict, gain_in_vars]),
    "__dict__": (lambda m: m.__dict__["gain"], [gain, gain_in_dict, gain_in_vars]),
    "__dict__.get": (lambda m: m.__dict__.get("gain"), [gain, gain_in_dict]),
    "vars": (lambda m: vars(m)["gain"], [gain, gain_in_dict]),
    "all of vars": (lambda m: sum(v for k, v in vars(m).items() if k == "gain"), [gain]),
    "number of vars": (lambda m: len(vars(m.plain)), [new_attribute]),
    "name in vars": (lambda m: 2 if "z" in m.__dict__ else 1, [new_attribute]),
    "dir": (lambda m: 2 if "z" in dir(m.plain) else 1, [new_attribute]),
    "hasattr": (lambda m: 2 if hasattr(m.plain, "z") else 1, [new_attribute]),
    "getattr, default": (lambda m: getattr(m.plain, "z", 1.0), [new_attribute]),
    "getattr, sum": (lambda m: getattr(m, "ga" + "in"[: len(m.items)]), [gain]),
    "getattr, sum of call": (lambda m: getattr(m, "gain" + str(0)), [gain0]),
    "getattr, global": (lambda m: getattr(m, NAMES[0]), [gain]),
    "getattr, attribute": (lambda m: getattr(m, m.name), [gain]),
    "getattr, f-string": (lambda m: getattr(m, f"g{m.name[1:]}"), [gain]),
    "getattr, loop": (lambda m: sum(getattr(m.plain, n) for n in ("x", "y")), [plain]),
    "getattr, map": (lambda m: sum(map(getattr, (m,), ("gain",))), [gain]),
    "getattr, partial": (lambda m: functools.partial(getattr, m)("gain"), [gain]),
    "getattr, slots": (lambda m: getattr(m.slotted, "xy"[: m.training]), [slotted]),
    "getattr, of a class": (lambda m: getattr(m, "lev" + "el"[: len(m.items)]), [level]),
    "getattr, class": (lambda m: getattr(type(m), "lev" + "el"[: len(m.items)]), [level]),
    "class attribute": (lambda m: type(m).level, [level]),
    "vars of a class": (lambda m: vars(Model)["level"], [level]),
    "object.__getattribute__": (lambda m: object.__getattribute__(m, "gain"), [gain]),
    "__getattribute__": (lambda m: m.__getattribute__("gain"), [gain]),
    "attrgetter": (lambda m: operator.attrgetter("plain.x")(m), [plain, plain_in_dict]),
    "vars of an object": (lambda m: vars(m.plain)["x"], [plain, plain_in_dict]),
    "vars as keywords": (lambda m: _called_with(**vars(m.plain)), [plain]),
    "getattr_static": (lambda m: inspect.getattr_static(m, "gain"), [gain]),
    "getmembers": (lambda m: dict(inspect.getmembers(m.plain))["x"], [plain]),
    "format": (lambda m: float(f"{m.gain}"), [gain]),
    "property": (lambda m: m.prop, [gain]),
    "descriptor": (lambda m: m.computed, [gain]),
    "__getattr__": (lambda m: m.virtual, [gain]),
    "training flag": (lambda m: 1.0 + vars(m)["training"], [training]),
    "globals": (lambda m: globals()["SCALE"], [scale]),
    "globals.get": (lambda m: globals().get("SCALE"), [scale]),
    "sys.modules": (lambda m: sys.modules[__name__].SCALE, [scale]),
    "sys.modules, getattr": (lambda m: getattr(sys.modules[__name__], "SC" + "ALE"[:3]), [scale]),
    "import_module": (lambda m: importlib.import_module(__name__).SCALE, [scale]),
    "__globals__": (lambda m: scale.__globals__["SCALE"], [scale]),
    "eval": (lambda m: eval("SCALE"), [scale]),
    "itemgetter": (lambda m: operator.itemgetter("a")(TABLE), [table]),
    "bound method": (lambda m: sum(map(TABLE.get, "a")), [table]),
    "reduce": (lambda m: functools.reduce(operator.add, m.items), [items]),
    "largest": (lambda m: max(m.items), [items]),
    "text": (lambda m: len(str(m.items)), [items]),
    "os.environ": (lambda m: float(os.environ.get("DUALGRAPH_TEST_VALUE", "1")), [environment]),
    "os.getenv": (lambda m: float(os.getenv("DUALGRAPH_TEST_VALUE", "1")), [environment]),
}


@pytest.fixture(autouse=True)
def _back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Model, "level", 1.0)
    monkeypatch.setattr(f"{__name__}.SCALE", 2.0)
    monkeypatch.setitem(TABLE, "a", 1.0)
    monkeypatch.delenv("DUALGRAPH_TEST_VALUE", raising=False)
    yield
    os.environ.pop("DUALGRAPH_TEST_VALUE", None)


@pytest.mark.parametrize(
    ("name", "change"), [(name, c) for name, (_, changes) in READS.items() for c in changes]
)
def test_a_change_is_seen(name: str, change: Callable[[Model], None]) -> None:
    model = Model(READS[name][0])
    fast = dg.compile(model)
    x = dg.ones(2)
    before = [fast(x).tolist() for _ in range(2)]
    change(model)
    after = [fast(x).tolist() for _ in range(2)]
    assert before == [before[0]] * 2
    assert after == [model(x).tolist()] * 2
    assert before != after
    assert len(fast.graphs) <= 3, [g.why for g in fast.report().graphs]


def test_dicts_of_modules_stay_noted() -> None:
    """Copied, unpickled and reassigned modules tell of changes through ``__dict__`` too."""

    def changed(model: Any) -> None:
        fast = dg.compile(model)
        fast(dg.ones(2))
        model.__dict__["p"] = 0.0
        assert fast(dg.ones(2)).tolist() == [1.0, 1.0]

    class Assigned(nn.Dropout):
        def __setstate__(self, state: Any) -> None:
            self.__dict__ = state

    changed(pickle.loads(pickle.dumps(nn.Dropout(1.0))))
    model = Assigned(1.0)
    model.__setstate__(dict(vars(model)))
    changed(model)


def test_unknown_names_do_not_guard_what_is_never_there() -> None:
    """Code that looks through an object goes on fitting while nothing of it changes."""
    model = Model(lambda m: sum(v for k, v in vars(m).items() if k.startswith("gain")))
    fast = dg.compile(model)
    for _ in range(4):
        fast(dg.ones(2))
    assert len(fast.graphs) == 1
    assert builtins.len(fast.report().graphs) == 1
