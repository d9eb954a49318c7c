"""Storages: the memory that loaded tensors share, and where it is put."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from dualgraph_compiler.errors import DeviceError, SerializationError
from dualgraph_runtime.device import CPU, Device, device_of, to_device

__all__ = ["MapLocation", "Restore", "UntypedStorage", "make_restore"]


class UntypedStorage:
    """A stretch of memory on one device, which tensors of any dtype may show.

    What `map_location` functions are given, and return.
    """

    def __init__(self, data: Any) -> None:
        self._data = data  # uint8 [n], of NumPy or CuPy
        self._version = [0]  # what the tensors on it share, see Tensor._ver
        self._foreign = False  # whether its bytes are in the other order than this machine's

    @property
    def device(self) -> Device:
        """Where the memory is."""
        return device_of(self._data)

    @property
    def is_cuda(self) -> bool:
        """Whether the memory is a GPU's."""
        return self.device.type == "cuda"

    def nbytes(self) -> int:
        """The size in bytes."""
        return int(self._data.size)

    size = nbytes
    __len__ = nbytes

    def cpu(self) -> UntypedStorage:
        """This storage, or a copy of it in host memory."""
        return self.to(CPU)

    def cuda(self, device: Any = None, non_blocking: bool = False) -> UntypedStorage:
        """This storage, or a copy of it on a GPU, by default the first."""
        if device is None:
            return self.to(Device("cuda"))
        return self.to(Device("cuda", device) if isinstance(device, int) else Device(device))

    def to(self, device: Device | str) -> UntypedStorage:
        """This storage, or a copy of it on `device`.

        Raises:
            DeviceError: the device is not there.
        """
        moved = to_device(self._data, device)
        return self if moved is self._data else UntypedStorage(moved)

    def byteswap(self, itemsize: int) -> None:
        """Reverse the order of the bytes in each element of `itemsize` bytes, in place."""
        whole = self._data[: self._data.size // itemsize * itemsize]
        whole[...] = np.ascontiguousarray(whole.reshape(-1, itemsize)[:, ::-1]).reshape(-1)

    def __repr__(self) -> str:
        return f"UntypedStorage(device={self.device}, size={self.nbytes()})"


MapLocation: TypeAlias = (
    str
    | bytes
    | Device
    | Mapping[str, str]
    | Callable[[UntypedStorage, str], UntypedStorage | None]
    | None
)
Restore: TypeAlias = Callable[[UntypedStorage, str], UntypedStorage]


def make_restore(map_location: MapLocation) -> Restore:
    """Return the function that puts a storage, read to the CPU, where `map_location` says.

    It is given the storage and the location that the file names.

    Raises:
        TypeError: `map_location` is none of what it may be.
    """
    if map_location is None:
        return _put
    if isinstance(map_location, bytes):
        map_location = map_location.decode("ascii")
    if isinstance(map_location, str | Device):
        target = str(map_location)
        return lambda storage, location: _put(storage, target)
    if isinstance(map_location, Mapping):
        mapping = map_location
        return lambda storage, location: _put(storage, str(mapping.get(location, location)))
    if not callable(map_location):
        raise TypeError(
            "map_location should be a device, a string, a dict or a function, got "
            f"{type(map_location).__name__}"
        )
    choose = map_location

    def restore(storage: UntypedStorage, location: str) -> UntypedStorage:
        chosen = choose(storage, location)
        if chosen is not None and not isinstance(chosen, UntypedStorage):
            raise TypeError(
                "map_location should return a storage or None, got " + type(chosen).__name__
            )
        return _put(storage, location) if chosen is None else chosen

    return restore


def _put(storage: UntypedStorage, location: str) -> UntypedStorage:
    try:
        device = Device(location)
    except DeviceError:
        raise SerializationError(
            f"don't know how to restore data location of a storage (tagged with {location!r}); "
            "map_location='cpu' puts every tensor on the CPU"
        ) from None
    if device.type == "cuda":
        try:
            device.require()
        except DeviceError as error:
            raise DeviceError(
                f"Attempting to deserialize object on a CUDA device, but {error}. "
                "map_location='cpu' puts every tensor on the CPU"
            ) from error
    return storage.to(device)
