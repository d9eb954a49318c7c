"""The models of this package run by PyTorch: their own code, with other names in its imports.

They speak PyTorch's vocabulary, so this is what they are compared with, in tests and benchmarks.
"""

from __future__ import annotations

import re
import sys
from importlib import resources
from types import ModuleType

_IMPORTS = (
    (r"\bimport dualgraph as dg\b", "import torch as dg"),
    (r"\bdualgraph\.(nn|optim)\b", r"torch.\1"),
    (r"\bfrom dualgraph import\b", "from torch import"),
    (r"\bdg\.Dim\(", "dg.export.Dim("),
)


def with_torch(name: str) -> ModuleType:
    """The module ``dualgraph_models.name`` as it is when PyTorch stands in place of dualgraph.

    Its data sets are those of this package. What PyTorch does not have (`dg.while_loop`, ...) fails
    when it is called.

    Raises:
        ModuleNotFoundError: PyTorch is not installed.
    """
    known = f"{__package__}._torch_{name}"
    if known not in sys.modules:
        code = resources.files("dualgraph_models").joinpath(f"{name}.py").read_text("utf-8")
        for ours, theirs in _IMPORTS:
            code = re.sub(ours, theirs, code)
        module = ModuleType(known)
        sys.modules[known] = module  # where dataclasses look themselves up
        try:
            exec(compile(code, f"<{name}.py with PyTorch>", "exec"), module.__dict__)
        except BaseException:
            del sys.modules[known]
            raise
    return sys.modules[known]
