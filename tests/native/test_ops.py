"""Every sample of every op, compiled, against the op's independent reference.

The samples of an op are compiled as one graph, each a part of its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dualgraph_compiler.dims import Dim
from dualgraph_compiler.dtypes import dtype_of
from dualgraph_compiler.errors import ShapeError
from dualgraph_compiler.graph import Graph
from dualgraph_compiler.native import Interpreted, build
from dualgraph_compiler.types import TensorType, type_of
from dualgraph_runtime.native import Compiler, compile_graph, find_compiler

from ..op_samples import OpSamples, Sample
from ..test_ops import as_tuple, check_result, each_op, naming
from .interpreted import INTERPRETED

pytestmark = pytest.mark.compiler

# How much wider than an eager kernel's the tolerance is: sums are in another order, and functions
# of float32 are polynomials.
SLACK = 4.0


def quick_compiler() -> Compiler:
    """The compiler, told to optimise little: this is a lot of text that runs once."""
    compiler = find_compiler()
    assert compiler is not None
    flags = tuple("-O1" if flag == "-O2" else flag for flag in compiler.flags)
    return dataclasses.replace(compiler, flags=flags)


def together(samples: list[Sample], symbolic: bool) -> tuple[Graph, list[Any], list[int]]:
    """One graph of all samples, its operands, and the samples that can be in it."""
    graph = Graph("samples")
    arrays: list[Any] = []
    outputs: list[Any] = []
    taken: list[int] = []
    for i, sample in enumerate(samples):
        types = [type_of(x) for x in sample.inputs]
        if symbolic:
            types = _symbolic(types, i)
        inputs = [graph.add_input(t, f"x{i}_{j}") for j, t in enumerate(types)]
        try:
            made = as_tuple(graph.call(sample.op, inputs))
        except (ShapeError, NotImplementedError):
            if not symbolic:
                raise
            for v in inputs:
                graph.inputs.remove(v)
            continue
        taken.append(i)
        arrays += sample.inputs
        outputs += made
    graph.set_outputs(outputs)
    return graph, arrays, taken


def _symbolic(types: list[TensorType], number: int) -> list[TensorType]:
    """Sizes above 1 become symbols, equal sizes of a sample the same one."""
    return [
        t.with_shape(
            d if isinstance(d, Dim) or d < 2 else Dim(f"s{number}_{d}", min=1) for d in t.shape
        )
        for t in types
    ]


def run(record: OpSamples, graph: Graph, arrays: list[Any], taken: list[int]) -> None:
    """Run the graph and check every sample's part of the outputs."""
    found = compile_graph(graph, quick_compiler()).run(arrays)
    for v, y in zip(graph.outputs, found, strict=True):
        assert dtype_of(y) is v.dtype
        assert y.flags.c_contiguous
    at = 0
    for i in taken:
        count = record.samples[i].op.n_outputs
        with naming(record.samples[i]):
            check_result(record, i, found[at : at + count], SLACK)
        at += count


@each_op
def test_compiled(record: OpSamples) -> None:
    graph, arrays, taken = together(list(record.samples), symbolic=False)
    before = [x.tobytes() for x in arrays]
    run(record, graph, arrays, taken)
    assert [x.tobytes() for x in arrays] == before, "an operand was changed"


@each_op
def test_compiled_for_any_size(record: OpSamples) -> None:
    graph, arrays, taken = together(list(record.samples), symbolic=True)
    if not taken:
        pytest.skip("sizes that this op cannot have as symbols")
    run(record, graph, arrays, taken)


@each_op
def test_what_is_interpreted(record: OpSamples) -> None:
    """Everything is compiled but what the table lists, and a report gives each reason."""
    graph, _, _ = together(list(record.samples), symbolic=False)
    program = build(graph)
    left = [s for s in program.steps if isinstance(s, Interpreted)]
    assert {(s.op.name, s.reason) for s in left} == INTERPRETED.get(record.op.name, set())
    report = program.report().splitlines()
    assert all(f"  {s.text}: {s.reason}" in report for s in left)
