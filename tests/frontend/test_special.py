"""`dualgraph.special` against PyTorch's: names, dtypes, gradients, and where there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg

from .parity import Side, array, compare, torch


def check(name: str, *args: Any) -> None:
    """``special.name(*args)`` in both frameworks."""

    def run(side: Side) -> Any:
        tensors = [side.tensor(a) if isinstance(a, np.ndarray) else a for a in args]
        return getattr(side.module.special, name)(*tensors)

    compare(run, name)


SMOOTH = ["erfcx", "i0", "i0e", "i1", "i1e", "log_ndtr", "ndtr", "expit", "sinc"]
INNER = {
    "entr": (0.1, 3),
    "gammaln": (0.1, 5),
    "psi": (0.1, 5),
    "erfinv": (-0.9, 0.9),
    "ndtri": (0.1, 0.9),
}


def within(low: float, high: float, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, (3, 4)).astype(dtype)


@pytest.mark.parametrize("name", [*SMOOTH, *INNER])
def test_one_operand(name: str) -> None:
    low, high = INNER.get(name, (-3, 3))
    check(name, within(low, high))
    check(name, within(low, high, np.float32))
    if name not in ("erfinv", "ndtri"):
        check(name, np.array([1, 2, 3]))


def test_everything_of_pytorch_is_there() -> None:
    theirs = {
        n
        for n in dir(torch.special)
        if not n.startswith("_") and callable(getattr(torch.special, n))
    }
    assert theirs - {"Tensor"} - set(dir(dg.special)) == set()


def test_two_operands() -> None:
    a, x = within(0.5, 4), within(0.1, 6)
    for name in ("gammainc", "gammaincc"):
        expected = getattr(torch.special, name)(torch.from_numpy(a), torch.from_numpy(x))
        got = getattr(dg.special, name)(dg.from_numpy(a), dg.from_numpy(x))
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-12)
    check("xlog1py", array(3, 4), within(0.1, 3))
    check("multigammaln", within(3, 6), 3)
    check("polygamma", 2, within(0.5, 4))


@pytest.mark.parametrize("name", ["igamma", "igammac"])
def test_the_first_operand_of_igamma_has_no_derivative(name: str) -> None:
    a = dg.tensor([1.5], dtype=dg.float64, requires_grad=True)
    x = dg.tensor([0.5], dtype=dg.float64, requires_grad=True)
    y = getattr(dg, name)(a, x)
    with pytest.raises(NotImplementedError, match=f"the derivative for '{name}: input'"):
        y.backward()
    y = getattr(dg, name)(a.detach(), x)
    y.backward()
    density = 0.5**0.5 * np.exp(-0.5) / (0.5 * np.sqrt(np.pi))
    sign = 1 if name == "igamma" else -1
    np.testing.assert_allclose(x.grad.numpy(), [sign * density], rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["bessel_j0", "airy_ai", "modified_bessel_i0", "spherical_bessel_j0"]
)
def test_functions_without_a_gradient(name: str) -> None:
    x = dg.ones(3, requires_grad=True)
    assert not getattr(dg.special, name)(x).requires_grad


def test_methods_and_out() -> None:
    x = dg.tensor([0.5, 2.0])
    np.testing.assert_array_equal(x.polygamma(1).numpy(), dg.polygamma(1, x).numpy())
    out = dg.empty(2)
    assert dg.special.i0e(x, out=out) is out
    np.testing.assert_array_equal(out.numpy(), dg.special.i0e(x).numpy())
    y = x.clone().lgamma_()
    np.testing.assert_array_equal(y.numpy(), x.lgamma().numpy())
    with pytest.raises(RuntimeError, match="greater than or equal to 1"):
        x.mvlgamma(0)
    with pytest.raises(RuntimeError, match="does not support negative n"):
        dg.polygamma(-1, x)


def test_compiled() -> None:
    def f(x: dg.Tensor) -> dg.Tensor:
        return dg.special.i0e(x) * x.erfinv() + dg.special.ndtr(x).lgamma()

    x = dg.from_numpy(within(-0.9, 0.9)).requires_grad_()
    eager, compiled = f(x), dg.compile(f)(x)
    np.testing.assert_allclose(compiled.detach().numpy(), eager.detach().numpy(), rtol=1e-12)
    (a,), (b,) = (dg.autograd.grad(y.sum(), x) for y in (eager, compiled))
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)
