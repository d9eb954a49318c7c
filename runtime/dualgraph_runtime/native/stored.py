"""Compiled models on disk: a program, and its constants in the order that its kernels read them in.

A stored model is run without parsing or optimising anything: its arrays are mapped into memory from
the file, so they are read as they are needed, and processes that run one model share them.

A file is a JSON text (with its length before it), then the arrays, each at a multiple of 64 bytes.
The text names classes from a fixed table and nothing else, so that reading one runs no code.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import mmap
import os
from collections.abc import Mapping, Sequence
from functools import cache as cached_result
from pathlib import Path
from typing import Any

import numpy as np

from dualgraph_compiler.dims import Dim, parse_dim, symbols
from dualgraph_compiler.dtypes import BY_NAME, DType, dtype_of
from dualgraph_compiler.errors import DualGraphError
from dualgraph_compiler.native import Home, Program

from . import cache

_log = logging.getLogger("dualgraph")

_ALIGN = 64
_SUFFIX = ".model"

# The classes whose objects are stored, field by field, and where they are defined.
_CLASSES = {
    "Assumption": "dualgraph_compiler.graph.assumptions",
    "Interpreted": "dualgraph_compiler.native.plan",
    "Location": "dualgraph_compiler.graph.core",
    "ModelMetadata": "dualgraph_runtime.model",
    "Model": "dualgraph_runtime.model",
    "NodeArg": "dualgraph_runtime.model",
    "Program": "dualgraph_compiler.native.plan",
    "Segment": "dualgraph_compiler.native.plan",
    "Slot": "dualgraph_compiler.native.plan",
    "TensorType": "dualgraph_compiler.types",
}


class NotStorable(Exception):
    """Something in a program has no form on disk; the message says what."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A compiled model as it lies on disk.

    `program` has its constants; `packed` are the arrays of its packed slots; `about` is what else
    was stored with it.
    """

    program: Program
    packed: tuple[np.ndarray[Any, Any], ...]
    about: Any


def save(key: str, stored: Stored) -> None:
    """Keep a compiled model, if it has a form on disk and is not too large for the cache."""
    try:
        writer = _Writer()
        body = [writer.encoded(x) for x in (stored.program, stored.packed, stored.about)]
        # One model may take a good part of the cache, but not drive everything else out.
        if writer.size > cache.limit() // 4:
            return
        cache.store(key, lambda to: writer.write(to, body), _SUFFIX)
    except NotStorable as error:
        _log.debug("a compiled model is not stored: %s", error)
    except OSError as error:
        _log.info("a compiled model is not stored: %s", error)


def load(key: str) -> Stored | None:
    """What was saved under a key; None where that is not there, or not readable any longer."""
    path = cache.find(key, _SUFFIX)
    if path is None:
        return None
    try:
        program, packed, about = _Reader(path).decoded()
        return Stored(program, packed, about)
    except (OSError, ValueError, LookupError, TypeError, ImportError, DualGraphError) as error:
        _log.info("a stored model cannot be read, and is made again: %s", error)
        cache.forget(key, _SUFFIX)
        return None


@cached_result
def version() -> str | None:
    """What changes with the code that makes programs: an installed package's files as they are.

    None where the packages are not files.
    """
    seen: list[str] = []
    try:
        for name in ("dualgraph_compiler", "dualgraph_runtime"):
            for folder in importlib.import_module(name).__path__:
                _list_sources(folder, "", seen)
    except OSError:
        return None
    return cache.key_of(np.__version__, *sorted(seen))


def _list_sources(folder: str, prefix: str, seen: list[str]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if entry.name != "__pycache__":
                    _list_sources(entry.path, f"{prefix}{entry.name}/", seen)
            elif entry.name.endswith((".py", ".c")):
                status = entry.stat()
                seen.append(f"{prefix}{entry.name} {status.st_size} {status.st_mtime_ns}")


# -- writing ---------------------------------------------------------------------------------------


class _Writer:
    def __init__(self) -> None:
        self.arrays: list[np.ndarray[Any, Any]] = []
        self.size = 0

    def encoded(self, x: Any) -> Any:
        """The JSON form of a value; its arrays are noted, to be written behind the text."""
        if x is None or type(x) in (bool, int, float, str):
            return x
        if type(x) is tuple:
            return [self.encoded(e) for e in x]
        if type(x) is list:
            return {"is": "list", "of": [self.encoded(e) for e in x]}
        if type(x) is dict:
            pairs = [[self.encoded(k), self.encoded(v)] for k, v in x.items()]
            return {"is": "dict", "of": pairs}
        if isinstance(x, Dim):
            bounds = [[s.name, s.min, s.max] for s in sorted(symbols(x), key=str)]
            return {"is": "Dim", "text": str(x), "bounds": bounds}
        if isinstance(x, DType):
            return {"is": "DType", "name": x.name}
        if isinstance(x, Home):
            return {"is": "Home", "name": x.value}
        if isinstance(x, np.ndarray):
            return self._array(x)
        return self._object(x)

    def _object(self, x: Any) -> Any:
        kind = type(x)
        if not dataclasses.is_dataclass(x):
            raise NotStorable(f"{kind.__name__} has no form on disk")
        fields = {f.name: self.encoded(getattr(x, f.name)) for f in dataclasses.fields(x)}
        if _CLASSES.get(kind.__name__) == kind.__module__:
            return {"is": kind.__name__, **fields}
        name = getattr(x, "name", None)
        if isinstance(name, str) and _op_class(name) is kind:
            return {"is": "op", "op": name, "fields": fields}
        raise NotStorable(f"{kind.__name__} has no form on disk")

    def _array(self, x: np.ndarray[Any, Any]) -> Any:
        at = self.size
        self.arrays.append(x)
        self.size += x.nbytes + -x.nbytes % _ALIGN
        return {"is": "array", "dtype": dtype_of(x).name, "shape": list(x.shape), "at": at}

    def write(self, path: Path, body: Any) -> None:
        text = json.dumps(body, separators=(",", ":")).encode()
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.write(bytes(-file.tell() % _ALIGN))
            for array in self.arrays:
                file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
                file.write(bytes(-array.nbytes % _ALIGN))


# -- reading ---------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length = int.from_bytes(self.data[:8], "little")
        self.text = self.data[8 : 8 + length]
        self.start = 8 + length + -(8 + length) % _ALIGN

    def decoded(self) -> Any:
        return self._value(json.loads(self.text))

    def _value(self, x: Any) -> Any:
        if type(x) is list:
            return tuple([self._value(e) for e in x])
        if type(x) is not dict:
            return x
        match x["is"]:
            case "list":
                return [self._value(e) for e in x["of"]]
            case "dict":
                return {self._value(k): self._value(v) for k, v in x["of"]}
            case "Dim":
                return _dim(x["text"], x["bounds"])
            case "DType":
                return BY_NAME[x["name"]]
            case "Home":
                return Home(x["name"])
            case "array":
                return self._array(BY_NAME[x["dtype"]], x["shape"], x["at"])
            case "op":
                kind = _op_class(x["op"])
                if kind is None:
                    raise LookupError(f"there is no operation {x['op']!r}")
                return kind(**{k: self._value(v) for k, v in x["fields"].items()})
            case name:
                kind = getattr(importlib.import_module(_CLASSES[name]), name)
                return kind(**{k: self._value(v) for k, v in x.items() if k != "is"})

    def _array(self, dtype: DType, shape: Sequence[int], at: int) -> np.ndarray[Any, Any]:
        count = 1
        for size in shape:
            count *= size
        if not count:
            return np.empty(shape, dtype.np)
        return np.frombuffer(self.data, dtype.np, count, self.start + at).reshape(shape)


def _dim(text: str, bounds: Sequence[Sequence[Any]]) -> Any:
    named: Mapping[str, Dim] = {n: Dim(n, min=low, max=high) for n, low, high in bounds}
    return parse_dim(text, named)


def _op_class(name: str) -> Any:
    from dualgraph_compiler.ops import REGISTRY

    return REGISTRY.get(name)
