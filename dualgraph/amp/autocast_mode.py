"""autocast: operations choose their precision by what they are good for."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dtypes import DType

from .. import cuda
from .._autocast import Mode
from ..transforms.levels import enter_autocast, transforms

_F = TypeVar("_F", bound=Callable[..., Any])

_DEVICES = ("cpu", "cuda")
_FAST: dict[str, DType] = {"cpu": dt.bfloat16, "cuda": dt.float16}


class _Settings:
    """What a region takes unless told otherwise."""

    caching = True


def is_autocast_available(device_type: str) -> bool:
    """Whether autocast knows this kind of device."""
    return device_type in _DEVICES


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether operations on such devices choose their precision in this thread."""
    mode = transforms.autocast
    return mode is not None and device_type in mode.dtypes


def get_autocast_dtype(device_type: str) -> DType:
    """The lower precision in force for such devices."""
    _require(device_type)
    mode = transforms.autocast
    found = None if mode is None else mode.dtypes.get(device_type)
    return _FAST[device_type] if found is None else found


def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """Set the lower precision that regions take unless told otherwise."""
    _require(device_type)
    _FAST[device_type] = dtype


def is_autocast_cache_enabled() -> bool:
    """Whether converted parameters are kept for the time of a region."""
    mode = transforms.autocast
    return _Settings.caching if mode is None else mode.caching


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Set whether regions keep converted parameters unless told otherwise."""
    _Settings.caching = enabled


def clear_autocast_cache() -> None:
    """Forget converted parameters."""
    if transforms.autocast is not None:
        transforms.autocast.cache.clear()


def set_autocast_enabled(device_type: str, enabled: bool) -> None:
    """Switch autocast on or off for such devices in this thread, without a region."""
    _require(device_type)
    mode = transforms.autocast
    dtypes = {} if mode is None else dict(mode.dtypes)
    dtypes.pop(device_type, None)
    if enabled:
        dtypes[device_type] = _FAST[device_type]
    cache = {} if mode is None else mode.cache
    enter_autocast(Mode(dtypes, is_autocast_cache_enabled(), cache) if dtypes else None)


def _require(device_type: Any) -> None:
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if device_type not in _DEVICES:
        raise RuntimeError(
            f"User specified an unsupported autocast device_type '{device_type}'; expected one of "
            f"{', '.join(_DEVICES)}"
        )


class autocast:
    """A region, or a function, in which operations choose their precision.

    Matrix products and convolutions run in `dtype`; what needs range or precision (losses, and on
    GPUs exponentials, norms, sums) in float32; everything else in what its operands have. Inputs
    need no conversion, and parameters stay float32. Enter it for the forward pass and the loss
    alone: the backward pass runs in the precisions of the forward.

    Args:
        device_type: "cpu" or "cuda".
        dtype: bfloat16 or float16; by default bfloat16 on CPUs and float16 on GPUs.
        enabled: False switches an outer region off inside.
        cache_enabled: whether a parameter is converted once for all its uses in the region.

    Raises:
        RuntimeError: another device, or a dtype of another kind.
    """

    def __init__(
        self,
        device_type: str,
        dtype: DType | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        _require(device_type)
        self.device = device_type
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else dt.as_dtype(dtype)
        self._cache_enabled = cache_enabled
        if enabled and device_type == "cuda" and not cuda.is_available():
            warnings.warn(
                "User provided device_type of 'cuda', but CUDA is not available. Disabling",
                stacklevel=2,
            )
            enabled = False
        if enabled and self.fast_dtype not in (dt.bfloat16, dt.float16):
            warnings.warn(
                f"In {device_type.upper()} autocast, but the target dtype {self.fast_dtype} is not "
                "supported. Disabling autocast. Autocast only supports dtypes of bfloat16, float16 "
                "currently.",
                stacklevel=2,
            )
            enabled = False
        self._enabled = enabled
        self._outer: list[Mode | None] = []

    def __enter__(self) -> autocast:
        outer = transforms.autocast
        self._outer.append(outer)
        dtypes = {} if outer is None else dict(outer.dtypes)
        dtypes.pop(self.device, None)
        if self._enabled:
            dtypes[self.device] = self.fast_dtype
        caching = self._cache_enabled
        if caching is None:
            caching = is_autocast_cache_enabled()
        cache = {} if outer is None else outer.cache
        enter_autocast(Mode(dtypes, caching, cache) if dtypes else None)
        return self

    def __exit__(self, *exception: object) -> None:
        enter_autocast(self._outer.pop())

    def __call__(self, func: _F) -> _F:
        @functools.wraps(func)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self:
                return func(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


def custom_fwd(
    fwd: Callable[..., Any] | None = None, *, device_type: str, cast_inputs: DType | None = None
) -> Any:
    """Decorates the `forward` of a custom function for use in autocast regions.

    Args:
        cast_inputs: in a region, convert floating-point arguments to this dtype and run `forward`
            without autocast; None: run it with autocast as it is.
    """
    _require(device_type)
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        ctx = args[0]
        ctx._dtype = get_autocast_dtype(device_type)
        on = is_autocast_enabled(device_type)
        if cast_inputs is None or not on:
            ctx._fwd_used_autocast = on and cast_inputs is None
            return fwd(*args, **kwargs)
        ctx._fwd_used_autocast = False
        mode = transforms.autocast
        with autocast(device_type, enabled=False):
            return fwd(
                ctx,
                *(_converted(x, mode, device_type, cast_inputs) for x in args[1:]),
                **{k: _converted(x, mode, device_type, cast_inputs) for k, x in kwargs.items()},
            )

    return decorated


def _converted(x: Any, mode: Mode, device_type: str, dtype: DType) -> Any:
    if isinstance(x, dict):
        return {k: _converted(v, mode, device_type, dtype) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(_converted(v, mode, device_type, dtype) for v in x)
    if hasattr(x, "_data") and x.device.type == device_type and x.dtype is not dtype:
        return mode.converted([x], dtype)[0]
    return x


def custom_bwd(bwd: Callable[..., Any] | None = None, *, device_type: str) -> Any:
    """Decorates the `backward` of a custom function: it runs as its `forward` did."""
    _require(device_type)
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        ctx = args[0]
        with autocast(device_type, enabled=ctx._fwd_used_autocast, dtype=ctx._dtype):
            return bwd(*args, **kwargs)

    return decorated
