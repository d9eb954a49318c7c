"""Inputs and outputs of any kind: what a model declares, and whether a feed fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualgraph_compiler.dims import Dim, DimLike
from dualgraph_compiler.dtypes import BY_ONNX, DType
from dualgraph_compiler.errors import FeedError, OnnxError
from dualgraph_compiler.feeds import bind_shapes
from dualgraph_compiler.onnx.load import element_type_name
from dualgraph_compiler.onnx.stepwise.kinds import STRING
from dualgraph_compiler.types import TensorType

from ..feeding import as_array, wrong_names
from ..model import NodeArg, type_name
from ..values import OrtValue, held

if TYPE_CHECKING:
    import onnx

_MOST_FITTING = 64  # shapes are the callers'

Shapes = Mapping[str, Sequence[DimLike | str]]


def argument(info: onnx.ValueInfoProto, shapes: Shapes) -> NodeArg:
    """An input or output under ONNX Runtime's names."""
    return NodeArg(info.name, type_text(info.type), _declared(info, shapes))


def type_text(kind: onnx.TypeProto) -> str:
    """ONNX Runtime's name of a type: ``seq(tensor(float))``."""
    which = kind.WhichOneof("value")
    if which == "sequence_type":
        return f"seq({type_text(kind.sequence_type.elem_type)})"
    if which == "optional_type":
        return f"optional({type_text(kind.optional_type.elem_type)})"
    if which == "map_type":
        key = _element(kind.map_type.key_type)
        return f"map({key},{type_text(kind.map_type.value_type)})"
    tensor = kind.sparse_tensor_type if which == "sparse_tensor_type" else kind.tensor_type
    return f"tensor({_element(tensor.elem_type)})"


def _element(number: int) -> str:
    dtype = BY_ONNX.get(number)
    if dtype is not None:
        return type_name(dtype).removeprefix("tensor(").removesuffix(")")
    return element_type_name(number).lower()


class Inputs:
    """What a model takes.

    Args:
        infos: as the model declares them.
        shapes: shapes to use instead, by name; a string in one is a symbolic size.
        source: names the model in messages.

    `sizes` are the sizes that every run has, None where they differ, of those that have a rank.

    Raises:
        OnnxError: an input of an element type that is not supported.
    """

    def __init__(self, infos: Sequence[onnx.ValueInfoProto], shapes: Shapes, source: str) -> None:
        self._types = {info.name: info.type for info in infos}
        self._shaped: list[tuple[str, TensorType]] = []
        self.sizes: dict[str, tuple[int | None, ...]] = {}
        names: dict[str, Dim] = {}
        self._numeric = True  # whether all are tensors of numbers
        self.are_numbers = all(_is_numeric(info.type) for info in infos)  # or lists of such
        self._fitting: dict[Any, None] = {}  # dtypes and shapes that fitted
        for info in infos:
            dtype = _numbers(info.type, f"{source}: input {info.name!r}")
            self._numeric &= dtype is not None
            if dtype is None or not info.type.tensor_type.HasField("shape"):
                continue
            dims: list[DimLike] = []
            for axis, d in enumerate(_declared(info, shapes)):
                name = d or f"{info.name}, {axis}"
                dims.append(d if isinstance(d, int) else _symbol(names, str(name)))
            self._shaped.append((info.name, TensorType(dtype, tuple(dims))))
            self.sizes[info.name] = tuple([d if isinstance(d, int) else None for d in dims])

    @property
    def names(self) -> list[str]:
        """The names, in the model's order."""
        return list(self._types)

    def values(self, feed: Mapping[str, Any]) -> list[Any]:
        """The values of a feed, in the model's order.

        Raises:
            FeedError: other names, or one of another kind, element type, rank or size.
        """
        if not isinstance(feed, Mapping):
            raise FeedError(f"expected a dict of inputs by name, got {type(feed).__name__}")
        arrays: list[Any] = [feed.get(name) for name in self._types]
        like = tuple([(a.dtype, a.shape) if type(a) is np.ndarray else None for a in arrays])
        if like in self._fitting and len(feed) == len(arrays):
            return arrays
        wrong = wrong_names(feed, self._types)
        if wrong:
            raise FeedError(wrong[0])
        values = {n: _value(n, feed[n], t) for n, t in self._types.items()}
        bind_shapes(self._shaped, [values[name] for name, _ in self._shaped])
        arrays = list(values.values())
        if self._numeric:
            if len(self._fitting) >= _MOST_FITTING:
                self._fitting = {}
            self._fitting[tuple([(a.dtype, a.shape) for a in arrays])] = None
        return arrays


def _declared(info: onnx.ValueInfoProto, shapes: Shapes) -> list[int | str | None]:
    """The sizes of an input: a number, a name, or None."""
    if info.name in shapes:
        return [d if isinstance(d, int | str) else str(d) for d in shapes[info.name]]
    dims = info.type.tensor_type.shape.dim
    known = [d.HasField("dim_value") and d.dim_value >= 0 for d in dims]
    return [d.dim_value if k else d.dim_param or None for d, k in zip(dims, known, strict=True)]


def _symbol(names: dict[str, Dim], name: str) -> Dim:
    """The symbolic size of a name, which may be any text."""
    if name not in names:
        names[name] = Dim(name if name.isidentifier() else f"size{len(names)}")
    return names[name]


def _numbers(kind: onnx.TypeProto, what: str) -> DType | None:
    """The element type of a tensor of numbers; None for anything else."""
    if kind.WhichOneof("value") != "tensor_type" or kind.tensor_type.elem_type == STRING:
        return None
    dtype = BY_ONNX.get(kind.tensor_type.elem_type)
    if dtype is None:
        name = element_type_name(kind.tensor_type.elem_type)
        raise OnnxError(f"{what} has the element type {name}, which is not supported")
    return dtype


def _is_numeric(kind: onnx.TypeProto) -> bool:
    """Whether a value is made of tensors of numbers: one, a sequence of them, an optional."""
    which = kind.WhichOneof("value")
    if which == "sequence_type":
        return _is_numeric(kind.sequence_type.elem_type)
    if which == "optional_type":
        return _is_numeric(kind.optional_type.elem_type)
    return which == "tensor_type" and kind.tensor_type.elem_type != STRING


def _value(name: str, value: Any, kind: onnx.TypeProto) -> Any:
    value = held(value) if isinstance(value, OrtValue) else value
    which = kind.WhichOneof("value")
    if which == "sequence_type":
        if not isinstance(value, list | tuple):
            raise FeedError(f"input {name!r}: expected a list, got {type(value).__name__}")
        element = kind.sequence_type.elem_type
        return [_value(f"{name}[{i}]", v, element) for i, v in enumerate(value)]
    if which == "optional_type":
        return None if value is None else _value(name, value, kind.optional_type.elem_type)
    if which == "map_type":
        if not isinstance(value, Mapping):
            raise FeedError(f"input {name!r}: expected a dict, got {type(value).__name__}")
        return dict(value)
    dtype = _numbers(kind, f"input {name!r}")
    if dtype is None:
        return _strings(f"input {name!r}", value)
    array = as_array(name, value, TensorType(dtype, ()))
    if array.dtype != dtype.np:
        raise FeedError(f"input {name!r}: expected dtype {dtype.name}, got {array.dtype}")
    return array


def _strings(what: str, value: Any) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise FeedError(f"{what}: expected an array of strings: {error}") from error
    if array.dtype.kind not in "OUST":
        raise FeedError(f"{what}: expected strings, got {array.dtype}")
    found = [s.decode("utf-8", "replace") if isinstance(s, bytes) else s for s in array.flat]
    wrong = next((s for s in found if not isinstance(s, str)), None)
    if wrong is not None:
        raise FeedError(f"{what}: expected strings, got {type(wrong).__name__}")
    out = np.empty(len(found), dtype=object)
    out[:] = found
    return out.reshape(array.shape)
