"""The launcher: a small C extension, built at first use, that calls programs on NumPy arrays.

Where Python's headers are missing there is none, and programs are called through ctypes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import importlib.util
import logging
import sysconfig
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from dualgraph_compiler.errors import DualGraphError

from . import cache, processes, threads
from .toolchain import Compiler

_log = logging.getLogger("dualgraph")

_FILES = ("frame.c", "stages.c", "tensors.c", "launcher.c")  # one text


def frame_type(compiler: Compiler) -> Any:
    """The extension's ``Frame`` type (see frame.c), or None where it cannot be built."""
    module = extension(compiler)
    return None if module is None else module.Frame


def trim() -> None:
    """Give back the memory that is there to be lent to programs for intermediate values."""
    for module in _modules:
        module.trim()


_modules: list[Any] = []


@functools.lru_cache(maxsize=4)
def extension(compiler: Compiler) -> Any:
    """The extension, or None where it cannot be built. Its ``use`` is told of the front end."""
    if not _has_headers():
        return None
    key, build = _source(compiler)
    try:
        path = cache.cached(key, build)
        loader = importlib.machinery.ExtensionFileLoader("dualgraph_launcher", str(path))
        spec = importlib.util.spec_from_loader("dualgraph_launcher", loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    except processes.Stopped:
        return None
    except (DualGraphError, ImportError, OSError) as error:
        _log.warning("the native launcher is not available, calls go through ctypes: %s", error)
        return None
    _modules.append(module)
    return module


@contextlib.contextmanager
def being_built(compiler: Compiler, *, launcher: bool, pool: bool) -> Iterator[None]:
    """Build the launcher and the pool beside what the body builds, where the cache lacks them."""
    sources = [_source(compiler)] if launcher and _has_headers() else []
    sources += [threads.source(compiler)] if pool else []
    missing = [(key, build) for key, build in sources if cache.find(key) is None]
    if not missing:
        yield
        return

    def work() -> None:
        for key, build in missing:
            with contextlib.suppress(DualGraphError, OSError):  # who needs it will say it
                cache.store(key, build)

    with processes.beside(work):
        yield


def _has_headers() -> bool:
    return (Path(sysconfig.get_path("include")) / "Python.h").is_file()


def _source(compiler: Compiler) -> tuple[str, Callable[[Path], None]]:
    """The launcher's key in the cache, and what builds it."""
    folder = resources.files(__package__)
    text = "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in _FILES)
    extra = tuple(f"-I{path}" for path in (sysconfig.get_path("include"), np.get_include()))
    version = f"{sysconfig.get_config_var('SOABI')} numpy {np.__version__}"
    key = cache.key_of(text, *compiler.flags, compiler.identity, version, *extra)
    return key, lambda to: compiler.build(text, to, extra)
