"""The compiler: graphs, operations, passes, ONNX. Pure: knows no device, starts no process."""

from .dims import Dim
from .dtypes import DType
from .graph import Graph, Node, Value, gradients, interpret, parse_graph, verify
from .ops import Op, op
from .types import TensorType

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
