"""dualgraph.distributions against PyTorch's, and samples against their own moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import distributions as D
from dualgraph_compiler.errors import ArgumentError

REALS = [[-1.5, 0.0, 0.3], [2.0, 0.5, 1.0]]
COUNTS = [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]
# Of each: how it is made from a module and its `tensor`, and values in its support.
CASES: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    "Normal": (lambda d, t: d.Normal(t([0.5, -1.0, 2.0]), t([[1.0], [0.3]])), REALS),
    "LogNormal": (lambda d, t: d.LogNormal(t([0.5, -1.0, 0.2]), t(0.7)), np.exp(REALS)),
    "Uniform": (lambda d, t: d.Uniform(t([-2.0, -3.0, 0.0]), 2.5), REALS),
    "Exponential": (lambda d, t: d.Exponential(t([0.5, 1.0, 3.0])), np.exp(REALS)),
    "Laplace": (lambda d, t: d.Laplace(t([0.5, -1.0, 2.0]), t([[1.0], [0.3]])), REALS),
    "Bernoulli": (lambda d, t: d.Bernoulli(t([0.2, 0.5, 0.9])), COUNTS),
    "Bernoulli(logits)": (lambda d, t: d.Bernoulli(logits=t([-2.0, 0.0, 1.0])), COUNTS),
    "Geometric": (lambda d, t: d.Geometric(t([0.2, 0.5, 0.9])), [[0.0, 3.0, 1.0]]),
    "Categorical": (
        lambda d, t: d.Categorical(t([[0.1, 0.2, 0.3], [2.0, 1.0, 0.0]])),
        [[0, 1], [2, 1], [1, 0]],
    ),
    "Categorical(logits)": (
        lambda d, t: d.Categorical(logits=t([[0.1, -0.2, 0.3], [2.0, 1.0, 0.0]])),
        [[0, 1], [2, 1]],
    ),
    "Independent": (
        lambda d, t: d.Independent(d.Normal(t([[0.5, -1.0, 2.0]] * 2), t(0.7)), 1),
        REALS,
    ),
}


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ours(name: str) -> Any:
    return CASES[name][0](D, lambda x: dg.tensor(x, dtype=dg.float64))


def test_as_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    make, value = CASES[name]
    found = ours(name)
    wanted = make(torch.distributions, lambda x: torch.tensor(x, dtype=torch.float64))
    assert tuple(found.batch_shape) == tuple(wanted.batch_shape)
    assert tuple(found.event_shape) == tuple(wanted.event_shape)
    if name != "LogNormal":  # PyTorch's is made of two others, and shows nothing
        assert repr(found) == repr(wanted).replace("torch.Size", "dualgraph.Size")
    value = np.array(value)
    compare(found.log_prob(dg.tensor(value)), wanted.log_prob(torch.tensor(value)))
    compare(found.entropy(), wanted.entropy())
    compare(found.perplexity(), wanted.perplexity())
    for what in ("mean", "mode", "variance", "stddev"):
        compare(getattr(found, what), getattr(wanted, what))
    compare(
        found.expand((4, *found.batch_shape)).mean, wanted.expand((4, *wanted.batch_shape)).mean
    )
    for what in ("cdf", "icdf"):
        inside = dg.tensor(value, dtype=dg.float64) if what == "cdf" else dg.tensor(0.3)
        try:
            result = getattr(wanted, what)(torch.tensor(inside.numpy()))
        except NotImplementedError:
            continue
        if what == "cdf" or name not in ("Normal", "LogNormal") or hasattr(dg, "erfinv"):
            compare(getattr(found, what)(inside), result)
    if wanted.has_enumerate_support:
        compare(found.enumerate_support(), wanted.enumerate_support())


def compare(found: Any, wanted: Any) -> None:
    assert found.dtype.name == str(wanted.dtype).removeprefix("torch.")
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-6, atol=1e-9)


def test_samples_have_the_moments(name: str) -> None:
    d = ours(name)
    drawn = d.sample((4000,))
    assert tuple(drawn.shape) == (4000, *d.batch_shape, *d.event_shape)
    assert not drawn.requires_grad
    if name.startswith("Categorical"):
        shares = np.stack([(drawn.numpy() == k).mean(0) for k in range(3)], -1)
        np.testing.assert_allclose(shares, d.probs.numpy(), atol=0.04)
        return
    deviation = d.stddev.numpy()
    far = np.abs(drawn.numpy().mean(0) - d.mean.numpy()) / deviation
    assert (far < 5 / 4000**0.5).all()
    np.testing.assert_allclose(drawn.numpy().std(0), deviation, rtol=0.25)


def test_samples_carry_gradients() -> None:
    loc, scale = (dg.tensor(x, requires_grad=True) for x in (1.0, 2.0))
    for kind in (D.Normal, D.Laplace, D.LogNormal):
        kind(loc, scale).rsample((3,)).sum().backward()
        assert loc.grad is not None
    with pytest.raises(NotImplementedError):
        D.Bernoulli(0.5).rsample()


PAIRS = {
    "Normal": lambda d, t: (d.Normal(t([0.0, 1.0]), 1.0), d.Normal(0.5, t([2.0, 0.1]))),
    "Laplace": lambda d, t: (d.Laplace(t([0.0, 1.0]), 1.0), d.Laplace(0.5, t([2.0, 0.1]))),
    "Exponential": lambda d, t: (d.Exponential(t([0.5, 1.0])), d.Exponential(t(2.0))),
    "Uniform": lambda d, t: (d.Uniform(0.0, t([1.0, 3.0])), d.Uniform(t([-1.0, 0.5]), 2.0)),
    "Bernoulli": lambda d, t: (d.Bernoulli(t([0.0, 0.3])), d.Bernoulli(t([0.5, 0.9]))),
    "Geometric": lambda d, t: (d.Geometric(t([0.2, 0.3])), d.Geometric(t([0.5, 0.9]))),
    "Categorical": lambda d, t: (
        d.Categorical(t([[0.0, 0.5, 0.5], [1.0, 1.0, 1.0]])),
        d.Categorical(t([[0.2, 0.3, 0.5], [0.0, 1.0, 1.0]])),
    ),
    "Independent": lambda d, t: (
        d.Independent(d.Normal(t([0.0, 1.0]), 1.0), 1),
        d.Independent(d.Normal(t([0.5, 1.5]), 2.0), 1),
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_divergences(pair: str) -> None:
    torch = pytest.importorskip("torch")
    found = D.kl_divergence(*PAIRS[pair](D, lambda x: dg.tensor(x, dtype=dg.float64)))
    wanted = torch.distributions.kl_divergence(
        *PAIRS[pair](torch.distributions, lambda x: torch.tensor(x, dtype=torch.float64))
    )
    compare(found, wanted)


def test_what_is_refused() -> None:
    for make in (
        lambda: D.Normal(0.0, -1.0),
        lambda: D.Uniform(1.0, 0.0),
        lambda: D.Bernoulli(1.5),
        lambda: D.Bernoulli(0.5, logits=0.0),
        lambda: D.Categorical(dg.tensor([-0.5, 1.0])),
        lambda: D.Categorical(dg.tensor(1.0)),
        lambda: D.Categorical(dg.ones(3)).log_prob(dg.tensor(3)),
        lambda: D.Bernoulli(0.5).log_prob(dg.tensor(0.5)),
        lambda: D.Independent(D.Normal(0.0, 1.0), 1),
    ):
        with pytest.raises(ArgumentError):
            make()
    D.Normal(0.0, -1.0, validate_args=False)
    with pytest.raises(NotImplementedError, match="Normal.*Laplace"):
        D.kl_divergence(D.Normal(0.0, 1.0), D.Laplace(0.0, 1.0))


def test_traced() -> None:
    """In a graph nothing is checked, and draws are those of eager code."""

    def policy(scores: dg.Tensor) -> tuple[dg.Tensor, dg.Tensor]:
        d = D.Categorical(logits=scores)
        action = d.sample()
        return action, d.log_prob(action)

    scores = dg.randn(5, 3)
    fast = dg.compile(policy)
    dg.manual_seed(3)
    wanted = policy(scores)
    dg.manual_seed(3)
    found = fast(scores)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
    assert len(fast.graphs) == 1
