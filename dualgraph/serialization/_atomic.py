"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Yield the name of a new file beside `path`, which takes its place once it is on disk."""
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"cannot save to {path}: there is no folder {folder}")
    if os.path.isdir(target):
        raise IsADirectoryError(f"cannot save to {path}: it is a folder")
    if os.path.exists(target) and not os.path.isfile(target):  # a device or a pipe stays one
        yield target
        return
    temporary = os.path.join(folder, f".{os.path.basename(target)}.{secrets.token_hex(6)}.tmp")
    # Made by us first, to learn the permissions a new file gets here.
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        mode = os.stat(target if os.path.exists(target) else temporary).st_mode
        yield temporary
        os.chmod(temporary, stat.S_IMODE(mode))
        _sync(temporary)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    with contextlib.suppress(OSError):  # not every system can sync a folder
        _sync(folder)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
