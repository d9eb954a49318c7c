"""Tensors of a module that are functions of other ones: ``register_parametrization``.

A parametrized module is of a class of its own, in which the tensor is a property: read, it is
computed from the *originals*, the parameters that are trained; assigned to, originals are found
that give it, if the parametrization knows how (`right_inverse`).
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from dualgraph._tensor import Tensor
from dualgraph.autograd.grad_mode import no_grad
from dualgraph.nn.modules.container import ModuleDict, ModuleList
from dualgraph.nn.modules.module import Module
from dualgraph.nn.parameter import Parameter
from dualgraph_compiler.errors import ArgumentError

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "transfer_parametrizations_and_params",
    "type_before_parametrizations",
]

T = TypeVar("T", bound=Module)


class _Cache(threading.local):
    """What was computed inside of `cached` blocks of this thread, by module and name."""

    def __init__(self) -> None:
        self.depth = 0
        self.found: dict[tuple[int, str], Tensor] = {}


_cache = _Cache()


@contextmanager
def cached() -> Iterator[None]:
    """Compute parametrized tensors once inside, however often they are read.

    Inside, what is assigned to originals is not seen.
    """
    _cache.depth += 1
    try:
        yield
    finally:
        _cache.depth -= 1
        if not _cache.depth:
            _cache.found = {}


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, first applied first, and its originals.

    There is one original, `original`, or several, `original0`, `original1`, ..., where the
    `right_inverse` of the first parametrization gives several tensors.

    Args:
        modules: the parametrizations.
        original: the tensor as it was.
        unsafe: do not check that dtype and shape stay.

    Raises:
        ArgumentError: they do not.
    """

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        if not modules:
            raise ArgumentError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        with no_grad():
            new = _inverted(list(self), original)
        self.is_tensor = isinstance(new, Tensor)
        if not self.is_tensor and not isinstance(new, Sequence):
            raise ArgumentError(
                "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                f"Got {type(new).__name__}"
            )
        self.ntensors = 1 if self.is_tensor else len(new)
        if self.is_tensor:
            self._keep(original, new)
        else:
            self._keep_several(original, new)
        if not unsafe:
            self._check(original)

    def _keep(self, original: Tensor, new: Tensor) -> None:
        if new.dtype is not original.dtype or new.device != original.device:
            raise ArgumentError(
                "When `right_inverse` outputs one tensor, it may not change the dtype or device: "
                f"{original.dtype} became {new.dtype}"
            )
        with no_grad():
            if new is not original:  # the same parameter, so that an optimizer goes on having it
                original.data = new.detach().clone()
        _put(self, "original", original)

    def _keep_several(self, original: Tensor, new: Sequence[Any]) -> None:
        for i, tensor in enumerate(new):
            if not isinstance(tensor, Tensor):
                raise ArgumentError(
                    "'right_inverse' must return a Tensor or a Sequence of tensors (list, "
                    f"tuple...). Got element {i} of the sequence with type "
                    f"{type(tensor).__name__}."
                )
            value = tensor.detach().clone()
            if isinstance(original, Parameter):
                floating = value.dtype.is_differentiable
                value = Parameter(value, requires_grad=original.requires_grad and floating)
            _put(self, f"original{i}", value)

    def _check(self, original: Tensor) -> None:
        with no_grad():
            made = self()
        if not isinstance(made, Tensor):
            raise ArgumentError(f"A parametrization must return a tensor. Got {type(made)}.")
        for what in ("dtype", "shape"):
            before, after = getattr(original, what), getattr(made, what)
            if before != after:
                raise ArgumentError(
                    f"Registering a parametrization may not change the {what} of the tensor, "
                    f"unless `unsafe` flag is enabled: {before} became {after}"
                )

    def originals(self) -> list[Tensor]:
        """The tensors that the parametrized one is computed from."""
        if self.is_tensor:
            return [self.original]
        return [getattr(self, f"original{i}") for i in range(self.ntensors)]

    def right_inverse(self, value: Tensor) -> None:
        """Make the originals such that the parametrized tensor is `value`.

        Raises:
            ArgumentError: a parametrization does not know how, or gives other originals.
        """
        with no_grad():
            new = _inverted(list(self), value, strict=True)
            given = [new] if self.is_tensor else list(new)
            if len(given) != self.ntensors or not all(isinstance(t, Tensor) for t in given):
                raise ArgumentError(
                    f"'right_inverse' must return a sequence of tensors of length {self.ntensors}."
                )
            for original, tensor in zip(self.originals(), given, strict=True):
                if original.dtype is not tensor.dtype:
                    raise ArgumentError(
                        f"The tensor returned by `right_inverse` has dtype {tensor.dtype} while "
                        f"the original has dtype {original.dtype}"
                    )
                if original.shape == tensor.shape:
                    original.copy_(tensor)
                else:
                    original.data = tensor.detach().clone()

    def forward(self) -> Tensor:
        """The parametrized tensor."""
        x = self[0](*self.originals())
        for parametrization in list(self)[1:]:
            x = parametrization(x)
        return x  # type: ignore[no-any-return]


def _inverted(modules: list[Module], value: Any, strict: bool = False) -> Any:
    """The originals for a value: all right inverses, the last parametrization's first."""
    for module in reversed(modules):
        inverse = getattr(module, "right_inverse", None)
        if inverse is None:
            if strict:
                raise ArgumentError(
                    f"parametrization {type(module).__name__} does not implement right_inverse."
                )
            continue
        try:
            value = inverse(value)
        except NotImplementedError:
            if strict:
                raise
    return value


def _put(module: Module, name: str, value: Tensor) -> None:
    if isinstance(value, Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)


# -- the module's own class -----------------------------------------------------------------------


def _deepcopy(self: Any, memo: dict[int, Any]) -> Any:
    replica = self.__new__(type(self))
    memo[id(self)] = replica
    replica.__setstate__(copy.deepcopy(dict(self.__dict__), memo))
    return replica


def _no_pickle(self: Any) -> Any:
    raise RuntimeError(
        "Serialization of parametrized modules is only supported through state_dict()."
    )


def _own_class(module: Module) -> None:
    """Give the module a class of its own, for properties of its own."""
    cls = type(module)
    body = {"__getstate__": _no_pickle, "__module__": cls.__module__}
    if not hasattr(cls, "__deepcopy__"):
        body["__deepcopy__"] = _deepcopy
    module.__class__ = type(f"Parametrized{cls.__name__}", (cls,), body)


def _own_property(module: Module, name: str) -> None:
    def get(self: Any) -> Tensor:
        held = self.parametrizations[name]
        if not _cache.depth:
            return held()  # type: ignore[no-any-return]
        key = id(self), name
        if key not in _cache.found:
            _cache.found[key] = held()
        return _cache.found[key]

    def put(self: Any, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)

    setattr(type(module), name, property(get, put))


def register_parametrization(
    module: T, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> T:
    """Make a parameter or buffer of `module` the result of ``parametrization(original)``.

    The original, which is trained, is ``module.parametrizations.<name>.original``. Several
    parametrizations of one tensor are applied in the order of registration.

    Args:
        parametrization: may have a method ``right_inverse(value)``, which gives the original (or a
            tuple of several) for a value.
        unsafe: do not check that dtype and shape stay.

    Raises:
        ArgumentError: there is no such tensor, or the checks fail.

    Source: torch.nn.utils.parametrize.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        held: Any = module.parametrizations
        held[tensor_name].append(parametrization)
        if not unsafe:
            held[tensor_name]._check(getattr(module, tensor_name))
        held[tensor_name].unsafe |= unsafe
        return module
    if tensor_name not in module._buffers and tensor_name not in module._parameters:
        raise ArgumentError(
            f"Module '{module}' does not have a parameter, a buffer, or a parametrized element "
            f"with name '{tensor_name}'"
        )
    # Checked before the module is changed.
    found = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe=unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        _own_class(module)
        module.parametrizations = ModuleDict()
    _own_property(module, tensor_name)
    module.parametrizations[tensor_name] = found
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a module has parametrized tensors, or this one is."""
    held = module.__dict__.get("_modules", {}).get("parametrizations")
    if not isinstance(held, ModuleDict):
        return False
    return len(held) > 0 if tensor_name is None else tensor_name in held


def remove_parametrizations(
    module: Module, tensor_name: str, leave_parametrized: bool = True
) -> Module:
    """Make a parametrized tensor an ordinary one again.

    Args:
        leave_parametrized: keep its value as it is; else that of the (only) original.

    Raises:
        ArgumentError: it is not parametrized, or has several originals to be left.
    """
    if not is_parametrized(module, tensor_name):
        raise ArgumentError(f"Module {module} does not have a parametrization on {tensor_name}")
    held: Any = module.parametrizations[tensor_name]
    original = held.originals()[0]
    if not leave_parametrized and not held.is_tensor:
        raise ArgumentError(
            "Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is "
            "parametrized in terms of a sequence of tensors."
        )
    if leave_parametrized:
        with no_grad():
            value = getattr(module, tensor_name)
        if held.is_tensor:
            original.data = value.detach().clone()
        elif isinstance(original, Parameter):
            wanted = any(t.requires_grad for t in held.originals())
            original = Parameter(value.detach().clone(), requires_grad=wanted)
        else:
            original = value
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _put(module, tensor_name, original)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class that a module was of before it was parametrized."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Parametrize a module as another one is, with copies of its originals and parametrizations.

    Raises:
        ArgumentError: `from_module` has no parametrization of that name.
    """
    if not is_parametrized(from_module, tensor_name):
        raise ArgumentError(
            f"Module {from_module} does not have a parametrization on {tensor_name}"
        )
    held: Any = from_module.parametrizations
    for name in list(held) if tensor_name is None else [tensor_name]:
        if not hasattr(to_module, name):
            setattr(to_module, name, copy.deepcopy(getattr(from_module, name)))
        for parametrization in held[name]:
            register_parametrization(to_module, name, parametrization)
        own: Any = to_module.parametrizations[name]
        with no_grad():
            for mine, theirs in zip(own.originals(), held[name].originals(), strict=True):
                mine.data = theirs.detach().clone()
    return to_module
