"""Files on disk, by the hash of everything they came from: compiled code, and what goes with it.

Any number of processes may use a cache at once, and its files may be deleted at any time: an entry
is written beside its place and renamed into it; each ends with a checksum, and one that is damaged
is made again. The folder is ``$DUALGRAPH_CACHE_DIR``, else ``dualgraph`` in the user's cache
folder, else, where that cannot be written to, a temporary one of this process. What was used least
recently goes when it holds more than ``$DUALGRAPH_CACHE_SIZE`` (bytes, or such as "512M", "2G").
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dualgraph_compiler.errors import ArgumentError

from .cpus import available_cpus

_LIMIT = "1G"
_MAGIC = b"dualgraph-1:"
_TRAILER = len(_MAGIC) + 32
_PART, _READ = 1 << 23, 1 << 18  # bytes that are hashed by themselves, and read at once
_NEW = ".new-"  # what the names of files begin with that are being written
_ABANDONED = 24 * 3600  # seconds after which such a file has nobody who will finish it
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def cached(key: str, make: Callable[[Path], None], suffix: str = ".so") -> Path:
    """The file for `key`, which `make` writes to a path where it is not there or damaged."""
    return find(key, suffix) or store(key, make, suffix)


def find(key: str, suffix: str = ".so") -> Path | None:
    """The file for `key`; None where it is not there or damaged. To be used counts as use."""
    path = folder() / f"{key}{suffix}"
    if not _is_whole(path):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return path


def store(key: str, make: Callable[[Path], None], suffix: str = ".so") -> Path:
    """The file for `key`, written anew by `make`."""
    path = folder() / f"{key}{suffix}"
    handle, name = tempfile.mkstemp(prefix=_NEW, suffix=suffix, dir=path.parent)
    os.close(handle)
    new = Path(name)
    try:
        make(new)
        digest = digest_of(new)
        with new.open("ab") as file:
            file.write(_MAGIC + digest)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
    prune(path.parent, keep=path)
    return path


def content(path: Path) -> bytes:
    """What was written to a file of the cache."""
    return path.read_bytes()[:-_TRAILER]


def forget(key: str, suffix: str = ".so") -> None:
    """Remove the file for `key`."""
    (folder() / f"{key}{suffix}").unlink(missing_ok=True)


def key_of(*parts: str | bytes) -> str:
    """The hash of texts; where one ends and the next begins counts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


# -- the folder ------------------------------------------------------------------------------------


def folder() -> Path:
    """Where files are kept. A folder that others may write to is not trusted."""
    named = os.environ.get("DUALGRAPH_CACHE_DIR")
    try:
        if named:
            path = Path(named)
        else:
            base = os.environ.get("XDG_CACHE_HOME")
            path = (Path(base) if base else Path.home() / ".cache") / "dualgraph"
        path = path / "native"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        foreign = hasattr(os, "getuid") and status.st_uid != os.getuid()
        if not foreign and not status.st_mode & stat.S_IWOTH and os.access(path, os.W_OK):
            return path
    except (OSError, RuntimeError):  # no home, say
        pass
    return _private_folder()


@functools.lru_cache(maxsize=1)
def _private_folder() -> Path:
    """A folder of this process alone."""
    global _kept
    _kept = tempfile.TemporaryDirectory(prefix="dualgraph-native-")
    return Path(_kept.name)


_kept: tempfile.TemporaryDirectory[str] | None = None


def _is_whole(path: Path) -> bool:
    """Whether a file is as it was written."""
    try:
        size = path.stat().st_size - _TRAILER
        if size < 0:
            return False
        with path.open("rb") as file:
            file.seek(size)
            trailer = file.read()
        return trailer == _MAGIC + digest_of(path, size)
    except OSError:
        return False


def digest_of(path: Path, size: int | None = None) -> bytes:
    """The hash of a file, or of its first `size` bytes: of the hashes of its parts, which threads
    compute side by side where there are several.

    Raises:
        OSError: it cannot be read.
    """
    if size is None:
        size = path.stat().st_size
    starts = range(0, size, _PART)

    def part(start: int) -> bytes:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            file.seek(start)
            left = min(_PART, size - start)
            while left and (data := file.read(min(left, _READ))):
                digest.update(data)
                left -= len(data)
        return digest.digest()

    return _combined(size, part, starts)


def digest_of_bytes(data: bytes | bytearray | memoryview) -> bytes:
    """What `digest_of` gives for a file of these bytes."""
    view = memoryview(data).cast("B")

    def part(start: int) -> bytes:
        return hashlib.sha256(view[start : start + _PART]).digest()

    return _combined(len(view), part, range(0, len(view), _PART))


def _combined(size: int, part: Callable[[int], bytes], starts: range) -> bytes:
    found = None
    if len(starts) > 1:
        # At the end of a process there are no more threads to be had.
        with (
            contextlib.suppress(RuntimeError),
            ThreadPoolExecutor(min(available_cpus(), len(starts))) as threads,
        ):
            found = list(threads.map(part, starts))
    found = found or [part(start) for start in starts]
    return hashlib.sha256(b"".join([size.to_bytes(8, "little"), *found])).digest()


# -- size ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the cache: its size in bytes, and when it was used last, in seconds."""

    path: Path
    size: int
    used: float


def limit() -> int:
    """The bytes that the cache may hold.

    Raises:
        ArgumentError: ``DUALGRAPH_CACHE_SIZE`` is no size.
    """
    text = os.environ.get("DUALGRAPH_CACHE_SIZE") or _LIMIT
    match = re.fullmatch(r"\s*(\d+)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise ArgumentError(
            f"DUALGRAPH_CACHE_SIZE: expected a size such as 512M or 2G, got {text!r}"
        )
    return int(match[1]) * _UNITS[match[2].upper()]


def entries(path: Path | None = None) -> list[Entry]:
    """Every file of the cache, least recently used first."""
    found = []
    with contextlib.suppress(OSError), os.scandir(path or folder()) as files:
        for file in files:
            with contextlib.suppress(OSError):
                status = file.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found.append(Entry(Path(file.path), status.st_size, status.st_mtime))
    return sorted(found, key=lambda e: (e.used, e.size))


def clear() -> list[Entry]:
    """Remove every file of the cache, and say which. Code that is loaded goes on running."""
    removed = []
    for entry in entries():
        if _is_being_written(entry):
            continue
        with contextlib.suppress(OSError):
            entry.path.unlink()
            removed.append(entry)
    return removed


def prune(path: Path, keep: Path, bytes_at_most: int | None = None) -> None:
    """Remove what was used least recently until the rest fits, and what was never finished."""
    most = limit() if bytes_at_most is None else bytes_at_most
    files = entries(path)
    total = sum(e.size for e in files)
    for entry in files:
        abandoned = entry.path.name.startswith(_NEW)
        if _is_being_written(entry) or entry.path == keep or not (abandoned or total > most):
            continue
        with contextlib.suppress(OSError):
            entry.path.unlink()
            total -= entry.size


def _is_being_written(entry: Entry) -> bool:
    return entry.path.name.startswith(_NEW) and time.time() - entry.used < _ABANDONED
