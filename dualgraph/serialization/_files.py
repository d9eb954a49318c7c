"""`save` and `load`: which format a file has, and what is said when it cannot be read."""

from __future__ import annotations

import contextlib
import os
import pickle
import warnings
from collections.abc import Iterator
from typing import IO, Any, TypeAlias

from dualgraph_compiler.errors import (
    ArgumentError,
    DeviceError,
    DualGraphError,
    SerializationError,
)

from . import _archive, _legacy, _safetensors
from ._archive import Archive
from ._atomic import replacing
from ._reading import read_archive, read_legacy, refused_globals
from ._storage import MapLocation, Restore, UntypedStorage, make_restore

__all__ = ["get_unsafe_globals_in_checkpoint", "load", "save"]

FileLike: TypeAlias = str | os.PathLike[str] | IO[bytes]

# What files that are often mistaken for a checkpoint begin with.
_FOREIGN = {
    b"\x93NUMPY": "a NumPy array file",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "compressed with gzip",
    b"<": "a web page, perhaps of a failed download",
}
_TAR_AT = 257


def save(
    obj: Any,
    f: FileLike,
    pickle_module: Any = pickle,
    pickle_protocol: int = 2,
    _use_new_zipfile_serialization: bool = True,
) -> None:
    """Write an object with tensors to a file that `load` reads, and PyTorch, too.

    A path that ends in `.safetensors` gives a safetensors file, which holds tensors, numbers,
    strings, booleans and `None` in dicts, lists and tuples, and their sharing of memory. All others
    give PyTorch's format: any object that can be pickled, tensors with their sharing of memory.

    A file at a path appears complete or not at all: what stood there stays until the new content is
    safely on disk.

    Args:
        obj: a state_dict, say.
        f: where to, a path or a file open for writing.
        pickle_module: Python's own.
        pickle_protocol: version of the pickle format, 2 to 5. PyTorch reads 2 as data only.
        _use_new_zipfile_serialization: `False` writes the format of PyTorch before version 1.6.

    Raises:
        SerializationError: `obj` contains something that the format does not hold.
        ArgumentError: another pickle module or protocol.
        OSError: the file cannot be written.
    """
    if pickle_module is not pickle:
        raise ArgumentError("pickle_module can be Python's pickle only")
    if not 2 <= pickle_protocol <= pickle.HIGHEST_PROTOCOL:
        raise ArgumentError(f"pickle_protocol should be 2 to 5, got {pickle_protocol}")
    path = os.fspath(f) if isinstance(f, str | os.PathLike) else None
    with _naming("save to", f):
        if path is None:
            if not hasattr(f, "write"):
                raise AttributeError(
                    "expected 'f' to be string, path, or a file-like object with a 'write' "
                    "attribute"
                )
            _write(obj, f, "archive", pickle_protocol, _use_new_zipfile_serialization)  # type: ignore[arg-type]
        elif path.endswith(".safetensors"):
            _safetensors.save(obj, path)
        else:
            name = os.path.splitext(os.path.basename(path))[0] or "archive"
            with replacing(path) as temporary, open(temporary, "wb") as file:
                _write(obj, file, name, pickle_protocol, _use_new_zipfile_serialization)


def _write(obj: Any, file: IO[bytes], name: str, protocol: int, new: bool) -> None:
    if new:
        _archive.write(obj, file, name, protocol)
    else:
        _legacy.write(obj, file, protocol)


def load(
    f: FileLike,
    map_location: MapLocation = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """Read what `save` wrote, or `torch.save`, or any safetensors file.

    Only data is read, unless `weights_only=False`: nothing in the file is run, and a file that asks
    for anything but tensors, numbers, strings and containers is refused. `add_safe_globals` adds to
    what files may ask for.

    Args:
        f: a path, or a file open for reading that can be sought in.
        map_location: where tensors are put: a device; a dict from the locations that the file names
            to others; or a function of a storage and its location that returns a storage, or `None`
            for where it was. By default they go to the devices they were saved from.
        pickle_module: with `weights_only=False`, whose `Unpickler` to use.
        weights_only: `False` to unpickle anything, and so run whatever code the file holds.
        mmap: map the file into memory instead of reading it; tensors are read from disk when they
            are used, and writing to them does not change the file. Needs a path.
        pickle_load_args: `encoding`, of strings that Python 2 wrote.

    Returns:
        The object that was saved; for a safetensors file of another program a dict from name to
        tensor.

    Raises:
        FileNotFoundError: there is no such file.
        RefusedPickle: the file asks for something that is not data; the message names it.
        SerializationError: the file is truncated or damaged, or no checkpoint.
        DeviceError: tensors are to go to a GPU that is not there.
    """
    data_only = pickle_module is None if weights_only is None else weights_only
    if data_only and pickle_module is not None:
        raise DualGraphError("Can not safely load weights when explicit pickle_module is specified")
    if data_only and set(pickle_load_args) - {"encoding"}:
        warnings.warn("pickle_load_args only works if `weights_only=False`.", stacklevel=2)
    unpickler = None if data_only else (pickle_module or pickle).Unpickler
    encoding = pickle_load_args.get("encoding", "utf-8")
    restore = _Restoring(make_restore(map_location))
    with _opened(f) as (file, path), _naming("load", f, restore, unpickler is None):
        if mmap and path is None:
            raise ArgumentError("f must be a file path in order to use the mmap argument")
        kind = _kind(file)
        if kind == "safetensors":
            return _safetensors.load(file, path, restore, mmap=bool(mmap))
        if kind == "archive":
            archive = Archive(file, path if mmap else None)
            return read_archive(archive, restore, unpickler=unpickler, encoding=encoding)
        if mmap:
            raise SerializationError("mmap can only be used with files of the new format")
        return read_legacy(file, restore, unpickler=unpickler, encoding=encoding)


def get_unsafe_globals_in_checkpoint(f: FileLike) -> list[str]:
    """The functions and classes that a checkpoint asks for and that `load` would refuse.

    Raises:
        SerializationError: the file is damaged, or not in PyTorch's format.
    """
    with _opened(f) as (file, _), _naming("look into", f):
        if _kind(file) != "archive":
            raise SerializationError("it is not in the format of torch.save since PyTorch 1.6")
        return refused_globals(Archive(file).pickle())


# -- files ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(f: FileLike) -> Iterator[tuple[IO[bytes], str | None]]:
    """A file to read from, and its path."""
    if not isinstance(f, str | os.PathLike):
        if not (hasattr(f, "seek") and hasattr(f, "tell") and hasattr(f, "read")):
            raise AttributeError(
                "You can only load from a file that is seekable. Please pre-load the data into a "
                "buffer like io.BytesIO and try to load from it instead."
            )
        yield f, None
        return
    path = os.fspath(f)
    if os.path.isdir(path):
        raise IsADirectoryError(f"cannot load {path}: it is a folder")
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise FileNotFoundError(f"cannot load {path}: there is no such file") from None
    with file:
        yield file, path


def _kind(file: IO[bytes]) -> str:
    """The format of what comes next in a file.

    Raises:
        SerializationError: it is none that is known.
    """
    place = file.tell()
    head = file.read(_TAR_AT + 5)
    size = file.seek(0, os.SEEK_END) - place
    file.seek(place)
    if head.startswith(b"PK\x03\x04"):
        return "archive"
    if _safetensors.looks_like_one(head, size):
        return "safetensors"
    if head.startswith(b"\x80"):
        return "legacy"
    if head[_TAR_AT:] == b"ustar":
        raise SerializationError("it is in PyTorch's first format, a tar archive")
    for magic, kind in _FOREIGN.items():
        if head.startswith(magic):
            raise SerializationError(f"it is {kind}")
    raise SerializationError(
        f"expected a checkpoint, but this file of {size} bytes is truncated, damaged or something "
        "else"
    )


class _Restoring:
    """Remembers what the user's `map_location` function raised, which is no fault of a file."""

    def __init__(self, restore: Restore) -> None:
        self._restore = restore
        self.error: Exception | None = None

    def __call__(self, storage: UntypedStorage, location: str) -> UntypedStorage:
        try:
            return self._restore(storage, location)
        except SerializationError:
            raise
        except Exception as error:
            self.error = error
            raise


@contextlib.contextmanager
def _naming(
    action: str, f: FileLike, restoring: _Restoring | None = None, data_only: bool = False
) -> Iterator[None]:
    """Say of every error which file it is about; in files of data only, all errors are ours."""
    name = os.fspath(f) if isinstance(f, str | os.PathLike) else type(f).__name__
    try:
        yield
    except (ArgumentError, DeviceError):
        raise
    except SerializationError as error:
        raise type(error)(f"cannot {action} {name}: {error}") from error.__cause__
    except Exception as error:
        if not data_only or (restoring is not None and restoring.error is error):
            raise
        raise SerializationError(
            f"cannot {action} {name}: it is damaged ({type(error).__name__}: {error})"
        ) from error
