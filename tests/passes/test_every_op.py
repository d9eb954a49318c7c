"""Every op, through the whole pipeline: its operands fed, its operands constant, its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dualgraph_compiler import Graph, gradients
from dualgraph_compiler.compile import optimize
from dualgraph_compiler.graph import interpret
from dualgraph_compiler.passes.group_pointwise import group_pointwise
from dualgraph_compiler.types import type_of
from tests.op_samples import TOLERANCE, OpSamples, Sample, all_samples

from .helpers import assert_same_results
from .test_group_pointwise import check_grouping

RECORDS = all_samples()
each_op = pytest.mark.parametrize("record", RECORDS.values(), ids=list(RECORDS))


def build(sample: Sample, *, constant: bool = False) -> Graph:
    """A graph of the one op, its operands fed or constant."""
    graph = Graph(sample.op.name)
    if constant:
        operands = [graph.constant(x.copy()) for x in sample.inputs]
    else:
        operands = [graph.add_input(type_of(x), f"x{i}") for i, x in enumerate(sample.inputs)]
    results = graph.add_node(sample.op, operands).outputs
    graph.set_outputs(results, [f"y{i}" for i in range(len(results))])
    return graph


def assert_close(before: Graph, after: Graph, inputs: Any, slack: float) -> None:
    assert [v.type for v in before.outputs] == [v.type for v in after.outputs]
    for a, b in zip(interpret(before, inputs), interpret(after, inputs), strict=True):
        tol = slack * TOLERANCE.get(a.dtype, 0.0)
        wide = np.complex128 if a.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(b.astype(wide), a.astype(wide), rtol=tol, atol=tol)


@each_op
def test_operands_fed(record: OpSamples) -> None:
    for sample in record.samples:
        graph = build(sample)
        strict = optimize(graph, numerics="strict", verify=True)
        if not sample.op.is_pure:  # it gives something else at every run
            continue
        assert_same_results(graph, strict, sample.inputs)
        if record.check is None:  # random draws differ by decomposition
            assert_close(graph, optimize(graph, verify=True), sample.inputs, slack=2)
            lowered = optimize(graph, decompose=True, verify=True)
            assert_close(graph, lowered, sample.inputs, slack=40)
            check_grouping(group_pointwise(lowered))


@each_op
def test_operands_constant(record: OpSamples) -> None:
    for sample in record.samples:
        graph = build(sample, constant=True)
        strict = optimize(graph, numerics="strict", verify=True)
        if sample.op.is_pure:
            assert_same_results(graph, strict, [])


@each_op
def test_gradients(record: OpSamples) -> None:
    for sample in record.samples:
        if not sample.grad:
            continue
        graph = build(sample)
        ys = [v for v in graph.outputs if v.dtype.is_differentiable]
        found = gradients(graph, ys, [v for v in graph.inputs if v.dtype.is_differentiable])
        values = [*graph.outputs, *(g for g in found if g is not None)]
        graph.set_outputs(values, [f"y{i}" for i in range(len(values))])
        small = optimize(graph, verify=True)
        assert len(small) <= len(graph)
        assert_close(graph, small, sample.inputs, slack=10)
        check_grouping(group_pointwise(small))
