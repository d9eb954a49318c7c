"""PyTorch's checkpoints: zip archives of a pickle and of the storages it refers to.

Members, below a folder of any name: `data.pkl`; `data/0`, `data/1`, ... the bytes of each storage;
`byteorder`, "little" or "big"; `version`, "3". Nothing is compressed, and storages begin at
multiples of 64 bytes, so that they can be mapped into memory.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import zipfile
import zlib
from typing import IO, Any

import numpy as np

from dualgraph_compiler.errors import SerializationError

from ._pickler import pickled

__all__ = ["Archive", "read_into", "write"]

_ALIGNMENT = 64
_LOCAL_HEADER = 30
_ZIP64_EXTRA = 20


def write(obj: Any, file: IO[bytes], name: str, protocol: int) -> None:
    """Write `obj` to an open file.

    Args:
        obj: anything that can be pickled.
        file: where to; it need not be seekable.
        name: of the folder in the archive.
        protocol: the version of the pickle format.

    Raises:
        SerializationError: something in `obj` cannot be pickled.
    """
    stream, blocks = pickled(obj, protocol, legacy=False)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, f"{name}/data.pkl", stream)
        _add(archive, f"{name}/byteorder", sys.byteorder.encode())
        for block in blocks:
            _add(archive, f"{name}/data/{block.key}", block.bytes())
        _add(archive, f"{name}/version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, content: Any) -> None:
    # The date is that of ZipInfo, 1980: equal objects give equal files.
    info = zipfile.ZipInfo(name)
    assert archive.fp is not None
    start = archive.fp.tell() + _LOCAL_HEADER + len(name.encode()) + 4
    if len(content) * 1.05 > zipfile.ZIP64_LIMIT:  # when the library adds sizes of 64 bits
        start += _ZIP64_EXTRA
    padding = -start % _ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(info, content)


class Archive:
    """An archive that is read, and trusted in nothing.

    Args:
        file: seekable.
        path: of the file, if it is to be mapped into memory.

    Raises:
        SerializationError: this is no archive such as `torch.save` writes, or not all of one.
    """

    def __init__(self, file: IO[bytes], path: str | None = None) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        self._left = self._size
        try:
            entries = zipfile.ZipFile(file).infolist()
        except Exception as error:  # the library raises a dozen kinds for damaged archives
            raise SerializationError(f"it is a zip archive that is damaged ({error})") from error
        self._entries = {entry.filename: entry for entry in entries}
        folders = [n.removesuffix("data.pkl") for n in self._entries if n.endswith("/data.pkl")]
        if len(folders) != 1:
            raise SerializationError("it is a zip archive, but none that torch.save wrote")
        self._folder = folders[0]
        if f"{self._folder}constants.pkl" in self._entries:
            raise SerializationError("it is a TorchScript archive, which holds code")
        self._mapped = None if path is None else np.memmap(path, np.uint8, "c").view(np.ndarray)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._size

    @property
    def foreign(self) -> bool:
        """Whether storages hold their bytes in the order that this machine has not.

        Raises:
            SerializationError: the order is none that exists.
        """
        if f"{self._folder}byteorder" not in self._entries:
            return sys.byteorder != "little"
        order = self.read("byteorder").tobytes()
        if order not in (b"little", b"big"):
            raise SerializationError(f"its order of bytes is {order[:20]!r}")
        return bool(order != sys.byteorder.encode())

    def pickle(self) -> io.BytesIO:
        """The pickle."""
        return io.BytesIO(self.read("data.pkl").tobytes())

    def read(self, name: str) -> Any:
        """The content of a member: uint8 [n], its own memory, or a part of the mapped file.

        Raises:
            SerializationError: there is no such member, it is damaged or compressed.
        """
        entry = self._entries.get(self._folder + name)
        if entry is None:
            raise SerializationError(f"its part {name[:50]!r} is missing")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise SerializationError(
                f"its part {name!r} is compressed, which torch.save never does"
            )
        start, size = self._start(entry), entry.file_size
        if size != entry.compress_size or start + size > self._size:
            raise SerializationError(f"its part {name!r} is cut off")
        if self._mapped is not None:
            return self._mapped[start : start + size]
        # Members that overlap could fill any memory.
        self._left -= size
        if self._left < 0:
            raise SerializationError("its parts overlap")
        content = np.empty(size, np.uint8)
        self._file.seek(start)
        read_into(self._file, content)
        # PyTorch can be told to leave out checksums, and writes zeros then.
        if entry.CRC and zlib.crc32(content.data) != entry.CRC:
            raise SerializationError(f"its part {name!r} is damaged: the checksum is wrong")
        return content

    def _start(self, entry: zipfile.ZipInfo) -> int:
        self._file.seek(entry.header_offset)
        header = self._file.read(_LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise SerializationError(f"its part {entry.filename[:80]!r} has no header")
        name, extra = struct.unpack("<HH", header[26:30])
        return int(entry.header_offset) + _LOCAL_HEADER + int(name) + int(extra)


def read_into(file: IO[bytes], content: Any) -> None:
    """Fill an array from a file, without a copy where the file can."""
    memory = memoryview(content)
    read_into = getattr(file, "readinto", None)
    while len(memory):
        if read_into is not None:
            count = read_into(memory)
        else:
            piece = file.read(len(memory))
            count = len(piece)
            memory[:count] = piece
        if not count:
            raise SerializationError("it is cut off")
        memory = memory[count:]
