"""Element types and PyTorch's promotion rules.

A :class:`DType` is a singleton: compare with ``is`` or ``==``. Promotion follows PyTorch's table
(``torch.promote_types``): bool < integers < floats < complex, and the higher category wins whole
(``int64 + float16`` is ``float16``, where NumPy would say ``float64``).

Below 8 bits, and as 8-bit floats, numbers are kept but not computed with: such dtypes are narrow.
They can be converted, compared, moved and quantised to. An element takes a byte in memory, whatever
its width in a file.
"""

from __future__ import annotations

from typing import Any, ClassVar

import ml_dtypes
import numpy as np

BOOL, INT, FLOAT, COMPLEX = range(4)


class DType:
    """One element type.

    Attributes: `name` ("float32"), `short` (the graph text's "f32"), `np` (the NumPy dtype), `onnx`
    (the number of ``onnx.TensorProto.DataType``), `category` (BOOL, INT, FLOAT or COMPLEX), `bits`
    (the width of an element in a file, where those of less than a byte are packed), `is_narrow`.
    """

    __slots__ = (
        "bits",
        "category",
        "is_narrow",
        "is_signed",
        "itemsize",
        "kind",
        "name",
        "np",
        "onnx",
        "short",
    )

    # What stands before names in texts ("dualgraph.float32"): programs of another dialect of the
    # vocabulary see their own.
    namespace: ClassVar[str] = "dualgraph"

    def __init__(
        self, name: str, short: str, np_dtype: Any, onnx: int, category: int, narrow: int = 0
    ) -> None:
        self.name = name
        self.short = short
        self.np: np.dtype[Any] = np.dtype(np_dtype)
        self.onnx = onnx
        self.category = category
        self.itemsize = self.np.itemsize
        self.kind = self.np.kind  # as NumPy's: "b", "i", "u", "f", "c"; "V" for most of ml_dtypes
        self.is_signed = not (category == BOOL or name.startswith("uint"))
        self.is_narrow = narrow > 0
        self.bits = narrow or 8 * self.itemsize

    def __repr__(self) -> str:
        return f"{DType.namespace}.{self.name}"

    def __reduce__(self) -> str:
        # Unpickles to the module-level singleton; only `bool` has another name there.
        return "bool_" if self.name == "bool" else self.name

    @property
    def onnx_name(self) -> str:
        """ONNX's name of the type: the "float8e4m3fn" of ``tensor(float8e4m3fn)``."""
        return _ONNX_NAMES.get(self.name, self.name)

    @property
    def is_floating_point(self) -> bool:
        return self.category == FLOAT

    @property
    def is_complex(self) -> bool:
        return self.category == COMPLEX

    @property
    def is_differentiable(self) -> bool:
        return self.category >= FLOAT


_ONNX_NAMES = {
    "float32": "float",
    "float64": "double",
    "float8_e4m3fn": "float8e4m3fn",
    "float8_e4m3fnuz": "float8e4m3fnuz",
    "float8_e5m2": "float8e5m2",
    "float8_e5m2fnuz": "float8e5m2fnuz",
    "float8_e8m0fnu": "float8e8m0",
    "float6_e2m3fn": "float6e2m3",
    "float6_e3m2fn": "float6e3m2",
    "float4_e2m1fn": "float4e2m1",
}

float16 = DType("float16", "f16", np.float16, 10, FLOAT)
bfloat16 = DType("bfloat16", "bf16", ml_dtypes.bfloat16, 16, FLOAT)
float32 = DType("float32", "f32", np.float32, 1, FLOAT)
float64 = DType("float64", "f64", np.float64, 11, FLOAT)
complex64 = DType("complex64", "c64", np.complex64, 14, COMPLEX)
complex128 = DType("complex128", "c128", np.complex128, 15, COMPLEX)
int8 = DType("int8", "i8", np.int8, 3, INT)
int16 = DType("int16", "i16", np.int16, 5, INT)
int32 = DType("int32", "i32", np.int32, 6, INT)
int64 = DType("int64", "i64", np.int64, 7, INT)
uint8 = DType("uint8", "u8", np.uint8, 2, INT)
uint16 = DType("uint16", "u16", np.uint16, 4, INT)
uint32 = DType("uint32", "u32", np.uint32, 12, INT)
uint64 = DType("uint64", "u64", np.uint64, 13, INT)
bool_ = DType("bool", "bool", np.bool_, 9, BOOL)
int4 = DType("int4", "i4", ml_dtypes.int4, 22, INT, 4)
int2 = DType("int2", "i2", ml_dtypes.int2, 26, INT, 2)
uint4 = DType("uint4", "u4", ml_dtypes.uint4, 21, INT, 4)
uint2 = DType("uint2", "u2", ml_dtypes.uint2, 25, INT, 2)
float8_e4m3fn = DType("float8_e4m3fn", "f8e4m3fn", ml_dtypes.float8_e4m3fn, 17, FLOAT, 8)
float8_e4m3fnuz = DType("float8_e4m3fnuz", "f8e4m3fnuz", ml_dtypes.float8_e4m3fnuz, 18, FLOAT, 8)
float8_e5m2 = DType("float8_e5m2", "f8e5m2", ml_dtypes.float8_e5m2, 19, FLOAT, 8)
float8_e5m2fnuz = DType("float8_e5m2fnuz", "f8e5m2fnuz", ml_dtypes.float8_e5m2fnuz, 20, FLOAT, 8)
float8_e8m0fnu = DType("float8_e8m0fnu", "f8e8m0fnu", ml_dtypes.float8_e8m0fnu, 24, FLOAT, 8)
float6_e2m3fn = DType("float6_e2m3fn", "f6e2m3fn", ml_dtypes.float6_e2m3fn, 27, FLOAT, 6)
float6_e3m2fn = DType("float6_e3m2fn", "f6e3m2fn", ml_dtypes.float6_e3m2fn, 28, FLOAT, 6)
float4_e2m1fn = DType("float4_e2m1fn", "f4e2m1fn", ml_dtypes.float4_e2m1fn, 23, FLOAT, 4)

NARROW: tuple[DType, ...] = (
    uint2,
    int2,
    uint4,
    int4,
    float4_e2m1fn,
    float6_e2m3fn,
    float6_e3m2fn,
    float8_e4m3fn,
    float8_e4m3fnuz,
    float8_e5m2,
    float8_e5m2fnuz,
    float8_e8m0fnu,
)

ALL: tuple[DType, ...] = (
    *NARROW,
    bool_,
    uint8,
    int8,
    uint16,
    int16,
    uint32,
    int32,
    uint64,
    int64,
    float16,
    bfloat16,
    float32,
    float64,
    complex64,
    complex128,
)
BY_NUMPY: dict[Any, DType] = {d.np: d for d in ALL}
BY_SHORT: dict[str, DType] = {d.short: d for d in ALL}
BY_NAME: dict[str, DType] = {d.name: d for d in ALL}
BY_ONNX: dict[int, DType] = {d.onnx: d for d in ALL}

# The real part's type of a complex type, and the complex type over a real one.
REAL_OF: dict[DType, DType] = {complex64: float32, complex128: float64}
COMPLEX_OF: dict[DType, DType] = {
    float16: complex64,
    bfloat16: complex64,
    float32: complex64,
    float64: complex128,
}


def dtype_of(x: Any) -> DType:
    """The DType of anything with a `dtype`: an array, a graph Value, a Tensor, a TensorType."""
    d = x.dtype
    return d if type(d) is DType else BY_NUMPY[d]


def as_dtype(spec: Any) -> DType:
    """A DType from a DType, a NumPy dtype or scalar type, a Python type or a name.

    Raises:
        TypeError: `spec` names no supported element type.
    """
    if isinstance(spec, DType):
        return spec
    python = {float: float32, int: int64, bool: bool_, complex: complex64}
    if isinstance(spec, type) and spec in python:
        return python[spec]
    if isinstance(spec, str) and spec in BY_NAME:
        return BY_NAME[spec]
    try:
        return BY_NUMPY[np.dtype(spec)]
    except (TypeError, KeyError):
        raise TypeError(
            f"expected an element type such as float32, got {spec!r}; supported: "
            + ", ".join(d.name for d in ALL)
        ) from None


def promote_types(a: DType, b: DType) -> DType:
    """The smallest type both convert to under PyTorch's rules."""
    if a is b:
        return a
    if a.is_narrow or b.is_narrow:
        raise TypeError(f"{a.name} and {b.name} do not promote; convert one of them")
    if a.category != b.category:
        low, high = (a, b) if a.category < b.category else (b, a)
        if high.category == COMPLEX and low.category == FLOAT:
            return promote_types(COMPLEX_OF[low], high)
        return high
    if a.category == FLOAT:
        if a.itemsize == b.itemsize:  # float16 with bfloat16: neither holds the other
            return float32
        return a if a.itemsize > b.itemsize else b
    return BY_NUMPY[np.promote_types(a.np, b.np)] if a.category != INT else _promote_ints(a, b)


def _promote_ints(a: DType, b: DType) -> DType:
    found = np.promote_types(a.np, b.np)
    # NumPy leaves the integers for uint64 with a signed type; PyTorch refuses the pair.
    if found.kind == "f":
        raise TypeError(f"{a.name} and {b.name} have no common integer type; convert one of them")
    return BY_NUMPY[found]


def default_for(category: int, default_float: DType) -> DType:
    """The type a Python scalar of this category takes when no tensor says otherwise."""
    if category == BOOL:
        return bool_
    if category == INT:
        return int64
    return default_float if category == FLOAT else COMPLEX_OF[default_float]
