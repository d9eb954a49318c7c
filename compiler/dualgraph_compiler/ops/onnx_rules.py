"""The contract between an op and ONNX: what `to_onnx` methods and `@from_onnx` rules may call.

Export: ``Op.to_onnx(self, ctx, *inputs)`` receives an :class:`Export` and the ONNX names of its
operands, emits nodes and returns the name (or names) of the result. Ops with a plain ``onnx``
declaration need no method.

Import: a rule stands beside the op it builds::

    @from_onnx("ReduceSum")
    def _reduce_sum(ctx: Import, x: Value, axes: Value | None = None) -> Value: ...

Rules see operators at the one opset the importer lifts every model to (``IMPORT_OPSET``). Optional
inputs that are absent arrive as None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, overload

import numpy as np

from ..dims import DimLike, Shape
from ..types import TensorType

# Models are lifted to this version of ai.onnx before import, so each operator has one rule.
IMPORT_OPSET = 28


class Export(Protocol):
    """What an op's `to_onnx` may use."""

    opset: int  # the version of ai.onnx being written

    def emit(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add an ONNX node; returns its result's name, or a tuple of `outputs` names if > 1.

        An empty string stands for an absent optional input. Attributes that are None are left out;
        a DType becomes its ONNX number; NumPy arrays become tensors.
        """

    def constant(self, value: Any, dtype: Any = None) -> str:
        """The name of an initializer holding `value` (equal small ones are shared)."""

    def ints(self, *values: int) -> str:
        """The name of a 1-d int64 initializer."""

    def shape(self, dims: Shape) -> str:
        """The name of a 1-d int64 tensor of sizes; symbolic ones are computed from the inputs."""

    def dim(self, dim: DimLike) -> str:
        """The name of a 0-d int64 tensor holding one size."""

    def subgraph(self, body: Any, captured: Sequence[str]) -> Any:
        """The attribute for a nested graph, whose last inputs are the values named `captured`."""

    def type(self, name: str) -> TensorType:
        """The type of an operand."""

    def is_used(self, output: int) -> bool:
        """Whether anything reads this output of the op being written; if not, "" will do."""

    def require_opset(self, needed: int, what: str) -> None:
        """Raise OnnxError unless the target opset is at least `needed`."""


class Import(Protocol):
    """What a `@from_onnx` rule may use. Operands are graph Values; ops are called on them."""

    graph: Any
    n_outputs: int  # how many results the node declares, absent trailing ones not counted

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute's Python value (ints, floats, str, tuples of them, or a NumPy array)."""

    def ints(self, value: Any, what: str) -> tuple[int, ...]:
        """The elements of an integer operand that must be known now; NeedsValue otherwise."""

    def sizes(self, value: Any, what: str) -> tuple[DimLike, ...]:
        """The elements of a shape operand: ints or symbolic dims; NeedsValue if they depend on
        data."""

    @overload
    def array(self, value: Any) -> np.ndarray[Any, Any] | None: ...
    @overload
    def array(self, value: Any, what: str) -> np.ndarray[Any, Any]:
        """The data of a constant operand. Of any other: None, or NeedsValue if it is named."""

    def size(self, size: DimLike, what: str) -> int:
        """A size that must be a number; NeedsValue if it is symbolic."""

    def constant(self, array: Any) -> Any:
        """A constant Value."""

    def named(self, name: str) -> Any:
        """The value of a name of the model; OnnxError where nothing before defines it."""

    def nested(self, body: Any, operands: Sequence[Any]) -> list[Any]:
        """The results of a graph that is an attribute, given the values of its inputs."""

    def counted(self, value: Any) -> tuple[Any, int] | None:
        """The number of a loop's step and what is added to it, if `value` is that sum."""


Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


def from_onnx(*names: str) -> Callable[[Rule], Rule]:
    """Register the import rule of one or more operators ("Relu"; "com.microsoft::Gelu")."""

    def register(rule: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"two import rules for {name}")
            RULES[name] = rule
        return rule

    return register
