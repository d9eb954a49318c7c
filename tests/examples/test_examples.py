"""The example programs: each learns here, and has PyTorch's losses from the same weights."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pytest

import dualgraph as dg
from tests.examples.harness import Run, dualgraph_as_torch, run


class Case(NamedTuple):
    """A program, options that make it short, and how closely 20 losses agree with PyTorch's.

    `every` is the number of losses of one kind to the next, as in GANs, which have several.
    """

    name: str
    arguments: str
    tolerance: float = 1e-4
    every: int = 1


TEXT = "--epochs 1 --dry-run 20 --limit 8000 --dropout 0 --emsize 32 --nhid 32"
GPT = "--max-iters 10 --batch-size 4 --eval-iters 1 --n-layer 2 --n-embd 32"
CASES = {
    "image_classifier": Case("image_classifier", "--epochs 1 --dry-run 20"),
    "vae": Case("vae", "--epochs 2 --batch-size 128"),
    "dcgan": Case("dcgan", "--niter 1 --dry-run 10 --manual-seed 1 --ngf 8 --ndf 8", every=3),
    "lstm": Case("word_language_model", f"--model LSTM {TEXT}"),
    "tied_gru": Case("word_language_model", f"--model GRU --tied --lr 1 {TEXT}"),
    "transformer": Case("word_language_model", f"--model Transformer --lr 1 {TEXT}"),
    "time_series": Case(
        "time_series", "--steps 1 --waves 8 --length 30 --hidden 8 --future 10", 1e-9
    ),
    "super_resolution": Case("super_resolution", "--epochs 1"),
    "siamese_network": Case("siamese_network", "--epochs 1 --dry-run 20 --batch-size 32 --lr 0.1"),
    "actor_critic": Case("actor_critic", "--episodes 20"),
    "gpt": Case("gpt", f"{GPT} --tokens 9"),
    "gpt_written_out": Case("gpt", f"{GPT} --tokens 9 --no-flash"),
    "gpt_in_bfloat16": Case("gpt", f"{GPT} --tokens 0 --dtype bfloat16", 1e-2),
    "gpt_in_float16": Case("gpt", f"{GPT} --tokens 0 --dtype float16", 1e-2),
    "translation": Case("translation", "--epochs 1 --count 640 --dropout 0 --emb-size 16"),
    "wgan_gp": Case("wgan_gp", "--iterations 5", every=10),
    "adversarial_examples": Case("adversarial_examples", "--epochs 1"),
    "dqn": Case("dqn", "--episodes 12"),
    "custom_functions": Case("custom_functions", "--steps 40"),
    "ensembling": Case("ensembling", "--steps 10 --log-interval 1"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_agrees(case: Case) -> None:
    arguments = case.arguments.split()
    with dualgraph_as_torch() as ours:
        found = run(case.name, arguments, ours)
    losses = losses_of(found)
    assert len(losses) >= 20
    assert np.isfinite(losses).all()
    if case.every == 1:
        assert np.mean(losses[-3:]) < np.mean(losses[:3])
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    wanted = run(case.name, arguments, torch, like=found)
    np.testing.assert_allclose(
        losses[:20], losses_of(wanted)[:20], rtol=case.tolerance, atol=case.tolerance
    )
    assert len(losses) == len(losses_of(wanted))
    printed_alike(found.printed, wanted.printed)


NUMBER = re.compile(r"[-+]?\d+\.\d+(?:e[-+]?\d+)?")


def losses_of(found: Run) -> list[float]:
    """Those that `backward` was called on; of a program that never does, the numbers it prints."""
    return found.losses or [float(x) for x in NUMBER.findall(found.printed)]


def printed_alike(found: str, wanted: str) -> None:
    """The same text but for times, and roughly the same numbers, as they may come steps later."""
    found, wanted = (re.sub(r"ms/batch +\S+", "", text) for text in (found, wanted))
    assert NUMBER.sub("#", found) == NUMBER.sub("#", wanted)
    pairs = zip(NUMBER.findall(found), NUMBER.findall(wanted), strict=True)
    for a, b in pairs:
        assert float(a) == pytest.approx(float(b), rel=0.01, abs=0.005)


def test_checkpoints_go_both_ways(tmp_path: Any) -> None:
    """What a program saves by one framework, the other reads: here with an optimizer's state."""
    torch = pytest.importorskip("torch")
    options = ["--epochs", "1", "--batch-size", "512", "--checkpoint"]
    with dualgraph_as_torch() as ours:
        run("super_resolution", [*options, str(tmp_path / "ours.pt")], ours)
    run("super_resolution", [*options, str(tmp_path / "theirs.pt")], torch)
    for name in ("ours.pt", "theirs.pt"):
        here = dg.load(tmp_path / name)
        there = torch.load(tmp_path / name, weights_only=True)
        assert here["epoch"] == there["epoch"] == 1
        assert list(here["model"]) == list(there["model"])
        for key, tensor in there["model"].items():
            np.testing.assert_array_equal(here["model"][key].numpy(), tensor.numpy())
        assert here["optimizer"]["param_groups"][0]["lr"] == 0.001
        for at, state in there["optimizer"]["state"].items():
            for key, tensor in state.items():
                found = here["optimizer"]["state"][at][key]
                np.testing.assert_array_equal(found.numpy(), tensor.numpy())
