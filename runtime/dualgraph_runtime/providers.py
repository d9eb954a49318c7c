"""Execution providers, as ONNX Runtime names devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from dualgraph_compiler.errors import DeviceError

from .device import Device

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"

Provider: TypeAlias = str | tuple[str, Mapping[str, Any]]


def get_all_providers() -> list[str]:
    """Every provider there is, in order of preference."""
    return [CUDA_PROVIDER, CPU_PROVIDER]


def get_available_providers() -> list[str]:
    """The providers that can be used on this machine, in order of preference."""
    return [CUDA_PROVIDER, CPU_PROVIDER] if Device("cuda").is_available() else [CPU_PROVIDER]


def get_device() -> str:
    """ "GPU" if one can be used, else "CPU"."""
    return "GPU" if Device("cuda").is_available() else "CPU"


def choose_device(
    providers: Sequence[Provider] | None, options: Sequence[Mapping[str, Any]] | None = None
) -> tuple[list[str], Device]:
    """The names of the providers asked for, and the device of the first.

    Args:
        providers: names, or pairs of a name and options; None is the CPU. `device_id` of the CUDA
            provider is honoured, its tuning options are not needed here.
        options: options of each provider, as an alternative to pairs.

    Raises:
        DeviceError: an unknown provider, or one whose device is not there. There is no falling back
            to a later provider.
    """
    if isinstance(providers, str):
        raise DeviceError(f"providers must be a list, such as [{providers!r}]")
    if options is not None and len(options) != len(providers or ()):
        raise DeviceError(f"{len(providers or ())} providers, but options for {len(options)}")
    named = named_options(providers, options)
    devices = [_device(name, own) for name, own in named.items()]
    for device in devices:
        device.require()
    return list(named), devices[0]


def named_options(
    providers: Sequence[Provider] | None, options: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
    """The options of each provider, by its name; for arguments that `choose_device` takes."""
    found: dict[str, dict[str, Any]] = {}
    for i, provider in enumerate(providers or [CPU_PROVIDER]):
        name, own = (provider, {}) if isinstance(provider, str) else provider
        found[name] = {**own, **(options[i] if options else {})}
    return found


def _device(name: str, options: Mapping[str, Any]) -> Device:
    if name == CPU_PROVIDER:
        return Device("cpu")
    if name == CUDA_PROVIDER:
        return Device("cuda", int(options.get("device_id", 0)))
    raise DeviceError(
        f"unknown execution provider {name!r}; there are " + " and ".join(get_all_providers())
    )
