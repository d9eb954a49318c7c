"""Reads ONNX models from untrusted files.

Nothing here trusts a length that a file states. External data is the matter of ``external.py``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from ..dtypes import BY_ONNX, DType
from ..errors import NoSuchModel, NotAnOnnxFile, OnnxError
from .external import ExternalFiles, file_bytes
from .save import MAX_PROTO_BYTES
from .sparse import with_dense_initializers

if TYPE_CHECKING:
    import onnx

# What a model can be read from.
ModelSource: TypeAlias = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, IO[bytes], "onnx.ModelProto", "ModelFile"
]


class ModelFile:
    """A parsed model and where it came from.

    `proto` is the ONNX ModelProto, `source` names it in messages, and `folder` is where external
    data may lie (None: nowhere). Arrays of external data are mapped from their file, read-only.
    """

    def __init__(self, proto: onnx.ModelProto, source: str, folder: Path | None = None) -> None:
        self.proto = with_dense_initializers(proto, source)
        self.source = source
        self._folder = folder
        self._files = ExternalFiles(folder)
        self._given: dict[str, np.ndarray[Any, Any]] = {}

    def with_proto(self, proto: onnx.ModelProto) -> ModelFile:
        """Another model from the same place."""
        return ModelFile(proto, self.source, self._folder)

    def replace_initializers(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Give initializers of the model's graph other contents, of the same type and shape.

        Raises:
            OnnxError: there is no such initializer, or it has another type or shape.
        """
        known = {t.name: t for t in self.proto.graph.initializer}
        for name, array in arrays.items():
            if name not in known:
                raise OnnxError(f"{self.source} has no initializer {name!r}")
            dtype, shape = self._dtype(known[name]), tuple(known[name].dims)
            if array.dtype != dtype.np or array.shape != shape:
                raise OnnxError(
                    f"{self.source}: initializer {name!r} is {dtype.name} of shape {list(shape)}, "
                    f"got {array.dtype} of shape {list(array.shape)}"
                )
        self._given.update(arrays)

    def is_replaced(self, initializer: onnx.TensorProto) -> bool:
        """Whether an initializer has other contents than the model says."""
        return initializer.name in self._given

    def initializer(self, tensor: onnx.TensorProto) -> np.ndarray[Any, Any]:
        """`array` of an initializer of the model's graph, whose contents may have been replaced."""
        found = self._given.get(tensor.name)
        return self.array(tensor) if found is None else found

    @property
    def external(self) -> dict[str, Path]:
        """The files beside the model's own that arrays were read from, by the model's names."""
        return self._files.paths

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
            return self._files.array(tensor, dtype, self.source)
        needed = file_bytes(tensor.dims, dtype)
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
    except FileNotFoundError as error:
        raise NoSuchModel(f"cannot read {path}: {error.strerror or error}") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise OnnxError(f"cannot read {str(path)!r}: {reason}") from error
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
        raise NotAnOnnxFile(f"{source} is empty; expected an ONNX model")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError, whichever implementation it is of
        raise NotAnOnnxFile(
            f"{source} is not an ONNX model, or is truncated ({len(data)} bytes): {error}"
        ) from error
    return _checked(model, source)


def _checked(model: onnx.ModelProto, source: str) -> onnx.ModelProto:
    """`model`, if it holds at least what every model must."""
    import onnx

    if not model.HasField("graph") or not model.opset_import:
        raise NotAnOnnxFile(
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
