"""The native engine's runtime: building compiled graphs, keeping them on disk, calling them."""

from .background import Background
from .executable import Executable, NotCompiled, compile_graph, try_compile
from .toolchain import Compiler, find_compiler

__all__ = [
    "Background",
    "Compiler",
    "Executable",
    "NotCompiled",
    "compile_graph",
    "find_compiler",
    "try_compile",
]
