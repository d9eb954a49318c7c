"""ONNX models made smaller node by node, where a model is no single graph.

What needs no import of the whole: constants are computed, equal nodes merged, copies and nodes that
nobody reads left out. Nested graphs stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DualGraphError
from ..graph import interpret
from .importer import import_model
from .lift import operator_name
from .load import ModelFile
from .rewriting import with_weights
from .save import without_initializers
from .stepwise.names import nested, reads
from .stepwise.plan import DRAWS

if TYPE_CHECKING:
    import onnx

_MAX_BYTES = 1 << 20  # of a folded value, unless it replaces operands that take as much


def cleaned(file: ModelFile) -> onnx.ModelProto:
    """A copy of the model, with all of its data inside, that computes the same with fewer nodes."""
    model = with_weights(file)
    model = _folded(file, model)
    nodes = _merged(model)
    nodes = _live(nodes, [o.name for o in model.graph.output])
    wanted = {name for node in nodes for name in reads(node)}
    wanted.update(o.name for o in model.graph.output)
    out = without_initializers(model)
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    out.graph.initializer.extend(t for t in model.graph.initializer if t.name in wanted)
    return out


# -- constants ------------------------------------------------------------------------------------


def _folded(file: ModelFile, model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with initializers for the results of nodes that depend on initializers only."""
    from onnx import numpy_helper

    inputs = {i.name for i in model.graph.input}
    known = {t.name: t.ByteSize() for t in model.graph.initializer if t.name not in inputs}
    constant: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if not nested(node) and operator_name(node) not in DRAWS and known.keys() >= {*reads(node)}:
            constant.append(node)
            known.update(dict.fromkeys(filter(None, node.output), 0))
    values = _computed(file, model, constant)
    folded: set[int] = set()
    for node in constant:
        found = [values.get(name) for name in node.output if name]
        limit = max(_MAX_BYTES, sum(known[name] for name in node.input if name))
        if any(y is None or y.nbytes > limit for y in found):
            continue
        folded.add(id(node))
        for name, y in zip(filter(None, node.output), found, strict=True):
            assert y is not None
            model.graph.initializer.append(numpy_helper.from_array(y, name))
            known[name] = y.nbytes
    rest = [node for node in model.graph.node if id(node) not in folded]
    del model.graph.node[:]
    model.graph.node.extend(rest)
    return model


def _computed(
    file: ModelFile, model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]
) -> Mapping[str, np.ndarray]:
    """What these nodes give, by name; nothing if they are no graph of tensors."""
    import onnx

    names = [name for node in nodes for name in node.output if name]
    if not names:
        return {}
    part = onnx.ModelProto()
    part.CopyFrom(without_initializers(model))
    graph = part.graph
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(model.graph.initializer)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        values = interpret(import_model(file.with_proto(part)), [])
    except DualGraphError:
        return {}
    return {name: np.asarray(y) for name, y in zip(names, values, strict=True)}


# -- nodes ----------------------------------------------------------------------------------------


def _merged(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes without copies of values, and with one of those that compute the same."""
    import onnx

    public = {o.name for o in model.graph.output}
    for node in model.graph.node:
        if nested(node):  # whose graphs go on reading what they read
            public.update(reads(node))
    instead: dict[str, str] = {}
    first: dict[bytes, onnx.NodeProto] = {}
    kept: list[onnx.NodeProto] = []
    for old in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(old)
        for i, name in enumerate(node.input):
            node.input[i] = instead.get(name, name)
        mine = public.isdisjoint(node.output)
        if node.op_type == "Identity" and mine and node.domain in ("", "ai.onnx"):
            instead[node.output[0]] = node.input[0]
            continue
        if mine and operator_name(node) not in DRAWS:
            same = first.setdefault(_key(node), node)
            if same is not node and _names_all(same, node):
                instead.update(zip(node.output, same.output, strict=False))
                continue
        kept.append(node)
    return kept


def _key(node: onnx.NodeProto) -> bytes:
    """The same for nodes that compute the same."""
    import onnx

    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    bare.ClearField("name")
    bare.ClearField("doc_string")
    del bare.output[:], bare.attribute[:]
    bare.attribute.extend(sorted(node.attribute, key=lambda a: a.name))
    return bytes(bare.SerializeToString(deterministic=True))


def _names_all(first: onnx.NodeProto, second: onnx.NodeProto) -> bool:
    """Whether `first` has a name for every result that `second` has one for."""
    given = [bool(name) for name in first.output]
    return all(i < len(given) and given[i] for i, name in enumerate(second.output) if name)


def _live(nodes: Sequence[onnx.NodeProto], results: Sequence[str]) -> list[onnx.NodeProto]:
    """Those nodes that a result depends on."""
    wanted = set(results)
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(reads(node))
    return kept[::-1]
