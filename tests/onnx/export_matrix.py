"""Every op of the framework at every opset it can be exported at: which forms there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnx

from dualgraph_compiler.errors import OnnxError
from dualgraph_compiler.graph import Graph
from dualgraph_compiler.onnx import export_graph
from dualgraph_compiler.types import TensorType, type_of
from tests.op_samples import OpSamples, Sample

OPSETS = range(13, 29)


@dataclass
class Form:
    """A sample's model at one opset, which stands for later ones that write the same nodes."""

    index: int
    sample: Sample
    opset: int
    model: onnx.ModelProto

    def __str__(self) -> str:
        return f"{self.sample} at opset {self.opset}"


def exported(record: OpSamples, index: int) -> bool:
    """Whether a sample is one that ONNX can hold."""
    sample = record.samples[index]
    return record.onnx is True and sample.onnx is True and not _is_complex(sample)


def chosen(record: OpSamples, full: bool) -> list[int]:
    """The samples to write: all of them, or the first that is small, but not empty."""
    every = [i for i in range(len(record.samples)) if exported(record, i)]
    small = [i for i in every if 0 < _elements(record.samples[i]) <= 256]
    return every if full else (small or every)[:1]


def graph_of(sample: Sample) -> Graph:
    """A graph of the one op."""
    graph = Graph(sample.op.name)
    inputs = [graph.add_input(type_of(x), f"x{i}") for i, x in enumerate(sample.inputs)]
    found = graph.call(sample.op, inputs)
    graph.set_outputs(found if isinstance(found, tuple) else (found,))
    return graph


def forms(record: OpSamples, full: bool = False) -> Iterator[Form]:
    """The models of a record that really differ: in their nodes, or what these mean.

    Raises:
        OnnxError: one cannot be written, other than for the reason that it needs a later opset.
    """
    for index in chosen(record, full):
        sample = record.samples[index]
        graph, seen = graph_of(sample), set()
        for opset in OPSETS:
            try:
                model = export_graph(graph, opset=opset)
            except OnnxError as error:
                if needed_opset(error) > opset:
                    continue
                raise
            key = tuple(_meaning(node, opset) for node in model.graph.node)
            if key not in seen:
                seen.add(key)
                yield Form(index, sample, opset, model)


def needed_opset(error: OnnxError) -> int:
    """The opset that an error asks for; 0 if it asks for none."""
    _, found, rest = str(error).partition("needs opset ")
    return int(rest.split()[0].rstrip(",;")) if found else 0


def _results(sample: Sample) -> tuple[TensorType, ...]:
    found = sample.op.infer(*map(type_of, sample.inputs))
    return found if isinstance(found, tuple) else (found,)


def _is_complex(sample: Sample) -> bool:
    return any(t.dtype.is_complex for t in (*map(type_of, sample.inputs), *_results(sample)))


def _elements(sample: Sample) -> int:
    return int(_results(sample)[0].size)


def _meaning(node: onnx.NodeProto, opset: int) -> tuple[Any, ...]:
    """A node's operator, the version of it, and its attributes."""
    since = onnx.defs.get_schema(node.op_type, opset, node.domain).since_version
    attributes = (a.SerializeToString(deterministic=True) for a in node.attribute)
    return node.op_type, since, tuple(attributes)
