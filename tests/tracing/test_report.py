"""compiled.report(): what was captured, specialised, baked in, guarded, and what runs eagerly."""

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph.tracing.failure import EagerFallbackWarning
from dualgraph_compiler.ops.base import _init_at_first


def test_report_of_nothing():
    compiled = dg.compile(lambda x: x)
    assert str(compiled.report()) == "compiled test_report_of_nothing.<locals>.<lambda>: " + (
        "0 graphs, 0 calls"
    )


def test_calls_inputs_and_results_of_a_graph():
    compiled = dg.compile(lambda x, y: (x + y, x.sum()))
    for _ in range(3):
        compiled(dg.ones(2, 3), dg.ones(3))
    (graph,) = compiled.report().graphs
    assert graph.calls == 3
    assert graph.why == "the first call of its kind"
    assert graph.inputs == ("x: f32[2, 3]", "y: f32[3]")
    assert graph.results == ("output0: f32[2, 3]", "output1: f32[]")
    assert graph.nodes == "2 (add, sum)"
    assert graph.seconds > 0


def test_a_size_that_varies_and_the_numbers_of_arguments():
    compiled = dg.compile(lambda x, k: x * k)
    compiled(dg.ones(2, 3), 2.0)
    compiled(dg.ones(4, 3), 2.0)
    compiled(dg.ones(5, 3), 2.0)
    compiled(dg.ones(5, 3), 3.0)
    first, second, third = compiled.report().graphs
    assert first.specialised == ("k = 2.0",)
    assert first.symbolic == ()
    assert second.why == "argument x dim 0: 2, then 4"
    assert second.calls == 2
    assert second.symbolic == ("s_x_0: x dim 0",)
    assert third.why == "argument k: 2.0, then 3.0"
    assert third.specialised == ("k = 3.0",)


def test_comparisons_of_sizes():
    def f(x):
        return x + 1 if x.shape[0] > 3 else x

    compiled = dg.compile(f, dynamic=True)
    compiled(dg.ones(5))
    (graph,) = compiled.report().graphs
    assert graph.specialised == ("sizes with s_x_0 > 3",)


def test_constants_and_their_lines():
    table = np.arange(3, dtype=np.float32)

    def f(x):
        return x * 2 + dg.tensor(table)

    compiled = dg.compile(f)
    compiled(dg.ones(3))
    (graph,) = compiled.report().graphs
    line = f.__code__.co_firstlineno + 1
    assert graph.constants == (f"f32[3], 12 bytes  # test_report.py:{line}", "1 number")
    assert any("table is an array float32 [3]" in g for g in graph.guarded)


def test_what_is_guarded_and_why_it_was_traced_again():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = 2.0

        def forward(self, x):
            return x * self.scale

    model = Scale()
    compiled = dg.compile(model)
    compiled(dg.ones(2))
    model.scale = 3.0
    compiled(dg.ones(2))
    first, second = compiled.report().graphs
    assert any(g.endswith("scale is 2.0") for g in first.guarded)
    assert "scale: 2.0, then 3.0" in second.why


def test_a_training_step():
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @dg.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(4):
        step(dg.randn(5, 4), dg.zeros(5, dtype=dg.int64))
    report = step.report()
    graph = report.graphs[-1]
    assert {"0.weight", "0.bias", "random_offset"} <= set(graph.written)
    assert "gradient of 0.weight" in graph.written
    assert "lr" in graph.replayed
    assert any(g.endswith(".p is 0.5") for g in graph.guarded)
    assert sum(g.calls for g in report.graphs) == 4


def test_branches_that_became_part_of_the_graph():
    def f(x):
        if x.sum() > 0:
            x = x * 2
        return x

    compiled = dg.compile(f)
    compiled(dg.ones(2))
    (graph,) = compiled.report().graphs
    line = f.__code__.co_firstlineno + 1
    assert graph.branches == (f"`x.sum() > 0` decides in the graph  # test_report.py:{line}",)


def test_what_runs_eagerly():
    def f(x):
        return x.numpy().sum()

    compiled = dg.compile(f)
    with pytest.warns(EagerFallbackWarning):
        compiled(dg.ones(2))
    compiled(dg.ones(2))
    report = compiled.report()
    assert not report.graphs
    (fallback,) = report.fallbacks
    assert fallback.calls == 2
    assert "x.numpy()" in fallback.why
    assert f"runs eagerly, 2 calls: {fallback.why}" in str(report)


def test_what_was_traced_too_often():
    compiled = dg.compile(lambda x, k: x * k, recompile_limit=2)
    for k in (1.0, 2.0):
        compiled(dg.ones(2), k)
    with pytest.warns(EagerFallbackWarning, match="traced 2 times"):
        compiled(dg.ones(2), 3.0)
    (limit,) = compiled.report().limits
    assert "argument k: 1.0, 2.0, 3.0" in limit


def test_building_an_op_for_the_first_time_is_not_guarded(monkeypatch):
    """Code that builds an op is generated then, perhaps while a user's function is traced."""
    x = dg.ones(2, 3)
    (node,) = dg.trace(lambda x: x.amax(0), x).nodes
    monkeypatch.setattr(type(node.op), "__init__", _init_at_first)

    @dg.compile
    def largest(x):
        return x.amax(0)

    largest(x)
    assert not largest.report().graphs[0].guarded
