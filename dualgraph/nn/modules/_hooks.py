"""Calling a module: hooks around `forward`, and the scope of what is being traced.

A call without hooks outside of any trace goes straight to `forward`; `_hooked` says at one look
whether a module ever had hooks.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from ... import _changes
from ... import _module_hooks as of_all
from ..._dispatch import captures, symbolic
from ..._tensor import Tensor
from ...autograd.function import Function
from ...autograd.inplace import RemovableHandle

if TYPE_CHECKING:
    from ...tracing.capture import Capture

Hook = Callable[..., Any]


class _Calls(threading.local):
    """The modules whose `forward` is running in a capture of this thread, outermost first."""

    def __init__(self) -> None:
        self.stack: list[Any] = []


_calls = _Calls()


class _Call:
    """The arguments of a call, as the hooks so far have left them, and the hooks that have run."""

    def __init__(self, args: Any, kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs
        self.hooked: set[int] = set()


class Hooked:
    """The call and its hooks: the function side of a Module."""

    _forward_pre_hooks: dict[int, Hook]
    _forward_hooks: dict[int, Hook]
    _backward_pre_hooks: dict[int, Hook]
    _backward_hooks: dict[int, Hook]
    # Which hooks take keyword arguments, and which run even if forward fails, by the hook's id.
    _with_kwargs: dict[int, bool]
    _always_called: dict[int, bool]

    forward: Callable[..., Any]
    _hooked: ClassVar[bool] = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if symbolic.open_graphs and captures.current is not None:
            return self._call_in(captures.current, args, kwargs)
        if self._hooked:
            compiled = self.__dict__.get("_compiled_call")
            if compiled is not None:
                return compiled(*args, **kwargs)
            return self._call_with_hooks(args, kwargs)
        return self.forward(*args, **kwargs)

    def compile(self, **options: Any) -> None:
        """Let calls of this module run compiled from now on.

        Args:
            options: of ``dg.compile``.

        Source: ``torch.nn.Module.compile``.
        """
        from ...tracing import compile

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call_with_hooks(args, kwargs)

        call.__name__ = type(self).__name__
        call.__qualname__ = type(self).__qualname__
        call.__signature__ = inspect.signature(self.forward)  # type: ignore[attr-defined]
        self.__dict__["_compiled_call"] = compile(call, **options)
        self.__dict__["_hooked"] = True

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what `compile` made."""
        return {k: v for k, v in self.__dict__.items() if k != "_compiled_call"}

    # -- registration -----------------------------------------------------------------------------

    def register_forward_pre_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before `forward`; what it returns replaces the arguments.

        With `with_kwargs` it is called as ``hook(module, args, kwargs)`` and returns None or a pair
        of new args and kwargs. `prepend` puts it before the hooks already there.
        """
        handle = self._register(self._forward_pre_hooks, hook, prepend)
        if with_kwargs:
            self._with_kwargs[handle.id] = True
        return handle

    def register_forward_hook(
        self,
        hook: Hook,
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after `forward`; what it returns replaces the output.

        With `with_kwargs` it is called as ``hook(module, args, kwargs, output)``; with
        `always_call` also (with None as output) after a `forward` that raised.
        """
        handle = self._register(self._forward_hooks, hook, prepend)
        if with_kwargs:
            self._with_kwargs[handle.id] = True
        if always_call:
            self._always_called[handle.id] = True
        return handle

    def register_full_backward_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` when the outputs' gradients are known.

        `grad_output` is a tuple; a tuple (or tensor) that the hook returns replaces it.
        """
        return self._register(self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when the inputs' gradients are known.

        Both are tuples over the positional arguments and outputs, None for what is no tensor or has
        no gradient. A tuple (or tensor) that the hook returns replaces `grad_input`.
        """
        return self._register(self._backward_hooks, hook, prepend)

    # PyTorch's hook of old, which saw the gradients of the module's last operation only.
    register_backward_hook = register_full_backward_hook

    def _register(self, hooks: dict[int, Hook], hook: Hook, prepend: bool) -> RemovableHandle:
        self.__dict__["_hooked"] = True
        before = list(hooks.items()) if prepend else []
        if prepend:
            hooks.clear()
        handle = RemovableHandle(hooks, hook)
        hooks.update(before)
        _changes.modules.note()
        return handle

    # -- the call ---------------------------------------------------------------------------------

    def _call_in(self, capture: Capture, args: Any, kwargs: Any) -> Any:
        """A call while tracing: what it records is marked with this module's path."""
        capture.modules[id(self)] = self
        part = _path_below(_calls.stack, self, capture.paths)
        _calls.stack.append(self)
        if part:
            capture.scope.append(part)
        try:
            if self._hooked:
                return self._call_with_hooks(args, kwargs)
            return capture.adapted(self.forward)(*args, **kwargs)
        finally:
            if part:
                capture.scope.pop()
            _calls.stack.pop()

    def _call_with_hooks(self, args: Any, kwargs: Any) -> Any:
        call = _Call(args, kwargs)
        try:
            return self._run_hooks(call)
        except Exception:
            for key, hook in (*of_all.forward.items(), *self._forward_hooks.items()):
                always = key in self._always_called or key in of_all.always_called
                if always and key not in call.hooked:
                    self._run_hook(key, hook, call, None)
            raise

    def _run_hook(self, key: int, hook: Hook, call: _Call, result: Any) -> Any:
        """A forward hook, with the keyword arguments if it takes them."""
        if key in self._with_kwargs or key in of_all.takes_kwargs:
            return hook(self, call.args, call.kwargs, result)
        return hook(self, call.args, result)

    def _run_hooks(self, call: _Call) -> Any:
        for key, hook in [*of_all.forward_pre.items(), *self._forward_pre_hooks.items()]:
            if key in self._with_kwargs:
                pair = hook(self, call.args, call.kwargs)
                if pair is not None:
                    if not (isinstance(pair, tuple) and len(pair) == 2):
                        raise RuntimeError(
                            "forward pre-hook must return None or a tuple of (new_args, "
                            f"new_kwargs), but got {pair}."
                        )
                    call.args, call.kwargs = pair
            else:
                new = hook(self, call.args)
                if new is not None:
                    call.args = new if isinstance(new, tuple) else (new,)
        watch = None
        own = self._backward_hooks or self._backward_pre_hooks
        if own or of_all.backward or of_all.backward_pre:
            watch = _Backward(self)
            call.args = watch.inputs(call.args)
        capture = captures.current if symbolic.open_graphs else None
        forward = self.forward if capture is None else capture.adapted(self.forward)
        result = forward(*call.args, **call.kwargs)
        for key, hook in [*of_all.forward.items(), *self._forward_hooks.items()]:
            call.hooked.add(key)
            new = self._run_hook(key, hook, call, result)
            if new is not None:
                result = new
        return result if watch is None else watch.outputs(result)


def _path_below(stack: list[Any], module: Hooked, known: dict[int, dict[int, str]]) -> str:
    """The path of `module` below the innermost running module; "" for an outermost one.

    `known` are the paths found so far in this capture, which keeps the modules alive.
    """
    if not stack:
        return ""
    paths = known.get(id(stack[-1]))
    if paths is None:
        paths = {id(found): path for path, found in stack[-1].named_modules()}
        known[id(stack[-1])] = paths
    # Not registered: in a plain list, or made on the fly.
    return paths.get(id(module), type(module).__name__)


class _Backward:
    """The backward hooks of one call: marks on its inputs and outputs."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.grad_output: tuple[Any, ...] = ()
        self.has_inputs = False

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        tensors = [a for a in args if isinstance(a, Tensor)]
        self.has_inputs = any(t.requires_grad for t in tensors)
        if not self.has_inputs:
            return args
        where = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        marked = _Mark.apply(lambda gs: self._at_inputs(gs, where, len(args)), *tensors)
        new = iter(marked if isinstance(marked, tuple) else (marked,))
        return tuple(next(new) if isinstance(a, Tensor) else a for a in args)

    def outputs(self, result: Any) -> Any:
        single = isinstance(result, Tensor)
        if not single and not isinstance(result, tuple):
            return result
        items = (result,) if single else result
        tensors = [r for r in items if isinstance(r, Tensor)]
        if not any(t.requires_grad for t in tensors):
            return result
        where = [i for i, r in enumerate(items) if isinstance(r, Tensor)]
        marked = _Mark.apply(lambda gs: self._at_outputs(gs, where, len(items)), *tensors)
        new = iter(marked if isinstance(marked, tuple) else (marked,))
        if single:
            return next(new)
        return tuple(next(new) if isinstance(r, Tensor) else r for r in items)

    def _at_outputs(self, gs: tuple[Any, ...], where: list[int], count: int) -> tuple[Any, ...]:
        full = _spread(gs, where, count)
        for hook in (*of_all.backward_pre.values(), *self.module._backward_pre_hooks.values()):
            full = _replaced(full, hook(self.module, full))
        self.grad_output = full
        if not self.has_inputs:
            for hook in self._hooks():
                if hook(self.module, (), full) is not None:
                    raise RuntimeError(
                        "backward hooks of a module whose inputs require no gradient cannot return "
                        "gradients of them"
                    )
        return tuple(full[i] for i in where)

    def _hooks(self) -> list[Hook]:
        return [*of_all.backward.values(), *self.module._backward_hooks.values()]

    def _at_inputs(self, gs: tuple[Any, ...], where: list[int], count: int) -> tuple[Any, ...]:
        full = _spread(gs, where, count)
        for hook in self._hooks():
            full = _replaced(full, hook(self.module, full, self.grad_output))
        return tuple(full[i] for i in where)


def _spread(gs: tuple[Any, ...], where: list[int], count: int) -> tuple[Any, ...]:
    full: list[Any] = [None] * count
    for i, g in zip(where, gs):
        full[i] = g
    return tuple(full)


def _replaced(old: tuple[Any, ...], new: Any) -> tuple[Any, ...]:
    if new is None:
        return old
    new = tuple(new) if isinstance(new, tuple) else (new,)
    if len(new) != len(old):
        raise RuntimeError(
            f"Backward hook returned an invalid number of grad_input, got {len(new)}, but expected "
            f"{len(old)}"
        )
    return new  # type: ignore[no-any-return]


class _Mark(Function):
    """The identity on several tensors, whose gradients pass through a function."""

    @staticmethod
    def forward(ctx: Any, at: Hook, *tensors: Tensor) -> Any:
        ctx.at = at
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(t for t in tensors if not t.dtype.is_differentiable))
        # Detached one by one: the same tensor may be passed twice.
        return tuple(t.detach() for t in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return (None, *ctx.at(grads))
