"""Rematerialisation: the peak falls, results stay, and nothing costly runs twice."""

from __future__ import annotations

import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph_compiler import Graph, gradients, parse_graph
from dualgraph_compiler.compile import optimize, optimize_with_report, pipeline
from dualgraph_compiler.graph.liveness import Lifetimes, nbytes, peak_bytes
from dualgraph_compiler.passes import PassManager, Rematerialize

from .helpers import assert_same_results, run_pass

ANY = Rematerialize(smallest=0)

LATE_READ = """\
graph g(%x: f32[64], %w: f32[64]):
  %1: f32[64] = {first}
  %2: f32[64] = exp(%1)
  %3: f32[64] = sin(%1)
  %4: f32[64] = cos(%1)
  %5: f32[64] = add(%2, %3)
  %6: f32[64] = add(%5, %4)
  %7: f32[64] = {last}
  return %7 as y"""


def test_a_cheap_value_is_made_again_where_it_is_read():
    before = parse_graph(LATE_READ.format(first="mul(%x, %w)", last="sub(%6, %1)"))
    out, changed = run_pass(ANY, before)
    assert changed
    assert [node.op.name for node in out.nodes][-3:] == ["add", "mul", "sub"]
    assert (peak_bytes(before), peak_bytes(out)) == (5 * 256, 4 * 256)
    assert_same_results(before, out)


@pytest.mark.parametrize(
    ("first", "last"), [("pow(%x, %w)", "sub(%6, %1)"), ("mul(%x, %w)", "sub(%6, %6)")]
)
def test_costly_values_and_those_not_read_later_stay(first: str, last: str):
    assert not run_pass(ANY, LATE_READ.format(first=first, last=last))[1]


def test_small_graphs_are_left_alone():
    text = LATE_READ.format(first="mul(%x, %w)", last="sub(%6, %1)")
    assert not run_pass(Rematerialize(), text)[1]


TWO_KEPT = """\
graph g(%x: f32[64], %w: f32[64]):
  %1: {dtype}[64] = {one}
  %2: f32[64] = {two}
  %3: f32[64] = exp(%2)
  %4: f32[64] = sin(%2)
  %5: f32[64] = cos(%2)
  %6: f32[64] = add(%3, %4)
  %7: f32[64] = add(%6, %5)
  %8: f32[64] = sub(%7, %2)
  return %8 as y"""


def test_what_would_keep_as_much_alive_is_not_done():
    text = TWO_KEPT.format(dtype="f32", one="exp(%x)", two="add(%1, %w)")
    assert not run_pass(ANY, text)[1]


def test_a_smaller_value_is_kept_instead():
    text = TWO_KEPT.format(dtype="bool", one="greater(%x, %w)", two="cast(%1, dtype=f32)")
    before = parse_graph(text)
    out, changed = run_pass(ANY, before)
    assert changed
    assert peak_bytes(out) < peak_bytes(before)
    assert_same_results(before, out)


def test_lifetimes_follow_views_and_results():
    graph = parse_graph("""\
graph g(%x: f32[4, 2]):
  %1: f32[4, 2] = exp(%x)
  %2: f32[8] = reshape(%1, shape=(8,))
  %3: f32[4, 2] = add(%x, %x)
  %4: f32[8] = exp(%2)
  return %4 as y, %3 as z""")
    lives = Lifetimes(graph)
    assert lives.bytes_at == [32, 32, 64, 96]
    assert (lives.peak, lives.peak_at) == (96, 3)
    assert nbytes(parse_graph("graph g(%x: f16[n, 3]):\n  return %x as y").inputs[0].type) == 192


def step_graph(model: nn.Module, x: dg.Tensor, y: dg.Tensor) -> Graph:
    opt = optim.AdamW(model.parameters(), lr=1e-3)

    @dg.compile
    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        opt.zero_grad()
        return loss

    step(x, y)
    (graph,) = step.graphs
    return graph


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        return F.leaky_relu(self.norm(self.conv(x))) * 1.5


def test_the_peak_of_a_training_step_falls_and_its_results_stay():
    model = nn.Sequential(*(Block() for _ in range(5)), nn.Flatten(), nn.Linear(8 * 256, 4))
    graph = step_graph(model, dg.randn(4, 8, 16, 16), dg.tensor([0, 1, 2, 3]))
    passes = [p for p in pipeline(numerics="strict") if not isinstance(p, Rematerialize)]
    plain = graph.copy()
    PassManager(passes).run(plain)
    out, changed = run_pass(ANY, plain)
    assert changed
    assert peak_bytes(out) < 0.85 * peak_bytes(plain)
    for name in ("conv", "batch_norm_training", "linear"):
        count = [sum(n.op.name == name for n in g.nodes) for g in (plain, out)]
        assert count[0] == count[1]
    rng = [dg.randn(4, 8, 16, 16).numpy(), dg.tensor([0, 1, 2, 3]).numpy()]
    numbers = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999}
    for g in (plain, out):
        for v in g.params:
            if v.name in numbers:
                v.data = v.data * 0 + numbers[v.name]
    assert_same_results(plain, out, rng)


def test_the_report_tells_the_peak():
    model = nn.Sequential(*(Block() for _ in range(5)), nn.Flatten(), nn.Linear(8 * 1024, 4))
    graph = step_graph(model, dg.randn(8, 8, 32, 32), dg.zeros(8, dtype=dg.int64))
    out, report = optimize_with_report(graph, numerics="strict")
    assert peak_bytes(out) < 0.85 * peak_bytes(graph)
    assert report.memory.peak_bytes <= peak_bytes(out)
    assert report.passes[-1].name == "rematerialise"
    assert report.passes[-1].changed
    assert len(optimize(graph, numerics="strict")) == len(out)


def test_forward_and_backward_share_what_they_have_in_common():
    """A gradient's rule asks for what the forward computed: it is not computed twice."""
    graph = parse_graph("""\
graph g(%x: f32[8]):
  %1: f32[8] = tanh(%x)
  %2: f32[8] = mul(%1, %1)
  %3: f32[8] = gelu(%2)
  %4: f32[8] = sigmoid(%3)
  return %4 as y""")
    found = gradients(graph, graph.outputs, graph.inputs)
    graph.set_outputs([*graph.outputs, *(g for g in found if g is not None)])
    names = [node.op.name for node in optimize(graph).nodes]
    for name in ("tanh", "gelu", "sigmoid", "erf"):
        assert names.count(name) == 1
