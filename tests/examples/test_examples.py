"""The example programs: each learns here, and has PyTorch's losses from the same weights."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pytest

from tests.examples.harness import dualgraph_as_torch, run


class Case(NamedTuple):
    """A program, options that make it short, and how closely 20 losses agree with PyTorch's.

    `every` is the number of losses of one kind to the next, as in GANs, which have several.
    """

    name: str
    arguments: str
    tolerance: float = 1e-4
    every: int = 1


CASES = {
    "image_classifier": Case("image_classifier", "--epochs 1 --dry-run 20"),
    "vae": Case("vae", "--epochs 2 --batch-size 128"),
    "dcgan": Case("dcgan", "--niter 1 --dry-run 10 --manual-seed 1 --ngf 8 --ndf 8", every=3),
    "lstm": Case(
        "word_language_model", "--model LSTM --epochs 1 --dry-run 20 --limit 8000 --dropout 0"
    ),
    "tied_gru": Case(
        "word_language_model",
        "--model GRU --tied --epochs 1 --dry-run 20 --limit 8000 --dropout 0 --lr 1",
    ),
    "transformer": Case(
        "word_language_model",
        "--model Transformer --epochs 1 --dry-run 20 --limit 8000 --dropout 0 --lr 1",
    ),
    "time_series": Case(
        "time_series", "--steps 1 --waves 8 --length 30 --hidden 8 --future 10", 1e-9
    ),
    "super_resolution": Case("super_resolution", "--epochs 1"),
    "siamese_network": Case("siamese_network", "--epochs 1 --dry-run 20 --batch-size 32 --lr 0.1"),
    "actor_critic": Case("actor_critic", "--episodes 20"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_agrees(case: Case) -> None:
    arguments = case.arguments.split()
    with dualgraph_as_torch() as ours:
        found = run(case.name, arguments, ours)
    assert len(found.losses) >= 20
    assert np.isfinite(found.losses).all()
    if case.every == 1:
        assert np.mean(found.losses[-3:]) < np.mean(found.losses[:3])
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    wanted = run(case.name, arguments, torch, like=found)
    np.testing.assert_allclose(
        found.losses[:20], wanted.losses[:20], rtol=case.tolerance, atol=case.tolerance
    )
    assert len(found.losses) == len(wanted.losses)
    printed_alike(found.printed, wanted.printed)


def printed_alike(found: str, wanted: str) -> None:
    """The same text but for times, and roughly the same numbers, as they may come steps later."""
    found, wanted = (re.sub(r"ms/batch +\S+", "", text) for text in (found, wanted))
    number = re.compile(r"[-+]?\d+\.\d+(?:e[-+]?\d+)?")
    assert number.sub("#", found) == number.sub("#", wanted)
    pairs = zip(number.findall(found), number.findall(wanted), strict=True)
    for a, b in pairs:
        assert float(a) == pytest.approx(float(b), rel=0.01, abs=0.005)
