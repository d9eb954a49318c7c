"""Mixed precision: what runs in which dtype, and that training gets where float32 gets."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim

bf16, f16, f32 = dg.bfloat16, dg.float16, dg.float32
A, B = dg.rand(4, 4), dg.rand(4, 4)
IMAGE, KERNEL = dg.rand(1, 2, 6, 6), dg.rand(3, 2, 3, 3)

LOWER: dict[str, Any] = {
    "matmul": lambda: A @ B,
    "mm": lambda: dg.mm(A, B),
    "bmm": lambda: dg.bmm(A[None], B[None]),
    "addmm": lambda: dg.addmm(A, A, B),
    "baddbmm": lambda: dg.baddbmm(A[None], A[None], B[None]),
    "einsum": lambda: dg.einsum("ij,jk->ik", A, B),
    "linear": lambda: F.linear(A, B, B[0]),
    "conv": lambda: F.conv2d(IMAGE, KERNEL),
    "conv_transpose": lambda: F.conv_transpose2d(IMAGE, KERNEL.transpose(0, 1)),
    "prelu": lambda: F.prelu(A, dg.tensor([0.1])),
}
FLOAT32: dict[str, Any] = {
    "mse_loss": lambda low: F.mse_loss(low, low),
    "l1_loss": lambda low: F.l1_loss(low, low),
    "smooth_l1_loss": lambda low: F.smooth_l1_loss(low, low),
    "cross_entropy": lambda low: F.cross_entropy(low, dg.tensor([0, 1, 2, 3])),
    "nll_loss": lambda low: F.nll_loss(low, dg.tensor([0, 1, 2, 3])),
    "binary_cross_entropy_with_logits": lambda low: F.binary_cross_entropy_with_logits(low, low),
    "kl_div": lambda low: F.kl_div(low, low.abs(), reduction="sum"),
    "margin_ranking_loss": lambda low: F.margin_ranking_loss(low, low, low.sign()),
    "prod": lambda low: low.prod(),
    "cdist": lambda low: dg.cdist(low, low),
}
AS_IT_IS: dict[str, Any] = {
    "relu": lambda low: low.relu(),
    "add": lambda low: low + low,
    "gelu": lambda low: F.gelu(low),
    "softmax": lambda low: low.softmax(0),
    "layer_norm": lambda low: F.layer_norm(low, (4,)),
    "layer_norm with parameters": lambda low: F.layer_norm(low, (4,), A[0], A[1]),
    "reshape": lambda low: low.reshape(-1),
    "sum": lambda low: low.sum(),
}


@pytest.mark.parametrize("dtype", [bf16, f16])
def test_what_runs_in_which_precision_on_cpus(dtype: Any) -> None:
    with dg.autocast("cpu", dtype=dtype):
        low = A @ B
        for name, call in LOWER.items():
            assert call().dtype is dtype, name
        for name, call in FLOAT32.items():
            assert call(low).dtype is f32, name
        for name, call in AS_IT_IS.items():
            assert call(low).dtype is dtype, name
        assert (low + A).dtype is f32
        assert dg.cat([low, A]).dtype is f32
        assert dg.stack([low, A]).dtype is f32
        assert (A.double() @ B.double()).dtype is dg.float64
        assert dg.ones(2, 2).dtype is f32
    assert (A @ B).dtype is f32


def test_as_torch_decides_on_cpus() -> None:
    torch = pytest.importorskip("torch")
    a, b = torch.rand(4, 4), torch.rand(4, 4)
    cases: dict[str, Any] = {
        "matmul": lambda t, x, y: x @ y,
        "addmm": lambda t, x, y: t.addmm(x, x, y),
        "addbmm": lambda t, x, y: t.addbmm(x, x[None], y[None]),
        "linear": lambda t, x, y: t.nn.functional.linear(x, y),
        "conv1d": lambda t, x, y: t.nn.functional.conv1d(x[None], y[:, :, None]),
        "exp": lambda t, x, y: (x @ y).exp(),
        "pow": lambda t, x, y: (x @ y) ** 2,
        "mean": lambda t, x, y: (x @ y).mean(),
        "log_softmax": lambda t, x, y: (x @ y).log_softmax(0),
        "prod": lambda t, x, y: (x @ y).prod(),
        "mse": lambda t, x, y: t.nn.functional.mse_loss(x @ y, y),
        "huber": lambda t, x, y: t.nn.functional.huber_loss(x @ y, y),
        "bce": lambda t, x, y: t.nn.functional.binary_cross_entropy((x @ y).sigmoid(), y),
        "attention": lambda t, x, y: t.nn.functional.scaled_dot_product_attention(
            x[None], y[None], y[None]
        ),
        "sum of both": lambda t, x, y: x @ y + x,
        "cat": lambda t, x, y: t.cat([x @ y, x]),
        "compared": lambda t, x, y: x @ y > x,
    }
    for name, case in cases.items():
        with dg.autocast("cpu"), torch.autocast("cpu"):
            ours, theirs = case(dg, A, B), case(torch, a, b)
        assert str(ours.dtype).split(".")[-1] == str(theirs.dtype).split(".")[-1], name


def test_regions_nest_and_decorate() -> None:
    assert not dg.is_autocast_enabled("cpu")
    with dg.amp.autocast("cpu"):
        assert dg.is_autocast_enabled("cpu")
        assert not dg.is_autocast_enabled("cuda")
        assert dg.get_autocast_dtype("cpu") is bf16
        with dg.autocast("cpu", enabled=False):
            assert (A @ B).dtype is f32
            with dg.autocast("cpu", dtype=f16):
                assert (A @ B).dtype is f16
        assert (A @ B).dtype is bf16

    @dg.autocast("cpu")
    def product() -> Any:
        return A @ B

    assert product().dtype is bf16
    assert (A @ B).dtype is f32
    dg.set_autocast_enabled("cpu", True)
    assert (A @ B).dtype is bf16
    dg.set_autocast_enabled("cpu", False)
    assert (A @ B).dtype is f32
    with pytest.raises(RuntimeError, match="unsupported autocast device_type"):
        dg.autocast("abacus")
    with pytest.warns(UserWarning, match="only supports dtypes"), dg.autocast("cpu", dtype=f32):
        assert (A @ B).dtype is f32
    if not dg.cuda.is_available():
        with pytest.warns(UserWarning, match="CUDA is not available"), dg.autocast("cuda"):
            assert (A @ B).dtype is f32
        with pytest.warns(UserWarning, match="CUDA is not available"):
            dg.cuda.amp.autocast()


def test_a_parameter_is_converted_once() -> None:
    w = dg.rand(4, 4, requires_grad=True)
    with dg.autocast("cpu"):
        first, second = A @ w, B @ w
        kept = len(dg.amp.autocast_mode.transforms.autocast.cache)
        w.data.mul_(2)
        w._bump_version()
        third = A @ w
    assert kept == 1
    np.testing.assert_allclose(third.detach().float(), 2 * first.detach().float(), rtol=2e-2)
    (first.sum() + second.sum()).backward()
    assert w.grad.dtype is f32
    np.testing.assert_allclose(w.grad, np.tile((A + B).sum(0).numpy()[:, None], 4), rtol=2e-2)


class Product(dg.autograd.Function):
    """x times its transpose, in float32 whatever the region says."""

    @staticmethod
    @dg.amp.custom_fwd(device_type="cpu", cast_inputs=f32)
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x @ x.T

    @staticmethod
    @dg.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        assert not dg.is_autocast_enabled("cpu")
        return (g + g.T) @ x


class Following(dg.autograd.Function):
    """As the region says, in the backward, too."""

    @staticmethod
    @dg.amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x @ x.T

    @staticmethod
    @dg.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        found = (g + g.T) @ x
        assert found.dtype is bf16
        return found


def test_custom_functions() -> None:
    x = dg.rand(4, 4, requires_grad=True)
    with dg.autocast("cpu"):
        y = Product.apply(x.bfloat16())
        z = Following.apply(x)
    assert y.dtype is f32
    assert z.dtype is bf16
    (y.sum() + z.sum()).backward()
    assert x.grad.dtype is f32
    assert Product.apply(x).dtype is f32


def test_checkpointed_regions_run_again_as_they_ran() -> None:
    from dualgraph.utils.checkpoint import checkpoint

    w = dg.rand(4, 4, requires_grad=True)
    with dg.autocast("cpu"):
        loss = checkpoint(lambda x: (x @ w).relu() @ w, A, use_reentrant=False).sum()
    loss.backward()
    kept, w.grad = w.grad, None
    with dg.cpu.amp.autocast():
        ((A @ w).relu() @ w).sum().backward()
    np.testing.assert_allclose(kept, w.grad, rtol=1e-2)
    assert not dg.is_autocast_enabled("cpu")


# -- the scaler -----------------------------------------------------------------------------------


def stepped(scaler: Any, gradient: float) -> Any:
    p = dg.ones(2, requires_grad=True)
    optimizer = optim.SGD([p], lr=1.0)
    scaler.scale((p * gradient).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    return p.detach().numpy()


def test_scaler_steps_skips_and_adjusts() -> None:
    scaler = dg.amp.GradScaler(init_scale=4.0, growth_interval=2)
    np.testing.assert_allclose(stepped(scaler, 0.5), [0.5, 0.5])
    assert scaler.get_scale() == 4
    np.testing.assert_allclose(stepped(scaler, 0.5), [0.5, 0.5])
    assert scaler.get_scale() == 8
    np.testing.assert_allclose(stepped(scaler, float("inf")), [1, 1])
    assert scaler.get_scale() == 4
    np.testing.assert_allclose(stepped(scaler, float("nan")), [1, 1])
    assert scaler.get_scale() == 2
    scaler.load_state_dict(dg.amp.GradScaler(init_scale=16.0).state_dict())
    assert scaler.get_scale() == 16
    assert pickle.loads(pickle.dumps(scaler)).state_dict() == scaler.state_dict()
    off = dg.amp.GradScaler(enabled=False)
    np.testing.assert_allclose(stepped(off, 0.5), [0.5, 0.5])
    assert off.state_dict() == {}
    assert off.get_scale() == 1.0


def test_scaler_refuses() -> None:
    p = dg.ones(2, requires_grad=True)
    optimizer = optim.SGD([p], lr=1.0)
    scaler = dg.amp.GradScaler()
    with pytest.raises(AssertionError, match="No inf checks"):
        scaler.update()
    scaler.scale([(p * 2).sum(), (p * 3).sum()])[0].backward()
    scaler.unscale_(optimizer)
    np.testing.assert_allclose(p.grad, [2, 2])
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="after step"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="Closure"):
        scaler.step(optimizer, closure=lambda: 0)
    half = dg.ones(2, dtype=f16, requires_grad=True)
    half.sum().backward()
    with pytest.raises(ValueError, match="FP16"):
        dg.amp.GradScaler().unscale_(optim.SGD([half], lr=1.0))
    with pytest.raises(ValueError, match="iterable"):
        scaler.scale(3)


# -- graphs ---------------------------------------------------------------------------------------


def test_traced_and_compiled() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def inside(x: Any) -> Any:
        with dg.autocast("cpu"):
            return model(x)

    want = inside(A)
    assert dg.trace(inside, A).outputs[0].dtype is bf16
    fast = dg.compile(inside, fullgraph=True, execution="interpreter")
    got = fast(A)
    assert got.dtype is bf16
    np.testing.assert_allclose(got.detach().float(), want.detach().float(), rtol=2e-2, atol=1e-2)


def test_compiled_calls_know_the_region_they_are_in() -> None:
    fast = dg.compile(lambda x, y: x @ y, fullgraph=True, execution="interpreter")
    for _ in range(3):
        assert fast(A, B).dtype is f32
        with dg.autocast("cpu"):
            assert fast(A, B).dtype is bf16
            with dg.autocast("cpu", dtype=f16):
                assert fast(A, B).dtype is f16
            with dg.autocast("cpu", enabled=False):
                assert fast(A, B).dtype is f32
            assert fast(A, B).dtype is bf16


def test_a_compiled_step_in_mixed_precision() -> None:
    def losses(compiled: bool) -> list[float]:
        dg.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)
        labels = dg.tensor([0, 1, 0, 1])

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            with dg.autocast("cpu"):
                loss = F.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss

        run = dg.compile(step, fullgraph=True, execution="interpreter") if compiled else step
        return [run(A).item() for _ in range(4)]

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-3)


# -- training -------------------------------------------------------------------------------------


def mlp() -> Any:
    return nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4))


def cnn() -> Any:
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 4),
    )


class Block(nn.Module):
    """One block of a decoder over the 16 numbers as a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 16)
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.mix = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(64, 4)

    def forward(self, x: Any) -> Any:
        h = self.embed(x.reshape(-1, 4, 4))
        q, k, v = (
            t.reshape(-1, 4, 2, 8).transpose(1, 2) for t in self.qkv(self.norm(h)).chunk(3, -1)
        )
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + a.transpose(1, 2).reshape(-1, 4, 16)
        return self.head((h + self.mix(h)).flatten(1))


def trained(make: Any, dtype: Any, steps: int = 40) -> float:
    """The loss over the last steps."""
    dg.manual_seed(0)
    model = make()
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 16))
    labels = rng.integers(0, 4, size=64)
    x = dg.tensor((centres[labels] + 0.5 * rng.normal(size=(64, 16))).astype(np.float32))
    y = dg.tensor(labels)
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    scaler = dg.amp.GradScaler(init_scale=1024.0, enabled=dtype is f16)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        with dg.autocast("cpu", dtype=dtype or bf16, enabled=dtype is not None):
            loss = F.cross_entropy(model(x), y)
        assert loss.dtype is f32
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3
    return float(np.mean(losses[-5:]))


@pytest.mark.parametrize("make", [mlp, cnn, Block], ids=["mlp", "cnn", "decoder"])
def test_training_reaches_the_loss_of_float32(make: Any) -> None:
    """Within 5 % of the first loss, ln 4: about 0.07."""
    want = trained(make, None)
    for dtype in (bf16, f16):
        assert abs(trained(make, dtype) - want) < 0.05 * np.log(4), dtype


def test_copies_are_contiguous() -> None:
    """Whatever dtype an operation would compute in, `contiguous` lays elements out in rows."""
    for dtype in (dg.bfloat16, dg.float32):
        with dg.autocast("cpu", dtype=dg.bfloat16):
            x = dg.ones(2, 3, 4, dtype=dtype).transpose(0, 1).contiguous()
        assert x.is_contiguous()
        assert x.dtype is dtype
        assert tuple(x.view(6, 4).shape) == (6, 4)
