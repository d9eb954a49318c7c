"""Layers whose number of input features the first call tells.

Until then their parameters are `UninitializedParameter`. The first call, or a state that is loaded,
gives them their sizes; the module is an ordinary Linear, Conv2d, ... from then on.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from dualgraph_compiler.errors import ArgumentError, ShapeError

from ... import functions as fn
from ..._dispatch import captures
from ..._tensor import Tensor
from ...autograd.grad_mode import no_grad
from ..parameter import UninitializedBuffer, UninitializedParameter, is_lazy
from . import conv, norm
from .linear import Linear
from .module import Module

__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazyLinear",
]


class LazyModuleMixin(Module):
    """A module that makes its parameters from the operands of its first call.

    A subclass defines `initialize_parameters`, which takes what `forward` takes, and `_becomes`,
    the class that the module is of afterwards.
    """

    _becomes: ClassVar[type[Module] | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._load_hook = self.register_load_state_dict_pre_hook(_take_sizes)
        self._initialize_hook = self.register_forward_pre_hook(_infer, with_kwargs=True)
        warnings.warn(
            "Lazy modules are a new feature under heavy development so changes to the API or "
            "functionality can happen at any moment.",
            UserWarning,
            stacklevel=2,
        )

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer of its own has no size yet."""
        held = (*self._parameters.values(), *self._buffers.values())
        return any(is_lazy(t) for t in held)

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Give the parameters their sizes, from the operands of `forward`."""
        raise NotImplementedError(
            f"initialize_parameters is not implemented for {self.__class__.__name__}"
        )

    def reset_parameters(self) -> None:
        """Draw initial values, once the parameters have sizes."""
        held = self._parameters.values()
        if not any(is_lazy(p) or (p is not None and not p.numel()) for p in held):
            super().reset_parameters()  # type: ignore[misc]


def _infer(module: Any, args: Any, kwargs: Any) -> None:
    if captures.current is not None:
        raise ArgumentError(
            f"{type(module).__name__} has no parameters yet: call it once before it is traced"
        )
    module.initialize_parameters(*args, **kwargs)
    if module.has_uninitialized_params():
        raise RuntimeError(f"module {module._get_name()} has not been fully initialized")
    module._initialize_hook.remove()
    module._load_hook.remove()
    del module._initialize_hook, module._load_hook
    if not (module._forward_pre_hooks or module._forward_hooks or module._backward_hooks):
        module.__dict__.pop("_hooked", None)
    if module._becomes is not None:
        module.__class__ = module._becomes


def _take_sizes(module: Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Give parameters the sizes that they have in a state which is about to be loaded."""
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        found = state.get(prefix + name)
        if tensor is not None and is_lazy(tensor) and found is not None and not is_lazy(found):
            with no_grad():
                tensor.materialize(tuple(found.shape))  # type: ignore[attr-defined]


# -- linear ---------------------------------------------------------------------------------------


class LazyLinear(LazyModuleMixin, Linear):
    """A Linear whose `in_features` is the size of the first input's last dimension."""

    _becomes = Linear

    def __init__(
        self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(0, 0, False)
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        self.out_features = out_features
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def initialize_parameters(self, input: Tensor) -> None:
        """Give weight and bias their sizes."""
        self.in_features = input.shape[-1]
        if self.has_uninitialized_params():
            with no_grad():
                self.weight.materialize((self.out_features, self.in_features))  # type: ignore[attr-defined]
                if self.bias is not None:
                    self.bias.materialize((self.out_features,))  # type: ignore[attr-defined]
                self.reset_parameters()


# -- convolutions ---------------------------------------------------------------------------------


class _LazyConv(LazyModuleMixin, conv._ConvNd):
    def _begin(self, out_channels: int, bias: bool, device: Any, dtype: Any) -> None:
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        self.out_channels = out_channels
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """Give weight and bias their sizes."""
        rank = self._rank
        if input.ndim not in (rank + 1, rank + 2):
            raise ShapeError(
                f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to "
                f"{type(self).__name__}, but got input of size: {list(input.shape)}"
            )
        self.in_channels = input.shape[-rank - 1]
        if self.in_channels % self.groups:
            raise ArgumentError(
                f"in_channels must be divisible by groups, got {self.in_channels} and {self.groups}"
            )
        if not self.has_uninitialized_params():
            return
        lead = (self.out_channels, self.in_channels)
        lead = lead[::-1] if self.transposed else lead
        with no_grad():
            sizes = (lead[0], lead[1] // self.groups, *self.kernel_size)
            self.weight.materialize(sizes)  # type: ignore[attr-defined]
            if self.bias is not None:
                self.bias.materialize((self.out_channels,))  # type: ignore[attr-defined]
            self.reset_parameters()


class _LazyForward(_LazyConv, conv._Conv):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(0, 0, kernel_size, stride, padding, dilation, groups, False, padding_mode)
        self._begin(out_channels, bias, device, dtype)


class LazyConv1d(_LazyForward, conv.Conv1d):
    """A Conv1d whose `in_channels` the first input tells."""

    _becomes = conv.Conv1d


class LazyConv2d(_LazyForward, conv.Conv2d):
    """A Conv2d whose `in_channels` the first input tells."""

    _becomes = conv.Conv2d


class LazyConv3d(_LazyForward, conv.Conv3d):
    """A Conv3d whose `in_channels` the first input tells."""

    _becomes = conv.Conv3d


class _LazyTransposed(_LazyConv, conv._ConvTranspose):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            0,
            0,
            kernel_size,
            stride,
            padding,
            output_padding,
            groups,
            False,
            dilation,
            padding_mode,
        )
        self._begin(out_channels, bias, device, dtype)


class LazyConvTranspose1d(_LazyTransposed, conv.ConvTranspose1d):
    """A ConvTranspose1d whose `in_channels` the first input tells."""

    _becomes = conv.ConvTranspose1d


class LazyConvTranspose2d(_LazyTransposed, conv.ConvTranspose2d):
    """A ConvTranspose2d whose `in_channels` the first input tells."""

    _becomes = conv.ConvTranspose2d


class LazyConvTranspose3d(_LazyTransposed, conv.ConvTranspose3d):
    """A ConvTranspose3d whose `in_channels` the first input tells."""

    _becomes = conv.ConvTranspose3d


# -- norms ----------------------------------------------------------------------------------------


class _LazyNorm(LazyModuleMixin, norm._ChannelNorm):
    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(0, eps, momentum, False, False)
        place = {"device": device, "dtype": dtype}
        self.affine = affine
        self.track_running_stats = track_running_stats
        if affine:
            self.weight = UninitializedParameter(**place)
            if bias:
                self.bias = UninitializedParameter(**place)
        if track_running_stats:
            self.running_mean = UninitializedBuffer(**place)
            self.running_var = UninitializedBuffer(**place)
            count = fn.tensor(0, dtype=fn.arange(1).dtype, device=device)
            self.num_batches_tracked = count

    def initialize_parameters(self, input: Tensor) -> None:
        """Give parameters and statistics their sizes."""
        self._check_input_dim(input)
        # Instance norms take inputs without a batch, too; PyTorch reads their dimension 1 here.
        self.num_features = input.shape[1]
        if not self.has_uninitialized_params():
            return
        lazy = (self.weight, self.bias, self.running_mean, self.running_var)
        for t in lazy:
            if t is not None:
                t.materialize((self.num_features,))  # type: ignore[attr-defined]
        self.reset_parameters()


class LazyBatchNorm1d(_LazyNorm, norm.BatchNorm1d):
    """A BatchNorm1d whose `num_features` the first input tells."""

    _becomes = norm.BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, norm.BatchNorm2d):
    """A BatchNorm2d whose `num_features` the first input tells."""

    _becomes = norm.BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, norm.BatchNorm3d):
    """A BatchNorm3d whose `num_features` the first input tells."""

    _becomes = norm.BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, norm.InstanceNorm1d):
    """An InstanceNorm1d whose `num_features` the first input tells."""

    _becomes = norm.InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, norm.InstanceNorm2d):
    """An InstanceNorm2d whose `num_features` the first input tells."""

    _becomes = norm.InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, norm.InstanceNorm3d):
    """An InstanceNorm3d whose `num_features` the first input tells."""

    _becomes = norm.InstanceNorm3d
