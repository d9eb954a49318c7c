"""From running code to graphs: tracing, compiling, and graphs written out."""

from .compiled import CompiledFunction, compile
from .failure import CaptureFailure, EagerFallbackWarning
from .graph import Graph, Session, gradients, placeholder
from .trace import trace

__all__ = [
    "CaptureFailure",
    "CompiledFunction",
    "EagerFallbackWarning",
    "Graph",
    "Session",
    "compile",
    "gradients",
    "placeholder",
    "trace",
]
