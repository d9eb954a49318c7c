"""Arrays in files that are mapped into memory, so that they may be larger than it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dualgraph.utils.data import Dataset
from dualgraph_compiler.errors import ArgumentError

__all__ = ["NpyDataset"]


class NpyDataset(Dataset[tuple[npt.NDArray[Any], ...]]):
    """Samples that are slices along the first dimension of arrays in ``.npy`` files.

    Nothing is read before it is asked for. Workers of a DataLoader map the files themselves,
    however they are started.

    Shapes: each file (n, ...); sample i is the tuple of a copy of slice i of each.

    Raises:
        ArgumentError: no files, files that differ in their first dimension, or one of objects.
        FileNotFoundError: there is no such file.
    """

    def __init__(self, *paths: str | os.PathLike[str]) -> None:
        if not paths:
            raise ArgumentError("expected the paths of .npy files, got none")
        self.paths = tuple(os.fspath(path) for path in paths)
        self._open()
        sizes = [array.shape[:1] for array in self._arrays]
        if len(set(sizes)) > 1 or sizes[0] == ():
            shapes = [array.shape for array in self._arrays]
            raise ArgumentError(f"expected arrays of one first dimension, got {shapes}")

    def _open(self) -> None:
        self._arrays = [_mapped(path) for path in self.paths]

    def __len__(self) -> int:
        return len(self._arrays[0])

    def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], ...]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} samples")
        return tuple(np.array(array[index]) for array in self._arrays)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[npt.NDArray[Any], ...]]:
        # In the order of the file, which is that of the disk.
        order = np.argsort(indices, kind="stable")
        found: dict[int, Any] = {int(place): self[indices[place]] for place in order}
        return [found[place] for place in range(len(indices))]

    def __getstate__(self) -> Any:
        return {name: value for name, value in self.__dict__.items() if name != "_arrays"}

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state)
        self._open()


def _mapped(path: str) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ArgumentError(f"{path}: no complete .npy file of numbers ({error})") from error
