"""The static graph and what can be done with one without changing it."""

from ..feeds import bind_shapes
from .assumptions import Assumption, check_assumptions
from .core import Graph, Location, Node, Value
from .gradients import gradients
from .interpret import Interpreter, interpret
from .nested import inline, prune
from .text import parse_graph, to_text
from .verify import verify

__all__ = [
    "Assumption",
    "Graph",
    "Interpreter",
    "Location",
    "Node",
    "Value",
    "bind_shapes",
    "check_assumptions",
    "gradients",
    "inline",
    "interpret",
    "parse_graph",
    "prune",
    "to_text",
    "verify",
]
