"""The guards of a trace, checked by generated code.

Most of what a trace depends on cannot change without a note of it (``_changes``): attributes and
members of modules, and what kind of tensors the parameters are. That is looked at only when there
was one, so that what a call costs does not grow with the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .. import _changes
from .._module_hooks import global_hooks
from .._tensor import Tensor
from ..autograd.tape import Leaf
from .guards import NAMES, Difference, Guard
from .places import Constants

_FAILURES = (AttributeError, LookupError, TypeError, ValueError, NameError)
_MEMBERS = (
    *("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks"),
    *("_backward_hooks", "_backward_pre_hooks"),
)


class State:
    """What a tensor of the state is like: dtype, shape, whether it requires a gradient, hooks."""

    __slots__ = ("dtype", "hooks", "is_view", "shape", "tensor", "wants")

    def __init__(self, t: Tensor, *, hooked: bool) -> None:
        self.tensor = t
        self.dtype, self.shape = t._data.dtype, t._data.shape
        self.wants = t.requires_grad
        self.is_view = t._base is not None
        self.hooks = _hooks_of(t) if hooked else None

    def difference(self) -> Difference | None:
        """What the tensor is not like any more."""
        t = self.tensor
        if t._data.dtype != self.dtype or t._data.shape != self.shape:
            before = f"{self.dtype} {list(self.shape)}"
            return Difference("a tensor of the state", before, str(t._type()))
        if t.requires_grad is not self.wants:
            name = "requires_grad of a tensor of the state"
            return Difference(name, str(self.wants), str(t.requires_grad))
        if self.hooks is not None and _hooks_of(t) != self.hooks:
            return Difference("the hooks of a tensor of the state", "", "")
        return None

    def lines(self, constants: Constants) -> Iterator[str]:
        """Code that returns False where there is a difference."""
        t = constants.name(self.tensor)
        yield f"v = {t}._data"
        dtype, shape = constants.name(self.dtype), constants.name(self.shape)
        yield f"if v.dtype != {dtype} or v.shape != {shape}: return False"
        if self.is_view:
            yield f"if {t}.requires_grad is not {self.wants}: return False"
        else:
            yield f"if {t}._fn is {'' if self.wants else 'not '}None: return False"
        if self.hooks is not None and self.wants:
            yield f"if hooks_of({t}) != {constants.name(self.hooks)}: return False"


def _hooks_of(t: Tensor) -> list[Any]:
    fn = t._fn
    if type(fn) is not Leaf:
        return []
    return [*(fn.hooks or {}).values(), *(fn.post_hooks or {}).values()]


class Members:
    """Of what class a module is, and which tensors, submodules and hooks it has."""

    __slots__ = ("cls", "forward", "held", "module")

    def __init__(self, module: Any) -> None:
        own = module.__dict__
        self.module = module
        self.cls = type(module)
        self.held = {name: list(own[name].values()) for name in _MEMBERS}
        self.forward = own.get("forward")

    def difference(self) -> Difference | None:
        """What the module does not have any more, or has now."""
        own = self.module.__dict__
        same = type(self.module) is self.cls and own.get("forward") is self.forward
        if same and all(_ids(own[name].values()) == _ids(x) for name, x in self.held.items()):
            return None
        name = f"the parameters, buffers, submodules or hooks of a {self.cls.__name__}"
        return Difference(name, "", "")

    def lines(self, constants: Constants) -> Iterator[str]:
        """Code that returns False where there is a difference."""
        own = constants.name(self.module)
        yield f"if type({own}) is not {constants.name(self.cls)}: return False"
        yield f"v = {own}.__dict__"
        for name, held in self.held.items():
            if held:
                known = constants.name(_ids(held))
                yield f"if [*map(id, v[{name!r}].values())] != {known}: return False"
        empty = " or ".join(f"v[{name!r}]" for name, held in self.held.items() if not held)
        if empty:
            yield f"if {empty}: return False"
        if self.forward is None:
            yield "if 'forward' in v: return False"
        else:
            yield f"if v.get('forward') is not {constants.name(self.forward)}: return False"


def _ids(values: Iterable[Any]) -> list[int]:
    return [*map(id, values)]


class Guards:
    """All that a trace took for granted, checked quickly."""

    def __init__(
        self,
        guards: Iterable[Guard],
        state: Iterable[Tensor] = (),
        modules: Iterable[Any] = (),
        *,
        hooked: bool = False,
    ) -> None:
        """Of `guards`, and of what tensors of the `state` and `modules` are like now.

        With `hooked`, what hooks the tensors have matters too.
        """
        found = {(g.place.key, g.test, id(g.expected)): g for g in guards}
        self.guards = list(found.values())
        self.state = [State(t, hooked=hooked) for t in state]
        self.modules = [*map(Members, modules)]
        self._global = global_hooks()
        self._always = _compiled([g for g in self.guards if not g.told])
        self._told = [g for g in self.guards if g.told]
        self._of_modules: Callable[[], bool] | None = None
        self._of_tensors: Callable[[], bool] | None = None
        self._modules_at = self._tensors_at = -1

    @property
    def always(self) -> Callable[[], bool] | None:
        """What must be asked at every call: whether it holds what may change without a note."""
        return self._always

    def are_at(self, modules: int, tensors: int) -> bool:
        """Whether the rest holds as long as the counts of changes are these."""
        return self._modules_at == modules and self._tensors_at == tensors

    def hold(self) -> bool:
        """Whether a call now would be traced the same."""
        always = self._always
        if always is not None and not always():
            return False
        at = _changes.modules.count
        if self._modules_at != at:
            if self._of_modules is None:  # generated now: many guards are never asked again
                self._of_modules = _compiled(self._told, modules=self.modules) or _nothing
            if not self._of_modules() or (self.modules and global_hooks() != self._global):
                return False
            self._modules_at = at
        at = _changes.tensors.count
        if self._tensors_at != at:
            if self._of_tensors is None:
                inside = [g for g in self._told if g.inside]
                self._of_tensors = _compiled(inside, state=self.state) or _nothing
            if not self._of_tensors():
                return False
            self._tensors_at = at
        return True

    def difference(self) -> Difference | None:
        """The first thing that is not as it was; None if all is."""
        for g in self.guards:
            if not g.holds():
                return g.difference()
        for state in self.state:
            if (found := state.difference()) is not None:
                return found
        if self.modules and global_hooks() != self._global:
            return Difference("the hooks of all modules", "", "")
        for module in self.modules:
            if (found := module.difference()) is not None:
                return found
        return None


def _nothing() -> bool:
    return True


def _compiled(
    guards: Iterable[Guard],
    state: Iterable[State] = (),
    modules: Iterable[Members] = (),
) -> Callable[[], bool] | None:
    """One function for all the comparisons; None where there are none."""
    constants = Constants()
    constants.update(NAMES, hooks_of=_hooks_of, failures=_FAILURES)
    lines: list[str] = []
    for g in guards:
        lines += _lines_of_guard(g, constants)
    for s in state:
        lines += s.lines(constants)
    for m in modules:
        lines += m.lines(constants)
    if not lines:
        return None
    body = "\n".join(f"        {line}" for line in lines)
    code = (
        f"def hold():\n    try:\n{body}\n        return True\n"
        "    except failures:\n        return False\n"
    )
    space: dict[str, Any] = constants
    exec(compile(code, "<guards>", "exec"), space)
    return space["hold"]  # type: ignore[no-any-return]


def _lines_of_guard(g: Guard, constants: Constants) -> list[str]:
    if g.test is None:
        return [f"if not {constants.name(g)}.holds(): return False"]
    test = g.test
    for name, value in g.constants.items():
        if name != "alive":
            test = _renamed(test, name, constants.name(value))
    return [f"v = {g.place.source(constants)}", f"if not ({test}): return False"]


def _renamed(test: str, name: str, new: str) -> str:
    return re.sub(rf"\b(?<!\.){name}\b", new, test)
