"""state_dict and load_state_dict: a module's tensors by dotted name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from dualgraph_compiler.errors import SerializationError

from ..._tensor import Size, Tensor
from ...autograd.grad_mode import no_grad
from ...autograd.inplace import RemovableHandle
from ..parameter import Parameter, is_lazy

if TYPE_CHECKING:
    from .module import Module

_EXTRA = "_extra_state"


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` did not find in the state, and what it did not expect there."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"_IncompatibleKeys(missing_keys={self.missing_keys}, "
            f"unexpected_keys={self.unexpected_keys})"
        )

    def __str__(self) -> str:
        return repr(self)


class StateDict(OrderedDict[str, Any]):
    """An ordered dict whose `_metadata` holds each module's format version by path."""

    _metadata: dict[str, dict[str, Any]]


class Stateful:
    """Reading and restoring state: the checkpoint side of a Module."""

    # The format of this class's own entries; raised when they change.
    _version: int = 1

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent_buffers_set: set[str]
    _state_dict_hooks: dict[int, Callable[..., Any]]
    _state_dict_pre_hooks: dict[int, Callable[..., Any]]
    _load_state_dict_pre_hooks: dict[int, Callable[..., Any]]
    _load_state_dict_post_hooks: dict[int, Callable[..., Any]]

    # -- writing ----------------------------------------------------------------------------------

    def state_dict(
        self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """All parameters and persistent buffers by dotted name.

        Args:
            destination: a dict to add to; a new one by default.
            prefix: what the names start with.
            keep_vars: the tensors themselves, instead of detached ones that share their memory.
        """
        if destination is None:
            destination = StateDict()
            destination._metadata = {}
        metadata: dict[str, Any] = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        for hook in list(self._state_dict_pre_hooks.values()):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(
                    destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars
                )
        for hook in list(self._state_dict_hooks.values()):
            new = hook(self, destination, prefix, metadata)
            destination = destination if new is None else new
        return destination  # type: ignore[no-any-return]

    def _own_tensors(self) -> Iterator[tuple[str, Tensor | None]]:
        """This module's own parameters and persistent buffers."""
        yield from self._parameters.items()
        for name, buffer in self._buffers.items():
            if name not in self._non_persistent_buffers_set:
                yield name, buffer

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        for name, tensor in self._own_tensors():
            if tensor is not None:
                kept = keep_vars or is_lazy(tensor)
                destination[prefix + name] = tensor if kept else tensor.detach()
        if type(self).get_extra_state is not Stateful.get_extra_state:
            destination[prefix + _EXTRA] = self.get_extra_state()

    def get_extra_state(self) -> Any:
        """State that is no tensor, for the state_dict; override together with set_extra_state."""
        raise RuntimeError(
            "Reached a code path in Module.get_extra_state() that should never be called."
        )

    def set_extra_state(self, state: Any) -> None:
        """Restore what get_extra_state gave."""
        raise RuntimeError(
            "Reached a code path in Module.set_extra_state() that should never be called."
        )

    # -- reading ----------------------------------------------------------------------------------

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy the tensors of `state_dict` into this module and those below.

        Args:
            state_dict: tensors by dotted name.
            strict: the names must be exactly those of this module's own state_dict.
            assign: keep the given tensors themselves instead of copying their values.

        Returns:
            The names missing and unexpected.

        Raises:
            TypeError: `state_dict` is no mapping.
            SerializationError: names or sizes do not fit; the message lists all of them.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        metadata = getattr(state_dict, "_metadata", None)
        state = OrderedDict(state_dict)
        keys = IncompatibleKeys([], [])
        errors: list[str] = []

        def load(module: Any, state: Any, prefix: str) -> None:
            local = {} if metadata is None else dict(metadata.get(prefix[:-1], {}))
            local["assign_to_params_buffers"] = assign
            module._load_from_state_dict(state, prefix, local, True, *keys, errors)
            for name, child in module._modules.items():
                if child is not None:
                    below = f"{prefix}{name}."
                    load(child, {k: v for k, v in state.items() if k.startswith(below)}, below)
            for hook in list(module._load_state_dict_post_hooks.values()):
                hook(module, keys)

        load(self, state, "")
        if strict:
            if keys.unexpected_keys:
                errors.insert(0, f"Unexpected key(s) in state_dict: {_quoted(keys[1])}. ")
            if keys.missing_keys:
                errors.insert(0, f"Missing key(s) in state_dict: {_quoted(keys[0])}. ")
        if errors:
            raise SerializationError(
                f"Error(s) in loading state_dict for {type(self).__name__}:\n\t"
                + "\n\t".join(errors)
            )
        return keys

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take this module's own entries (names starting with `prefix`) from `state_dict`."""
        for hook in list(self._load_state_dict_pre_hooks.values()):
            hook(
                self,
                state_dict,
                prefix,
                local_metadata,
                strict,
                missing_keys,
                unexpected_keys,
                error_msgs,
            )
        assign = bool(local_metadata.get("assign_to_params_buffers"))
        own = {n: t for n, t in self._own_tensors() if t is not None}
        for name, tensor in own.items():
            key = prefix + name
            if key not in state_dict:
                missing_keys.append(key)
                continue
            problem = self._take(name, tensor, key, state_dict[key], assign)
            if problem:
                error_msgs.append(problem)
        has_extra = type(self).set_extra_state is not Stateful.set_extra_state
        if has_extra and prefix + _EXTRA in state_dict:
            self.set_extra_state(state_dict[prefix + _EXTRA])
        elif has_extra:
            missing_keys.append(prefix + _EXTRA)
        for key in state_dict:
            if key.startswith(prefix) and key != prefix + _EXTRA:
                name, _, rest = key[len(prefix) :].partition(".")
                if not (name in self._modules if rest else name in own):
                    unexpected_keys.append(key)
            elif key == prefix + _EXTRA and not has_extra:
                unexpected_keys.append(key)

    def _take(self, name: str, tensor: Tensor, key: str, value: Any, assign: bool) -> str:
        """Put `value` in the place of the tensor `name`; the problem in words, or ""."""
        if not isinstance(value, Tensor):
            return (
                f'While copying the parameter named "{key}", expected a Tensor from checkpoint but '
                f"received {type(value)}"
            )
        if is_lazy(tensor):
            return "" if is_lazy(value) else f"{key} has no size yet to copy into"
        if is_lazy(value):
            return f"{key} has no size yet to be copied"
        if value.ndim == 1 and tensor.ndim == 0 and value.shape[0] == 1:
            value = value[0]  # 0-d tensors were once saved with one dimension
        if value.shape != tensor.shape:
            return (
                f"size mismatch for {key}: copying a param with shape {_size(value)} from "
                f"checkpoint, the shape in current model is {_size(tensor)}."
            )
        if not assign:
            with no_grad():
                tensor.copy_(value)
        elif name in self._parameters and not isinstance(value, Parameter):
            setattr(self, name, Parameter(value, requires_grad=tensor.requires_grad))
        else:
            setattr(self, name, value)
        return ""

    # -- hooks ------------------------------------------------------------------------------------

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before `state_dict` reads this module."""
        return RemovableHandle(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, metadata)`` after `state_dict` has."""
        return RemovableHandle(self._state_dict_hooks, partial(_in_place, hook))

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, ...)`` before entries are taken from it."""
        return RemovableHandle(self._load_state_dict_pre_hooks, hook)

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """As `register_state_dict_post_hook`; the hook may return another dict. PyTorch's own."""
        return RemovableHandle(self._state_dict_hooks, hook)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], with_module: bool = False
    ) -> RemovableHandle:
        """As `register_load_state_dict_pre_hook`, without the module unless asked for."""
        called = hook if with_module else lambda _module, *rest: hook(*rest)
        return RemovableHandle(self._load_state_dict_pre_hooks, called)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after; it may change the lists in place."""
        return RemovableHandle(self._load_state_dict_post_hooks, hook)


def _in_place(hook: Callable[..., Any], *args: Any) -> None:
    """Call a hook that may change the state_dict, but not give another one."""
    if hook(*args) is not None:
        raise RuntimeError("state_dict post-hook must return None")


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{k}"' for k in keys)


def _size(tensor: Tensor) -> str:
    return str(Size(tensor.shape))
