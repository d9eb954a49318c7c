"""From running code to graphs: tracing, compiling, and graphs written out."""

from .audit import Audit, audit
from .compiled import CompiledFunction, compile
from .failure import CaptureFailure, EagerFallbackWarning
from .graph import Graph, Session, gradients, placeholder
from .trace import trace

__all__ = [
    "Audit",
    "CaptureFailure",
    "CompiledFunction",
    "EagerFallbackWarning",
    "Graph",
    "Session",
    "audit",
    "compile",
    "gradients",
    "placeholder",
    "trace",
]
