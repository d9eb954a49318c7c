"""The user's functions, by family; each is also a method of Tensor where PyTorch has it so."""

from . import arithmetic, basics, creation, reduction
from .arithmetic import add, mul
from .creation import ones_like, zeros_like
from .reduction import sum

__all__ = ["add", "arithmetic", "basics", "creation", "mul", "ones_like", "reduction", "sum", "zeros_like"]
