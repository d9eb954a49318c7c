"""Brings a model to the one opset that import rules are written for.

Models are converted only where some operator they use really changed since their opset: most new
versions of an operator only admit more element types, and conversion costs time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import OnnxError
from ..ops.onnx_rules import IMPORT_OPSET
from .definitions import has_definition, inline_definitions
from .labels import number_labels
from .legacy import (
    FIRST_MODERN_OPSET,
    align_broadcasts,
    keep_types,
    mark_operators,
)
from .load import ModelFile
from .nchwc import state_blocks
from .save import without_initializers
from .wellformed import check_model

if TYPE_CHECKING:
    import onnx

# Operators whose meaning changed although their signature did not, and since when it is today's.
_CHANGED = {"PRelu": 7, "GroupNormalization": 21, "RoiAlign": 16, "Split": 18}
_LARGE = 256  # elements: initializers from here on are kept out of conversion
_MAX_ROUNDS = 8  # inlining a function may bring operators that are functions themselves


def prepare(file: ModelFile, has_rule: Callable[[str], bool]) -> onnx.ModelProto:
    """A model of operators that have import rules at `IMPORT_OPSET`, as far as that can be had.

    Functions of the model itself are inlined, operators without a rule replaced by their definition
    in terms of others where ONNX gives one, and old operators converted. Large initializers of
    `file` may be missing from the result, which lists them as inputs instead.
    """
    model = file.proto
    check_model(file)
    if model.functions:
        model = _inline_local(model, file.source)
    marked = mark_operators(model)
    if marked is not model:
        keep_types(marked, skeleton(model, file))
    model = state_blocks(number_labels(marked))
    for _ in range(_MAX_ROUNDS):
        if _is_outdated(model):
            model = _convert(model, file)
        missing = {op for op in operators(model) if not has_rule(op)}
        expandable = sorted(op for op in missing if has_definition(op, model))
        if not expandable:
            break
        model = inline_definitions(skeleton(model, file), expandable, all_nodes, file.source)
    return model


def operators(model: onnx.ModelProto) -> Iterator[str]:
    """The operator of every node, subgraphs included: "Relu", "com.microsoft::Gelu"."""
    return (operator_name(node) for node in all_nodes(model.graph))


def operator_name(node: onnx.NodeProto) -> str:
    """A node's operator as rules name it."""
    if node.domain in ("", "ai.onnx"):
        return node.op_type
    return f"{node.domain}::{node.op_type}"


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operator set that a model uses."""
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return versions[0] if versions else IMPORT_OPSET


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of those nested in it."""
    return with_nested(graph.node)


def with_nested(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These nodes and those of graphs nested in them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)
            for inner in attribute.graphs:
                yield from all_nodes(inner)


# -- old operators -------------------------------------------------------------------------------


def _target() -> int:
    import onnx

    return min(IMPORT_OPSET, onnx.defs.onnx_opset_version())


def _is_outdated(model: onnx.ModelProto) -> bool:
    version = opset_of(model)
    if version >= _target():
        return False
    return any(
        _changed(node.op_type, version, len([o for o in node.output if o]))
        for node in all_nodes(model.graph)
        if node.domain in ("", "ai.onnx")
    )


@functools.cache
def _changed(op_type: str, version: int, outputs: int) -> bool:
    """Whether a node of this operator at opset `version` reads differently today."""
    from onnx import defs

    try:
        old = defs.get_schema(op_type, version, "")
        new = defs.get_schema(op_type, _target(), "")
    except defs.SchemaError:
        return False  # unknown: reported with the other unsupported operators
    if new.deprecated:
        return True
    if old.since_version == new.since_version:
        return False
    return old.since_version < _CHANGED.get(op_type, 0) or not _reads_the_same(old, new, outputs)


def _reads_the_same(old: Any, new: Any, outputs: int) -> bool:
    """Whether every node valid under `old` is valid under `new` with the same defaults."""
    from onnx.defs import OpSchema

    option = OpSchema.FormalParameterOption
    if len(new.inputs) < len(old.inputs) or len(new.outputs) < outputs:
        return False
    for i, parameter in enumerate(new.inputs):
        before = old.inputs[i].option if i < len(old.inputs) else option.Optional
        if parameter.option not in (before, option.Optional):
            return False
    for name, attribute in old.attributes.items():
        now = new.attributes.get(name)
        if (
            now is None
            or now.type != attribute.type
            or now.default_value != attribute.default_value
        ):
            return False
    return not any(a.required and n not in old.attributes for n, a in new.attributes.items())


def _convert(model: onnx.ModelProto, file: ModelFile) -> onnx.ModelProto:
    from onnx import version_converter

    old = skeleton(model, file)
    if opset_of(old) < FIRST_MODERN_OPSET:
        align_broadcasts(old, file.source)
    try:
        return version_converter.convert_version(old, _target())
    except Exception as error:  # the converter has exceptions of its own
        raise OnnxError(
            f"{file.source}: cannot be brought from opset {opset_of(model)} to {_target()}: {error}"
        ) from error


# -- functions -----------------------------------------------------------------------------------


def _inline_local(model: onnx.ModelProto, source: str) -> onnx.ModelProto:
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model, convert_version=True)
    except Exception as error:  # the inliner has exceptions of its own
        raise OnnxError(f"{source}: its functions cannot be inlined: {error}") from error


# -- initializers --------------------------------------------------------------------------------


def skeleton(model: onnx.ModelProto, file: ModelFile) -> onnx.ModelProto:
    """A copy of `model` without large initializers and external data; all are listed as inputs."""
    from onnx import TensorProto, helper, numpy_helper

    out = without_initializers(model)
    declared = {i.name for i in out.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in declared:  # the inliner looks up types among the inputs only
            out.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
        if math.prod(tensor.dims) >= _LARGE:
            continue
        if tensor.data_location == TensorProto.EXTERNAL or file.is_replaced(tensor):
            array = file.initializer(tensor)
            out.graph.initializer.append(numpy_helper.from_array(array, tensor.name))
        else:
            out.graph.initializer.append(tensor)
    return out
