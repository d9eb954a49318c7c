"""Reading PyTorch's checkpoints, archives and old ones: the pickle, and the storages it names."""

from __future__ import annotations

import functools
import os
import pickletools
import struct
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from dualgraph_compiler.errors import SerializationError
from dualgraph_runtime.device import to_device

from .._tensor import Size, Tensor
from ..nn.parameter import Parameter
from ._allowed import ALLOWED, TypedStorage
from ._archive import Archive, read_into
from ._legacy import MAGIC, VERSION
from ._machine import Allowed, Machine
from ._names import StorageKind
from ._storage import Restore, UntypedStorage
from ._trust import trusted_by_name

__all__ = ["read_archive", "read_legacy", "refused_globals"]

# Beyond twice its own size, what a file may unpack to: for strings and containers.
_SLACK = 1 << 20


def read_archive(archive: Archive, restore: Restore, *, unpickler: Any, encoding: str) -> Any:
    """Return the object that an archive holds.

    Args:
        archive: the archive.
        restore: puts a storage on its device.
        unpickler: `None` to read data only; or a class, like `pickle.Unpickler`, that runs what
            the pickle says.
        encoding: of strings that Python 2 wrote, or "bytes".
    """
    storages = _ArchiveStorages(archive, restore)
    return _unpickle(archive.pickle(), archive.size, storages, unpickler, encoding)


def read_legacy(file: IO[bytes], restore: Restore, *, unpickler: Any, encoding: str) -> Any:
    """Return the object that an old checkpoint holds; `file` is left at its end.

    Raises:
        SerializationError: the file is no checkpoint, or not all of one.
    """
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    storages = _LegacyStorages(size, restore)
    read = functools.partial(_unpickle, file, size, storages, encoding=encoding)
    if read(None) != MAGIC:
        raise SerializationError("it is a Python pickle, but none that torch.save wrote")
    version = read(None)
    if version != VERSION:
        raise SerializationError(f"it is of version {version} of the old format")
    read(None)
    found = read(unpickler)
    storages.fill(file, read(None))
    return found


def refused_globals(stream: IO[bytes]) -> list[str]:
    """The full names that a pickle asks for and that reading data only would refuse.

    Raises:
        SerializationError: the pickle is damaged.
    """
    known = {**ALLOWED, **trusted_by_name()}
    asked: set[str] = set()
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                asked.add(f"{module.replace('__builtin__', 'builtins')}.{name}")
            elif opcode.name == "STACK_GLOBAL":
                asked.add(".".join(strings[-2:]))
            elif isinstance(argument, str):
                strings.append(argument)
    except ValueError as error:
        raise SerializationError(f"its pickle is damaged ({error})") from error
    return sorted(asked - set(known))


# -- storages -------------------------------------------------------------------------------------


class _ArchiveStorages:
    """The storages of an archive, each read when it is first referred to."""

    def __init__(self, archive: Archive, restore: Restore) -> None:
        self._archive = archive
        self._restore = restore
        self._foreign = archive.foreign
        self._loaded: dict[str, UntypedStorage] = {}

    def __call__(self, reference: Any) -> TypedStorage:
        kind, key, location, count = _parts(reference, 4)
        if key not in self._loaded:
            self._loaded[key] = self._load(kind, key, location, count)
        return TypedStorage(self._loaded[key], kind.dtype)

    def later(self, compute: Callable[[], None]) -> None:
        """Call `compute`: every storage that has been referred to has its content."""
        compute()

    def _load(self, kind: StorageKind, key: str, location: str, count: int) -> UntypedStorage:
        data = self._archive.read(f"data/{key}")
        if data.size != count * kind.itemsize:
            raise SerializationError(
                f"storage {key} should have {count} elements of {kind.itemsize} bytes, but has "
                f"{data.size} bytes"
            )
        if data.ctypes.data % kind.itemsize:  # mapped, from a file that does not align its parts
            data = data.copy()
        storage = UntypedStorage(data)
        if self._foreign and kind.dtype is None:
            storage._foreign = True
        elif self._foreign and kind.dtype is not None:
            storage.byteswap(kind.itemsize // (2 if kind.dtype.is_complex else 1))
        return self._restore(storage, location)


class _LegacyStorages:
    """The storages of an old checkpoint, whose content comes after all references to them."""

    def __init__(self, size: int, restore: Restore) -> None:
        self._left = size
        self._restore = restore
        self._hosts: dict[str, Any] = {}
        self._kinds: dict[str, StorageKind] = {}
        self._loaded: dict[str, UntypedStorage] = {}
        self._waiting: list[Callable[[], None]] = []

    def __call__(self, reference: Any) -> Any:
        if isinstance(reference, tuple) and len(reference) == 4 and reference[0] == "module":
            return reference[1]  # a class, with its source
        kind, key, location, count, view = _parts(reference, 5)
        if key not in self._loaded:
            size = count * kind.itemsize
            self._left -= size
            if self._left < 0:
                raise SerializationError(f"storage {key} is larger than the file")
            self._hosts[key] = np.zeros(size, np.uint8)
            self._kinds[key] = kind
            self._loaded[key] = self._restore(UntypedStorage(self._hosts[key]), location)
        storage = self._loaded[key]
        return TypedStorage(storage if view is None else _part(storage, kind, view), kind.dtype)

    def later(self, compute: Callable[[], None]) -> None:
        """Call `compute` when storages have been filled."""
        self._waiting.append(compute)

    def fill(self, file: IO[bytes], keys: Any) -> None:
        """Read the content."""
        if type(keys) is not list or not set(self._loaded) <= set(keys):
            raise SerializationError("its list of storages is damaged")
        for key in keys:
            host = self._hosts.get(key)
            if host is None:
                raise SerializationError(f"nothing refers to its storage {key!r}")
            head = file.read(8)
            if len(head) < 8 or struct.unpack("<q", head)[0] * self._kinds[key].itemsize != len(
                host
            ):
                raise SerializationError(f"storage {key} has another size than was said")
            read_into(file, host)
            storage = self._loaded[key]
            if storage._data is not host:
                storage._data[...] = to_device(host, storage.device)
        for compute in self._waiting:
            compute()


def _parts(reference: Any, count: int) -> Any:
    """The parts of a reference to a storage, after its first, which says that it is one."""
    if type(reference) is not tuple or len(reference) != count + 1:
        raise SerializationError("a reference to a storage is damaged")
    label, kind, key, location, numel = reference[:5]
    if isinstance(location, bytes):
        location = location.decode("ascii")
    if (
        label not in ("storage", b"storage")
        or not isinstance(kind, StorageKind)
        or type(key) is not str
        or type(location) is not str
        or type(numel) is not int
        or numel < 0
    ):
        raise SerializationError("a reference to a storage is damaged")
    return (kind, key, location, numel, *reference[5:])


def _part(storage: UntypedStorage, kind: StorageKind, view: Any) -> UntypedStorage:
    _, offset, count = view
    low, high = offset * kind.itemsize, (offset + count) * kind.itemsize
    if not 0 <= low <= high <= storage.nbytes():
        raise SerializationError("a part of a storage reaches beyond it")
    part = UntypedStorage(storage._data[low:high])
    part._version = storage._version
    return part


# -- pickles --------------------------------------------------------------------------------------


def _unpickle(
    file: IO[bytes], size: int, storages: Any, unpickler: Any = None, encoding: str = "utf-8"
) -> Any:
    machine = (Machine if unpickler is None else _OpenMachine)(
        _Stream(file),
        allowed=ALLOWED,
        trusted=trusted_by_name(),
        persistent_load=storages,
        later=storages.later,
        budget=2 * size + _SLACK,
        encoding=encoding,
    )
    if unpickler is None:
        return machine.load()
    return _make_open(unpickler, machine, storages)(file, encoding=encoding).load()


class _Stream:
    """A file that gives what it is asked for, or an error."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        place = file.tell()
        self._left = file.seek(0, os.SEEK_END) - place
        file.seek(place)

    def read(self, size: int) -> bytes:
        self._left -= size
        content = self._file.read(size) if size >= 0 <= self._left else b""
        if len(content) != size:
            raise SerializationError("it is cut off")
        return content

    def readline(self, limit: int) -> bytes:
        line = self._file.readline(limit)
        self._left -= len(line)
        return line


class _OpenMachine(Machine):
    """What functions of PyTorch's are given by an unpickler that refuses nothing."""

    def call(self, function: Any, arguments: Any) -> Any:
        return function(*arguments)


def _make_open(unpickler: Any, machine: Machine, storages: Any) -> Any:
    """A class like `unpickler` that knows tensors, and runs whatever else it is told to."""

    class Open(unpickler):  # type: ignore[misc]
        def persistent_load(self, reference: Any) -> Any:
            return storages(reference)

        def find_class(self, module: str, name: str) -> Any:
            full = f"{module}.{name}"
            if full in _CLASSES:
                return _CLASSES[full]
            found = ALLOWED.get(full) if module.partition(".")[0] == "torch" else None
            if isinstance(found, Allowed):
                return functools.partial(found.call, machine)
            if found is not None:
                return found
            if module.partition(".")[0] == "torch":
                raise SerializationError(
                    f"it holds an object of PyTorch's {full}; a state_dict of it could be read"
                )
            return super().find_class(module, name)

    return Open


_CLASSES: dict[str, Any] = {
    "torch.Tensor": Tensor,
    "torch._tensor.Tensor": Tensor,
    "torch.nn.parameter.Parameter": Parameter,
    "torch.Size": Size,
}
