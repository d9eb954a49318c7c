"""The models on the device: training, decoding and streaming give what they give on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import nn, optim
from dualgraph_models import char_lstm, gpt, keyword_spotter, resnet, seq2seq, vae
from dualgraph_models.datasets import load_digits, load_text
from tests.fake_cupy import count_transfers


@pytest.fixture(autouse=True)
def in_double() -> Iterator[None]:
    before = dg.get_default_dtype()
    dg.set_default_dtype(dg.float64)
    yield
    dg.set_default_dtype(before)


def on(device: str, *tensors: dg.Tensor) -> list[dg.Tensor]:
    return [(t.double() if t.is_floating_point() else t).to(device) for t in tensors]


def gpt_step(model: Any, optimizer: Any) -> Any:
    return gpt.training_step(model, optimizer, gpt.schedule_for(optimizer, 9, warmup=2))


PACKED = {"char_lstm", "seq2seq"}  # eagerly, lengths of sequences are read to be checked
LINES = ["the quick brown fox", "jumps", "over the lazy", "dog and", "away"]
# How to make a model and its step, and batches.
CASES: dict[str, tuple[Callable[[], nn.Module], Any, Callable[[], Any]]] = {
    "char_lstm": (
        lambda: char_lstm.CharLSTM(embedding_dim=8, hidden_size=8),
        char_lstm.training_step,
        lambda: char_lstm.batches(LINES, 3, 3),
    ),
    "gpt": (
        lambda: gpt.GPT(gpt.Config(context=8, layers=2, heads=2, width=8)),
        gpt_step,
        lambda: ((x,) for x in gpt.batches(gpt.encode(load_text()), 3, 9, 3, seed=0)),
    ),
    "resnet": (
        lambda: nn.Sequential(resnet.Enlarge(), resnet.ResNet((1, 1, 1, 1), 10, width=2)),
        resnet.training_step,
        lambda: resnet.batches(*load_digits(), 4, 3),
    ),
    "vae": (
        lambda: vae.VAE(latent=2, hidden=16),
        vae.training_step,
        lambda: ((x,) for x in vae.batches(load_digits()[0], 4, 3)),
    ),
    "seq2seq": (
        lambda: seq2seq.Seq2Seq(width=8),
        seq2seq.training_step,
        lambda: seq2seq.batches([4, 14, 888], 3, 3),
    ),
    "keyword_spotter": (
        lambda: keyword_spotter.KeywordSpotter(channels=2, hidden_size=4),
        keyword_spotter.training_step,
        lambda: keyword_spotter.batches(2, 3, seconds=0.9),
    ),
}


def train(name: str, device: str, compiled: bool) -> tuple[list[Any], list[Any]]:
    make, step_of, data = CASES[name]
    dg.manual_seed(0)
    model = make().to(device)
    step = step_of(model, optim.Adam(model.parameters(), lr=1e-2))
    step = dg.compile(step) if compiled else step
    losses = []
    for batch in data():
        inputs = on(device, *batch)
        with count_transfers() as log:  # which only the stand-in can tell
            loss = step(*inputs)
        assert not log or (name in PACKED and not compiled)
        losses.append(sum(loss).item() if isinstance(loss, tuple) else loss.item())
    assert {str(t.device.type) for t in model.state_dict().values()} == {device}
    return losses, [t.cpu().numpy() for t in model.state_dict().values()]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_training(cupy: Any, name: str, compiled: bool) -> None:
    wanted, end = train(name, "cpu", False)
    losses, found = train(name, "cuda", compiled)
    np.testing.assert_allclose(losses, wanted, rtol=1e-9)
    for a, b in zip(found, end, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["Greedy", "GreedyLoop", "Beam", "BeamLoop"])
def test_decoding(cupy: Any, kind: str) -> None:
    model = seq2seq.Seq2Seq(width=8).eval()
    found = []
    with dg.no_grad():
        model.head.weight.mul_(6)  # less alike
        for device in ("cpu", "cuda"):
            decoder = getattr(seq2seq, kind)(model.to(device), limit=6)
            out = decoder(*on(device, *seq2seq.encode([1994, 7, 12])))
            found.append(out[0] if isinstance(out, tuple) else out)
    assert found[1].is_cuda
    assert found[1].tolist() == found[0].tolist()


@pytest.mark.parametrize("kind", ["Stream", "BufferedStream"])
def test_streaming(cupy: Any, kind: str) -> None:
    model = keyword_spotter.KeywordSpotter(channels=2, hidden_size=4).eval()
    found = []
    chunks = [keyword_spotter.example_inputs(1, frames)[0] for frames in (2, 3, 1)]
    with dg.no_grad():
        for device in ("cpu", "cuda"):
            stream = getattr(keyword_spotter, kind)(model.to(device))
            found.append([stream(*on(device, chunk)).cpu().numpy() for chunk in chunks])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
