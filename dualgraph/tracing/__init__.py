"""From running code to graphs: tracing, compiling, and graphs written out."""

from .compiled import CompiledFunction, compile
from .graph import Graph, Session, gradients, placeholder
from .trace import trace

__all__ = [
    "CompiledFunction",
    "Graph",
    "Session",
    "compile",
    "gradients",
    "placeholder",
    "trace",
]
