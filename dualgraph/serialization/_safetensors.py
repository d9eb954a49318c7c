"""State in safetensors files, which hold data and can run no code.

Tensors are entries of the file, named by their path (`"layer.weight"`), so that any safetensors
reader finds them; a flat state dict is an ordinary safetensors file. What is not a tensor (the
nesting, and numbers, strings and the like) is JSON text in the metadata, under `"dualgraph"`:

    value := null | true | 1 | 0.5 | "text"
           | {"tensor": name}          with "dtype": "complex64", the entry has pairs of reals;
                                       with "shares": name, the tensor is that one's memory
           | {"complex": [re, im]}
           | {"dict": [[key, value], ...]} | {"list": [value, ...]} | {"tuple": [value, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save_file

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.errors import SerializationError

from .._dispatch import make
from .._tensor import Tensor
from ._atomic import replacing
from ._storage import Restore, UntypedStorage

__all__ = ["load", "looks_like_one", "save"]

_METADATA = "dualgraph"
_REAL_PART = {"complex64": np.dtype(np.float32), "complex128": np.dtype(np.float64)}


def save(obj: Any, path: str) -> None:
    """Write a state dict, or any nesting of containers with tensors.

    Raises:
        SerializationError: `obj` contains something else; the message says where.
        OSError: the file cannot be written.
    """
    packer = _Packer()
    try:
        structure = json.dumps(packer.pack(obj, ()), separators=(",", ":"))
    except RecursionError:
        raise SerializationError("the object is nested too deeply") from None
    for name, array in packer.arrays.items():
        if dt.dtype_of(array).is_narrow:  # which would be written, some of them, but not read
            raise SerializationError(
                f"{name!r} is {dt.dtype_of(array).name}, which the safetensors library does not "
                "read into NumPy arrays; convert it first"
            )
    with replacing(path) as temporary:
        try:
            save_file(packer.arrays, temporary, metadata={_METADATA: structure})
        except SafetensorError as error:
            raise SerializationError(str(error)) from error


def looks_like_one(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `head` (9 bytes or more) may be such a file.

    It begins with the length of its header, which is JSON.
    """
    return head[8:9] == b"{" and 8 + int.from_bytes(head[:8], "little") <= size


def load(file: IO[bytes], path: str | None, restore: Restore, *, mmap: bool) -> Any:
    """Read what `save` wrote, or any other safetensors file.

    Args:
        file: the open file.
        path: where it is, if it is on disk.
        restore: puts the memory of a tensor on its device.
        mmap: whether to map the file into memory instead of reading it; needs `path`.

    Returns:
        The object that was saved, its tensors new and without `requires_grad`; for a file of
        another program a dict from name to tensor.

    Raises:
        SerializationError: the file is truncated or damaged.
    """
    structure, arrays = _read(file, path, mmap)
    tensors = {name: _restored(array, restore) for name, array in arrays.items()}
    return tensors if structure is None else _unpack(structure, tensors)


def _restored(array: Any, restore: Restore) -> Tensor:
    storage = restore(UntypedStorage(array.reshape(-1).view(np.uint8)), "cpu")
    return make(storage._data.view(array.dtype).reshape(array.shape))


# -- objects to structure -------------------------------------------------------------------------


class _Packer:
    """Collects the arrays of an object while turning the rest into JSON values."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        self._names: dict[Any, tuple[str, Any]] = {}  # by memory, with what keeps it alive

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
        if isinstance(array, np.ndarray) and array.size:
            first, _ = self._names.setdefault(_identity(tensor._data), (name, tensor))
            if first != name:
                reference["shares"] = first
        real = _REAL_PART.get(array.dtype.name)
        if real is not None:
            reference["dtype"] = array.dtype.name
            array = array.reshape(*array.shape, 1).view(real)
        self.arrays[name] = array
        return reference


def _identity(array: Any) -> Any:
    """Equal for arrays that are the same part of memory."""
    start = array.ctypes.data if isinstance(array, np.ndarray) else int(array.data.ptr)
    return start, array.shape, array.strides, array.dtype


def _where(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key!r}]" for key in path) or "the top level"


# -- structure to objects -------------------------------------------------------------------------


def _read(file: IO[bytes], path: str | None, mmap: bool) -> tuple[str | None, dict[str, Any]]:
    """Return the structure text, if there is one, and all arrays of a file.

    The safetensors library checks that every entry's dtype, shape and extent agree with each
    other and with the size of the file, before any memory is taken.
    """
    try:
        if path is None:
            content = file.read()
            arrays = {
                name: np.array(_view(entry["data"], entry)).reshape(entry["shape"])
                for name, entry in deserialize(content)  # type: ignore[no-untyped-call]
            }
            metadata = _header(content).get("__metadata__")
        else:
            with safe_open(path, framework="numpy") as entries:
                metadata = entries.metadata()
                names = list(entries.keys())
                arrays = {} if mmap else {name: entries.get_tensor(name) for name in names}
            if mmap:
                arrays = _mapped(path, names)
    except (SafetensorError, AttributeError, LookupError, ValueError, TypeError) as error:
        # AttributeError: the library asks NumPy for a dtype that NumPy has not.
        raise SerializationError(
            "expected a complete safetensors file, but this one is truncated, damaged or "
            f"something else ({error})"
        ) from error
    for name, array in arrays.items():
        if array.dtype not in dt.BY_NUMPY:
            raise SerializationError(
                f"entry {name!r} has elements of type {array.dtype}; "
                "supported: " + ", ".join(d.name for d in dt.ALL)
            )
    return (metadata or {}).get(_METADATA), arrays


def _header(content: Any) -> Any:
    length = int.from_bytes(bytes(content[:8]), "little")
    return json.loads(bytes(content[8 : 8 + length]))


# What the format calls the dtypes that are read here, not by the library.
_STORED = {
    "BOOL": "bool",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
}


def _mapped(path: str, names: list[str]) -> dict[str, Any]:
    """The arrays as parts of the file, copied when they are written to."""
    content = np.memmap(path, np.uint8, "c").view(np.ndarray)
    header = _header(content)
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    found = {}
    for name in names:
        entry = header[name]
        low, high = entry["data_offsets"]
        part = _view(content[start + low : start + high], entry)
        found[name] = (part if part.flags.aligned else part.copy()).reshape(entry["shape"])
    return found


def _view(content: Any, entry: Any) -> Any:
    return np.frombuffer(content, dt.BY_NAME[_STORED[entry["dtype"]]].np)


def _unpack(structure: str, tensors: dict[str, Tensor]) -> Any:
    try:
        return _Unpacker(tensors).restore(json.loads(structure))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise SerializationError(
            "expected the structure dualgraph.save writes in the metadata, but it is damaged "
            f"({type(error).__name__}: {error})"
        ) from error


class _Unpacker:
    """Rebuilds values; anything unexpected ends in a KeyError, TypeError or ValueError."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors
        self._done: dict[str, Tensor] = {}

    def restore(self, value: Any) -> Any:
        """Rebuild one value."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if not isinstance(value, dict):
            raise TypeError(f"a bare {type(value).__name__}")
        if "tensor" in value:
            return self._tensor(value)
        ((kind, content),) = value.items()
        if kind == "dict":
            return {key: self.restore(item) for key, item in content}
        if kind == "list":
            return [self.restore(item) for item in content]
        if kind == "tuple":
            return tuple(self.restore(item) for item in content)
        if kind == "complex":
            return complex(*content)
        raise ValueError(f"unknown kind {kind!r}")

    def _tensor(self, value: dict[str, Any]) -> Tensor:
        if "shares" in value:
            first = self._done[value["shares"]]
            twin = make(first._data)
            twin._ver = first._ver
            return twin
        tensor = self._tensors[value["tensor"]]
        found = tensor if "dtype" not in value else _as_complex(tensor, value["dtype"])
        self._done[value["tensor"]] = found
        return found


def _as_complex(tensor: Tensor, dtype: str) -> Tensor:
    pairs = tensor._data
    if pairs.dtype != _REAL_PART[dtype] or pairs.ndim == 0 or pairs.shape[-1] != 2:
        raise ValueError(f"{pairs.dtype} of shape {pairs.shape} cannot be pairs of {dtype}")
    return make(pairs.view(dtype)[..., 0])
