"""What code reads is found in the bytecode of every Python version, and of those not known yet."""

from __future__ import annotations

import dis
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dualgraph as dg
from dualgraph.tracing import bytecode, opcodes
from dualgraph.tracing.bytecode import facts_of

SCALE = 2.0
FACTORS = [2.0]


class Config:
    """A class whose attributes are read in all the ways there are."""

    __match_args__ = ("gain",)
    scale = 2.0

    def __init__(self) -> None:
        self.gain = 2.0
        self.table = {"a": 1.0}
        self.parts: list[Any] = []
        self.calls = 0


class Derived(Config):
    scale = 3.0

    def inherited(self, x: Any) -> Any:
        return x * super().scale


CONFIG = Config()


@pytest.fixture(autouse=True)
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    monkeypatch.setitem(globals(), "FACTORS", [2.0])
    monkeypatch.setitem(globals(), "CONFIG", Config())
    monkeypatch.setattr(Config, "scale", 2.0)
    return CONFIG


def noticed(f: Callable[..., Any], args: tuple[Any, ...], change: Callable[[], Any]) -> None:
    """A compiled function does what the function does, before and after a change."""
    fast = dg.compile(f)
    before = f(*args).tolist()
    assert fast(*args).tolist() == fast(*args).tolist() == before
    change()
    after = f(*args).tolist()
    assert after != before
    assert fast(*args).tolist() == after


def test_attribute_of_super() -> None:
    noticed(Derived().inherited, (dg.ones(2),), lambda: setattr(Config, "scale", 5.0))


def test_argument_whose_name_a_comprehension_uses(config: Config) -> None:
    def f(x: Any, c: Any) -> Any:
        return x * sum([-c for c in (1, 2)]) * c.gain

    noticed(f, (dg.ones(2), config), lambda: setattr(config, "gain", 5.0))


def test_argument_that_is_assigned_to(config: Config) -> None:
    def f(x: Any, c: Any) -> Any:
        x = x * c.gain
        c = 1.0
        return x * c

    noticed(f, (dg.ones(2), config), lambda: setattr(config, "gain", 5.0))


def test_objects_in_an_argument(config: Config) -> None:
    def f(x: Any, configs: Any) -> Any:
        for c in configs["all"]:
            x = x * c.gain
        return x

    noticed(f, (dg.ones(2), {"all": [config]}), lambda: setattr(config, "gain", 5.0))


def test_attribute_that_a_pattern_names(config: Config) -> None:
    def f(x: Any) -> Any:
        match CONFIG:
            case Config(gain=gain):
                return x * gain
        return x

    noticed(f, (dg.ones(2),), lambda: setattr(config, "gain", 5.0))


def test_attribute_that_a_pattern_has_by_position(config: Config) -> None:
    def f(x: Any) -> Any:
        match CONFIG:
            case Config(gain):
                return x * gain
        return x

    noticed(f, (dg.ones(2),), lambda: setattr(config, "gain", 5.0))


def test_body_of_a_class(config: Config) -> None:
    scale = 2.0

    def f(x: Any, c: Any) -> Any:
        class Inner:
            factor = c.gain * scale

        return x * Inner.factor

    def change() -> None:
        nonlocal scale
        scale = 3.0

    noticed(f, (dg.ones(2), config), lambda: setattr(config, "gain", 5.0))
    noticed(f, (dg.ones(2), config), change)


def test_variable_read_in_the_next_turn_of_a_loop() -> None:
    def f(x: Any) -> Any:
        for i in range(2):
            if i:
                x = x * factors[0]  # noqa: F821 - in the second turn
            factors = FACTORS  # noqa: F841
        return x

    noticed(f, (dg.ones(2),), lambda: FACTORS.__setitem__(0, 5.0))


# -- opcodes not known ----------------------------------------------------------------------------


def everything(other: Config) -> Callable[..., Any]:
    """A function that reads in many ways."""
    count = 1.0

    def f(x: Any, c: Any) -> Any:
        import settings

        known = other
        y = x * c.gain * CONFIG.table["a"] * count + SCALE * settings.factor
        for part in CONFIG.parts:
            y = y * part.gain
        return y * known.gain * c.scale * sum([2 * k for k in FACTORS])

    def change() -> None:
        nonlocal count
        count += 1

    f.change = change
    return f


def writing(x: Any, c: Any) -> Any:
    """A function that writes in many ways."""
    global SCALE
    CONFIG.calls += 1
    CONFIG.table["a"] = c.gain
    c.last = CONFIG.calls
    SCALE = c.gain + 1
    FACTORS.append(1.0)
    return x * c.gain


def opcodes_of(f: Any) -> list[str]:
    return sorted({i.opname for i in dis.get_instructions(f.__code__)})


@pytest.fixture
def unknown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An opcode is taken for one that no version of Python has."""
    written = dis.get_instructions

    def renamed(code: Any) -> Iterator[dis.Instruction]:
        for i in written(code):
            yield i._replace(opname="UNHEARD_OF") if i.opname == request.param else i

    monkeypatch.setattr(opcodes.dis, "get_instructions", renamed)
    monkeypatch.setattr(bytecode, "_known", {})


@pytest.mark.parametrize("unknown", opcodes_of(everything(CONFIG)), indirect=True)
def test_of_an_unknown_opcode_all_reads_are_noticed(
    unknown: None, monkeypatch: pytest.MonkeyPatch, config: Config
) -> None:
    settings = types.ModuleType("settings")
    settings.factor = 1.0
    monkeypatch.setitem(sys.modules, "settings", settings)
    CONFIG.parts.append(Config())
    first, other = Config(), Config()
    f = everything(other)
    changes: list[Callable[[], Any]] = [
        lambda: setattr(first, "gain", 3.0),
        lambda: setattr(other, "gain", 4.0),
        lambda: CONFIG.table.update(a=5.0),
        lambda: setattr(CONFIG.parts[0], "gain", 6.0),
        f.change,
        lambda: monkeypatch.setitem(globals(), "SCALE", 7.0),
        lambda: FACTORS.append(8.0),
        lambda: setattr(Config, "scale", 9.0),
        lambda: setattr(settings, "factor", 10.0),
    ]
    for change in changes:
        noticed(f, (dg.ones(1), first), change)
    fast = dg.compile(f)
    for _ in range(3):
        fast(dg.ones(1), first)
    assert len(fast.graphs) == 1  # nothing else was taken for a change


@pytest.mark.filterwarnings("ignore::dualgraph.tracing.failure.EagerFallbackWarning")
@pytest.mark.parametrize("unknown", opcodes_of(writing), indirect=True)
def test_of_an_unknown_opcode_all_writes_are_made(
    unknown: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = []
    for run in (writing, dg.compile(writing)):
        monkeypatch.setitem(globals(), "CONFIG", Config())
        monkeypatch.setitem(globals(), "SCALE", 2.0)
        monkeypatch.setitem(globals(), "FACTORS", [2.0])
        c = Config()
        seen = []
        for gain in (2.0, 2.0, 3.0, 3.0, 4.0):
            c.gain = gain
            result = run(dg.ones(1), c).item()
            seen.append((result, CONFIG.calls, {**CONFIG.table}, c.last, SCALE, [*FACTORS]))
        twins.append(seen)
    assert twins[1] == twins[0]


def test_an_unknown_opcode_is_taken_for_any(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not facts_of((lambda x: x.shape + SCALE).__code__).wild
    monkeypatch.setattr(bytecode, "KNOWN", bytecode.KNOWN - {"BINARY_OP"})
    assert facts_of((lambda x: x.shape + SCALE).__code__).wild


def test_all_opcodes_of_the_standard_library_are_known() -> None:
    """So that no more is guarded than needs to be, in this version of Python."""

    def codes(code: types.CodeType) -> Iterator[types.CodeType]:
        yield code
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                yield from codes(inner)

    met = set()
    for module in (dis, opcodes, pytest, types):
        with open(module.__file__ or "") as file:
            top = compile(file.read(), module.__name__, "exec")
        for code in codes(top):
            if code is not top:
                met |= {i.op for i in opcodes.instructions(code)}
    assert len(met) > 50
    assert met <= opcodes.KNOWN
