"""An optimizer's step in a capture: one node a parameter, nothing baked in that may change.

Options that a schedule changes are numbers read at every call; the others are attributes of the op
and guard the graph, as does which parameters there are. State is looked up at every call.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import dualgraph as dg
from dualgraph._dispatch import apply
from dualgraph._tensor import Tensor
from dualgraph.autograd.inplace import assign
from dualgraph.optim._group import Entries, Group, Listed, State, is_fixed
from dualgraph_compiler.errors import TraceError

if TYPE_CHECKING:
    from dualgraph.optim.optimizer import Optimizer
    from dualgraph.tracing.capture import Capture
    from dualgraph.tracing.replay import EntrySlot, Steady

__all__ = ["traced_step"]

_PACKAGE = "dualgraph.optim."
_NAMED = ("params", "param_names")  # which `_members` tells apart, or no step depends on


def traced_step(optimizer: Optimizer, capture: Capture) -> None:
    """Record the step of every parameter that has a gradient.

    Raises:
        TraceError: the capture is not of a call, or the optimizer has no rule.
    """
    name = type(optimizer).__name__
    capture.require_whole(f"{name}.step()")
    if type(optimizer)._rule is dg.optim.Optimizer._rule:
        raise TraceError(
            f"{name}.step() cannot be captured: the class defines no rule as an op. Call it "
            "outside the compiled function"
        )
    members, rules = partial(_members, optimizer), partial(_rules, optimizer)
    steady = partial(_is_steady, optimizer)
    with capture.suspended():
        known = members(), rules()
    capture.guard(f"the parameters of {name}", members, known[0], steady)
    capture.guard_methods(type(optimizer), "_rule", "_rule_for", "number")
    capture.guard(f"the options of {name}", rules, known[1], steady)
    capture.effect(lambda: _mark(optimizer), lambda: _save_mark(optimizer), steady)
    kept = partial(_keeps_state, optimizer)
    with dg.no_grad():
        for index, group in enumerate(optimizer.param_groups):
            options = dict(group)
            for param in options["params"]:
                if (grad := param.grad) is not None:
                    _step(optimizer, capture, index, options, (param, grad), steady, kept)


def _step(
    optimizer: Optimizer,
    capture: Capture,
    index: int,
    options: dict[str, Any],
    pair: tuple[Tensor, Tensor],
    steady: Steady,
    kept: Steady,
) -> None:
    param, grad = pair
    with capture.suspended():
        op = optimizer._rule_for(optimizer._rule(options), param)
    group = optimizer.param_groups[index]
    slots = [
        capture.entry(
            lambda: optimizer.state,
            param,
            name,
            partial(optimizer.fresh_state, param, name),
            kept,
        )
        for name in op.state
    ]
    numbers = []
    for name in op.numbers:
        if name == "first":
            # After a step in the same call the buffer is there, whatever it was before.
            started = not slots or slots[0].proxy._data is not slots[0].value  # type: ignore[union-attr]
            first = _no if started else partial(_missing, slots[0])
            number = capture.number((id(param), started), "first", first, kept)
        else:
            label = name if index == 0 else f"{name}{index}"
            read = partial(_number, optimizer, group, name)
            number = capture.number(id(group), label, read, steady)
        numbers.append(number)
    state: list[Any] = [slot.proxy for slot in slots]
    results = apply(op, param, grad, *state, *numbers)
    if not state:
        assign(param, results)
        return
    for t, result in zip((param, *state), results, strict=True):
        assign(t, result)


def _number(optimizer: Optimizer, group: dict[str, Any], name: str) -> float:
    return optimizer.number(dict(group), name)


def _no() -> bool:
    return False


def _missing(slot: EntrySlot) -> bool:
    return slot.present() is None


def _members(optimizer: Optimizer) -> list[Any]:
    """Which groups and parameters there are."""
    found: list[Any] = []
    for group in optimizer.param_groups:
        found += id(group), *map(id, dict.__getitem__(group, "params"))
    return found


def _rules(optimizer: Optimizer) -> list[Any]:
    """The op of a step, of each group."""
    return [optimizer._rule(dict(group)) for group in optimizer.param_groups]


def _is_steady(optimizer: Optimizer) -> bool:
    """Whether every change of what a step depends on is noted, but for methods of the class."""
    cls, base = type(optimizer), dg.optim.Optimizer
    own = all(method.__module__.startswith(_PACKAGE) for method in (cls._rule, cls.number))
    if not own or cls.__setattr__ is not base.__setattr__:
        return False
    if "_rule" in optimizer.__dict__ or "number" in optimizer.__dict__:
        return False
    return type(optimizer.param_groups) is Listed and all(
        map(_group_is_steady, optimizer.param_groups)
    )


def _keeps_state(optimizer: Optimizer) -> bool:
    """Whether every change of the optimizer's state is noted."""
    told = type(optimizer).__setattr__ is dg.optim.Optimizer.__setattr__
    state = optimizer.state
    return told and type(state) is State and all(type(x) is Entries for x in state.values())


def _group_is_steady(group: Any) -> bool:
    if type(group) is not Group or type(dict.get(group, "params")) is not Listed:
        return False
    return all(is_fixed(v) for k, v in dict.items(group) if k not in _NAMED)


def _mark(optimizer: Optimizer) -> None:
    optimizer._opt_called = True


def _save_mark(optimizer: Optimizer) -> Any:
    before = optimizer._opt_called

    def restore() -> None:
        optimizer._opt_called = before

    return restore
