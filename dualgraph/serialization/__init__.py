"""Checkpoints: PyTorch's own formats and safetensors, read without running what they hold."""

from ._files import get_unsafe_globals_in_checkpoint, load, save
from ._storage import UntypedStorage
from ._trust import add_safe_globals, clear_safe_globals, get_safe_globals, safe_globals

__all__ = [
    "UntypedStorage",
    "add_safe_globals",
    "clear_safe_globals",
    "get_safe_globals",
    "get_unsafe_globals_in_checkpoint",
    "load",
    "safe_globals",
    "save",
]
