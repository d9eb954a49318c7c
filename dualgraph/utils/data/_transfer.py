"""Moving batches from a worker to the main process.

A batch is pickled with its large arrays left out of the stream. Much data goes to a block of
shared memory, little through the connection. The reader copies the arrays out and removes the
block, so nothing it returns depends on the block, on the worker or on another batch.

The reader can name the block of any batch (`block_name`), so blocks of a worker that died before
it could announce them are found and removed too.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import pickle
import sys
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

__all__ = ["Part", "block_name", "decode", "encode", "receive", "remove_block", "send"]

# From here on a block of shared memory beats two copies through a pipe.
SHARED_FROM = 1 << 16
_ALIGNMENT = 64

Part: TypeAlias = bytes | memoryview


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray:
            # NumPy leaves only contiguous arrays of its own dtypes out of the stream.
            if obj.dtype == ml_dtypes.bfloat16:
                return _to_bfloat16, (np.ascontiguousarray(obj).view(np.uint16), obj.shape)
            if not (obj.flags.c_contiguous or obj.flags.f_contiguous):
                return np.ascontiguousarray(obj).__reduce_ex__(5)
        return NotImplemented


def _to_bfloat16(bits: Any, shape: tuple[int, ...]) -> Any:
    return bits.view(ml_dtypes.bfloat16).reshape(shape)


def encode(value: Any) -> list[Part]:
    """Pickle `value`. The first part is the stream, the others are the memory of large arrays."""
    parts: list[Part] = [b""]

    def leave_out(buffer: pickle.PickleBuffer) -> bool:
        memory = buffer.raw()
        if memory.nbytes < SHARED_FROM:
            return True
        parts.append(memory)
        return False

    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=leave_out).dump(value)
    parts[0] = stream.getvalue()
    return parts


def block_name(token: str, index: int) -> str:
    """Return the name of the block for batch `index` of the loader known by `token`."""
    return f"dg{token}-{index}"  # macOS allows 30 characters


def send(link: Connection, index: int, name: str, parts: list[Part]) -> None:
    """Send the encoded batch `index`, in a block called `name` if it is large."""
    if sum(map(len, parts)) >= SHARED_FROM and _write_block(name, parts):
        link.send((index, 0))
        return
    link.send((index, len(parts)))
    for part in parts:
        link.send_bytes(part)


def receive(link: Connection, token: str) -> tuple[int, list[Any]]:
    """Receive what `send` sent: the index of a batch, and its parts for `decode`.

    Raises:
        EOFError, OSError: the sender is gone.
    """
    index, count = link.recv()
    if count == 0:
        return index, _read_block(block_name(token, index))
    # As bytearrays, because the arrays made on them must be writable.
    return index, [bytearray(link.recv_bytes()) for _ in range(count)]


def decode(parts: list[Any]) -> Any:
    """Rebuild the value from its parts; its arrays live in their memory."""
    return pickle.loads(parts[0], buffers=parts[1:])


def _write_block(name: str, parts: list[Part]) -> bool:
    """Put `parts` into a new block of shared memory, or return False if there is no room.

    Layout: the number of parts and their sizes as uint64, then the parts, each aligned.
    """
    if os.name != "posix":
        return False  # elsewhere a block lives only as long as somebody has it open
    sizes = [len(part) for part in parts]
    table = np.array([len(parts), *sizes], np.uint64).tobytes()
    *starts, total = _layout(len(table), sizes)
    try:
        block = SharedMemory(name, create=True, size=total)
    except OSError:
        return False
    try:
        if not _reserve(name, total):
            block.unlink()
            return False
        memory: Any = block.buf
        memory[: len(table)] = table
        for start, size, part in zip(starts, sizes, parts, strict=True):
            memory[start : start + size] = part
        del memory
    finally:
        block.close()
    return True


def _layout(table_size: int, sizes: list[int]) -> list[int]:
    """Return where each part starts, and the size of the block."""
    aligned = [-(-size // _ALIGNMENT) * _ALIGNMENT for size in (table_size, *sizes)]
    return list(itertools.accumulate(aligned))


def _reserve(name: str, size: int) -> bool:
    """Claim the memory of a new block now; a full /dev/shm would kill us when we write to it."""
    if sys.platform != "linux":
        return True
    try:
        descriptor = os.open(f"/dev/shm/{name}", os.O_RDWR)
    except OSError:
        return False
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _read_block(name: str) -> list[Any]:
    """Copy the parts out of a block, and remove it."""
    block = SharedMemory(name)
    try:
        memory: Any = block.buf
        count = int.from_bytes(memory[:8], sys.byteorder)
        sizes = np.frombuffer(bytes(memory[8 : 8 + 8 * count]), np.uint64).tolist()
        parts = []
        for start, size in zip(_layout(8 + 8 * count, sizes), sizes, strict=False):
            part: Any = np.empty(size, np.uint8)
            memoryview(part)[:] = memory[start : start + size]
            parts.append(part)
        del memory
    finally:
        block.close()
        block.unlink()
    return parts


def remove_block(name: str) -> None:
    """Remove a block if it exists."""
    with contextlib.suppress(FileNotFoundError):
        block = SharedMemory(name)
        block.close()
        block.unlink()
