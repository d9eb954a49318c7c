"""Classifiers whose labels are strings, as classifiers of numbers and an encoder behind them.

So that what computes is a graph, and only the names of its answers are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_DOMAIN = "ai.onnx.ml"
# What each names the attribute of labels that are numbers.
_NUMBERS = {
    "TreeEnsembleClassifier": "classlabels_int64s",
    "LinearClassifier": "classlabels_ints",
    "SVMClassifier": "classlabels_ints",
}


def number_labels(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which no classifier has labels that are strings."""
    if not _has_names(model.graph):
        return model
    out: onnx.ModelProto = type(model).FromString(model.SerializeToString())
    _rewrite(out.graph)
    return out


def _is_named(node: onnx.NodeProto) -> bool:
    if node.domain != _DOMAIN or node.op_type not in _NUMBERS or not node.output:
        return False
    return any(a.name == "classlabels_strings" and a.strings for a in node.attribute)


def _has_names(graph: onnx.GraphProto) -> bool:
    return any(
        _is_named(node) or any(_has_names(a.g) for a in node.attribute if a.HasField("g"))
        for node in graph.node
    )


def _rewrite(graph: onnx.GraphProto) -> None:
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rewrite(attribute.g)
        nodes.append(node)
        if _is_named(node):
            nodes += _numbered(node)
    kept = [type(n).FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def _numbered(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Give `node` numbers for labels; what names them again, if anything reads the labels."""
    from onnx import helper

    index = [a.name for a in node.attribute].index("classlabels_strings")
    names = list(node.attribute[index].strings)
    numbers = list(range(len(names))) if len(names) > 1 else [1]
    del node.attribute[index]
    node.attribute.append(helper.make_attribute(_NUMBERS[node.op_type], numbers))
    output = node.output[0]
    if not output:
        return []
    node.output[0] = f"{output}/number"
    encoder = helper.make_node(
        "LabelEncoder",
        [node.output[0]],
        [output],
        name=f"{output}/label",
        domain=_DOMAIN,
        keys_int64s=numbers,
        values_strings=names,
        default_string="",
    )
    return [encoder]
