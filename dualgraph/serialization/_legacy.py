"""PyTorch's old checkpoints: pickles one after the other, then the bytes of the storages.

The pickles are a magic number, the version of the format, facts about the machine, the object, and
the keys of its storages; these follow in that order, each with its number of elements (int64).
"""

from __future__ import annotations

import pickle
import struct
import sys
from typing import IO, Any

from ._pickler import pickled

__all__ = ["MAGIC", "VERSION", "write"]

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001


def write(obj: Any, file: IO[bytes], protocol: int) -> None:
    """Write `obj` to an open file.

    Raises:
        SerializationError: something in `obj` cannot be pickled.
    """
    stream, blocks = pickled(obj, protocol, legacy=True)
    facts = {
        "protocol_version": VERSION,
        "little_endian": sys.byteorder == "little",
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    for head in (MAGIC, VERSION, facts):
        pickle.dump(head, file, protocol)
    file.write(stream)
    pickle.dump([block.key for block in blocks], file, protocol)
    for block in blocks:
        file.write(struct.pack("<q", block.count))
        file.write(block.bytes())
