"""Hooks of all modules at once: calls, gradients, and what is registered.

Apart from `nn`, which is imported when it is first used: compiled calls look at them, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .autograd.inplace import RemovableHandle

Hook = Callable[..., Any]

forward: dict[int, Hook] = {}
forward_pre: dict[int, Hook] = {}
backward: dict[int, Hook] = {}
backward_pre: dict[int, Hook] = {}
# Which forward hooks take keyword arguments, and which run even if forward fails, by id.
takes_kwargs: dict[int, bool] = {}
always_called: dict[int, bool] = {}
# Called with the module, the name and what is registered: "parameter", "buffer" or "module".
registration: dict[str, dict[int, Hook]] = {"parameter": {}, "buffer": {}, "module": {}}


def global_hooks() -> list[Hook]:
    """The hooks that run at every call of a module."""
    kinds = (forward_pre, forward, backward_pre, backward)
    return [hook for hooks in kinds for hook in hooks.values()]


def registered(what: str, module: Any, name: str, value: Any) -> Any:
    """`value`, or what a registration hook puts in its place."""
    for hook in list(registration[what].values()):
        new = hook(module, name, value)
        if new is not None:
            value = new
    return value


def _register(hooks: dict[int, Hook], hook: Hook) -> RemovableHandle:
    from .nn.modules._hooks import Hooked

    Hooked._hooked = True  # every module looks for hooks from now on
    return RemovableHandle(hooks, hook)


def register_module_forward_pre_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, args)`` before the forward of every module."""
    return _register(forward_pre, hook)


def register_module_forward_hook(
    hook: Hook, *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """Call ``hook(module, args, output)`` after the forward of every module.

    Options as for ``Module.register_forward_hook``.
    """
    handle = _register(forward, hook)
    if with_kwargs:
        takes_kwargs[handle.id] = True
    if always_call:
        always_called[handle.id] = True
    return handle


def register_module_full_backward_pre_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, grad_output)`` when the gradients of a module's outputs are known."""
    return _register(backward_pre, hook)


def register_module_full_backward_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, grad_input, grad_output)`` when those of its inputs are known."""
    return _register(backward, hook)


# PyTorch's hook of old, which saw the gradients of a module's last operation only.
register_module_backward_hook = register_module_full_backward_hook


def register_module_parameter_registration_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, name, parameter)`` for each parameter that is registered.

    What it returns, if anything, is registered instead.
    """
    return RemovableHandle(registration["parameter"], hook)


def register_module_buffer_registration_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, name, buffer)`` for each buffer that is registered."""
    return RemovableHandle(registration["buffer"], hook)


def register_module_module_registration_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, name, submodule)`` for each module that is registered."""
    return RemovableHandle(registration["module"], hook)
