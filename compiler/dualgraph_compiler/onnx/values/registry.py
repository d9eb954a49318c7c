"""Operators on values that are no tensors of numbers, as Python functions.

    @on_values("SequenceAt")
    def _sequence_at(ctx: ValueContext, sequence: list[Any], position: Array) -> Any: ...

Values are: NumPy arrays of numbers; arrays of `str` objects for tensors of strings; lists for
sequences; None for an optional without an element (one with an element is that element); dicts for
maps. An operand that the node leaves out is None, too. A function gives its result, or a tuple of
them if the node has more than one, and writes into nothing it is given.

Functions that only move tensors about are registered with ``any_tensors=True``. They compute with
`ctx.xp` and so differentiate where tensors are those of a framework that does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import OnnxError

if TYPE_CHECKING:
    import onnx

    from ..load import ModelFile

Array = np.ndarray[Any, Any]
ValueFunction = Callable[..., Any]
FUNCTIONS: dict[str, ValueFunction] = {}
ANY_TENSORS: set[str] = set()


@dataclass(frozen=True, slots=True)
class ValueContext:
    """What such a function may ask about its node.

    `call` runs the graph of an attribute on values for its inputs and gives its outputs. `xp` is
    what tensors are computed with: NumPy, or what has functions of the same names.
    """

    node: onnx.NodeProto
    file: ModelFile
    call: Callable[[str, Sequence[Any]], list[Any]]
    xp: Any = np

    @property
    def n_outputs(self) -> int:
        """How many results the node declares, absent trailing ones not counted."""
        return max((i for i, name in enumerate(self.node.output, 1) if name), default=0)

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute's Python value: a number, str, an array, or a tuple of them."""
        from onnx import AttributeProto, helper

        for attribute in self.node.attribute:
            if attribute.name != name:
                continue
            if attribute.type == AttributeProto.TENSOR:
                return tensor_value(attribute.t, self.file)
            value = helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                return text(value)
            if isinstance(value, float | int | str):
                return value
            return tuple(text(v) if isinstance(v, bytes) else v for v in value)
        return default


def on_values(*names: str, any_tensors: bool = False) -> Callable[[ValueFunction], ValueFunction]:
    """Register the function of operators ("SequenceAt", "ai.onnx.ml::ZipMap").

    Args:
        any_tensors: the function takes tensors of any framework, whose functions are `ctx.xp`.
    """

    def register(function: ValueFunction) -> ValueFunction:
        for name in names:
            if name in FUNCTIONS:
                raise ValueError(f"two functions on values for {name}")
            FUNCTIONS[name] = function
            if any_tensors:
                ANY_TENSORS.add(name)
        return function

    return register


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of numbers."""
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in "OUS"


def tensor_value(tensor: onnx.TensorProto, file: ModelFile) -> Array:
    """The array of a tensor of a model, of `str` objects where it holds strings.

    Raises:
        OnnxError: it is malformed.
    """
    import onnx

    if tensor.data_type != onnx.TensorProto.STRING:
        return file.array(tensor)
    strings = np.array([text(s) for s in tensor.string_data], dtype=object)
    if strings.size != np.prod(tensor.dims, dtype=object):
        raise OnnxError(
            f"{file.source}: tensor {tensor.name!r} of shape {list(tensor.dims)} has "
            f"{strings.size} strings"
        )
    return strings.reshape(tuple(tensor.dims))


def text(data: bytes) -> str:
    """The string that a model writes as these bytes."""
    return data.decode("utf-8", "replace")


def strings(values: Any) -> Array:
    """An array of `str` objects of the shape of `values`."""
    array = np.asarray(values, dtype=object)
    return array if array.ndim else np.array(array.item(), dtype=object)
