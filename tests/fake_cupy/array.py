"""The array class: a NumPy array that only looks like one from inside this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import cuda
from .operators import add_operators
from .signatures import Signature, read_signatures
from .transfers import to_host

_NUMBERS = (bool, int, float, complex, np.generic)


class Memory:
    """`ndarray.data`: where the array begins."""

    def __init__(self, array: np.ndarray[Any, Any], device: int) -> None:
        self.ptr = array.__array_interface__["data"][0]
        self.device_id = device


class Flags:
    """`ndarray.flags`; there is no `writeable`."""

    def __init__(self, array: CupyArray) -> None:
        self.c_contiguous = array._a.flags.c_contiguous
        self.f_contiguous = array._a.flags.f_contiguous
        self.owndata = array.base is None

    def __getitem__(self, name: str) -> bool:
        return bool(getattr(self, name.lower()))


class CupyArray:
    """`cupy.ndarray`."""

    __array_priority__ = 100
    __hash__ = None

    _a: np.ndarray[Any, Any]
    base: CupyArray | None
    _device: int

    def __init__(self, shape: Any, dtype: Any = float) -> None:
        self._a = np.empty(shape, dtype)
        self.base = None
        self._device = cuda.current.device
        cuda.Device().use()

    # -- what it is -------------------------------------------------------------------------------

    shape = property(lambda self: self._a.shape)
    strides = property(lambda self: self._a.strides)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    itemsize = property(lambda self: self._a.itemsize)
    nbytes = property(lambda self: self._a.nbytes)
    flags = property(Flags)
    data = property(lambda self: Memory(self._a, self._device))
    device = property(lambda self: cuda.Device(self._device))
    T = property(lambda self: wrap(self._a.T, self))
    mT = property(lambda self: wrap(self._a.mT, self))

    @property
    def real(self) -> CupyArray:
        return wrap(self._a.real, self)

    @real.setter
    def real(self, value: Any) -> None:
        self._a.real = unwrap(value)

    @property
    def imag(self) -> CupyArray:
        return wrap(self._a.imag, self)

    @imag.setter
    def imag(self, value: Any) -> None:
        self._a.imag = unwrap(value)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        described = dict(self._a.__array_interface__)
        return {**described, "version": 3, "stream": 1}

    def __dlpack__(self, *, stream: Any = None, **options: Any) -> Any:
        return self._a.__dlpack__(max_version=options.get("max_version"))

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self._device

    # -- to the host: each of these waits for the device ------------------------------------------

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> np.ndarray[Any, Any]:
        to_host("get()")
        return np.array(self._a, order="C" if order == "A" else order, copy=True)

    def item(self) -> Any:
        to_host("item()")
        return self._a.item()

    def tolist(self) -> Any:
        to_host("tolist()")
        return self._a.tolist()

    def tobytes(self, order: Any = "C") -> bytes:
        to_host("tobytes()")
        return self._a.tobytes(order)

    def __bool__(self) -> bool:
        to_host("bool()")
        return bool(self._a)

    def __int__(self) -> int:
        to_host("int()")
        return int(self._a.item())

    def __float__(self) -> float:
        to_host("float()")
        return float(self._a.item())

    def __complex__(self) -> complex:
        to_host("complex()")
        return complex(self._a.item())

    def __index__(self) -> int:
        to_host("index()")
        return int(self._a.__index__())

    def __repr__(self) -> str:
        to_host("repr()")
        return repr(self._a)

    __str__ = __repr__

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct "
            "a NumPy array explicitly."
        )

    def __reduce__(self) -> Any:
        return _unpickled, (self.get(),)

    # -- methods that are more than NumPy's -------------------------------------------------------

    def astype(
        self, dtype: Any, order: Any = "K", casting: Any = None, subok: Any = None, copy: Any = True
    ) -> CupyArray:
        if casting is not None or subok is not None:
            raise TypeError("casting and subok are not supported yet")
        if not copy and self.dtype == np.dtype(dtype):
            return self
        with np.errstate(all="ignore"):
            return wrap(self._a.astype(dtype, order=order))

    def view(self, dtype: Any = None, type: Any = None) -> CupyArray:
        return wrap(self._a.view() if dtype is None else self._a.view(dtype), self)

    def reshape(self, *shape: Any, order: Any = "C", copy: Any = None) -> CupyArray:
        return wrap(self._a.reshape(*shape, order=order), self)

    def transpose(self, *axes: Any) -> CupyArray:
        return wrap(self._a.transpose(*axes), self)

    def fill(self, value: Any) -> None:
        value = unwrap(value) if isinstance(value, CupyArray) else np.asarray(value)
        if value.shape != ():
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        with np.errstate(all="ignore"):
            self._a.fill(value.astype(self.dtype)[()])

    def set(self, arr: Any, stream: Any = None) -> None:
        self._a[...] = np.asarray(arr)

    def take(self, indices: Any, axis: Any = None, out: Any = None) -> CupyArray:
        at = unwrap(indices) if isinstance(indices, CupyArray) else np.asarray(indices)
        if axis is None or self.ndim == 0:
            size = self.size
        else:
            size = self.shape[axis]
        if size:  # out of bounds wraps around
            at = at % size
        return wrap(self._a.take(at, axis))

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        _check_kind(kind)
        self._a.sort(axis, kind="stable")

    def argsort(self, axis: Any = -1, kind: Any = None) -> CupyArray:
        _check_kind(kind)
        return wrap(self._a.argsort(axis, kind="stable"))

    def put(self, indices: Any, values: Any, mode: str = "wrap") -> None:
        if mode == "raise":
            to_host("put(mode='raise')")
        self._a.put(unwrap(indices), unwrap(values), mode)

    def __copy__(self) -> CupyArray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> CupyArray:
        return wrap(self._a.copy())

    # -- indexing ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return len(self._a)

    def __iter__(self) -> Any:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self._a)))

    def __getitem__(self, key: Any) -> CupyArray:
        return wrap(self._a[self._key(key)], self)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        with np.errstate(all="ignore"):
            self._a[self._key(key)] = unwrap(value) if not isinstance(value, np.ndarray) else value

    def _scatter(self, at: Any, key: Any, value: Any) -> None:
        at(self._a, self._key(key), unwrap(value))

    def _key(self, key: Any) -> Any:
        """A key for NumPy: masks wait for the device, integer arrays wrap around."""
        parts = list(key) if isinstance(key, tuple) else [key]
        axis = 0
        for i, part in enumerate(parts):
            if part is None:
                continue
            if part is Ellipsis:
                taken = sum(_axes_of(p) for p in parts[i + 1 :])
                axis = self.ndim - taken
                continue
            if isinstance(part, CupyArray | np.ndarray | list):
                host = unwrap(part) if isinstance(part, CupyArray) else np.asarray(part)
                if isinstance(part, list) and not part:
                    host = host.astype(np.intp)
                if host.dtype == bool:
                    if i or len(parts) > 1:
                        many = sum(isinstance(p, CupyArray) and p.dtype == bool for p in parts)
                        if many > 1:
                            raise NotImplementedError("more than one boolean array in a key")
                    to_host("a boolean mask in a key")
                elif host.dtype.kind not in "iu":
                    raise IndexError("arrays used as indices must be of integer or boolean type")
                elif axis < self.ndim and self.shape[axis]:
                    host = host % self.shape[axis]
                parts[i] = host
            axis += _axes_of(part)
        return tuple(parts) if isinstance(key, tuple) else parts[0]

    # -- the protocols of NumPy -------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kw: Any) -> Any:
        function = getattr(_module(), ufunc.__name__, None)
        if function is None:
            return NotImplemented
        if "out" in kw:
            (kw["out"],) = kw["out"]
        if ufunc.__name__ in ("greater", "greater_equal", "less", "less_equal", "equal"):
            inputs = tuple(
                x.item() if isinstance(x, np.ndarray) and not x.ndim else x for x in inputs
            )
        return (function if method == "__call__" else getattr(function, method))(*inputs, **kw)

    def __array_function__(self, function: Any, types: Any, args: Any, kw: Any) -> Any:
        own = _module()
        try:
            for name in function.__module__.split(".")[1:]:
                own = getattr(own, name)
            own = getattr(own, function.__name__)
        except AttributeError:
            return NotImplemented
        return own(*args, **kw)


def _check_kind(kind: Any) -> None:
    if kind is not None and kind != "stable":
        raise ValueError("kind can only be None or 'stable'")


def _axes_of(part: Any) -> int:
    """How many axes of the array one part of a key speaks for."""
    if part is None or part is Ellipsis:
        return 0
    if isinstance(part, CupyArray | np.ndarray) and part.dtype == bool:
        return part.ndim
    return 1


def _unpickled(array: Any) -> CupyArray:
    return wrap(np.array(array))


def _module() -> Any:
    import sys

    return sys.modules["cupy"]


def unwrap(x: Any, *, arrays: bool = False) -> Any:
    """The NumPy array inside, of an array of the current device; numbers as they are.

    Raises:
        TypeError: a NumPy array (unless `arrays`) or something else that CuPy takes as no operand.
        ValueError: an array of another device.
    """
    if isinstance(x, CupyArray):
        if x._device != cuda.current.device:
            raise ValueError(
                "Array device must be same as the current device: array device = "
                f"{x._device} while current = {cuda.current.device}"
            )
        return x._a
    if isinstance(x, _NUMBERS) or (arrays and isinstance(x, np.ndarray)):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def wrap(array: Any, *sources: CupyArray) -> CupyArray:
    """An array of the current device; a view of whichever of `sources` it shares memory with."""
    array = np.asarray(array)
    for source in sources:
        if array is source._a:
            return source
    out: CupyArray = object.__new__(CupyArray)
    out._a = array
    out._device = cuda.current.device
    out.base = None
    for source in sources:
        if array.base is not None and np.may_share_memory(array, source._a):
            out.base = source if source.base is None else source.base
            out._device = source._device
    return out


def _method(signature: Signature) -> Any:
    def method(self: CupyArray, *args: Any, **kw: Any) -> Any:
        return signature.run(getattr(np.ndarray, signature.name), args, kw, first=self)

    return method


for _signature in read_signatures(Path(__file__).parent / "methods.txt"):
    if not hasattr(CupyArray, _signature.name):
        setattr(CupyArray, _signature.name, _method(_signature))

add_operators(CupyArray)
CupyArray.__name__ = CupyArray.__qualname__ = "ndarray"
CupyArray.__module__ = "cupy"
