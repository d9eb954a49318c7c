"""Functions that PyTorch has in a second place: ``torch.conv2d``, ``torch.relu_``, ``torch.range``.

Looked up by the package when a name is first asked for.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dualgraph_compiler.errors import ArgumentError

if TYPE_CHECKING:
    from ._tensor import Tensor

__all__ = ["alias"]

# Functionals whose positional arguments are the same in both places.
_FUNCTIONALS = {
    "adaptive_avg_pool1d", "adaptive_max_pool1d", "avg_pool1d", "bilinear", "celu", "celu_",
    "channel_shuffle", "conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "group_norm", "hardshrink", "layer_norm", "max_pool1d",
    "max_pool2d", "max_pool3d", "pairwise_distance", "pdist", "pixel_shuffle", "pixel_unshuffle",
    "prelu", "rms_norm", "rrelu", "rrelu_", "selu", "selu_", "threshold", "threshold_",
}  # fmt: skip
# Those that PyTorch calls with `train` where the functional has `training`, which has a default.
_DROPOUTS = {"alpha_dropout", "dropout", "feature_alpha_dropout"}
# Of a kind of device, before `torch.amp` had one function for all.
_AUTOCAST = {
    "get_autocast_cpu_dtype": ("get_autocast_dtype", "cpu"),
    "get_autocast_gpu_dtype": ("get_autocast_dtype", "cuda"),
    "is_autocast_cpu_enabled": ("is_autocast_enabled", "cpu"),
    "set_autocast_cpu_dtype": ("set_autocast_dtype", "cpu"),
    "set_autocast_cpu_enabled": ("set_autocast_enabled", "cpu"),
    "set_autocast_gpu_dtype": ("set_autocast_dtype", "cuda"),
}


def alias(name: str) -> Any:
    """The function of that name; None if it is none of these."""
    from . import _tensor
    from .nn import functional as F

    if name in _FUNCTIONALS:
        return getattr(F, name, None)
    if name in _DROPOUTS:
        return _dropout(getattr(F, name))
    if name.removesuffix("_") in _DROPOUTS:
        return _dropout(getattr(F, name.removesuffix("_")), inplace=True)
    if name in _AUTOCAST:
        from . import amp

        function, device = _AUTOCAST[name]
        return functools.partial(getattr(amp, function), device)
    if name in _OWN:
        return _OWN[name]
    method = getattr(_tensor.Tensor, name, None)
    if name.endswith("_") and not name.endswith("__") and callable(method):
        return _in_place(name, method)
    return None


def _in_place(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def function(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        return method(input, *args, **kwargs)

    function.__name__ = function.__qualname__ = name
    return function


def _dropout(functional: Callable[..., Any], inplace: bool = False) -> Callable[..., Any]:
    @functools.wraps(functional)
    def function(input: Tensor, p: float, train: bool) -> Any:
        return functional(input, p, train, inplace)

    return function


def embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of `weight` [num, dim] for `indices` [*]: [*, dim]. Mind the order of arguments."""
    from .nn import functional as F

    padding = None if padding_idx == -1 else padding_idx
    return F.embedding(
        indices, weight, padding, scale_grad_by_freq=scale_grad_by_freq, sparse=sparse
    )


def batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Tensor:
    """Batch normalisation of [N, C, *]; as the functional but for the order of arguments."""
    from .nn import functional as F

    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Tensor:
    """Instance normalisation of [N, C, *]; as the functional but for the order of arguments."""
    from .nn import functional as F

    return F.instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


def range(start: Any = 0, end: Any = None, step: Any = 1, **options: Any) -> Tensor:
    """From `start` to `end` inclusive, in the default dtype: deprecated for ``arange``."""
    from . import functions as fn
    from ._promote import Defaults

    warnings.warn("range includes its end and is deprecated: use arange", UserWarning, stacklevel=2)
    if end is None:
        raise ArgumentError("range needs start and end")
    count = int((end - start) / step) + 1
    dtype = options.pop("dtype", None) or Defaults.dtype
    result: Tensor = fn.arange(count, dtype=dtype, **options) * step + start
    return result


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """Powers of numbers, the highest first unless `increasing`: [n] -> [n, N], N = n by default."""
    from . import functions as fn

    count = int(x.shape[0]) if N is None else N
    powers = fn.arange(count, device=x.device)
    result: Tensor = x.unsqueeze(-1) ** (powers if increasing else powers.flip(0))
    return result


def detach(input: Tensor) -> Tensor:
    """The same storage off the tape."""
    return input.detach()


def get_device(input: Tensor) -> int:
    """The number of the GPU that `input` is on; -1 on the CPU."""
    return input.get_device()


def get_device_module(device: Any = None) -> Any:
    """The module for a device: ``dualgraph.cuda``, or ``dualgraph.cpu``."""
    import importlib

    from .functions.basics import device_from

    kind = "cuda" if device_from(device).type == "cuda" else "cpu"
    return importlib.import_module(f"dualgraph.{kind}")


def frombuffer(
    buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A 1-d tensor over the memory of an object with Python's buffer protocol.

    Args:
        buffer: bytes, bytearray, array, mmap, ...; read-only memory is not copied either.
        dtype: of the elements.
        count: how many elements; -1 for all that are there.
        offset: how many bytes to leave out before the first.
        requires_grad: whether to ask for its gradient.

    Raises:
        ArgumentError: the buffer is too short, or ends within an element.
    """
    import numpy as np

    from dualgraph_compiler import dtypes as dt

    from .functions import from_numpy

    try:
        array = np.frombuffer(buffer, dt.as_dtype(dtype).np, count, offset)
    except ValueError as error:
        raise ArgumentError(f"frombuffer: {error}") from None
    return from_numpy(array).requires_grad_(requires_grad)


def set_anomaly_enabled(enabled: bool, check_nan: bool = True) -> None:
    """Switch anomaly mode on or off, for all threads; see ``autograd.detect_anomaly``."""
    from .autograd.anomaly_mode import set_mode

    set_mode(enabled, check_nan)


def is_inference(input: Tensor) -> bool:
    """Whether made in inference mode: no tensor is marked so."""
    return input.is_inference()


def is_conj(input: Tensor) -> bool:
    """Whether the elements are yet to be conjugated: never, `conj` computes."""
    return input.is_conj()


def is_neg(input: Tensor) -> bool:
    """Whether the elements are yet to be negated: never."""
    return input.is_neg()


def to_dlpack(tensor: Tensor) -> Any:
    """A DLPack capsule of the tensor's memory."""
    return tensor.__dlpack__()


_OWN = {
    f.__name__: f
    for f in (
        batch_norm, detach, embedding, frombuffer, get_device, get_device_module, instance_norm,
         is_conj, is_inference, is_neg,
        range, set_anomaly_enabled, to_dlpack, vander,
    )
}  # fmt: skip
