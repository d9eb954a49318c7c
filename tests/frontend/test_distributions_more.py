"""Distributions made of gamma variables, of counts, by inversion and by transforms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import distributions as D
from dualgraph_compiler.errors import ArgumentError

POSITIVE = [[0.3, 1.0, 2.5], [0.1, 4.0, 7.0]]
UNIT = [[0.3, 0.1, 0.5], [0.9, 0.7, 0.2]]
COUNTS = [[0.0, 3.0, 1.0], [2.0, 4.0, 1.0]]
SIMPLEX = [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]
A, B = [0.5, 1.5, 3.0], [1.0, 2.0, 0.7]
Make = Callable[[Any, Any], Any]
# Of each: how it is made from a module and its `tensor`, and values in its support.
CASES: dict[str, tuple[Make, Any]] = {
    "Gamma": (lambda d, t: d.Gamma(t(A), t(B)), POSITIVE),
    "Chi2": (lambda d, t: d.Chi2(t(A)), POSITIVE),
    "InverseGamma": (lambda d, t: d.InverseGamma(t([3.5, 5.5, 4.0]), t(B)), POSITIVE),
    "Beta": (lambda d, t: d.Beta(t([0.5, 1.5, 3.0]), t([1.0, 2.0, 0.7])), UNIT),
    "Dirichlet": (lambda d, t: d.Dirichlet(t([A, [2.0, 2.0, 3.0]])), SIMPLEX),
    "StudentT": (lambda d, t: d.StudentT(t([5.0, 9.0, 3.5]), t(0.3), t(B)), POSITIVE),
    "Poisson": (lambda d, t: d.Poisson(t(A)), COUNTS),
    "Binomial": (lambda d, t: d.Binomial(5, t([0.2, 0.5, 0.9])), COUNTS),
    "Binomial(logits)": (lambda d, t: d.Binomial(5, logits=t([-1.0, 0.0, 2.0])), COUNTS),
    "NegativeBinomial": (lambda d, t: d.NegativeBinomial(t(4.0), t([0.2, 0.5, 0.6])), COUNTS),
    "Multinomial": (lambda d, t: d.Multinomial(4, t(SIMPLEX)), [[1.0, 2.0, 1.0], [4.0, 0, 0]]),
    "OneHotCategorical": (lambda d, t: d.OneHotCategorical(t(SIMPLEX)), [[0.0, 1, 0], [1, 0, 0]]),
    "Cauchy": (lambda d, t: d.Cauchy(t(A), t(B)), POSITIVE),
    "HalfCauchy": (lambda d, t: d.HalfCauchy(t(B)), POSITIVE),
    "HalfNormal": (lambda d, t: d.HalfNormal(t(B)), POSITIVE),
    "Gumbel": (lambda d, t: d.Gumbel(t(A), t(B)), POSITIVE),
    "Weibull": (lambda d, t: d.Weibull(t(A), t([1.0, 2.0, 3.0])), POSITIVE),
    "Pareto": (lambda d, t: d.Pareto(t(0.05), t([5.5, 4.5, 6.0])), POSITIVE),
    "Kumaraswamy": (lambda d, t: d.Kumaraswamy(t([1.5, 2.0, 3.0]), t([1.0, 2.0, 1.7])), UNIT),
    "RelaxedBernoulli": (lambda d, t: d.RelaxedBernoulli(t(0.7), t([0.2, 0.5, 0.9])), UNIT),
    "RelaxedOneHotCategorical": (
        lambda d, t: d.RelaxedOneHotCategorical(t(0.7), t(SIMPLEX)),
        SIMPLEX,
    ),
    "TransformedDistribution": (
        lambda d, t: d.TransformedDistribution(
            d.Normal(t(A), t(B)),
            [
                d.transforms.AffineTransform(0.5, -2.0),
                d.transforms.SigmoidTransform(),
                d.transforms.PowerTransform(t(2.0)),
            ],
        ),
        UNIT,
    ),
    "MixtureSameFamily": (
        lambda d, t: d.MixtureSameFamily(d.Categorical(t(SIMPLEX)), d.Normal(t([A, B]), t([B, A]))),
        [0.3, 1.2],
    ),
}
COVARIANCE = [[2.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 0.7]]
TRIL = [[1.2, 0.0, 0.0], [0.5, 0.7, 0.0], [0.1, -0.3, 2.0]]
CASES |= {
    "MultivariateNormal": (
        lambda d, t: d.MultivariateNormal(t([A, B]), t(COVARIANCE)),
        [A, A],
    ),
    "MultivariateNormal(precision)": (
        lambda d, t: d.MultivariateNormal(t(A), precision_matrix=t(COVARIANCE)),
        [[A, B]],
    ),
    "MultivariateNormal(factor)": (
        lambda d, t: d.MultivariateNormal(t(A), scale_tril=t([TRIL, COVARIANCE]).tril()),
        [A, B],
    ),
}
CASES |= {
    "VonMises": (lambda d, t: d.VonMises(t([0.5, -2.0, 3.0]), t([0.3, 1.0, 2.0])), COUNTS),
    "FisherSnedecor": (lambda d, t: d.FisherSnedecor(t([3.0, 5.0, 1.5]), t(9.0)), POSITIVE),
    "LogisticNormal": (lambda d, t: d.LogisticNormal(t([0.5, -1.0]), t([0.3, 1.5])), SIMPLEX),
    "LowRankMultivariateNormal": (
        lambda d, t: d.LowRankMultivariateNormal(t([A, B]), t(TRIL)[:, :2], t(B)),
        [A, A],
    ),
}
WITHOUT_MOMENTS = {"Cauchy", "HalfCauchy"}


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ours(name: str) -> Any:
    return CASES[name][0](D, lambda x: dg.tensor(x, dtype=dg.float64))


def compare(found: Any, wanted: Any, what: str) -> None:
    assert tuple(found.shape) == tuple(wanted.shape), what
    assert found.dtype.name == str(wanted.dtype).removeprefix("torch."), what
    options = {"rtol": 1e-6, "atol": 1e-9, "err_msg": what}
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), **options)


def test_as_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    make, value = CASES[name]
    found = ours(name)
    wanted = make(torch.distributions, lambda x: torch.tensor(x, dtype=torch.float64))
    assert tuple(found.batch_shape) == tuple(wanted.batch_shape)
    assert tuple(found.event_shape) == tuple(wanted.event_shape)
    value = np.array(value)
    compare(found.log_prob(dg.tensor(value)), wanted.log_prob(torch.tensor(value)), "log_prob")
    calls: dict[str, Any] = {
        **{k: lambda d, k=k: getattr(d, k) for k in ("mean", "mode", "variance", "stddev")},
        "entropy": lambda d: d.entropy(),
        "expand": lambda d: d.expand((4, *d.batch_shape)).mean,
        "cdf": lambda d: d.cdf((dg if d is found else torch).tensor(value)),
        "icdf": lambda d: d.icdf((dg if d is found else torch).tensor(UNIT)),
        "enumerate_support": lambda d: d.enumerate_support(),
    }
    for what, call in calls.items():
        try:
            expected = call(wanted)
        except NotImplementedError:
            continue
        compare(call(found), expected, what)


def test_samples_have_the_moments(name: str) -> None:
    dg.manual_seed(11)
    d = ours(name)
    drawn = d.sample((4000,))
    assert tuple(drawn.shape) == (4000, *d.batch_shape, *d.event_shape)
    assert not drawn.requires_grad
    if name in WITHOUT_MOMENTS:
        half = d.icdf(dg.tensor(0.5, dtype=dg.float64)).numpy()
        np.testing.assert_allclose(np.median(drawn.numpy(), 0), half, atol=0.15, rtol=0.15)
        return
    if name == "VonMises":
        turned = (drawn - d.loc).cos().mean(0)
        np.testing.assert_allclose(1 - turned.numpy(), d.variance.numpy(), atol=0.05)
        assert (drawn - d.loc).sin().mean(0).abs().max().item() < 0.06
        return
    try:
        mean, deviation = d.mean.numpy(), d.stddev.numpy()
    except NotImplementedError:
        assert np.isfinite(drawn.numpy()).all()
        return
    far = np.abs(drawn.numpy().mean(0) - mean) / deviation
    assert (far < 5 / 4000**0.5).all()
    np.testing.assert_allclose(drawn.numpy().std(0), deviation, rtol=0.3)


def test_gamma_variables_follow_their_distribution() -> None:
    """Kolmogorov and Smirnov's distance, at shapes on both sides of 1."""
    dg.manual_seed(5)
    a = dg.tensor([0.05, 0.7, 1.0, 4.0, 300.0], dtype=dg.float64)
    drawn = D.Gamma(a, 1.0).sample((20000,))
    p = np.sort(dg.igamma(a, drawn).numpy(), 0)
    distance = np.abs(p - (np.arange(20000)[:, None] + 0.5) / 20000).max(0)
    assert (distance < 1.95 / 20000**0.5).all()


@pytest.mark.parametrize(
    ("make", "slope"),
    [
        # The derivatives of the means.
        (lambda a: D.Gamma(a, 2.0), lambda a: 0.5),
        (lambda a: D.Chi2(a), lambda a: 1.0),
        (lambda a: D.Beta(a, 3.0), lambda a: 3 / (a + 3) ** 2),
        (lambda a: D.Weibull(a, 2.0), lambda a: math.gamma(1.5)),
        (lambda a: D.Gumbel(a, 1.0), lambda a: 1.0),
        (lambda a: D.HalfNormal(a), lambda a: math.sqrt(2 / math.pi)),
    ],
)
@pytest.mark.parametrize("value", [0.6, 2.5])
def test_samples_carry_gradients(make: Any, slope: Any, value: float) -> None:
    dg.manual_seed(3)
    a = dg.tensor(value, dtype=dg.float64, requires_grad=True)
    drawn = make(a).rsample((20000,))
    drawn.mean().backward()
    assert a.grad.item() == pytest.approx(slope(value), rel=0.1)


def test_normal_vectors() -> None:
    d = D.MultivariateNormal(dg.tensor(A), dg.tensor(COVARIANCE))
    for found in (d, D.MultivariateNormal(dg.tensor(A), precision_matrix=d.precision_matrix)):
        np.testing.assert_allclose(found.covariance_matrix.numpy(), COVARIANCE, atol=1e-6)
    dg.manual_seed(0)
    drawn = d.sample((20000,))
    np.testing.assert_allclose(np.cov(drawn.numpy().T), COVARIANCE, atol=0.06)
    mean = dg.tensor(A, requires_grad=True)
    D.MultivariateNormal(mean, dg.eye(3)).rsample((4,)).sum().backward()
    assert mean.grad.tolist() == [4, 4, 4]
    with pytest.raises(ArgumentError, match="Exactly one"):
        D.MultivariateNormal(dg.zeros(3))
    with pytest.raises(ArgumentError, match="lower triangular"):
        D.MultivariateNormal(dg.zeros(2), scale_tril=dg.ones(2, 2))


def test_straight_through_samples() -> None:
    logits = dg.tensor([0.1, 0.2, 0.7], requires_grad=True)
    drawn = D.OneHotCategoricalStraightThrough(logits=logits).rsample((5,))
    assert (drawn.detach().sum(-1) - 1).abs().max().item() < 1e-6
    (drawn * dg.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert logits.grad.abs().sum().item() > 0


TRANSFORMS: dict[str, tuple[Make, Any]] = {
    "ExpTransform": (lambda m, t: m.ExpTransform(), POSITIVE),
    "AffineTransform": (lambda m, t: m.AffineTransform(t(A), t(B)), POSITIVE),
    "AffineTransform(1)": (lambda m, t: m.AffineTransform(0.5, -3.0, event_dim=1), POSITIVE),
    "SigmoidTransform": (lambda m, t: m.SigmoidTransform(), POSITIVE),
    "SoftplusTransform": (lambda m, t: m.SoftplusTransform(), POSITIVE),
    "TanhTransform": (lambda m, t: m.TanhTransform(), UNIT),
    "PowerTransform": (lambda m, t: m.PowerTransform(t(-1.5)), POSITIVE),
    "IndependentTransform": (lambda m, t: m.IndependentTransform(m.ExpTransform(), 1), POSITIVE),
    "ReshapeTransform": (lambda m, t: m.ReshapeTransform((2, 3), (6,)), POSITIVE),
    "ComposeTransform": (
        lambda m, t: m.ComposeTransform(
            [m.AffineTransform(t(A), 2.0), m.IndependentTransform(m.ExpTransform(), 1)]
        ),
        UNIT,
    ),
    "inverse": (lambda m, t: m.TanhTransform().inv, UNIT),
}


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_transforms(kind: str) -> None:
    torch = pytest.importorskip("torch")
    make, value = TRANSFORMS[kind]
    found = make(D.transforms, lambda x: dg.tensor(x, dtype=dg.float64))
    wanted = make(torch.distributions.transforms, lambda x: torch.tensor(x, dtype=torch.float64))
    x, y = dg.tensor(np.array(value)), torch.tensor(np.array(value))
    compare(found(x), wanted(y), "forward")
    compare(found.inv(found(x)), y, "inverse")
    slope, expected = (
        found.log_abs_det_jacobian(x, found(x)),
        wanted.log_abs_det_jacobian(y, wanted(y)),
    )
    compare(slope, expected, "slope")
    compare(found.inv.log_abs_det_jacobian(found(x), x), -expected, "slope of the inverse")
    assert (found.domain_dim, found.codomain_dim) == (
        wanted.domain.event_dim,
        wanted.codomain.event_dim,
    )
    assert tuple(found.forward_shape((4, 2, 3))) == tuple(wanted.forward_shape((4, 2, 3)))


PAIRS: dict[str, Make] = {
    "Gamma": lambda d, t: (d.Gamma(t(A), t(B)), d.Gamma(t(B), t(1.5))),
    "Beta": lambda d, t: (d.Beta(t(A), t(B)), d.Beta(t(B), t(1.5))),
    "Dirichlet": lambda d, t: (d.Dirichlet(t([A, B])), d.Dirichlet(t(B))),
    "Poisson": lambda d, t: (d.Poisson(t(A)), d.Poisson(t(B))),
    "Binomial": lambda d, t: (d.Binomial(3, t([0.2, 0.7])), d.Binomial(3, t([0.5, 0.1]))),
    "OneHotCategorical": lambda d, t: (
        d.OneHotCategorical(t(SIMPLEX)),
        d.OneHotCategorical(t([0.3, 0.3, 0.4])),
    ),
    "HalfNormal": lambda d, t: (d.HalfNormal(t(A)), d.HalfNormal(t(B))),
    "Cauchy": lambda d, t: (d.Cauchy(t(A), t(B)), d.Cauchy(t(B), t(A))),
    "Gumbel": lambda d, t: (d.Gumbel(t(A), t(B)), d.Gumbel(t(B), t(A))),
    "Pareto": lambda d, t: (d.Pareto(t(A), t(B)), d.Pareto(t(1.0), t(A))),
    "Exponential, Gamma": lambda d, t: (d.Exponential(t(A)), d.Gamma(t(B), t(A))),
    "Gamma, Exponential": lambda d, t: (d.Gamma(t(B), t(A)), d.Exponential(t(A))),
    "Uniform, Normal": lambda d, t: (d.Uniform(t(0.0), t(A)), d.Normal(t(B), t(A))),
    "Laplace, Normal": lambda d, t: (d.Laplace(t(A), t(B)), d.Normal(t(B), t(A))),
    "Normal, Gumbel": lambda d, t: (d.Normal(t(A), t(B)), d.Gumbel(t(B), t(A))),
    "Bernoulli, Poisson": lambda d, t: (d.Bernoulli(t([0.2, 0.7, 0.5])), d.Poisson(t(A))),
    "MultivariateNormal": lambda d, t: (
        d.MultivariateNormal(t([A, B]), t(COVARIANCE)),
        d.MultivariateNormal(t(A), scale_tril=t(TRIL)),
    ),
    "transformed": lambda d, t: tuple(
        d.TransformedDistribution(d.Normal(t(m), t(s)), [d.transforms.ExpTransform()])
        for m, s in ((A, B), (B, A))
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_divergences(pair: str) -> None:
    torch = pytest.importorskip("torch")
    found = D.kl_divergence(*PAIRS[pair](D, lambda x: dg.tensor(x, dtype=dg.float64)))
    wanted = torch.distributions.kl_divergence(
        *PAIRS[pair](torch.distributions, lambda x: torch.tensor(x, dtype=torch.float64))
    )
    compare(found, wanted, pair)


def test_what_is_refused() -> None:
    for make in (
        lambda: D.Gamma(-1.0, 1.0),
        lambda: D.Beta(0.0, 1.0),
        lambda: D.Poisson(-1.0),
        lambda: D.Binomial(3, 1.5),
        lambda: D.Gamma(1.0, 1.0).log_prob(dg.tensor(-1.0)),
        lambda: D.Binomial(3, 0.5).log_prob(dg.tensor(4.0)),
        lambda: D.Dirichlet(dg.ones(3)).log_prob(dg.ones(3)),
        lambda: D.Multinomial(4, dg.ones(3)).log_prob(dg.ones(3)),
        lambda: D.Binomial(3),
        lambda: D.MixtureSameFamily(D.Categorical(dg.ones(3)), D.Normal(dg.zeros(2), 1.0)),
    ):
        with pytest.raises(ArgumentError):
            make()


def test_compiled() -> None:
    def f(a: dg.Tensor) -> dg.Tensor:
        d = D.Beta(a, a + 1)
        x = d.rsample((2,))
        return d.log_prob(x) + D.Gamma(a, 1.0).sample((2,)) + d.entropy()

    a = dg.tensor(A, dtype=dg.float64)
    dg.manual_seed(0)
    expected = f(a)
    dg.manual_seed(0)
    np.testing.assert_allclose(dg.compile(f)(a).numpy(), expected.numpy(), rtol=1e-9)
