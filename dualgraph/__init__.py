"""dualgraph: define-by-run and define-and-run in one framework, with PyTorch's vocabulary."""

from __future__ import annotations

import warnings as _warnings

# Division by zero, overflow and NaN are values here, as in PyTorch; NumPy would warn of each. Only
# warnings raised by our own kernels are silenced: the user's NumPy code keeps its own.
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"dualgraph(_compiler)?\.")

from . import autograd, functions
from ._tensor import Tensor

__version__ = "0.1.0"
