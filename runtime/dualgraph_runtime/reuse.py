"""Compiled models met before, in this process or on disk, by what they were compiled from.

Sessions of one model share its code and its weights. What was compiled in an earlier process is
read from the cache, without parsing or optimising anything (`native/stored.py`).
"""

from __future__ import annotations

import os
import stat
import threading
import weakref
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from dualgraph_compiler.errors import DeviceError

from .model import Model
from .options import SessionOptions

if TYPE_CHECKING:
    from dualgraph_compiler.graph import Graph
    from dualgraph_compiler.onnx import ModelFile

    from .native import Executable

# What changes when a file does, as far as can be seen without reading it.
Stamp: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a model is compiled from: the key of its compiled form, and the file it came from."""

    key: str
    num_threads: int
    path: Path | None = None
    stamp: Stamp | None = None

    def is_current(self) -> bool:
        """Whether the file is still the one that the key was made of."""
        return self.path is None or stamp_of(self.path) == self.stamp


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Compiled:
    """A compiled model: `external` are the other files it was made from, and their hashes."""

    executable: Executable
    model: Model
    external: tuple[tuple[str, str], ...] = ()


_loaded: weakref.WeakValueDictionary[tuple[str, int], Compiled] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def identify(source: Any, options: SessionOptions) -> Identity | None:
    """The identity of a model, of one kind of compilation; None where it cannot be told cheaply."""
    from .native import cache, find_compiler, stored

    path = stamp = None
    if isinstance(source, bytes | bytearray | memoryview):
        digest = cache.digest_of_bytes(source).hex()
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        stamp = stamp_of(path)
        found = _digest(path)
        if stamp is None or found is None:
            return None
        digest = found
    else:
        return None
    compiler, version = find_compiler(), stored.version()
    if compiler is None or version is None:
        return None
    if options.optimized_model_filepath or options.initializers:
        return None
    sizes = [sorted(options.free_dimensions.items()), sorted(options.free_denotations.items())]
    chosen = f"{options.graph_optimization_level} {sizes}"
    key = cache.key_of("model", version, digest, compiler.identity, *compiler.flags, chosen)
    return Identity(key, options.intra_op_num_threads, path, stamp)


def find(identity: Identity) -> Compiled | None:
    """A model that was compiled before."""
    from .native import Executable, find_compiler, stored

    kind = identity.key, identity.num_threads
    with _lock:
        known = _loaded.get(kind)
        if known is None:
            found = stored.load(identity.key)
            compiler = find_compiler()
            if found is None or compiler is None:
                return None
            threads = identity.num_threads
            try:
                executable = Executable(found.program, compiler, threads, found.packed)
            except (DeviceError, OSError):  # its code is gone, and cannot be built any longer
                return None
            known = Compiled(executable, *found.about)
        if not all(_external(identity, name) == digest for name, digest in known.external):
            return None
        return _loaded.setdefault(kind, known)


def compile_model(
    graph: Graph,
    model: Model,
    identity: Identity | None,
    files: External,
    num_threads: int,
    timed: bool = False,
) -> Compiled:
    """Compile the graph of a model, share it with later sessions, keep it for later processes.

    With `timed`, which takes no identity, it notes how long its kernels take.

    Raises:
        NotCompiled: there is no C compiler.
        DeviceError: the compiler failed.
    """
    from .native import Background, compile_graph

    executable = compile_graph(graph, num_threads=num_threads, timed=timed)
    external = files.hashed() if identity is not None else None
    made = Compiled(executable, model, external or ())
    if identity is not None and external is not None and identity.is_current():
        with _lock:
            _loaded[identity.key, identity.num_threads] = made
        work = partial(_save, identity.key, made)
        Background(work, f"keeping graph {graph.name!r} for later", after=1).hold()
    return made


def _save(key: str, made: Compiled) -> None:
    from .native import stored

    stored.save(key, made.executable.stored((made.model, made.external)))


class External:
    """The files beside a model's own that its weights came from, as they were when read."""

    def __init__(self, file: ModelFile) -> None:
        self._files = {name: (path, stamp_of(path)) for name, path in file.external.items()}

    def hashed(self) -> tuple[tuple[str, str], ...] | None:
        """Names and hashes; None where a file has changed since."""
        found = []
        for name, (path, stamp) in self._files.items():
            digest = _digest(path)
            if digest is None or stamp_of(path) != stamp:
                return None
            found.append((name, digest))
        return tuple(found)


def _external(identity: Identity, name: str) -> str | None:
    """The hash of a file beside a model's own, as the model names it."""
    from dualgraph_compiler.onnx.external import inside

    if identity.path is None:
        return None
    try:
        return _digest(inside(identity.path.parent, name, "external data"))
    except ValueError:
        return None


def _digest(path: Path) -> str | None:
    """The hash of a regular file; None where it cannot be read."""
    from .native import cache

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for its other end
            return None
        return cache.digest_of(path).hex()
    except OSError:
        return None


def stamp_of(path: Path) -> Stamp | None:
    """What the system says of a file; None where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
