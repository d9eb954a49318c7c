"""The small GPT: whole training steps in one graph, dynamic export, generation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest

import dualgraph as dg
from dualgraph_models import gpt
from dualgraph_models.datasets import load_text
from tests.models.agreement import Run, agree, same_training

STEPS = 24


def small(dropout: float = 0.1) -> gpt.GPT:
    return gpt.GPT(gpt.Config(context=16, layers=2, heads=2, width=16, dropout=dropout))


def data(count: int = STEPS) -> list[tuple[dg.Tensor]]:
    return [(tokens,) for tokens in gpt.batches(gpt.encode(load_text()), 4, 17, count, seed=0)]


def build(dropout: float = 0.1) -> Run:
    model = small(dropout)
    optimizer = gpt.optimizer_for(model, rate=1e-2)
    schedule = gpt.schedule_for(optimizer, STEPS, warmup=4)
    return Run(model, optimizer, gpt.training_step(model, optimizer, schedule))


def test_whole_steps_are_those_of_eager_code() -> None:
    step, losses = same_training(build, data())
    assert len(step.graphs) == 1
    assert losses[0] == pytest.approx(math.log(128), rel=0.05)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.interpreted
def test_one_graph_for_every_length() -> None:
    cut = [(tokens[: 2 + i % 3, : 5 + i % 12].contiguous(),) for i, (tokens,) in enumerate(data())]
    shapes = {"tokens": {0: "batch", 1: "length"}}
    step, _ = same_training(build, cut, dynamic_shapes=shapes)
    assert len(step.graphs) == 1


def test_rate_and_decay() -> None:
    run = build()
    matrices, rest = run.optimizer.param_groups
    assert (matrices["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in matrices["params"]} == {2}
    assert {p.ndim for p in rest["params"]} == {1}
    step, rates = dg.compile(run.step), []
    for (tokens,) in data():
        rates.append(matrices["lr"])
        step(tokens)
    np.testing.assert_allclose(rates[:5], [2.5e-3, 4.375e-3, 6.25e-3, 8.125e-3, 1e-2])
    cosine = [1e-3 + 9e-3 * (1 + math.cos(math.pi * i / 20)) / 2 for i in range(20)]
    np.testing.assert_allclose(rates[4:], cosine)


def test_the_embedding_is_the_head() -> None:
    model = small().eval()
    assert model.head.weight is model.tokens.weight
    assert len(list(model.parameters())) == len(model.state_dict()) - 1
    ((tokens,),) = data(1)
    gpt.loss_of(model, tokens).backward()
    both = model.tokens.weight.grad.numpy().copy()
    model.head.weight = dg.nn.Parameter(model.tokens.weight.detach().clone())
    model.tokens.weight.grad = None
    gpt.loss_of(model, tokens).backward()
    parts = [layer.weight.grad.numpy() for layer in (model.tokens, model.head)]
    np.testing.assert_allclose(both, parts[0] + parts[1], rtol=1e-5, atol=1e-8)
    assert all(np.abs(p).max() > 1e-4 for p in parts)


def test_no_position_sees_a_later_one() -> None:
    model = small().eval()
    (tokens,) = gpt.example_inputs(1, 10)
    changed = tokens.clone()
    changed[:, 6:] = 5
    one, other = model(tokens).detach().numpy(), model(changed).detach().numpy()
    np.testing.assert_array_equal(one[:, :6], other[:, :6])
    assert (one[:, 6:] != other[:, 6:]).any(-1).all()


def test_exported_for_any_batch_and_length(tmp_path: Any) -> None:
    model = small().eval()
    path = tmp_path / "gpt.onnx"
    dg.onnx.export(model, gpt.example_inputs(2, 8), path, dynamic_shapes=gpt.DYNAMIC)
    fast = dg.compile(model, dynamic_shapes=gpt.DYNAMIC)
    for batch, length in [(2, 8), (1, 1), (3, 16), (2, 2)]:
        inputs = gpt.example_inputs(batch, length)
        with dg.no_grad():
            wanted = model(*inputs)
            np.testing.assert_allclose(fast(*inputs).numpy(), wanted.numpy(), rtol=1e-5, atol=1e-6)
        agree(path, inputs, wanted)
    assert len(fast.graphs) == 1
    stored = [i for i in onnx.load(path).graph.initializer if tuple(i.dims) == (128, 16)]
    assert len(stored) == 1  # the tied matrix, once


def test_generation() -> None:
    model = small().eval()
    fast = dg.compile(model, dynamic_shapes=gpt.DYNAMIC)
    begin = gpt.encode("Hello").unsqueeze(0).expand(3, 5)

    def text(m: Any, **how: Any) -> list[str]:
        dg.manual_seed(3)
        return [gpt.decode(row) for row in gpt.generate(m, begin, 30, **how)]

    eager = text(model)
    assert eager == text(fast)
    assert all(len(t) == 35 and t.startswith("Hello") for t in eager)
    assert len(set(eager)) == 3
    greedy = text(model, top_k=1)
    assert len(set(greedy)) == 1
    tokens = gpt.encode(greedy[0]).unsqueeze(0)
    assert model(tokens[:, -17:-1])[0, -1].argmax().item() == tokens[0, -1].item()


@pytest.mark.parametrize("compiled", [False, True])
def test_greedy_decoding_with_a_past_is_that_without(compiled: bool) -> None:
    dg.manual_seed(0)
    model = small().eval()
    start = dg.tensor([[1, 2, 3], [7, 5, 6]])
    scores = dg.compile(model.next, fullgraph=True) if compiled else None
    tokens = gpt.greedy(model, start, 8, scores)
    assert tokens.shape == (2, 11)
    with dg.no_grad():
        wanted = model(tokens[:, :-1]).argmax(-1)
    np.testing.assert_array_equal(tokens[:, 3:].numpy(), wanted[:, 2:].numpy())
    if compiled:  # without a past, and with one of any length
        assert len(scores.graphs) == 2
