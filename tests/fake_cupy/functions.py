"""The functions of the module that are not elementwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import cuda
from .array import CupyArray, unwrap, wrap
from .signatures import Signature, read_signatures


def _function(signature: Signature, numpy: Any) -> Any:
    def function(*args: Any, **kw: Any) -> Any:
        return signature.run(numpy, args, kw)

    function.__name__ = signature.name
    return function


def asarray(
    a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False
) -> CupyArray:
    return array(a, dtype, copy, order)


def array(
    obj: Any,
    dtype: Any = None,
    copy: Any = True,
    order: Any = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> CupyArray:
    """An array from anything: CuPy uploads what the host has."""
    if not isinstance(obj, CupyArray) and hasattr(obj, "__cuda_array_interface__"):
        interface = dict(obj.__cuda_array_interface__)
        holder: Any = type("Holder", (), {"__array_interface__": interface, "owner": obj})()
        found = np.asarray(holder)
        return wrap(found if not copy else found.copy())
    if isinstance(obj, CupyArray):
        same = (dtype is None or np.dtype(dtype) == obj.dtype) and ndmin <= obj.ndim
        here = obj._device == cuda.current.device
        if here and same and not copy and (order != "C" or obj._a.flags.c_contiguous):
            return obj
        host = obj._a  # of another device: copied from there
    else:
        host = _on_host(obj)
    with np.errstate(all="ignore"):
        found = np.array(host, order=order or "K", ndmin=ndmin)
        found = found if dtype is None else found.astype(dtype)
    if found.dtype.kind in "OSU":
        raise ValueError(f"Unsupported dtype {found.dtype}")
    return wrap(found)


def _on_host(x: Any) -> Any:
    if isinstance(x, CupyArray):
        return unwrap(x)
    return [_on_host(v) for v in x] if isinstance(x, list | tuple) else x


def ascontiguousarray(a: Any, dtype: Any = None) -> CupyArray:
    if not isinstance(a, CupyArray):
        return array(a, dtype, order="C")
    found = np.ascontiguousarray(unwrap(a), dtype)  # which CuPy keeps 0-d
    return a if found is a._a or not a.ndim else wrap(found, a)


def take(a: Any, indices: Any, axis: Any = None, out: Any = None) -> CupyArray:
    return a.take(indices, axis, out)


def take_along_axis(a: Any, indices: Any, axis: Any) -> CupyArray:
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if axis is None:
        a, axis = a.ravel(), 0
    if a.ndim != indices.ndim:
        raise ValueError("`indices` and `a` must have the same number of dimensions")
    axis %= a.ndim
    key: list[Any] = []
    for i, n in enumerate(a.shape):
        trailing = (1,) * (a.ndim - i - 1)
        key.append(indices if i == axis else wrap(np.arange(n).reshape(-1, *trailing)))
    return a[tuple(key)]


def argsort(a: Any, axis: Any = -1, kind: Any = None) -> CupyArray:
    return a.argsort(axis, kind)


def sort(a: Any, axis: Any = -1, kind: Any = None) -> CupyArray:
    out = a.copy()
    out.sort(axis, kind)
    return out


def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = None) -> None:
    inside = True if where is None else unwrap(where)
    np.copyto(unwrap(dst), unwrap(src), casting=casting, where=inside)


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None) -> Any:
    return a.get() if isinstance(a, CupyArray) else np.asarray(a)


def from_dlpack(source: Any, **options: Any) -> CupyArray:
    kind, device = source.__dlpack_device__()
    if int(kind) != 2:
        raise BufferError(f"expected memory of CUDA, got DLPack device type {kind}")

    class OnHost:
        def __dlpack__(self, *, max_version: Any = None, **_: Any) -> Any:
            return source.__dlpack__(max_version=max_version)

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    out = wrap(np.from_dlpack(OnHost()))
    out._device = int(device)
    return out


def from_cupy(name: str) -> Any:
    """What is in CuPy's module under a name of NumPy's."""
    if name in ("newaxis", "pi", "e", "inf", "nan", "euler_gamma"):
        return getattr(np, name)
    found = getattr(np, name, None)
    if isinstance(found, type) and issubclass(found, np.generic):
        return found
    if name in ("dtype", "iinfo", "finfo", "errstate", "generic"):
        return found
    raise AttributeError(f"module 'cupy' has no attribute {name!r}")


def make_functions() -> dict[str, Any]:
    """All functions by their path in the module."""
    made: dict[str, Any] = {}
    for signature in read_signatures(Path(__file__).parent / "functions.txt"):
        numpy: Any = np
        try:
            for part in signature.path.split("."):
                numpy = getattr(numpy, part)
        except AttributeError:
            continue
        made[signature.path] = _function(signature, numpy)
    own = (array, asarray, ascontiguousarray, take, take_along_axis, argsort, sort, copyto)
    made |= {f.__name__: f for f in own}
    made |= {"asanyarray": asarray, "asnumpy": asnumpy, "from_dlpack": from_dlpack}
    made["size"] = lambda a, axis=None: a.size if axis is None else a.shape[axis]
    return made
