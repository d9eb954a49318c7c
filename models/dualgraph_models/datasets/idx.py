"""Reader of IDX files, the format of MNIST and its relatives (Fashion-MNIST, KMNIST, EMNIST).

Format: two zero bytes, one byte element type, one byte rank, one big-endian uint32 per dimension,
then the elements in row-major order, big-endian. Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST
database of handwritten digits". Files may be gzip-compressed.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from dualgraph_compiler.errors import DualGraphError
from dualgraph_models.datasets._samples import Pairs, Transform

MAX_BYTES = 1 << 30
MAX_RANK = 8
CHUNK_BYTES = 1 << 20

DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


class IdxError(DualGraphError, ValueError):
    """A file that is not a complete IDX file of the expected kind."""


class Mnist(NamedTuple):
    """Images (float32 [n, 1, rows, columns], 0 to 1) and labels (int64 [n]) of both sets."""

    train_images: npt.NDArray[np.float32]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.float32]
    test_labels: npt.NDArray[np.int64]


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> npt.NDArray[Any]:
    """Read one IDX file, plain or gzip-compressed, as an array in native byte order.

    Memory is taken as data arrives, never on the word of the header, and no file unpacks to more
    than `max_bytes`. Raises IdxError for a file that is malformed, truncated, over-long or too
    large.
    """
    path = Path(path)
    with path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not compressed:
            return _read(raw, path, max_bytes)
        try:
            with gzip.open(raw) as file:
                return _read(cast(IO[bytes], file), path, max_bytes)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise IdxError(f"{path}: damaged or truncated gzip data ({error})") from error


def _header(file: IO[bytes], path: Path, max_bytes: int) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES:
        raise IdxError(f"{path}: not an IDX file: it starts with {magic.hex(' ') or 'nothing'}")
    dtype, rank = DTYPES[magic[2]], magic[3]
    if rank > MAX_RANK:
        raise IdxError(f"{path}: the header claims {rank} dimensions; at most {MAX_RANK} are read")
    header = file.read(4 * rank)
    if len(header) < 4 * rank:
        raise IdxError(f"{path}: truncated inside its header")
    shape = struct.unpack(f">{rank}I", header)
    # A zero must not hide another, absurd dimension: NumPy cannot represent such a shape either.
    if math.prod(max(dim, 1) for dim in shape) * dtype.itemsize > max_bytes:
        raise IdxError(f"{path}: shape {shape} of {dtype.name} exceeds {max_bytes:,} bytes")
    return dtype, shape


def _read(file: IO[bytes], path: Path, max_bytes: int) -> npt.NDArray[Any]:
    dtype, shape = _header(file, path, max_bytes)
    expected = math.prod(shape) * dtype.itemsize

    data = bytearray()
    while len(data) < expected:
        chunk = file.read(min(CHUNK_BYTES, expected - len(data)))
        if not chunk:
            raise IdxError(
                f"{path}: truncated: shape {shape} of {dtype.name} needs {expected:,} bytes, "
                f"the file holds {len(data):,}"
            )
        data += chunk
    if file.read(1):
        raise IdxError(f"{path}: more data than its shape {shape} of {dtype.name} accounts for")
    return np.frombuffer(data, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))


class IdxDataset(Pairs):
    """Images and labels of a pair of IDX files, such as MNIST's.

    Files that are not compressed are mapped into memory, and read as samples are asked for.

    Shapes: files (n, ...) and (n); sample i is slice i of the first, an array in native byte order,
    and label i as an int.

    Args:
        images: path of the samples.
        labels: path of the labels.
        transform: applied to each sample.
        target_transform: applied to each label.

    Raises:
        IdxError: files that are malformed, truncated or do not fit together.
    """

    def __init__(
        self,
        images: str | os.PathLike[str],
        labels: str | os.PathLike[str],
        transform: Transform = None,
        target_transform: Transform = None,
    ) -> None:
        super().__init__(transform, target_transform)
        self.images_path, self.labels_path = os.fspath(images), os.fspath(labels)
        self._open()

    def _open(self) -> None:
        self._images = map_idx(self.images_path)
        self.targets = read_idx(self.labels_path).astype(np.int64)
        if self._images.ndim == 0 or self.targets.shape != self._images.shape[:1]:
            raise IdxError(
                f"{self.labels_path}: labels of shape {self.targets.shape} do not fit samples of "
                f"shape {self._images.shape}"
            )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        sample = np.asarray(self._images[index])
        return self.pair(sample.astype(sample.dtype.newbyteorder("=")), int(self.targets[index]))

    def __getstate__(self) -> Any:
        """Without the data, which a worker of a DataLoader opens for itself."""
        kept = ("images_path", "labels_path", "transform", "target_transform")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state)
        self._open()


def map_idx(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Map one IDX file into memory: an array that cannot be written to, big-endian as the file.

    A file that is compressed is read instead. Raises IdxError as `read_idx` does.
    """
    path = Path(path)
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            return read_idx(path)
        file.seek(0)
        dtype, shape = _header(file, path, max(path.stat().st_size, CHUNK_BYTES))
        start = file.tell()
        expected, held = math.prod(shape) * dtype.itemsize, path.stat().st_size - start
        if held != expected:
            raise IdxError(
                f"{path}: shape {shape} of {dtype.name} needs {expected:,} bytes, the file holds "
                f"{held:,}"
            )
        if expected == 0:  # which cannot be mapped
            return np.empty(shape, dtype)
        return np.memmap(file, dtype, "r", start, shape)


def load_mnist(folder: str | os.PathLike[str]) -> Mnist:
    """Read the four MNIST files of `folder`, under any of their usual names.

    The names are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and ``t10k-...``, also
    with a dot before ``idx``, each plain or with ``.gz``. Torchvision's ``MNIST/raw`` below
    `folder` is found too. Raises FileNotFoundError naming what is missing, IdxError for files that
    do not fit together.
    """
    train_images, train_labels = _read_set(Path(folder), "train")
    test_images, test_labels = _read_set(Path(folder), "t10k")
    return Mnist(train_images, train_labels, test_images, test_labels)


def _read_set(folder: Path, name: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    images_path = _find(folder, f"{name}-images", "idx3-ubyte")
    labels_path = _find(folder, f"{name}-labels", "idx1-ubyte")
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.ndim != 3:
        raise IdxError(f"{images_path}: images are uint8 of rank 3, not {_describe(images)}")
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise IdxError(f"{labels_path}: labels are uint8 of rank 1, not {_describe(labels)}")
    if len(images) != len(labels):
        raise IdxError(f"{images_path}: {len(images)} images, but {len(labels)} labels beside them")
    scaled = images.astype(np.float32)[:, None]
    scaled /= 255
    return scaled, labels.astype(np.int64)


def _describe(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype.name} of rank {array.ndim}"


def _find(folder: Path, stem: str, kind: str) -> Path:
    places = (folder, folder / "raw", folder / "MNIST" / "raw")
    names = [f"{stem}{mark}{kind}{suffix}" for mark in "-." for suffix in ("", ".gz")]
    for path in (place / name for place in places for name in names):
        if path.is_file():
            return path
    raise FileNotFoundError(f"no {stem}-{kind} (or .gz) in {folder} or its MNIST/raw folder")
