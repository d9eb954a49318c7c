"""gradcheck and gradgradcheck find what is right and what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph.autograd import gradcheck, gradgradcheck
from dualgraph.autograd.gradcheck import GradcheckError

X = dg.tensor(np.random.default_rng(0).normal(size=(2, 3)), requires_grad=True)
Z = dg.tensor(np.random.default_rng(1).normal(size=3) + 1j, requires_grad=True)


class Wrong(dg.autograd.Function):
    """sin with a gradient that is off by half."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.saved_tensors[0].cos() * 1.5


class WrongTwice(dg.autograd.Function):
    """sin, with a first derivative that is right and a second one that is missing."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.saved_tensors[0].detach().cos()


@pytest.mark.parametrize("fast", [False, True])
def test_right_gradients_pass(fast: bool) -> None:
    options: Any = {
        "fast_mode": fast,
        "check_forward_ad": True,
        "check_batched_grad": True,
    }
    assert gradcheck(lambda x: x.sin() * x.sum(), X, **options)
    assert gradcheck(lambda x, z: (x @ z, z.exp()), (X * (1 + 0j), Z), **options)
    assert gradcheck(lambda z: (z.abs(), z.angle()) if hasattr(z, "angle") else z.abs(), Z)
    assert gradgradcheck(lambda x: x.sin() * x.sum(), X, fast_mode=fast, check_fwd_over_rev=True)
    assert gradgradcheck(lambda z: z.exp() * z.conj(), Z, fast_mode=fast)


@pytest.mark.parametrize("fast", [False, True])
def test_wrong_gradients_fail(fast: bool) -> None:
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to inp"):
        gradcheck(Wrong.apply, X, fast_mode=fast)
    assert not gradcheck(Wrong.apply, X, fast_mode=fast, raise_exception=False)
    with pytest.raises(GradcheckError, match="forward mode"):
        gradcheck(Wrong.apply, X, fast_mode=fast, check_forward_ad=True)
    assert gradcheck(WrongTwice.apply, X, fast_mode=fast)
    assert not gradgradcheck(WrongTwice.apply, X, fast_mode=fast, raise_exception=False)


def test_what_is_asked_for() -> None:
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(lambda x: x, X.detach())
    with pytest.warns(UserWarning, match="double precision"):
        gradcheck(lambda x: x * 2, X.detach().float().requires_grad_(), atol=1e-1)
    with pytest.raises(ValueError, match="check_forward_ad or check_backward_ad"):
        gradcheck(lambda x: x, X, check_backward_ad=False)


def test_gradients_that_change_are_found() -> None:
    class Drifting(dg.autograd.Function):
        count = 0

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            Drifting.count += 1
            return g * (2 + 1e-9 * Drifting.count)

    with pytest.raises(GradcheckError, match="not reentrant"):
        gradcheck(Drifting.apply, X)
    assert gradcheck(Drifting.apply, X, nondet_tol=1e-6)


def test_weights_and_strided_inputs() -> None:
    wide = dg.tensor(np.ones((3, 4)), requires_grad=True)
    assert gradcheck(lambda x: x.T[::2].exp(), wide)
    weights = dg.tensor(np.full((3, 4), 0.5), requires_grad=True)
    assert gradgradcheck(lambda x: x**3, wide, weights)
    assert gradgradcheck(lambda x: x**3, wide, gen_non_contig_grad_outputs=True)
