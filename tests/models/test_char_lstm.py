"""The character LSTM on ragged batches: compiled once for all lengths."""

from __future__ import annotations

from typing import Any

import numpy as np

import dualgraph as dg
from dualgraph import optim
from dualgraph_models import char_lstm
from dualgraph_models.datasets import load_lines
from tests.models.agreement import Run, agree, same_training

TEXTS = ["the quick brown fox", "jumps", "over the lazy", "dog and", "away", "it ran, it ran"]


def small(dropout: float = 0.2) -> char_lstm.CharLSTM:
    return char_lstm.CharLSTM(embedding_dim=8, hidden_size=16, dropout=dropout)


def build() -> Run:
    model = small()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    return Run(model, optimizer, char_lstm.training_step(model, optimizer))


def test_one_graph_trains_on_every_length() -> None:
    data = list(char_lstm.batches(TEXTS, 3, 25))
    assert len({tokens.shape for tokens, _ in data}) > 3
    step, losses = same_training(build, data, dynamic_shapes=char_lstm.DYNAMIC)
    assert len(step.graphs) == 1
    assert losses[-1] < 0.8 * losses[0]


def test_lengths_that_vary_are_found_out() -> None:
    """Nothing declared: a second length makes the length a symbol, and a second graph the last."""
    step, _ = same_training(build, char_lstm.batches(TEXTS, 3, 25), fullgraph=True)
    assert len(step.graphs) == 2


def test_batches_of_other_sizes_share_the_graph() -> None:
    data = [*char_lstm.batches(TEXTS, 2, 10), *char_lstm.batches(TEXTS, 5, 10)]
    step, _ = same_training(build, data, dynamic_shapes=char_lstm.DYNAMIC)
    assert len(step.graphs) == 1


def test_exported_for_any_batch_and_length(tmp_path: Any) -> None:
    model = small().eval()
    path = tmp_path / "char_lstm.onnx"
    dg.onnx.export(model, char_lstm.encode(TEXTS), path, dynamic_shapes=char_lstm.DYNAMIC)
    fast = dg.compile(model, dynamic_shapes=char_lstm.DYNAMIC)
    for texts in (TEXTS, TEXTS[1:3], ["a longer line than any before it", "ab"]):
        inputs = char_lstm.encode(texts)
        with dg.no_grad():
            wanted = model(*inputs)
            np.testing.assert_allclose(fast(*inputs).numpy(), wanted.numpy(), rtol=1e-5, atol=1e-6)
        agree(path, inputs, wanted)
    assert len(fast.graphs) == 1


def test_generates_what_it_learned() -> None:
    dg.manual_seed(0)
    model = char_lstm.CharLSTM(hidden_size=32, dropout=0.0)
    step = char_lstm.training_step(model, optim.Adam(model.parameters(), lr=0.02))
    step = dg.compile(step, dynamic_shapes=char_lstm.DYNAMIC)
    for batch in char_lstm.batches(["abcabcabc", "xyzxyz"], 4, 60):
        step(*batch)
    assert char_lstm.generate(model.eval(), "ab", temperature=0.1).startswith("abcabc")
    assert char_lstm.generate(model, "xy", limit=5, temperature=0.1) == "xyzxy"


def test_the_text() -> None:
    lines = load_lines(20, 70)
    assert len(lines) > 3000
    assert all(20 <= len(line) <= 70 and line.isascii() for line in lines)
