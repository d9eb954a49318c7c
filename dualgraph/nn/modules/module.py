"""Module: the base class of layers and models, with PyTorch's interface.

Its sides live in files of their own: what it holds (`_tree`), how it is called (`_hooks`), its
checkpoints (`_state`). Here they come together with modes, conversion and the printed form.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dtypes import DType

from ..._changes import Members, Own
from ..._module_hooks import (
    register_module_backward_hook,
    register_module_buffer_registration_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from ..._tensor import Tensor
from ...autograd.grad_mode import no_grad
from ...functions.creation import empty_like
from ..parameter import is_lazy
from ._hooks import Hooked
from ._state import Stateful
from ._tree import KINDS, Tree

__all__ = [
    "Module",
    "register_module_backward_hook",
    "register_module_buffer_registration_hook",
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
    "register_module_full_backward_hook",
    "register_module_full_backward_pre_hook",
    "register_module_module_registration_hook",
    "register_module_parameter_registration_hook",
]

T = TypeVar("T", bound="Module")


def _forward_unimplemented(self: Module, *input: Any) -> Any:
    raise NotImplementedError(
        f'Module [{type(self).__name__}] is missing the required "forward" function'
    )


class Module(Tree, Hooked, Stateful):
    """Base class of all layers and models.

    A subclass assigns parameters and submodules to attributes in ``__init__`` (after calling
    ``super().__init__()``) and defines `forward`; calling the module runs it.
    """

    training: bool
    forward: Callable[..., Any] = _forward_unimplemented

    # Whether `__init__` calls on the next class of the method resolution order, with what it got.
    call_super_init: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init and (args or kwargs):
            given = f"{len(args) + 1} arguments" if args else f"argument {next(iter(kwargs))!r}"
            raise TypeError(f"{type(self).__name__}.__init__() got unexpected {given}")
        held: dict[str, Any] = dict(self.__dict__)
        held["training"] = True
        held.update((kind, Members()) for kind in KINDS)
        held["_non_persistent_buffers_set"] = set()
        for name in (
            "_forward_pre_hooks",
            "_forward_hooks",
            "_backward_pre_hooks",
            "_backward_hooks",
            "_with_kwargs",
            "_always_called",
            "_state_dict_hooks",
            "_state_dict_pre_hooks",
            "_load_state_dict_pre_hooks",
            "_load_state_dict_post_hooks",
        ):
            held[name] = OrderedDict()
        object.__setattr__(self, "__dict__", Own(held))
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    # -- modes ------------------------------------------------------------------------------------

    def train(self: T, mode: bool = True) -> T:
        """Set training mode (dropout drops, batch norm uses the batch) here and below."""
        if not isinstance(mode, bool):
            raise ValueError(f"training mode is expected to be boolean, got {mode!r}")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: T) -> T:
        """Set evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self: T, requires_grad: bool = True) -> T:
        """Whether the parameters here and below are to be trained."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget (or, with `set_to_none=False`, zero) the gradients here and below."""
        for param in self.parameters():
            if set_to_none:
                param.grad = None  # whatever it was: a trace does not depend on it
            elif (grad := param.grad) is not None:
                with no_grad():
                    grad.detach_().zero_()

    def apply(self: T, fn: Callable[[Module], Any]) -> T:
        """Call `fn` on every module below, then on this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # -- conversion -------------------------------------------------------------------------------

    def _apply(self: T, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> T:
        """Replace the data of every parameter, gradient and buffer by `fn` of it.

        Parameters stay the same objects, so that an optimizer that holds them is not cut off.
        """
        if recurse:
            for module in self.children():
                module._apply(fn)
        with no_grad():
            for param in self._parameters.values():
                if param is None:
                    continue
                grad = param.grad
                if grad is not None:
                    param.grad = None
                param.data = fn(param)
                if grad is not None:
                    param.grad = fn(grad)
            for name, buffer in self._buffers.items():
                if buffer is not None and is_lazy(buffer):
                    buffer.data = fn(buffer)  # which goes on waiting for its size
                elif buffer is not None:
                    self._buffers[name] = fn(buffer)
        return self

    def to(self: T, *args: Any, **kwargs: Any) -> T:
        """Move and convert parameters and buffers in place: ``to(device)``, ``to(dtype)``, both,
        or ``to(tensor)`` for that tensor's. Only floating-point and complex ones change dtype.
        """
        device, dtype = _target(*args, **kwargs)
        if dtype is not None and not dtype.is_differentiable:
            raise TypeError(
                "nn.Module.to only accepts floating point or complex dtypes, but got desired "
                f"dtype={dtype}"
            )

        def convert(t: Tensor) -> Tensor:
            if dtype is not None and t.dtype.is_differentiable:
                t = t.to(dtype)
            return t if device is None else t.to(device)

        return self._apply(convert)

    def to_empty(self: T, *, device: Any, recurse: bool = True) -> T:
        """Move to a device without the values: parameters and buffers are zero there."""
        return self._apply(lambda t: empty_like(t, device=device), recurse=recurse)

    def cuda(self: T, device: Any = None) -> T:
        """Move parameters and buffers to a GPU. DeviceError if there is none."""
        return self.to("cuda" if device is None else device)

    def cpu(self: T) -> T:
        """Move parameters and buffers to the CPU."""
        return self.to("cpu")

    def _float_to(self: T, dtype: DType) -> T:
        return self._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)

    def float(self: T) -> T:
        """Convert floating-point parameters and buffers to float32."""
        return self._float_to(dt.float32)

    def double(self: T) -> T:
        """Convert floating-point parameters and buffers to float64."""
        return self._float_to(dt.float64)

    def half(self: T) -> T:
        """Convert floating-point parameters and buffers to float16."""
        return self._float_to(dt.float16)

    def bfloat16(self: T) -> T:
        """Convert floating-point parameters and buffers to bfloat16."""
        return self._float_to(dt.bfloat16)

    def type(self: T, dst_type: Any) -> T:
        """Convert all parameters and buffers, also integer ones, to a dtype."""
        dtype = dt.as_dtype(dst_type)
        return self._apply(lambda t: t.to(dtype))

    # -- the printed form -------------------------------------------------------------------------

    def _get_name(self) -> str:
        return self.__class__.__name__

    def extra_repr(self) -> str:
        """What the printed form says of this module itself; for subclasses to override."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        if len(lines) == 1 and not self._modules:
            return f"{self._get_name()}({lines[0]})"
        for name, module in self._modules.items():
            lines.append(f"({name}): " + repr(module).replace("\n", "\n  "))
        if not lines:
            return f"{self._get_name()}()"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"

    # -- copying ----------------------------------------------------------------------------------

    def __setstate__(self, state: dict[str, Any]) -> None:
        held = {**self.__dict__, **state}
        held.update((kind, Members(held[kind])) for kind in KINDS if kind in held)
        object.__setattr__(self, "__dict__", Own(held))


def _target(*args: Any, **kwargs: Any) -> tuple[Any, DType | None]:
    """The device and dtype among the arguments of `to`."""
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    other = kwargs.pop("tensor", kwargs.pop("other", None))
    for name in ("non_blocking", "copy", "memory_format"):
        kwargs.pop(name, None)
    if kwargs:
        raise TypeError(f"to() got an unexpected keyword argument {next(iter(kwargs))!r}")
    for arg in args:
        if isinstance(arg, Tensor):
            other = arg
        elif isinstance(arg, DType):
            dtype = arg
        elif arg is not None and not isinstance(arg, bool):
            device = arg
    if other is not None:
        device, dtype = other.device, other.dtype
    return device, None if dtype is None else dt.as_dtype(dtype)
