"""Putting the stand-in in CuPy's place, and taking it out again."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np

from dualgraph_runtime import device as devices

from . import cuda
from .array import CupyArray
from .functions import from_cupy, make_functions
from .ufuncs import Ufunc, make_ufuncs

_NAMES = ("cupy", "cupy.cuda", "cupyx")


@functools.cache
def make_cupy() -> Any:
    """The module `cupy`."""
    cupy: Any = types.ModuleType("cupy")
    cupy.__spec__ = ModuleSpec("cupy", None)
    cupy.__version__ = "14.2.0"
    cupy.ndarray = CupyArray
    cupy.ufunc = Ufunc
    cupy.cuda = cuda.make_module()
    cupy.is_available = lambda: cuda.count > 0
    cupy.__getattr__ = from_cupy
    for name, ufunc in make_ufuncs().items():
        setattr(cupy, name, ufunc)
    for path, function in make_functions().items():
        place = cupy
        *folders, name = path.split(".")
        for folder in folders:
            if folder not in vars(place):
                setattr(place, folder, types.ModuleType(folder))
            place = getattr(place, folder)
        setattr(place, name, function)
    pool = types.SimpleNamespace(
        free_all_blocks=lambda: None, used_bytes=lambda: 0, total_bytes=lambda: 0
    )
    cupy.get_default_memory_pool = lambda: pool
    cupy.get_array_module = lambda *a: cupy
    return cupy


def _forget_devices() -> None:
    """Have the runtime look anew at what GPUs there are."""
    for cached in (devices._cupy, devices._gpu_problem, devices._gpu_count):
        cached.cache_clear()


@contextmanager
def installed(gpus: int = 1) -> Iterator[Any]:
    """`import cupy` gives the stand-in, which finds so many GPUs (-1: not even a driver)."""
    before = {name: sys.modules.get(name) for name in _NAMES}
    count = cuda.count
    cupy = make_cupy()
    cupyx: Any = types.ModuleType("cupyx")
    cupyx.empty_pinned = np.empty
    cupyx.scatter_add = lambda a, slices, value: cupy.add.at(a, slices, value)
    sys.modules |= {"cupy": cupy, "cupy.cuda": cupy.cuda, "cupyx": cupyx}
    cuda.count = gpus
    _forget_devices()
    try:
        yield cupy
    finally:
        cuda.count = count
        cuda.current.device = 0
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
        _forget_devices()
