"""Saving and loading of state: safetensors files, which hold data and can run no code.

Tensors are entries of the file, named by their path (`"layer.weight"`), so that any safetensors
reader finds them; a flat state dict is an ordinary safetensors file. What is not a tensor (the
nesting, and numbers, strings and the like) is JSON text in the metadata, under `"dualgraph"`:

    value := null | true | 1 | 0.5 | "text"
           | {"tensor": name}          with "dtype": "complex64", the entry has pairs of reals
           | {"complex": [re, im]}
           | {"dict": [[key, value], ...]} | {"list": [value, ...]} | {"tuple": [value, ...]}
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import SerializationError

from ._dispatch import make
from ._tensor import Tensor

__all__ = ["load", "save"]

_METADATA = "dualgraph"
_REAL_PART = {"complex64": np.dtype(np.float32), "complex128": np.dtype(np.float64)}
# What files that are often mistaken for a checkpoint begin with.
_FOREIGN = {
    b"PK\x03\x04": "a zip archive, such as torch.save writes",
    b"\x80": "a Python pickle",
    b"\x93NUMPY": "a NumPy array file",
    b"\x89HDF": "an HDF5 file",
}


def save(obj: Any, f: str | os.PathLike[str]) -> None:
    """Write a state dict, or any nesting of containers with tensors, to a safetensors file.

    The file appears complete or not at all: what stood at the path stays there until the new
    content is safely on disk.

    Args:
        obj: dicts (with keys that are strings, numbers, booleans or `None`), lists and tuples of
            tensors, numbers, strings, booleans and `None`. Tensors are saved without gradients.
        f: where to.

    Raises:
        SerializationError: `obj` contains something else; the message says where.
        OSError: the file cannot be written.
    """
    path = os.fspath(f)
    packer = _Packer()
    try:
        structure = json.dumps(packer.pack(obj, ()), separators=(",", ":"))
    except RecursionError:
        raise SerializationError(
            f"cannot save to {path}: the object is nested too deeply"
        ) from None
    for name, array in packer.arrays.items():
        if dt.dtype_of(array).is_narrow:  # which would be written, some of them, but not read
            raise SerializationError(
                f"cannot save to {path}: {name!r} is {dt.dtype_of(array).name}, which the "
                "safetensors library does not read into NumPy arrays; convert it first"
            )
    with _replacing(path) as temporary:
        try:
            save_file(packer.arrays, temporary, metadata={_METADATA: structure})
        except SafetensorError as error:
            raise SerializationError(f"cannot save to {path}: {error}") from error


def load(f: str | os.PathLike[str], map_location: Any = None, *, weights_only: bool = True) -> Any:
    """Read what `save` wrote, or any other safetensors file.

    Args:
        f: the file.
        map_location: device to put the tensors on; by default the CPU.
        weights_only: accepted for PyTorch's sake. Loading never runs code.

    Returns:
        The object that was saved, its tensors new and without `requires_grad`; for a file of
        another program a dict from name to tensor.

    Raises:
        FileNotFoundError: there is no such file.
        SerializationError: the file is truncated or damaged, or is no safetensors file.
    """
    path = os.fspath(f)
    structure, arrays = _read(path)
    tensors = {name: make(array) for name, array in arrays.items()}
    if structure is None:
        result: Any = tensors
    else:
        result = _unpack(structure, tensors, path)
    return result if map_location is None else _move(result, map_location)


# -- objects to structure -------------------------------------------------------------------------


class _Packer:
    """Collects the arrays of an object while turning the rest into JSON values."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}

    def pack(self, value: Any, path: tuple[Any, ...]) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, complex):
            return {"complex": [value.real, value.imag]}
        if isinstance(value, Tensor):
            return self._pack_tensor(value, path)
        if isinstance(value, Mapping):
            return {"dict": [self._pack_item(key, item, path) for key, item in value.items()]}
        if isinstance(value, list | tuple):
            items = [self.pack(item, (*path, index)) for index, item in enumerate(value)]
            return {"list" if isinstance(value, list) else "tuple": items}
        raise SerializationError(
            f"cannot save a {type(value).__name__} (at {_where(path)}); expected tensors, numbers, "
            "strings, booleans, None, and dicts, lists and tuples of them"
        )

    def _pack_item(self, key: Any, item: Any, path: tuple[Any, ...]) -> list[Any]:
        if isinstance(key, np.generic):
            key = key.item()
        if key is not None and not isinstance(key, bool | int | float | str):
            raise SerializationError(
                f"cannot save a dict with a key of type {type(key).__name__} (at {_where(path)}); "
                "expected strings, numbers, booleans or None"
            )
        return [key, self.pack(item, (*path, key))]

    def _pack_tensor(self, tensor: Tensor, path: tuple[Any, ...]) -> dict[str, str]:
        data = tensor.detach().cpu()._concrete("save()")
        array = np.ascontiguousarray(data).reshape(data.shape)  # which loses 0-d on its own
        base = name = ".".join(map(str, path)) or "tensor"
        number = 1
        while name in self.arrays or name == "__metadata__":
            name = f"{base}~{number}"
            number += 1
        reference = {"tensor": name}
        real = _REAL_PART.get(array.dtype.name)
        if real is not None:
            reference["dtype"] = array.dtype.name
            array = array.reshape(*array.shape, 1).view(real)
        self.arrays[name] = array
        return reference


def _where(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key!r}]" for key in path) or "the top level"


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[str]:
    """Yield the name of a new file beside `path`, which takes its place once it is on disk."""
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"cannot save to {path}: there is no folder {folder}")
    if os.path.isdir(target):
        raise IsADirectoryError(f"cannot save to {path}: it is a folder")
    temporary = os.path.join(folder, f".{os.path.basename(target)}.{secrets.token_hex(6)}.tmp")
    # Made by us first, to learn the permissions a new file gets here.
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        mode = os.stat(target if os.path.exists(target) else temporary).st_mode
        yield temporary
        os.chmod(temporary, stat.S_IMODE(mode))
        _sync(temporary)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    with contextlib.suppress(OSError):  # not every system can sync a folder
        _sync(folder)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- structure to objects -------------------------------------------------------------------------


def _read(path: str) -> tuple[str | None, dict[str, Any]]:
    """Return the structure text, if there is one, and all arrays of a file.

    The safetensors library checks that every entry's dtype, shape and extent agree with each
    other and with the size of the file, before any memory is taken.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(f"cannot load {path}: it is a folder")
    try:
        with safe_open(path, framework="numpy") as file:
            structure = (file.metadata() or {}).get(_METADATA)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise FileNotFoundError(f"cannot load {path}: there is no such file") from None
    except (SafetensorError, AttributeError, ValueError, TypeError, OverflowError) as error:
        # AttributeError: the library asks NumPy for a dtype that NumPy has not.
        found = _diagnose(path, error)
        raise SerializationError(
            f"cannot load {path}: expected a complete safetensors file, but {found}"
        ) from error
    for name, array in arrays.items():
        if array.dtype not in dt.BY_NUMPY:
            raise SerializationError(
                f"cannot load {path}: entry {name!r} has elements of type {array.dtype}; "
                "supported: " + ", ".join(d.name for d in dt.ALL)
            )
    return structure, arrays


def _diagnose(path: str, error: Exception) -> str:
    with open(path, "rb") as file:
        head = file.read(8)
        size = file.seek(0, os.SEEK_END)
    for magic, kind in _FOREIGN.items():
        # A safetensors file may begin with any byte, the length of its header; but not of a
        # header that would be larger than the file.
        if head.startswith(magic) and int.from_bytes(head, "little") > size:
            return f"this is {kind}; convert it with safetensors.torch.save_file or the like"
    return f"this one of {size} bytes is truncated, damaged or something else ({error})"


def _unpack(structure: str, tensors: dict[str, Tensor], path: str) -> Any:
    try:
        return _restore(json.loads(structure), tensors)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise SerializationError(
            f"cannot load {path}: expected the structure dualgraph.save writes in the metadata, "
            f"but it is damaged ({type(error).__name__}: {error})"
        ) from error


def _restore(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Rebuild one value; anything unexpected ends in a KeyError, TypeError or ValueError."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not isinstance(value, dict):
        raise TypeError(f"a bare {type(value).__name__}")
    if "tensor" in value:
        tensor = tensors[value["tensor"]]
        return tensor if "dtype" not in value else _as_complex(tensor, value["dtype"])
    ((kind, content),) = value.items()
    if kind == "dict":
        return {key: _restore(item, tensors) for key, item in content}
    if kind == "list":
        return [_restore(item, tensors) for item in content]
    if kind == "tuple":
        return tuple(_restore(item, tensors) for item in content)
    if kind == "complex":
        return complex(*content)
    raise ValueError(f"unknown kind {kind!r}")


def _as_complex(tensor: Tensor, dtype: str) -> Tensor:
    pairs = tensor._data
    if pairs.dtype != _REAL_PART[dtype] or pairs.ndim == 0 or pairs.shape[-1] != 2:
        raise ValueError(f"{pairs.dtype} of shape {pairs.shape} cannot be pairs of {dtype}")
    return make(pairs.view(dtype)[..., 0])


def _move(value: Any, device: Any) -> Any:
    """Move every tensor of a restored object to `device`."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _move(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_move(item, device) for item in value)
    return value
