"""Reads ONNX models from untrusted files.

Nothing here trusts a length, an offset or a path that a file states. External data is read only
from regular files inside the model's own folder.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import IO, TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from ..dtypes import BY_ONNX, DType
from ..errors import OnnxError
from .save import MAX_PROTO_BYTES

if TYPE_CHECKING:
    import onnx

# What a model can be read from.
ModelSource: TypeAlias = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, IO[bytes], "onnx.ModelProto", "ModelFile"
]


class ModelFile:
    """A parsed model and where it came from.

    `proto` is the ONNX ModelProto, `source` names it in messages, and `folder` is where external
    data may lie (None: nowhere).
    """

    def __init__(self, proto: onnx.ModelProto, source: str, folder: Path | None = None) -> None:
        self.proto = proto
        self.source = source
        self.folder = folder

    def array(self, tensor: onnx.TensorProto) -> np.ndarray[Any, Any]:
        """The data of a tensor of this model, from the model itself or its external file.

        Raises:
            OnnxError: an unsupported element type, or data that is not there or does not fit.
        """
        from onnx import TensorProto, numpy_helper

        dtype = self._dtype(tensor)
        if any(d < 0 for d in tensor.dims):
            raise OnnxError(f"{self.source}: tensor {tensor.name!r} has a negative size")
        if tensor.data_location == TensorProto.EXTERNAL:
            return self._external(tensor, dtype)
        needed = math.prod(tensor.dims) * dtype.itemsize
        if tensor.HasField("raw_data") and len(tensor.raw_data) != needed:
            raise OnnxError(
                f"{self.source}: tensor {tensor.name!r} of shape {list(tensor.dims)} and type "
                f"{dtype.name} needs {needed} bytes, the file has {len(tensor.raw_data)}"
            )
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError, OverflowError) as error:
            raise OnnxError(
                f"{self.source}: tensor {tensor.name!r} is malformed: {error}"
            ) from error

    def _dtype(self, tensor: onnx.TensorProto) -> DType:
        dtype = BY_ONNX.get(tensor.data_type)
        if dtype is None:
            raise OnnxError(
                f"{self.source}: tensor {tensor.name!r} has the element type "
                f"{element_type_name(tensor.data_type)}, which is not supported"
            )
        return dtype

    def _external(self, tensor: onnx.TensorProto, dtype: DType) -> np.ndarray[Any, Any]:
        what = f"{self.source}: external data of tensor {tensor.name!r}"
        if self.folder is None:
            raise OnnxError(f"{what}: a model that is not read from a file cannot have any")
        entries = {e.key: e.value for e in tensor.external_data}
        path = _inside(self.folder, entries.get("location", ""), what)
        count = math.prod(tensor.dims)
        needed = count * dtype.itemsize
        offset = _size(entries, "offset", 0, what)
        length = _size(entries, "length", needed, what)
        if length != needed:
            raise OnnxError(f"{what}: shape and type need {needed} bytes, `length` is {length}")
        # Opened once and examined open, so that what is checked is what is read.
        with open(path, "rb") as file:
            available = os.fstat(file.fileno()).st_size
            if offset + needed > available:
                raise OnnxError(
                    f"{what}: bytes {offset} to {offset + needed} of {path.name}, which has only "
                    f"{available}"
                )
            file.seek(offset)
            data = np.fromfile(file, dtype.np.newbyteorder("<"), count)
        if data.size != count:
            raise OnnxError(f"{what}: {path.name} ended early")
        return data.astype(dtype.np, copy=False).reshape(tuple(tensor.dims))


def _size(entries: Mapping[str, str], key: str, default: int, what: str) -> int:
    text = entries.get(key, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise OnnxError(f"{what}: expected a byte count as `{key}`, got {text[:40]!r}")
    return int(text)


def _inside(folder: Path, location: str, what: str) -> Path:
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


def load_model(source: ModelSource, *, max_bytes: int = MAX_PROTO_BYTES) -> ModelFile:
    """Read a model from a path, bytes, a binary file or a ModelProto.

    Args:
        source: where the model is. Only one read from a path may have external data.
        max_bytes: refuse anything larger (external data not counted).

    Raises:
        OnnxError: the file is missing, too large, truncated or no ONNX model.
    """
    if isinstance(source, ModelFile):
        return source
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return ModelFile(_parse(_read_path(path, max_bytes), str(path)), str(path), path.parent)
    if isinstance(source, bytes | bytearray | memoryview):
        if len(source) > max_bytes:
            raise OnnxError(f"the model has {len(source)} bytes, over the limit of {max_bytes}")
        return ModelFile(_parse(bytes(source), "<bytes>"), "<bytes>")
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "<stream>"))
        data = source.read(max_bytes + 1)
        if not isinstance(data, bytes):
            raise OnnxError(f"{name}: expected a file opened in binary mode")
        return ModelFile(_parse(_limited(data, name, max_bytes), name), name)
    import onnx

    if isinstance(source, onnx.ModelProto):
        return ModelFile(_checked(source, "<model>"), "<model>")
    raise OnnxError(
        f"expected a path, bytes, a binary file or a ModelProto, got {type(source).__name__}"
    )


def _read_path(path: Path, max_bytes: int) -> bytes:
    try:
        status = path.stat()
    except OSError as error:
        raise OnnxError(f"cannot read {path}: {error.strerror or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise OnnxError(f"{path} is a folder; expected an ONNX file")
    if not stat.S_ISREG(status.st_mode):
        raise OnnxError(f"{path} is not a regular file")
    if status.st_size > max_bytes:
        raise OnnxError(f"{path} has {status.st_size} bytes, over the limit of {max_bytes}")
    try:
        with path.open("rb") as file:
            return _limited(file.read(max_bytes + 1), str(path), max_bytes)
    except OSError as error:
        raise OnnxError(f"cannot read {path}: {error.strerror or error}") from error


def _limited(data: bytes, name: str, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise OnnxError(f"{name} has more than the limit of {max_bytes} bytes")
    return data


def _parse(data: bytes, source: str) -> onnx.ModelProto:
    import onnx

    if not data:
        raise OnnxError(f"{source} is empty; expected an ONNX model")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError, whichever implementation it is of
        raise OnnxError(
            f"{source} is not an ONNX model, or is truncated ({len(data)} bytes): {error}"
        ) from error
    return _checked(model, source)


def _checked(model: onnx.ModelProto, source: str) -> onnx.ModelProto:
    """`model`, if it holds at least what every model must."""
    import onnx

    if not model.HasField("graph") or not model.opset_import:
        raise OnnxError(
            f"{source} is not an ONNX model: it has no "
            + ("graph" if not model.HasField("graph") else "opset_import")
        )
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and not 1 <= opset.version <= newest:
            raise OnnxError(
                f"{source} uses opset {opset.version}; the installed onnx {onnx.__version__} knows "
                f"1 to {newest}"
            )
    return model


def element_type_name(number: int) -> str:
    """ONNX's name of an element type ("FLOAT8E4M3FN"), or its number where it has none."""
    import onnx

    types = onnx.TensorProto.DataType
    return types.Name(number) if number in types.values() else f"number {number}"
