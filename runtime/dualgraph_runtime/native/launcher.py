"""The launcher: a small C extension, built at first use, that calls programs on NumPy arrays.

Where Python's headers are missing there is none, and programs are called through ctypes.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import logging
import sysconfig
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from dualgraph_compiler.errors import DualGraphError

from . import cache
from .toolchain import Compiler

_log = logging.getLogger("dualgraph")


@functools.lru_cache(maxsize=4)
def frame_type(compiler: Compiler) -> Any:
    """The extension's ``Frame`` type (see launcher.c), or None where it cannot be built."""
    includes = [sysconfig.get_path("include"), np.get_include()]
    if not (Path(includes[0]) / "Python.h").is_file():
        return None
    text = resources.files(__package__).joinpath("launcher.c").read_text(encoding="utf-8")
    extra = tuple(f"-I{path}" for path in includes)
    version = f"{sysconfig.get_config_var('SOABI')} numpy {np.__version__}"
    key = cache.key_of(text, *compiler.flags, compiler.identity, version, *extra)
    try:
        path = cache.cached(key, lambda to: compiler.build(text, to, extra))
        loader = importlib.machinery.ExtensionFileLoader("dualgraph_launcher", str(path))
        spec = importlib.util.spec_from_loader("dualgraph_launcher", loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    except (DualGraphError, ImportError, OSError) as error:
        _log.warning("the native launcher is not available, calls go through ctypes: %s", error)
        return None
    return module.Frame
