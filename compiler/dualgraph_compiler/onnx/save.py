"""Writes ONNX models to disk so that a failed save never costs what was there before."""

from __future__ import annotations

import itertools
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import OnnxError

if TYPE_CHECKING:
    import onnx

MAX_PROTO_BYTES = 2**31 - 1  # protobuf's own limit
_EXTERNAL_FROM = 1024  # bytes: smaller tensors stay in the model file
_ALIGNMENT = 4096  # tensors start on a page, so that readers may map them


def save_model(
    model: onnx.ModelProto, path: str | os.PathLike[str], *, external_data: bool = False
) -> None:
    """Write `model` to `path`: beside it first, then renamed over what was there.

    Args:
        model: left unchanged.
        path: the model file.
        external_data: put the weights into a file beside it (``m.onnx.data`` for ``m.onnx``).
            Models over 2 GB are written so in any case.

    Raises:
        OnnxError: the folder is missing, or the model is over 2 GB without its weights.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise OnnxError(f"cannot write {path}: the folder {path.parent} does not exist")
    if external_data or is_large(model):
        _save_with_data(model, path)
    else:
        with replacing(path) as file:
            file.write(model.SerializeToString(deterministic=True))


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside `path` that replaces it once completely written."""
    path = Path(os.path.realpath(path))  # a link stays a link
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_large(model: onnx.ModelProto) -> bool:
    """Whether a model is too large to be one protobuf message."""
    return _weight_bytes(model) + _rest_bytes(model) > MAX_PROTO_BYTES


def _weight_bytes(model: onnx.ModelProto) -> int:
    return sum(len(t.raw_data) for t in model.graph.initializer)


def _rest_bytes(model: onnx.ModelProto) -> int:
    return sum(n.ByteSize() for n in model.graph.node)


def _save_with_data(model: onnx.ModelProto, path: Path) -> None:
    """Two files change hands here. The data goes under a name the present model does not read, so
    that at every moment the model file on disk finds the data it was written with."""
    in_use = _locations(path)
    suffixes = itertools.chain([".data"], (f".{n}.data" for n in itertools.count(1)))
    names = (path.name + suffix for suffix in suffixes)
    data_path = path.with_name(next(n for n in names if n not in in_use))
    with replacing(data_path) as file:
        written = _externalize(model, file, data_path.name)
    size = written.ByteSize()
    if size > MAX_PROTO_BYTES:
        raise OnnxError(f"cannot write {path}: {size} bytes without its weights, over 2 GB")
    with replacing(path) as file:
        file.write(written.SerializeToString(deterministic=True))
    for old in in_use:
        if re.fullmatch(re.escape(path.name) + r"(\.\d+)?\.data", old):
            path.with_name(old).unlink(missing_ok=True)


def _locations(path: Path) -> set[str]:
    """The external data files that the model already at `path` reads."""
    import onnx

    if not path.exists():
        return set()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception:  # not a model, so it reads nothing
        return set()
    entries = (e for t in model.graph.initializer for e in t.external_data)
    return {e.value for e in entries if e.key == "location"}


def _externalize(model: onnx.ModelProto, file: BinaryIO, location: str) -> onnx.ModelProto:
    """A copy of `model` whose large initializers are written to `file` instead."""
    import onnx

    out = without_initializers(model)
    for tensor in model.graph.initializer:
        made = out.graph.initializer.add()
        if len(tensor.raw_data) < _EXTERNAL_FROM:
            made.CopyFrom(tensor)
            continue
        file.write(b"\0" * (-file.tell() % _ALIGNMENT))
        made.name, made.data_type, made.doc_string = (
            tensor.name,
            tensor.data_type,
            tensor.doc_string,
        )
        made.dims.extend(tensor.dims)
        made.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": location, "offset": file.tell(), "length": len(tensor.raw_data)}
        for key, value in place.items():
            made.external_data.add(key=key, value=str(value))
        file.write(tensor.raw_data)
    return out


def without_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` that lacks the main graph's initializers; they are never copied."""
    import onnx

    out = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _copy_field(out, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _copy_field(out.graph, field.name, value)
    return out


def _copy_field(message: object, name: str, value: object) -> None:
    """Copy one field of a protobuf message: repeated fields merge, scalars are set.

    A description that is not UTF-8 can be read, but not written: it is left out.
    """
    merge = getattr(getattr(message, name), "MergeFrom", None)
    if merge is not None:
        merge(value)
    elif not isinstance(value, bytes):
        setattr(message, name, value)
