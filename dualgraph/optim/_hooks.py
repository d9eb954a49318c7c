"""Functions that are called before and after an optimizer's step, saving and loading."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dualgraph import _changes
from dualgraph._dispatch import captures
from dualgraph.autograd.inplace import RemovableHandle
from dualgraph.optim._group import Entries
from dualgraph_compiler.errors import ArgumentError

if TYPE_CHECKING:
    from dualgraph.optim.optimizer import Optimizer

__all__ = [
    "Hooked",
    "register_optimizer_step_post_hook",
    "register_optimizer_step_pre_hook",
    "with_hooks",
]

_before_every: dict[int, Any] = Entries()
_after_every: dict[int, Any] = Entries()

HOOKS = (
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` before every step of every optimizer.

    Source: ``torch.optim.optimizer.register_optimizer_step_pre_hook``.
    """
    return RemovableHandle(_before_every, hook, _changes.optimizers)


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` after every step of every optimizer.

    Source: ``torch.optim.optimizer.register_optimizer_step_post_hook``.
    """
    return RemovableHandle(_after_every, hook, _changes.optimizers)


class Hooked:
    """The hooks of one optimizer."""

    _optimizer_step_pre_hooks: dict[int, Any]
    _optimizer_step_post_hooks: dict[int, Any]
    _optimizer_state_dict_pre_hooks: dict[int, Any]
    _optimizer_state_dict_post_hooks: dict[int, Any]
    _optimizer_load_state_dict_pre_hooks: dict[int, Any]
    _optimizer_load_state_dict_post_hooks: dict[int, Any]

    def _without_hooks(self) -> None:
        for name in HOOKS:
            self.__dict__[name] = Entries()

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step.

        A pair that it returns takes the place of the step's arguments.
        """
        return RemovableHandle(self._optimizer_step_pre_hooks, hook, _changes.optimizers)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return RemovableHandle(self._optimizer_step_post_hooks, hook, _changes.optimizers)

    def register_state_dict_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(optimizer)`` before `state_dict`; `prepend`: before other hooks."""
        return _register(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` on what `state_dict` gives; a result replaces it."""
        return _register(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` on what is to be loaded; a result replaces it."""
        return _register(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(optimizer)`` after `load_state_dict`."""
        return _register(self._optimizer_load_state_dict_post_hooks, hook, prepend)


def _register(hooks: dict[int, Any], hook: Any, prepend: bool) -> RemovableHandle:
    others = dict(hooks) if prepend else {}
    handle = RemovableHandle(hooks, hook, _changes.optimizers)
    for key, value in others.items():  # behind the new one
        del hooks[key]
        hooks[key] = value
    return handle


def with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """A `step` method that calls hooks, once where it is made of the step of a base class."""

    @functools.wraps(step)
    def stepping(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        held = self.__dict__
        before, after = held["_optimizer_step_pre_hooks"], held["_optimizer_step_post_hooks"]
        if captures.current is not None:
            _guard(self)
        hooks = before or after or _before_every or _after_every
        if not hooks or "_stepping" in held:
            return step(self, *args, **kwargs)
        held["_stepping"] = True
        try:
            for hook in (*_before_every.values(), *before.values()):
                changed = hook(self, (self, *args), kwargs)
                if changed is not None:
                    if not isinstance(changed, tuple) or len(changed) != 2:
                        raise ArgumentError(
                            "a step's pre hook must return None or a tuple of (new_args, "
                            f"new_kwargs), but got {changed}"
                        )
                    (_, *args), kwargs = changed
            result = step(self, *args, **kwargs)
            for hook in (*after.values(), *_after_every.values()):
                hook(self, (self, *args), kwargs)
        finally:
            del held["_stepping"]
        return result

    return stepping


def _guard(optimizer: Optimizer) -> None:
    """Let a compiled step be found only while there are the same hooks."""

    def present() -> list[int]:
        own = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
        return [id(h) for hooks in (*own, _before_every, _after_every) for h in hooks.values()]

    assert captures.current is not None
    what = f"the hooks of {type(optimizer).__name__}"
    captures.current.guard(what, present, present(), lambda: True)
