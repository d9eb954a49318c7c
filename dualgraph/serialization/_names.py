"""PyTorch's names for what stands in a checkpoint: dtypes, and kinds of storage."""

from __future__ import annotations

from dataclasses import dataclass

from dualgraph_compiler import dtypes as dt
from dualgraph_compiler.dtypes import DType

__all__ = ["DTYPES", "STORAGES", "StorageKind", "storage_name"]

# The dtypes that tensors of PyTorch have.
DTYPES: dict[str, DType] = {
    name: dt.BY_NAME[name]
    for name in (
        "bool",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "complex64",
        "complex128",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
    )
}

# Older than `UntypedStorage`, and still what tensors of these dtypes are saved with.
_TYPED = {
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
_NAME_OF = {dtype: name for name, dtype in _TYPED.items()}


@dataclass(frozen=True)
class StorageKind:
    """A class of storages in a pickle: what its elements are, or None for bytes."""

    dtype: DType | None

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return 1 if self.dtype is None else int(self.dtype.itemsize)


STORAGES: dict[str, StorageKind] = {
    **{f"torch.{name}": StorageKind(DTYPES[dtype]) for name, dtype in _TYPED.items()},
    **{f"torch.cuda.{name}": StorageKind(DTYPES[dtype]) for name, dtype in _TYPED.items()},
    "torch.storage.UntypedStorage": StorageKind(None),
    "torch.UntypedStorage": StorageKind(None),
}


def storage_name(dtype: DType) -> str | None:
    """The class of storages of `dtype`; None where tensors of it are saved with plain bytes."""
    return _NAME_OF.get(dtype.name)
