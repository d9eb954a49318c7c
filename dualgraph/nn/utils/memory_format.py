"""Making modules without initial values, and laying out their weights: PyTorch's names.

Weights need no particular place in memory here, and initial values cost little, so that these
functions keep what they promise without doing anything of their own.
"""

from __future__ import annotations

import inspect
from typing import Any

from dualgraph.nn.modules.module import Module


def convert_conv2d_weight_memory_format(module: Module, memory_format: Any) -> Module:
    """The module as it is."""
    return module


def convert_conv3d_weight_memory_format(module: Module, memory_format: Any) -> Module:
    """The module as it is."""
    return module


def skip_init(module_cls: type[Module], *args: Any, **kwargs: Any) -> Module:
    """A module whose parameters are yet to be filled: ``module_cls(*args, **kwargs)``.

    Raises:
        RuntimeError: no subclass of Module, or one that takes no `device`.
    """
    if not (inspect.isclass(module_cls) and issubclass(module_cls, Module)):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    return module_cls(*args, **kwargs)
