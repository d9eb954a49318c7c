"""Functions and layers on the device give what they give on the CPU, and so do their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn
from tests.fake_cupy import count_transfers

# Expressions of x [3, 4] and y [3, 4] (float64, differentiable), p (positive), i (int64 [3, 4]),
# m (bool), s (float64 [4, 4]) and v ([4]).
FUNCTIONS = """
x + 1; 2 - x; x * y; x / y; x // y; x % y; p ** 2; p ** y; -x; abs(x); x @ s; x @ v
x + i; i / 2; i + 1.5; 3 ** i; i ** 2; i // 2; i & 1; i << 1; ~m; m | m; x.half() + 1
dg.exp(x); dg.log(p); dg.log1p(p); dg.expm1(x); dg.sqrt(p); dg.rsqrt(p); dg.sin(x); dg.cos(x)
dg.tan(x); dg.tanh(x); dg.atan(x); dg.sinh(x); dg.asinh(x); dg.erf(x); dg.erfc(x)
dg.sigmoid(x); dg.floor(x); dg.ceil(x); dg.round(x); dg.sign(x)
dg.trunc(x); dg.reciprocal(p); dg.square(x); dg.clamp(x, -0.5, 0.5); x.clamp(min=0)
dg.maximum(x, y); dg.minimum(x, y); dg.fmod(x, y); dg.remainder(x, y); dg.atan2(x, y)
dg.where(m, x, y); dg.where(x > 0, x, 0.0); x > y; x == x; dg.isnan(x); dg.isclose(x, x)
dg.logaddexp(x, y); dg.lerp(x, y, 0.3); dg.addcmul(x, y, y); dg.hypot(x, y)
x.sum(); x.sum(0); x.mean(1, keepdim=True); x.prod(1); x.max(); x.max(1); x.min(0); x.amax(1)
x.argmax(1); x.argmin(); x.var(1); x.std(0); x.norm(); x.norm(dim=1); dg.logsumexp(x, 1)
x.all(); m.any(1); x.cumsum(1); x.cumprod(0); x.median(1); x.sort(1); x.sort(0, descending=True)
x.argsort(1); x.topk(2, 1); x.kthvalue(2, 1); dg.count_nonzero(x); x.nansum(); dg.aminmax(x)
x.reshape(4, 3); x.view(2, 6); x.T; x.transpose(0, 1); x.permute(1, 0); x.flatten(); x.unsqueeze(1)
x[None].squeeze(0); x.expand(2, 3, 4); x.repeat(2, 1); x.flip(0); x.roll(1, 1); dg.cat([x, y], 1)
dg.stack([x, y]); dg.split(x, 2, 1); dg.chunk(x, 2, 1); x.unbind(0); dg.tile(x, (2, 1))
x.movedim(0, 1)
dg.tril(x); dg.triu(x); s.diagonal(); dg.diag(v); s.trace(); dg.einsum("ij,kj->ik", x, y)
x[0]; x[:, 1:3]; x[..., None]; x[i[0, :2]]; x[m]; x[:, [0, 2]]; x[-1, -1]; x[::2, ::2]
x.gather(1, i); x.scatter(1, i, y); x.scatter_add(1, i, y); x.index_select(0, i[0, :2])
x.index_add(0, i[0, :2], y[:2]); x.masked_fill(m, 0.0); x.masked_select(m); x.take_along_dim(i, 1)
x.masked_scatter(m, y.flatten()); x.index_fill(0, i[0, :2], 1.0); dg.nonzero(m); dg.unique(i)
dg.bincount(i.flatten()); dg.isin(i, i[0]); dg.searchsorted(v.sort()[0], x)
dg.repeat_interleave(x, 2, 0); dg.bmm(x[None], s[None]); dg.outer(v, v); dg.dot(v, v); dg.mv(x, v)
dg.addmm(x, x, s); dg.matmul(x, s); dg.tensordot(x, y, 2); x.tolist()
dg.meshgrid(v, v, indexing="ij")
dg.cdist(x, y); dg.cross(x[:, :3], y[:, :3]); dg.diff(x); dg.flatten(x)
dg.complex(x, y); dg.complex(x, y).abs(); dg.complex(x, y).conj() * 2
x.to(dg.float32); x.half(); x.bfloat16(); x.long(); x.bool(); x.bfloat16() * 2; x.bfloat16().sum()
F.relu(x); F.gelu(x); F.gelu(x, approximate="tanh"); F.silu(x); F.elu(x); F.leaky_relu(x); F.mish(x)
F.softplus(x); F.softmax(x, 1); F.log_softmax(x, 1); F.hardswish(x); F.selu(x); F.logsigmoid(x)
F.cross_entropy(x, i[:, 0]); F.nll_loss(x, i[:, 0]); F.mse_loss(x, y); F.l1_loss(x, y)
F.smooth_l1_loss(x, y); F.kl_div(x, p, reduction="sum")
F.binary_cross_entropy_with_logits(x, m.double())
F.linear(x, s, v); F.layer_norm(x, (4,)); F.embedding(i, s); F.one_hot(i, 4); F.normalize(x)
F.pad(x, (1, 2)); F.pad(x[None], (1, 1), mode="reflect"); F.cosine_similarity(x, y)
F.scaled_dot_product_attention(x[None], y[None], y[None]); F.bilinear(x, y, s[None])
F.interpolate(x[None, None], scale_factor=2, mode="nearest")
F.pixel_shuffle(x[:, :, None, None], 2)
"""

LAYERS = """
nn.Linear(4, 3) | 2 4; nn.Conv1d(2, 3, 3, padding=1) | 2 2 6; nn.Conv2d(2, 4, 3) | 2 2 6 6
nn.Conv2d(4, 4, 3, groups=2, stride=2, padding=1) | 2 4 7 7; nn.Conv2d(3, 2, 1) | 2 3 4 4
nn.Conv2d(2, 3, 3, dilation=2) | 1 2 8 8; nn.ConvTranspose2d(2, 3, 3, stride=2) | 2 2 4 4
nn.Conv3d(1, 2, 2) | 1 1 3 3 3; nn.MaxPool2d(2) | 2 3 6 6; nn.MaxPool2d(3, 2, padding=1) | 2 3 7 7
nn.MaxPool1d(2) | 2 3 6; nn.AvgPool2d(2) | 2 3 6 6; nn.AdaptiveAvgPool2d(1) | 2 3 5 5
nn.AdaptiveAvgPool2d(3) | 2 3 7 7; nn.AdaptiveMaxPool2d(2) | 2 3 5 5; nn.BatchNorm1d(4) | 5 4
nn.BatchNorm2d(3) | 4 3 5 5; nn.LayerNorm(4) | 3 4; nn.GroupNorm(2, 4) | 2 4 5; nn.RMSNorm(4) | 3 4
nn.InstanceNorm2d(3) | 2 3 4 4; nn.Dropout(0.5) | 5 5; nn.PReLU() | 3 4; nn.Softmax(1) | 3 4
nn.LSTM(3, 4, bidirectional=True) | 5 2 3; nn.GRU(3, 4, num_layers=2) | 5 2 3; nn.RNN(3, 4) | 5 2 3
nn.LSTMCell(3, 4) | 2 3; nn.Flatten() | 2 3 4; nn.Upsample(scale_factor=2) | 1 2 3 3
nn.ZeroPad2d(1) | 1 2 3 3; nn.Bilinear(3, 3, 2) | 2 3 + 2 3; nn.Unfold(2) | 1 2 4 4
"""

# Whose shape depends on the data, so that the host has to wait for it.
WAIT = ("[m]", "masked_select", "nonzero", "unique", "bincount", "tolist", "one_hot")


def entries(table: str) -> list[str]:
    return [e.strip() for line in table.strip().splitlines() for e in line.split(";")]


def operands(device: str) -> dict[str, Any]:
    rng = np.random.default_rng(1)

    def draw(*shape: int) -> dg.Tensor:
        return dg.tensor(rng.standard_normal(shape)).to(device).requires_grad_()

    x, y, s, v = draw(3, 4), draw(3, 4), draw(4, 4), draw(4)
    p = dg.tensor(rng.random((3, 4)) + 0.5).to(device).requires_grad_()
    i = dg.tensor([[0, 1, 2, 0], [2, 0, 1, 1], [1, 2, 0, 2]]).to(device)
    m = dg.tensor(rng.random((3, 4)) > 0.5).to(device)
    return {"x": x, "y": y, "s": s, "v": v, "p": p, "i": i, "m": m, "dg": dg, "F": F}


def tensors_in(x: Any) -> list[dg.Tensor]:
    if isinstance(x, dg.Tensor):
        return [x]
    return [t for part in x for t in tensors_in(part)] if isinstance(x, list | tuple) else []


def backward(outs: list[dg.Tensor], leaves: list[dg.Tensor]) -> list[np.ndarray]:
    """Gradients of a sum of everything differentiable."""
    total: Any = 0
    for out in outs:
        if out.requires_grad:
            out = out.abs() if out.is_complex() else out
            total = total + (out.double() * out.double()).sum()
    if isinstance(total, dg.Tensor):
        total.backward()
    return [g.cpu().numpy() for t in leaves if (g := t.grad) is not None]


def agree(here: list[Any], there: list[Any], tol: float = 1e-9) -> None:
    assert len(here) == len(there)
    for a, b in zip(here, there, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        exact = a.dtype.kind in "biu"
        a, b = (v if v.dtype.kind != "V" else v.astype(np.float32) for v in (a, b))
        np.testing.assert_allclose(b, a, rtol=0 if exact else tol, atol=0 if exact else tol)


@pytest.mark.parametrize("expression", entries(FUNCTIONS))
def test_function(cupy: Any, expression: str) -> None:
    found = []
    for device in ("cpu", "cuda"):
        names = operands(device)
        leaves = [t for t in names.values() if isinstance(t, dg.Tensor) and t.requires_grad]
        with count_transfers() as log:
            result = eval(expression, names)
            outs = tensors_in(result)
            assert all(t.device.type == device for t in outs)
            if not any(w in expression for w in WAIT):
                assert not log
        values = [t.detach().cpu().numpy() for t in outs]
        found.append([*values, *backward(outs, leaves)] if outs else [np.array(result)])
    agree(*found, tol=2e-2 if "half" in expression or "bfloat" in expression else 1e-9)


@pytest.mark.parametrize("case", entries(LAYERS))
def test_layer(cupy: Any, case: str) -> None:
    text, _, shapes = case.partition(" | ")
    found = []
    for device in ("cpu", "cuda"):
        dg.manual_seed(0)
        layer = eval(text, {"nn": nn}).double().to(device)
        inputs = [
            dg.randn(*map(int, s.split()), dtype=dg.float64).to(device).requires_grad_()
            for s in shapes.split("+")
        ]
        with count_transfers() as log:
            outs = tensors_in(layer(*inputs))
        leaves = [*inputs, *layer.parameters()]
        assert all(t.device.type == device for t in outs)
        with count_transfers() as back:
            total = sum(((t * t).sum() for t in outs), start=dg.zeros((), device=device))
            total.backward()
        assert not log
        assert not back
        buffers = [b.cpu().numpy() for b in layer.buffers()]
        grads = [t.grad.cpu().numpy() for t in leaves if t.grad is not None]
        found.append([*(t.detach().cpu().numpy() for t in outs), *grads, *buffers])
    agree(*found)
