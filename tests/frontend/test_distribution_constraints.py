"""Constraints, the transforms onto their sets, and the supports of distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import distributions as D

from .test_distributions_more import CASES, compare

torch = pytest.importorskip("torch")

VALUES = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.5, np.nan])
MATRICES = np.array([[[1.0, 0.0], [0.6, 0.8]], [[2.0, 0.5], [0.5, 1.0]], [[-1.0, 0], [0, 1]]])
NUMBERS = [
    "boolean", "nonnegative", "nonnegative_integer", "positive", "positive_integer", "real",
    "unit_interval",
]  # fmt: skip
OF_MATRICES = [
    "corr_cholesky", "lower_cholesky", "lower_triangular", "positive_definite",
    "positive_semidefinite", "square", "symmetric",
]  # fmt: skip


def same(found: Any, wanted: Any) -> None:
    np.testing.assert_array_equal(found.numpy(), wanted.numpy())


@pytest.mark.parametrize("name", [*NUMBERS, *OF_MATRICES])
def test_checks(name: str) -> None:
    x = MATRICES if name in OF_MATRICES else VALUES
    ours, theirs = (getattr(m.distributions.constraints, name) for m in (dg, torch))
    same(ours.check(dg.tensor(x)), theirs.check(torch.tensor(x)))
    assert (ours.event_dim, ours.is_discrete) == (theirs.event_dim, theirs.is_discrete)


def test_checks_with_bounds() -> None:
    for make in (
        lambda c: c.greater_than(0.5),
        lambda c: c.greater_than_eq(0.5),
        lambda c: c.less_than(0.5),
        lambda c: c.interval(0.0, 2.0),
        lambda c: c.half_open_interval(0.0, 2.0),
        lambda c: c.integer_interval(0, 2),
    ):
        ours, theirs = (make(m.distributions.constraints) for m in (dg, torch))
        same(ours.check(dg.tensor(VALUES)), theirs.check(torch.tensor(VALUES)))
    points = np.array([[0.2, 0.8], [0.5, 0.6], [1.0, 0.0]])
    for make in (
        lambda c: c.simplex,
        lambda c: c.one_hot,
        lambda c: c.multinomial(1),
        lambda c: c.real_vector,
        lambda c: c.independent(c.positive, 1),
    ):
        ours, theirs = (make(m.distributions.constraints) for m in (dg, torch))
        same(ours.check(dg.tensor(points)), theirs.check(torch.tensor(points)))


@pytest.mark.parametrize("registry", ["biject_to", "transform_to"])
@pytest.mark.parametrize(
    "name", ["real", "positive", "nonnegative", "unit_interval", "simplex", "real_vector", "bounds"]
)
def test_transforms_onto_a_set(registry: str, name: str) -> None:
    def made(m: Any) -> Any:
        c = m.distributions.constraints
        chosen = c.interval(-1.0, 3.0) if name == "bounds" else getattr(c, name)
        return getattr(m.distributions, registry)(chosen), chosen

    (ours, constraint), (theirs, _) = made(dg), made(torch)
    x = np.array([[0.3, -1.0, 2.0], [0.1, 0.2, -0.5]])
    y = ours(dg.tensor(x))
    compare(y, theirs(torch.tensor(x)), name)
    assert constraint.check(y).all()
    if registry == "biject_to":
        np.testing.assert_allclose(ours.inv(y).numpy(), x, atol=1e-9)
        slope = theirs.log_abs_det_jacobian(torch.tensor(x), theirs(torch.tensor(x)))
        compare(ours.log_abs_det_jacobian(dg.tensor(x), y), slope, name)


@pytest.mark.parametrize("name", ["lower_cholesky", "positive_definite"])
def test_transforms_onto_matrices(name: str) -> None:
    x = np.array([[0.3, 5.0], [-1.0, 0.7]])
    ours, theirs = (
        m.distributions.transform_to(getattr(m.distributions.constraints, name))
        for m in (dg, torch)
    )
    y = ours(dg.tensor(x))
    compare(y, theirs(torch.tensor(x)), name)
    compare(ours(ours.inv(y)), theirs(torch.tensor(x)), name)
    with pytest.raises(NotImplementedError):
        D.biject_to(D.constraints.lower_cholesky)


def test_transforms_side_by_side() -> None:
    x = np.array([[0.3, 1.0], [0.1, 0.2]])

    def made(m: Any) -> Any:
        d = m.distributions
        stack = d.StackTransform([d.ExpTransform(), d.AffineTransform(1.0, 2.0)], 0)
        return stack, d.CumulativeDistributionTransform(d.Normal(m.tensor(0.5), 2.0))

    for ours, theirs in zip(made(dg), made(torch), strict=True):
        y, z = ours(dg.tensor(x)), theirs(torch.tensor(x))
        compare(y, z, "forward")
        np.testing.assert_allclose(ours.inv(y).numpy(), x, atol=1e-9)
        slope = theirs.log_abs_det_jacobian(torch.tensor(x), z)
        compare(ours.log_abs_det_jacobian(dg.tensor(x), y), slope, "slope")


@pytest.mark.parametrize("name", CASES)
def test_supports(name: str) -> None:
    make, value = CASES[name]
    ours = make(D, lambda x: dg.tensor(x, dtype=dg.float64))
    theirs = make(torch.distributions, lambda x: torch.tensor(x, dtype=torch.float64))
    for inside in (np.array(value, float), -np.array(value, float) - 0.5):
        found = ours.support.check(dg.tensor(inside))
        same(found, theirs.support.check(torch.tensor(inside)))
    assert ours.support.event_dim == theirs.support.event_dim
    assert set(ours.arg_constraints) == set(theirs.arg_constraints)
