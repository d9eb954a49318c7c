"""Compiled code on disk, by the hash of everything it came from.

Any number of processes may use a cache at once, and its files may be deleted at any time: an entry
is written beside its place and renamed into it; each ends with a checksum, and one that is damaged
is built again. The folder is ``$DUALGRAPH_CACHE_DIR``, else ``dualgraph`` in the user's cache
folder; what was used least recently goes when it holds more than ``$DUALGRAPH_CACHE_BYTES``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

_LIMIT = 512 * 1024 * 1024
_MAGIC = b"dualgraph:"
_TRAILER = len(_MAGIC) + 32


def cached(key: str, build: Callable[[Path], None]) -> Path:
    """The file for `key`, which `build` writes to a path where it is not there or damaged."""
    path = folder() / f"{key}.so"
    if _is_whole(path):
        with contextlib.suppress(OSError):
            os.utime(path)  # used just now
        return path
    handle, name = tempfile.mkstemp(prefix=".new-", suffix=".so", dir=path.parent)
    os.close(handle)
    new = Path(name)
    try:
        build(new)
        with new.open("rb+") as file:
            digest = hashlib.sha256(file.read()).digest()
            file.write(_MAGIC + digest)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
    prune(path.parent, keep=path)
    return path


def forget(key: str) -> None:
    """Remove the file for `key`."""
    (folder() / f"{key}.so").unlink(missing_ok=True)


def key_of(*parts: str) -> str:
    """The hash of texts; where one ends and the next begins counts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def folder() -> Path:
    """Where compiled code is kept. One that others may write to is not trusted."""
    named = os.environ.get("DUALGRAPH_CACHE_DIR")
    if named:
        path = Path(named)
    else:
        base = os.environ.get("XDG_CACHE_HOME")
        path = (Path(base) if base else Path.home() / ".cache") / "dualgraph"
    path = path / "native"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        foreign = hasattr(os, "getuid") and status.st_uid != os.getuid()
        if not foreign and not status.st_mode & stat.S_IWOTH and os.access(path, os.W_OK):
            return path
    except (OSError, RuntimeError):
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
        data = path.read_bytes()
    except OSError:
        return False
    body, trailer = data[:-_TRAILER], data[-_TRAILER:]
    return trailer == _MAGIC + hashlib.sha256(body).digest()


def prune(path: Path, keep: Path, limit: int | None = None) -> None:
    """Remove what was used least recently until the rest fits the limit."""
    if limit is None:
        limit = int(os.environ.get("DUALGRAPH_CACHE_BYTES", _LIMIT))
    entries = []
    total = 0
    for entry in path.glob("*.so"):
        with contextlib.suppress(OSError):
            status = entry.stat()
            entries.append((status.st_mtime, status.st_size, entry))
            total += status.st_size
    for _, size, entry in sorted(entries, key=lambda e: e[:2]):
        if total <= limit:
            break
        if entry != keep:
            with contextlib.suppress(OSError):
                entry.unlink()
                total -= size
