"""The compiler: graphs, operations, passes, ONNX. Pure: knows no device, starts no process."""

from typing import TYPE_CHECKING

from ._lazy import lazy

if TYPE_CHECKING:
    from .dims import Dim
    from .dtypes import DType
    from .graph.core import Graph, Node, Value
    from .graph.gradients import gradients
    from .graph.interpret import interpret
    from .graph.text import parse_graph
    from .graph.verify import verify
    from .ops import Op, op
    from .types import TensorType
else:
    __getattr__ = lazy(
        __name__,
        {
            "dims": ("Dim",),
            "dtypes": ("DType",),
            "graph.core": ("Graph", "Node", "Value"),
            "graph.gradients": ("gradients",),
            "graph.interpret": ("interpret",),
            "graph.text": ("parse_graph",),
            "graph.verify": ("verify",),
            "ops": ("Op", "op"),
            "types": ("TensorType",),
        },
    )

__all__ = [
    "DType",
    "Dim",
    "Graph",
    "Node",
    "Op",
    "TensorType",
    "Value",
    "gradients",
    "interpret",
    "op",
    "parse_graph",
    "verify",
]
