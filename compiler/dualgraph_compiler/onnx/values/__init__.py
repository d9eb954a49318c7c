"""Operators on sequences, optionals, strings and maps: Python functions on Python values.

registry      `on_values`, and what values are
sequences     Sequence*, SplitToSequence, ConcatFromSequence, Optional*
text, ngrams  operators on tensors of strings
random        draws, which differ from run to run
control_flow  If, Loop, Scan and SequenceMap over values
machine_learning  ai.onnx.ml where strings or maps come in
reference     ONNX's own implementation of some, the last resort
"""

from . import (  # noqa: F401 - they register themselves
    control_flow,
    machine_learning,
    ngrams,
    random,
    sequences,
    text,
)
from .reference import REFERENCE
from .registry import ANY_TENSORS, FUNCTIONS, ValueContext, is_tensor, on_values, tensor_value


def function_of(operator: str) -> object | None:
    """What carries an operator out on values: a function, or ONNX's; None if nothing does."""
    return FUNCTIONS.get(operator) or (operator if operator in REFERENCE else None)


__all__ = [
    "ANY_TENSORS",
    "FUNCTIONS",
    "ValueContext",
    "function_of",
    "is_tensor",
    "on_values",
    "tensor_value",
]
