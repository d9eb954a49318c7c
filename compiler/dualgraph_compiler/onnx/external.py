"""Data that a model keeps in files of its own, mapped into memory.

Nothing here trusts an offset, a length or a path that a model states: data is read only from
regular files inside the model's own folder.
"""

from __future__ import annotations

import math
import mmap
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dtypes import DType
from ..errors import OnnxError

if TYPE_CHECKING:
    import onnx


def file_bytes(dims: Iterable[int], dtype: DType) -> int:
    """What a tensor takes in a file, where elements of less than a byte are packed."""
    return -(-math.prod(dims) * dtype.bits // 8)


class ExternalFiles:
    """The files in `folder` that tensors of one model lie in; None: there are none.

    `paths` are those that were read from, under the names that the model has for them.
    """

    def __init__(self, folder: Path | None) -> None:
        self.paths: dict[str, Path] = {}
        self._folder = folder
        self._mapped: dict[Path, mmap.mmap] = {}

    def array(self, tensor: onnx.TensorProto, dtype: DType, source: str) -> np.ndarray[Any, Any]:
        """The data of a tensor, read-only: pages are read from disk when they are needed.

        Raises:
            OnnxError: the file is not there, not inside the folder, or too short.
        """
        what = f"{source}: external data of tensor {tensor.name!r}"
        if self._folder is None:
            raise OnnxError(f"{what}: a model that is not read from a file cannot have any")
        entries = {e.key: e.value for e in tensor.external_data}
        location = entries.get("location", "")
        path = inside(self._folder, location, what)
        needed = file_bytes(tensor.dims, dtype)
        offset = _size(entries, "offset", 0, what)
        length = _size(entries, "length", needed, what)
        if length != needed:
            raise OnnxError(f"{what}: shape and type need {needed} bytes, `length` is {length}")
        data = self._data(path, location)
        if offset + needed > len(data):
            raise OnnxError(
                f"{what}: bytes {offset} to {offset + needed} of {path.name}, which has only "
                f"{len(data)}"
            )
        if dtype.bits < 8:
            return _unpacked(data[offset : offset + needed], tensor)
        count = math.prod(tensor.dims)
        stored = np.frombuffer(data, dtype.np.newbyteorder("<"), count, offset)
        if not stored.flags.aligned:
            stored = stored.copy()
        return stored.astype(dtype.np, copy=False).reshape(tuple(tensor.dims))

    def _data(self, path: Path, location: str) -> mmap.mmap | bytes:
        self.paths[location] = path
        if path not in self._mapped:
            # What was opened is what is measured, mapped and read.
            with open(path, "rb") as file:
                if not os.fstat(file.fileno()).st_size:
                    return b""
                self._mapped[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._mapped[path]


def _unpacked(packed: bytes, tensor: onnx.TensorProto) -> np.ndarray[Any, Any]:
    """The elements of `tensor`, each in a byte of its own."""
    from onnx import TensorProto, numpy_helper

    return numpy_helper.to_array(
        TensorProto(raw_data=packed, dims=tensor.dims, data_type=tensor.data_type)
    )


def _size(entries: Mapping[str, str], key: str, default: int, what: str) -> int:
    text = entries.get(key, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise OnnxError(f"{what}: expected a byte count as `{key}`, got {text[:40]!r}")
    return int(text)


def inside(folder: Path, location: str, what: str) -> Path:
    """The regular file that `location` names inside `folder`.

    Raises:
        OnnxError: it is absolute, climbs out, leaves through a link, or is no regular file.
    """
    parts = PureWindowsPath(location)  # understands both separators and drive letters
    if not location or "\0" in location or parts.is_absolute() or parts.drive or parts.root:
        raise OnnxError(f"{what}: expected a relative path, got {location!r}")
    if ".." in parts.parts:
        raise OnnxError(f"{what}: the path {location!r} leaves the model's folder")
    root = folder.resolve()
    path = root.joinpath(*parts.parts)
    try:
        resolved = path.resolve(strict=True)
        mode = resolved.stat().st_mode
    except (OSError, RuntimeError) as error:
        raise OnnxError(f"{what}: cannot open {location!r}: {error}") from error
    if not resolved.is_relative_to(root):
        raise OnnxError(f"{what}: {location!r} is a link that leaves the model's folder")
    if not stat.S_ISREG(mode):
        raise OnnxError(f"{what}: {location!r} is not a regular file")
    return resolved
