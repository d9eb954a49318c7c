"""Writing objects as PyTorch pickles them: tensors by reference to storages, under its names."""

from __future__ import annotations

import bisect
import codecs
import functools
import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.lib.array_utils import byte_bounds

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dtypes import DType
from dualgraph_compiler.errors import DualGraphError, SerializationError
from dualgraph_runtime.device import Device, device_of, to_device

from .._changes import Noting
from .._tensor import _PRIVATE, Size, Tensor
from ..nn.modules._state import StateDict
from ..nn.parameter import Buffer, Parameter
from ..optim._group import Listed
from ._names import DTYPES, storage_name

__all__ = ["Block", "pickled"]


@dataclass(eq=False)
class Block:
    """A stretch of memory that is saved as one storage.

    Attributes:
        low, high: where it begins and ends in memory.
        dtype: what its elements are.
        location: the device it is on, as PyTorch writes it.
        arrays: those that lie in it.
        key: the number of its storage.
    """

    low: int
    high: int
    dtype: DType
    location: str
    arrays: list[Any]
    key: str = ""

    @property
    def kind(self) -> str:
        """The class of its storage in PyTorch."""
        name = storage_name(self.dtype)
        return "torch.storage.UntypedStorage" if name is None else f"torch.{name}"

    @property
    def count(self) -> int:
        """How many elements it has; bytes where the class of its storage knows no dtype."""
        size = 1 if storage_name(self.dtype) is None else int(self.dtype.itemsize)
        return (self.high - self.low) // size

    def bytes(self) -> Any:
        """The content: uint8 [n], in host memory."""
        if self.low == self.high:
            return np.empty(0, np.uint8)
        cover = _cover(self.arrays, self.low, self.high)
        low, _ = _bounds(cover)
        flat = (cover if cover.flags.c_contiguous else cover.T).ravel().view(np.uint8)
        return np.asarray(to_device(flat[self.low - low : self.high - low], "cpu"))


def pickled(obj: Any, protocol: int, *, legacy: bool) -> tuple[bytes, list[Block]]:
    """Pickle `obj`, its tensors aside.

    Args:
        obj: anything that can be pickled.
        protocol: the version of the format.
        legacy: whether references to storages are those of PyTorch's old format.

    Returns:
        The pickle, and the storages that it refers to.

    Raises:
        SerializationError: something in `obj` cannot be pickled.
    """
    memory = _Memory()
    stream = io.BytesIO()
    try:
        # What overlaps must be known before the first reference to a storage is written.
        _Survey(memory).survey(obj)
        memory.join()
        _Pickler(stream, protocol, memory, legacy).dump(obj)
    except RecursionError:
        raise SerializationError("the object is nested too deeply") from None
    except DualGraphError:
        raise
    except (pickle.PicklingError, TypeError, AttributeError, ValueError) as error:
        raise SerializationError(f"it holds something that cannot be pickled: {error}") from error
    return stream.getvalue(), memory.referenced


# -- memory ---------------------------------------------------------------------------------------


def _bounds(array: Any) -> tuple[int, int]:
    if isinstance(array, np.ndarray):
        low, high = byte_bounds(array)
        return int(low), int(high)
    start = int(array.data.ptr)
    spans = [(n - 1) * step for n, step in zip(array.shape, array.strides)]
    low = start + sum(span for span in spans if span < 0)
    return low, start + sum(span for span in spans if span > 0) + int(array.itemsize)


def _cover(arrays: list[Any], low: int, high: int) -> Any:
    """An array without gaps in memory that holds all of `low` to `high`; None if none is known."""
    for candidate in arrays:
        while candidate is not None:
            if hasattr(candidate, "strides") and hasattr(candidate, "flags") and candidate.size:
                dense = candidate.flags.c_contiguous or candidate.flags.f_contiguous
                first, last = _bounds(candidate)
                if dense and first <= low and high <= last:
                    return candidate
            candidate = getattr(candidate, "base", None)
    return None


class _Memory:
    """The arrays of an object, and the blocks that they share."""

    def __init__(self) -> None:
        self.referenced: list[Block] = []
        self._noted: list[Block] = []
        self._blocks: dict[tuple[str, DType], list[Block]] = {}
        self._copies: dict[int, tuple[Any, Any]] = {}

    def plain(self, array: Any) -> Any:
        """`array`, or a copy of it if it is laid out as no tensor of PyTorch can be."""
        if not array.size or (
            all(step >= 0 and step % array.itemsize == 0 for step in array.strides)
            and _cover([array], *_bounds(array)) is not None
        ):
            return array
        if id(array) not in self._copies:
            self._copies[id(array)] = array, array.copy(order="C")
        return self._copies[id(array)][1]

    def note(self, array: Any) -> None:
        """Take an array into account."""
        self._noted.append(_block(array))

    def join(self) -> None:
        """Make one block of those that overlap."""
        for block in sorted(self._noted, key=lambda b: (b.low, -b.high)):
            blocks = self._blocks.setdefault((block.location, block.dtype), [])
            if not (blocks and _extend(blocks[-1], block)):
                blocks.append(block)

    def find(self, array: Any) -> tuple[Block, int]:
        """The block that `array` lies in, and how many elements from its beginning."""
        alone = _block(array)
        blocks = self._blocks.get((alone.location, alone.dtype), [])
        place = bisect.bisect_right(blocks, alone.low, key=lambda block: block.low) - 1
        block = blocks[place] if place >= 0 and alone.count else alone
        if not (alone.high <= block.high and (alone.low - block.low) % block.dtype.itemsize == 0):
            block = alone
        if not block.key:
            block.key = str(len(self.referenced))
            self.referenced.append(block)
        return block, (alone.low - block.low) // int(block.dtype.itemsize)


def _block(array: Any) -> Block:
    low, high = _bounds(array) if array.size else (0, 0)
    return Block(low, high, dt.dtype_of(array), _location(device_of(array)), [array])


def _extend(block: Block, other: Block) -> bool:
    """Let `block` hold `other`, too, which begins no earlier, if they share memory."""
    if other.low >= block.high or (other.low - block.low) % block.dtype.itemsize:
        return False
    arrays, high = block.arrays + other.arrays, max(block.high, other.high)
    if _cover(arrays, block.low, high) is None:
        return False
    block.arrays, block.high = arrays, high
    return True


def _location(device: Device) -> str:
    return "cpu" if device.type == "cpu" else f"cuda:{device.index or 0}"


# -- objects --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Name:
    """A global of PyTorch's, which need not be there to be named."""

    module: str
    name: str

    def __call__(self) -> None:  # what a pickle calls must be callable when it is written
        raise TypeError(f"{self.module}.{self.name} is only a name")


@functools.cache
def _torch(full_name: str) -> _Name:
    # One object for each name, so that the pickle refers back to the first.
    module, _, name = full_name.rpartition(".")
    return _Name(module, name)


@dataclass(frozen=True)
class _StorageOf:
    """Stands for the storage of a tensor, until a reference to it is written."""

    block: Block


class _Pickler(pickle._Pickler):
    """Python's pickler, in the form that is written in Python and can be told what to write how."""

    dispatch: ClassVar[Any] = pickle._Pickler.dispatch.copy()
    # Beside those that are declared; what they do is documented with the format.
    proto: int
    write: Any
    memoize: Any
    save_reduce: Any

    def __init__(self, stream: Any, protocol: int, memory: _Memory, legacy: bool) -> None:
        super().__init__(stream, protocol)
        self._memory = memory
        self._legacy = legacy
        self._plain: dict[int, tuple[Any, Any]] = {}

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        """Write an object; those of our containers that only note changes, as what they are."""
        if isinstance(obj, Noting | Listed):
            kind = dict if isinstance(obj, Noting) else list
            obj = self._plain.setdefault(id(obj), (obj, kind(obj)))[1]
        super().save(obj, save_persistent_id)  # type: ignore[misc]

    def persistent_id(self, obj: Any) -> Any:
        if type(obj) is not _StorageOf:
            return None
        block = obj.block
        reference = ("storage", _torch(block.kind), block.key, block.location, block.count)
        return (*reference, None) if self._legacy else reference

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            return self._reduce_tensor(obj)
        if type(obj) is Size:
            return _torch("torch.Size"), (tuple(obj),)
        if type(obj) is Device:
            parts = (obj.type,) if obj.index is None else (obj.type, obj.index)
            return _torch("torch.device"), parts
        if type(obj) is StateDict:
            return OrderedDict, (), obj.__dict__ or None, None, iter(obj.items())
        return NotImplemented

    def _reduce_tensor(self, tensor: Tensor) -> tuple[Any, ...]:
        if isinstance(tensor, Parameter):
            parts: Any = (tensor.detach(), tensor.requires_grad, OrderedDict())
            state = _attributes(tensor)
            if state:
                return _torch("torch._utils._rebuild_parameter_with_state"), (*parts, state)
            return _torch("torch._utils._rebuild_parameter"), parts
        function, arguments = self._reduce_data(tensor)
        state = _attributes(tensor)
        kind = type(tensor)
        if kind in (Tensor, Buffer) and not state:
            return function, arguments
        name = _torch("torch.Tensor") if kind in (Tensor, Buffer) else kind
        return _torch("torch._tensor._rebuild_from_type_v2"), (function, name, arguments, state)

    def _reduce_data(self, tensor: Tensor) -> tuple[Any, tuple[Any, ...]]:
        array = self._memory.plain(tensor._concrete("save()"))
        dtype = dt.dtype_of(array)
        if dtype.name not in DTYPES:
            raise SerializationError(
                f"a tensor is {dtype.name}, which PyTorch's files do not hold; convert it first"
            )
        block, offset = self._memory.find(array)
        steps = tuple(int(step) // int(array.itemsize) for step in array.strides)
        shape = tuple(int(n) for n in array.shape)
        arguments: Any = (
            _StorageOf(block),
            offset,
            shape,
            steps,
            tensor.requires_grad,
            OrderedDict(),
        )
        if storage_name(dtype) is None and self._legacy:
            raise SerializationError(
                f"a tensor is {dtype.name}, which the old format does not hold"
            )
        if storage_name(dtype) is None:
            return _torch("torch._utils._rebuild_tensor_v3"), (*arguments, dtype)
        return _torch("torch._utils._rebuild_tensor_v2"), arguments

    def _save_name(self, obj: _Name) -> None:
        if self.proto >= 4:
            self.save(obj.module)
            self.save(obj.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        self.memoize(obj)

    def _save_dtype(self, obj: DType) -> None:
        self.save(_torch(f"torch.{obj.name}"))

    def _save_bytes(self, obj: bytes) -> None:
        if obj or self.proto > 2:
            pickle._Pickler.dispatch[bytes](self, obj)  # type: ignore[arg-type]
        else:  # else written as a call of `bytes`, which PyTorch refuses
            self.save_reduce(codecs.encode, ("", "latin1"), obj=obj)

    dispatch.update({_Name: _save_name, DType: _save_dtype, bytes: _save_bytes})


class _Survey(pickle.Pickler):
    """Meets every tensor that a pickler will meet, and notes its memory."""

    def __init__(self, memory: _Memory) -> None:
        super().__init__(io.BytesIO())
        self._memory = memory
        self._met: set[int] = set()
        self._attributes: list[Any] = []

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Tensor):
            return None
        if id(obj) not in self._met:
            self._met.add(id(obj))
            self._memory.note(self._memory.plain(obj._concrete("save()")))
            self._attributes.append(_attributes(obj))
        return "tensor"

    def survey(self, obj: Any) -> None:
        """Note every tensor in `obj`."""
        self.dump(obj)
        while self._attributes:
            self.dump(self._attributes.pop())


def _attributes(tensor: Tensor) -> dict[str, Any]:
    hidden = (*_PRIVATE, "persistent") if isinstance(tensor, Buffer) else _PRIVATE
    return {name: value for name, value in tensor.__dict__.items() if name not in hidden}
