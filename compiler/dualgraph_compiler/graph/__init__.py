"""The static graph and what can be done with one without changing it."""

from .core import Graph, Location, Node, Value
from .gradients import gradients
from .interpret import Interpreter, bind_shapes, interpret
from .nested import inline, prune
from .text import parse_graph, to_text
from .verify import verify

__all__ = [
    "Graph",
    "Interpreter",
    "Location",
    "Node",
    "Value",
    "bind_shapes",
    "gradients",
    "inline",
    "interpret",
    "parse_graph",
    "prune",
    "to_text",
    "verify",
]
