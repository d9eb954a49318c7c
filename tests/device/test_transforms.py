"""Function transforms, forward mode and mixed precision on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph.autograd import forward_ad


def loss(w: Any, x: Any) -> Any:
    return ((x @ w).tanh() ** 2).sum()


def test_transforms_stay_on_the_device(cupy: Any) -> None:
    w, rows = np.arange(3.0), np.arange(6.0).reshape(2, 3) / 6
    programs: list[Any] = [
        lambda w, x: dg.func.grad(loss)(w, x),
        lambda w, x: dg.vmap(dg.func.grad(loss), in_dims=(None, 0))(w, x),
        lambda w, x: dg.func.jvp(lambda w: loss(w, x), (w,), (w,))[1],
        lambda w, x: dg.func.hessian(lambda w: loss(w, x))(w),
        lambda w, x: dg.func.jacfwd(lambda w: (x * w).softmax(1))(w),
        lambda w, x: dg.vmap(lambda r: r + dg.rand_like(r) * 0, randomness="different")(x),
    ]
    for program in programs:
        here = program(dg.tensor(w), dg.tensor(rows))
        there = program(dg.tensor(w).cuda(), dg.tensor(rows).cuda())
        assert there.is_cuda
        np.testing.assert_allclose(there.cpu(), here, rtol=1e-9, atol=1e-12)


def test_duals_stay_on_the_device(cupy: Any) -> None:
    x = dg.arange(3.0).cuda()
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(forward_ad.make_dual(x, x).sin()).tangent
    np.testing.assert_allclose(tangent.cpu(), np.arange(3) * np.cos(np.arange(3)), rtol=1e-5)


def test_mixed_precision(cupy: Any) -> None:
    dg.manual_seed(0)
    model = nn.Linear(4, 2).cuda()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    scaler = dg.amp.GradScaler(init_scale=128.0)
    x, y = dg.rand(8, 4).cuda(), dg.tensor([0, 1] * 4).cuda()
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        with dg.autocast("cuda"):
            scores = model(x)
            assert scores.dtype is dg.float16
            assert scores.softmax(1).dtype is dg.float32
            assert scores.sum().dtype is dg.float32
            value = F.cross_entropy(scores, y)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(value.item())
    assert losses[-1] < losses[0]
    assert model.weight.grad.dtype is dg.float32
