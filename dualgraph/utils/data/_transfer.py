"""Moving batches from a worker to the main process.

A batch is pickled with its large arrays left out of the stream. Much data goes to a block of
shared memory, little through the connection. The reader copies the arrays out, so nothing it
returns depends on the block, on the worker or on another batch.

Each worker has a few blocks and uses them again and again: memory that was just written to is many
times cheaper to write to than new memory, every page of which the system has to find and clear.
What the reader has copied it reports as free with the next task; a worker that finds no free block
makes another one. So there are as many blocks as batches under way.

Blocks have names that the reader can find out: those of a worker that has died are removed, too.
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

__all__ = ["Part", "Reader", "Writer", "decode", "encode"]

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


class Writer:
    """The blocks of a worker.

    Args:
        prefix: what the names of its blocks begin with.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._blocks: list[SharedMemory | None] = []
        self._made: list[int] = []  # how often each place has had a new block
        self._free: list[int] = []

    def release(self, places: list[int]) -> None:
        """Take note that the reader has copied what was in these blocks."""
        self._free += places

    def send(self, link: Connection, index: int, parts: list[Part]) -> None:
        """Send the encoded batch `index`, in a block if it is large and there is room for one."""
        sizes = [len(part) for part in parts]
        *starts, total = _layout(sizes)
        place = self._take(total) if sum(sizes) >= SHARED_FROM else None
        if place is None:
            link.send((index, len(parts)))
            for part in parts:
                link.send_bytes(part)
            return
        block = self._blocks[place]
        assert block is not None
        memory: Any = block.buf
        for start, size, part in zip(starts, sizes, parts, strict=True):
            memory[start : start + size] = part
        link.send((index, (place, self._made[place], sizes)))

    def _take(self, size: int) -> int | None:
        """A free place with a block of `size` bytes or more; None if there is no room for one."""
        if os.name != "posix":
            return None  # elsewhere a block lives only as long as somebody has it open
        # The one used last, whose memory is most likely still in the caches.
        place = self._free.pop() if self._free else len(self._blocks)
        if place == len(self._blocks):
            self._blocks.append(None)
            self._made.append(0)
        old = self._blocks[place]
        if old is None or old.size < size:
            if old is not None:
                old.close()
                old.unlink()
            self._made[place] += 1
            self._blocks[place] = _make_block(block_name(self._prefix, place), size)
        if self._blocks[place] is None:
            self._free.insert(0, place)
            return None
        return place


class Reader:
    """What the main process has of a worker's blocks.

    Args:
        prefix: what the names of the blocks begin with.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._blocks: dict[int, tuple[int, SharedMemory]] = {}
        self._free: list[int] = []

    def take_free(self) -> list[int]:
        """The blocks that have been read since the last call."""
        free, self._free = self._free, []
        return free

    def receive(self, link: Connection) -> tuple[int, list[Any]]:
        """Receive what a writer sent: the index of a batch, and its parts for `decode`.

        Raises:
            EOFError, OSError: the writer is gone.
        """
        index, how = link.recv()
        if isinstance(how, int):
            # As bytearrays, because the arrays made on them must be writable.
            return index, [bytearray(link.recv_bytes()) for _ in range(how)]
        place, made, sizes = how
        parts = self._copy(self._block(place, made), sizes)
        self._free.append(place)
        return index, parts

    def _block(self, place: int, made: int) -> SharedMemory:
        known, block = self._blocks.get(place, (0, None))
        if block is None or known != made:
            if block is not None:
                block.close()
            block = SharedMemory(block_name(self._prefix, place))
            self._blocks[place] = made, block
        return block

    def _copy(self, block: SharedMemory, sizes: list[int]) -> list[Any]:
        memory: Any = block.buf
        parts = []
        for start, size in zip(_layout(sizes), sizes, strict=False):
            part: Any = np.empty(size, np.uint8)
            memoryview(part)[:] = memory[start : start + size]
            parts.append(part)
        return parts

    def close(self, unread: int) -> None:
        """Remove all blocks of a worker that has ended.

        Args:
            unread: how many batches it may have sent that have not been received.
        """
        for _, block in self._blocks.values():
            block.close()
        for place in range(max(self._blocks, default=-1) + unread + 2):
            remove_block(block_name(self._prefix, place))


def block_name(prefix: str, place: int) -> str:
    """The name of block number `place` of a worker."""
    return f"dg{prefix}-{place}"  # macOS allows 30 characters


def decode(parts: list[Any]) -> Any:
    """Rebuild the value from its parts; its arrays live in their memory."""
    return pickle.loads(parts[0], buffers=parts[1:])


def _make_block(name: str, size: int) -> SharedMemory | None:
    """A new block, or None if there is no room for it."""
    try:
        block = SharedMemory(name, create=True, size=size)
    except OSError:
        return None
    if _reserve(name, size):
        return block
    block.close()
    block.unlink()
    return None


def _layout(sizes: list[int]) -> list[int]:
    """Where each part starts, and the size of them all."""
    aligned = [-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes]
    return list(itertools.accumulate(aligned, initial=0))


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


def remove_block(name: str) -> None:
    """Remove a block if it exists."""
    with contextlib.suppress(FileNotFoundError):
        block = SharedMemory(name)
        block.close()
        block.unlink()
