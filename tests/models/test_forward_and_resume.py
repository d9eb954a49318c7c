"""Models compiled alone, with backward and optimizer outside; and training that is resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph_models import char_lstm, gpt, keyword_spotter, resnet, seq2seq, vae
from dualgraph_models.datasets import load_digits, load_text

LINES = ["the quick brown fox", "jumps", "over the lazy", "dog and", "away"]


class Case(NamedTuple):
    """`data` are batches of different sizes, which `dynamic` names."""

    build: Callable[[], nn.Module]
    loss: Callable[..., Any]
    data: Callable[[], list[Any]]
    dynamic: Any


def char_lstm_loss(f: Any, tokens: dg.Tensor, lengths: dg.Tensor) -> Any:
    scores = f(tokens[:, :-1], lengths - 1)
    return F.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=0)


def vae_loss(f: Any, images: dg.Tensor) -> Any:
    return sum(vae.negative_elbo(*f(images), images))


def spotter_loss(f: Any, sound: dg.Tensor, labels: dg.Tensor) -> Any:
    scores, _ = f(sound)
    return F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=-100)


def seq2seq_loss(f: Any, source: dg.Tensor, lengths: dg.Tensor, target: dg.Tensor) -> Any:
    scores = f(source, lengths, target[:, :-1])
    return F.cross_entropy(scores.flatten(0, 1), target[:, 1:].flatten(), ignore_index=0)


def small_gpt() -> gpt.GPT:
    return gpt.GPT(gpt.Config(context=16, layers=2, heads=2, width=16))


def text(count: int) -> list[dg.Tensor]:
    return list(gpt.batches(gpt.encode(load_text()), 4, 17, count, seed=0))


CASES = {
    "char_lstm": Case(
        lambda: char_lstm.CharLSTM(embedding_dim=8, hidden_size=16, dropout=0.2),
        char_lstm_loss,
        lambda: list(char_lstm.batches(LINES, 3, 8)),
        char_lstm.DYNAMIC,
    ),
    "gpt": Case(
        small_gpt,
        gpt.loss_of,
        lambda: [(x[: 2 + i % 3, : 5 + i],) for i, x in enumerate(text(8))],
        gpt.DYNAMIC,
    ),
    "resnet": Case(
        lambda: nn.Sequential(resnet.Enlarge(), resnet.ResNet(num_classes=10, width=4)),
        lambda f, images, labels: F.cross_entropy(f(images), labels),
        lambda: [b for i in range(2, 7) for b in resnet.batches(*load_digits(), i, 1, seed=i)],
        ({0: "batch"},),
    ),
    "vae": Case(
        lambda: vae.VAE(latent=4, hidden=32),
        vae_loss,
        lambda: [(x,) for i in range(1, 9) for x in vae.batches(load_digits()[0], i, 1)],
        ({0: "batch"},),
    ),
    "seq2seq": Case(
        lambda: seq2seq.Seq2Seq(width=16),
        seq2seq_loss,
        lambda: list(seq2seq.batches([4, 14, 888, 1994, 3000], 2, 8)),
        seq2seq.DYNAMIC_STEP,
    ),
    "keyword_spotter": Case(
        lambda: keyword_spotter.KeywordSpotter(channels=4, hidden_size=6),
        spotter_loss,
        lambda: [b for i in range(5) for b in keyword_spotter.batches(2, 1, 0.8 + i / 10)],
        {"sound": {0: "batch", 1: keyword_spotter.SAMPLES}},
    ),
}


@pytest.mark.interpreted
@pytest.mark.parametrize("name", CASES)
def test_a_compiled_model_in_an_eager_step(name: str) -> None:
    """The same losses bit for bit, from one graph."""
    case = CASES[name]
    data = case.data()
    assert len({tuple(x.shape for x in batch) for batch in data}) > 2

    def train(wrap: Callable[[nn.Module], Any]) -> tuple[list[float], Any]:
        dg.manual_seed(0)
        model = case.build()
        run, losses = wrap(model), []
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        for batch in data:
            optimizer.zero_grad()
            loss = case.loss(run, *batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, run

    eager, _ = train(lambda model: model)
    options: Any = {"dynamic_shapes": case.dynamic, "numerics": "strict"}
    found, fast = train(lambda model: dg.compile(model, **options))
    assert found == eager
    assert len(fast.graphs) == 1


def test_training_that_is_saved_and_resumed(tmp_path: Any) -> None:
    """Model, optimizer, schedule and random state come back: it goes on as if nothing had been."""
    data = text(12)

    def fresh() -> tuple[Any, ...]:
        model = small_gpt()
        optimizer = gpt.optimizer_for(model, rate=1e-2)
        schedule = gpt.schedule_for(optimizer, len(data), warmup=3)
        return model, optimizer, schedule

    def losses(parts: tuple[Any, ...], batches: list[dg.Tensor]) -> list[float]:
        step = dg.compile(gpt.training_step(*parts))
        return [step(tokens).item() for tokens in batches]

    dg.manual_seed(0)
    wanted = losses(fresh(), data)
    dg.manual_seed(0)
    parts = fresh()
    found = losses(parts, data[:5])
    states = [part.state_dict() for part in parts]
    dg.save({"states": states, "random": dg.get_rng_state()}, tmp_path / "checkpoint")
    dg.manual_seed(77)
    parts = fresh()
    loaded = dg.load(tmp_path / "checkpoint")
    for part, state in zip(parts, loaded["states"], strict=True):
        part.load_state_dict(state)
    dg.set_rng_state(loaded["random"])
    assert found + losses(parts, data[5:]) == wanted
