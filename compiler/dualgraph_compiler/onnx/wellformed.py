"""What must hold of an untrusted model before anything works on it.

ONNX's own tools (the version converter, the inliner, shape inference) are C++ that takes a model's
word: an attribute of another type than its operator declares, or a function that calls itself,
ends the process. Here is refused, in time that grows with the size of the file only, what they
would stumble over, and what rules need not look out for one by one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import OnnxError

if TYPE_CHECKING:
    import onnx

    from .load import ModelFile

_MAX_DEPTH = 40  # graphs in graphs
_MAX_EXPANDED = 10_000_000  # nodes, once the model's functions are inlined
_MAX_RANK = 64  # axes of a tensor; NumPy's limit


def check_model(file: ModelFile) -> None:
    """Refuse a model of which a part has a form that no valid model has.

    Raises:
        OnnxError: an operator with too few or too many operands or results, a required attribute
            that is absent, one of a wrong type or stated twice, a name that is no text, tensors
            without the data that their shape needs, graphs nested too deep, functions that call
            themselves.
    """
    model = file.proto
    versions = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    _Checker(file, versions).graph(model.graph, 0)
    for function in model.functions:
        own = {o.domain or "ai.onnx": o.version for o in function.opset_import}
        _Checker(file, own or versions, function.name).nodes(function.node, 0)
    if model.functions:
        _check_calls(model, file.source)


class _Form(NamedTuple):
    """What an operator's schema says of the form of its nodes."""

    least: int  # operands
    most: int
    needed: tuple[int, ...]  # operands that may not be left out
    fewest: int  # results
    largest: int
    attributes: dict[str, int]
    required: frozenset[str]


@functools.cache
def _form(op_type: str, version: int, domain: str) -> _Form | None:
    from onnx import defs

    try:
        schema = defs.get_schema(op_type, version, "" if domain == "ai.onnx" else domain)
    except defs.SchemaError:
        return None
    declared: dict[str, Any] = dict(schema.attributes)
    single = defs.OpSchema.FormalParameterOption.Single
    return _Form(
        schema.min_input,
        schema.max_input,
        tuple(i for i, x in enumerate(schema.inputs) if x.option == single),
        schema.min_output,
        schema.max_output,
        {name: int(a.type.value) for name, a in declared.items()},
        frozenset(name for name, a in declared.items() if a.required),
    )


class _Checker:
    """Checks graphs and functions that use the same versions of operators."""

    def __init__(self, file: ModelFile, versions: dict[str, int], function: str = "") -> None:
        self._file = file
        self._versions = versions
        self._function = function

    def graph(self, graph: onnx.GraphProto, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise OnnxError(f"{self._file.source}: graphs nested more than {_MAX_DEPTH} deep")
        for tensor in graph.initializer:
            if not tensor.name:
                raise OnnxError(f"{self._file.source}: an initializer has no name")
            self._tensor(tensor)
        for info in (*graph.input, *graph.output):
            _require_text(info.name, f"{self._file.source}: the name of an input or output")
        self.nodes(graph.node, depth)

    def nodes(self, nodes: Iterable[onnx.NodeProto], depth: int) -> None:
        for node in nodes:
            self._node(node, depth)

    def _node(self, node: onnx.NodeProto, depth: int) -> None:
        source = self._file.source
        for text in (node.op_type, node.domain, node.name, *node.input, *node.output):
            _require_text(text, f"{source}: the name of an operator or value")
        what = f"{source}: node {node.name or next(iter(node.output), '?')!r} ({node.op_type})"
        domain = node.domain or "ai.onnx"
        version = self._versions.get(domain, 1)
        form = _form(node.op_type, version, domain) if 0 < version < 2**31 else None
        if form is not None:
            _check_counts(node, form, what)
        given: set[str] = set()
        for a in node.attribute:
            _require_text(a.name, f"{what}: the name of an attribute")
            if a.name in given:
                raise OnnxError(f"{what}: the attribute {a.name!r} is stated twice")
            given.add(a.name)
            if a.ref_attr_name and not self._function:
                raise OnnxError(f"{what}: {a.name!r} refers to an attribute outside of a function")
            declared = form.attributes.get(a.name) if form is not None else None
            if declared is not None and declared != a.type:
                raise OnnxError(
                    f"{what}: the attribute {a.name!r} is {_kind(a.type)}, expected "
                    f"{_kind(declared)}"
                )
            self._attribute(a, what, depth)
        if form is not None and not form.required <= given:
            absent = ", ".join(map(repr, sorted(form.required - given)))
            raise OnnxError(f"{what}: the attribute {absent} is missing")

    def _attribute(self, a: onnx.AttributeProto, what: str, depth: int) -> None:
        if a.type == a.TENSOR and not a.ref_attr_name:
            self._tensor(a.t)
        elif a.type == a.GRAPH and not a.ref_attr_name and not a.HasField("g"):
            raise OnnxError(f"{what}: the attribute {a.name!r} has no graph")
        for tensor in a.tensors:
            self._tensor(tensor)
        if a.HasField("g"):
            self.graph(a.g, depth + 1)
        for inner in a.graphs:
            self.graph(inner, depth + 1)

    def _tensor(self, t: onnx.TensorProto) -> None:
        what = f"{self._file.source}: tensor {t.name!r}"
        _require_text(t.name, f"{self._file.source}: the name of a tensor")
        if len(t.dims) > _MAX_RANK:
            raise OnnxError(f"{what} has {len(t.dims)} axes, more than {_MAX_RANK}")
        if any(d < 0 for d in t.dims):
            raise OnnxError(f"{what} has a negative size")
        if t.data_location == t.EXTERNAL or self._file.is_replaced(t):
            return  # measured when it is read
        expected = stored_elements(t)
        if expected is not None and expected[0] != expected[1]:
            raise OnnxError(
                f"{what} of shape {list(t.dims)} needs {expected[0]} {expected[2]}, the file has "
                f"{expected[1]}"
            )


# The field that holds elements of each type, and how many entries an element takes in it. Those of
# under a byte, two to an entry in int32_data, are measured when they are read.
_FIELDS = {
    1: ("float_data", 1),
    2: ("int32_data", 1),
    3: ("int32_data", 1),
    4: ("int32_data", 1),
    5: ("int32_data", 1),
    6: ("int32_data", 1),
    7: ("int64_data", 1),
    8: ("string_data", 1),
    9: ("int32_data", 1),
    10: ("int32_data", 1),
    11: ("double_data", 1),
    12: ("uint64_data", 1),
    13: ("uint64_data", 1),
    14: ("float_data", 2),
    15: ("double_data", 2),
    16: ("int32_data", 1),
}
_WIDTHS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8}
_WIDTHS |= {14: 8, 15: 16, 16: 2}


def stored_elements(t: onnx.TensorProto) -> tuple[int, int, str] | None:
    """How many bytes or elements a tensor needs, and how many it has; None where that is open."""
    count = math.prod(t.dims)
    if t.HasField("raw_data"):
        width = _WIDTHS.get(t.data_type)
        return (count * width, len(t.raw_data), "bytes") if width is not None else None
    if t.data_type not in _FIELDS:
        return None
    field, entries = _FIELDS[t.data_type]
    return count * entries, len(getattr(t, field)), f"elements in {field}"


def _check_counts(node: onnx.NodeProto, form: _Form, what: str) -> None:
    for kind, found, low, high in (
        ("operands", len(node.input), form.least, form.most),
        ("results", len(node.output), form.fewest, form.largest),
    ):
        if not low <= found <= high:
            expected = low if low == high else f"{low} to {high}"
            raise OnnxError(f"{what}: expected {expected} {kind}, got {found}")
    for i in form.needed:
        if i < len(node.input) and not node.input[i]:
            raise OnnxError(f"{what}: its operand {i} may not be left out")


def _require_text(text: Any, what: str) -> None:
    if not isinstance(text, str):  # bytes that are not UTF-8
        raise OnnxError(f"{what} is no text: {text!r}")


def _kind(number: int) -> str:
    from onnx import AttributeProto

    kinds = AttributeProto.AttributeType
    name = kinds.Name(number) if number in kinds.values() else f"of type {number}"
    return f"a list of {name.lower()}" if name.endswith("S") else f"a {name.lower()}"


# -- functions of the model ------------------------------------------------------------------------


def _check_calls(model: onnx.ModelProto, source: str) -> None:
    """Refuse functions that call themselves, or stand for too many nodes where they are called."""
    bodies = {(f.domain, f.name): f for f in model.functions}
    if len(bodies) < len(model.functions):
        raise OnnxError(f"{source}: two functions have one name")
    sizes: dict[tuple[str, str], int] = {}
    open_calls: dict[tuple[str, str], None] = {}

    def size(key: tuple[str, str]) -> int:
        if key in open_calls:
            names = " -> ".join(name for _, name in (*open_calls, key))
            raise OnnxError(f"{source}: a function calls itself: {names}")
        if key not in sizes:
            if len(open_calls) >= _MAX_DEPTH:
                raise OnnxError(f"{source}: functions call each other over {_MAX_DEPTH} deep")
            open_calls[key] = None
            sizes[key] = expanded(bodies[key].node)
            del open_calls[key]
        return sizes[key]

    def expanded(nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in nodes:
            key = node.domain, node.op_type
            total += size(key) if key in bodies else 1
            for a in node.attribute:
                for graph in (*([a.g] if a.HasField("g") else ()), *a.graphs):
                    total += expanded(graph.node)
        if total > _MAX_EXPANDED:
            raise OnnxError(f"{source}: its functions stand for over {_MAX_EXPANDED} nodes")
        return total

    for key in bodies:
        size(key)
    expanded(model.graph.node)
