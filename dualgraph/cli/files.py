"""Files that commands write: completely or not at all, and refused early where they cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dualgraph_compiler.errors import ArgumentError


def require_writable(option: str, path: str | None) -> None:
    """Raise ArgumentError if a file at `path` could not be written; to be asked before the work."""
    if path is None:
        return
    if Path(path).is_dir():
        raise ArgumentError(f"{option} {path}: is a folder; expected the name of a file")
    if not Path(path).absolute().parent.is_dir():
        raise ArgumentError(f"{option} {path}: there is no folder {Path(path).parent}")


@contextmanager
def writing(path: str | Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once all is written; until then the old one stays.

    Raises:
        ArgumentError: the file cannot be written.
    """
    from dualgraph_compiler.onnx.save import replacing

    try:
        with replacing(Path(path)) as file:
            yield file
    except OSError as error:
        raise ArgumentError(f"cannot write {path}: {error.strerror or error}") from error
