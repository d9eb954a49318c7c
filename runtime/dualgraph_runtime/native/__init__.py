"""The native engine's runtime: building compiled graphs, keeping them on disk, calling them."""

from .executable import Executable, compile_graph, try_compile
from .toolchain import Compiler, find_compiler

__all__ = ["Compiler", "Executable", "compile_graph", "find_compiler", "try_compile"]
