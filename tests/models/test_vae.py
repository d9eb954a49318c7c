"""The VAE: noise inside the compiled step is the noise of the eager one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dualgraph as dg
from dualgraph import optim
from dualgraph_models import vae
from dualgraph_models.datasets import load_digits
from tests.models.agreement import Run, agree, same_training


def data(count: int = 40) -> list[tuple[dg.Tensor]]:
    return [(images,) for images in vae.batches(load_digits()[0], 16, count)]


def build() -> Run:
    model = vae.VAE(latent=4, hidden=32)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    return Run(model, optimizer, vae.training_step(model, optimizer))


def test_whole_steps_are_those_of_eager_code() -> None:
    step, losses = same_training(build, data())
    assert len(step.graphs) == 1
    assert sum(losses[-1]) < 0.8 * sum(losses[0])


def test_compiled_code_draws_what_eager_code_draws() -> None:
    model = vae.VAE(latent=4, hidden=32)
    ((images,),) = data(1)

    def sample(images: dg.Tensor) -> tuple[dg.Tensor, dg.Tensor]:
        mean, log_var = model.encode(images)
        return model.reparameterize(mean, log_var), dg.rand(2)

    compiled = dg.compile(sample)
    found = []
    for function in (sample, compiled):
        dg.manual_seed(5)
        with dg.no_grad():
            found.append([x.numpy() for _ in range(3) for x in function(images)])
        found[-1].append(dg.randn(3).numpy())  # the stream goes on after the calls
    for eager, fast in zip(*found, strict=True):
        np.testing.assert_allclose(fast, eager, rtol=1e-6, atol=1e-7)
    assert len(compiled.graphs) == 1
    assert not np.array_equal(found[1][0], found[1][2])
    dg.manual_seed(5)
    with dg.no_grad():
        mean, log_var = model.encode(images)
        drawn = mean + dg.randn(16, 4) * (0.5 * log_var).exp()
    np.testing.assert_allclose(found[0][0], drawn.numpy(), rtol=1e-6)


def test_evaluation_mode_takes_the_mean() -> None:
    model = vae.VAE(latent=4, hidden=32)
    fast = dg.compile(model)
    ((images,),) = data(1)
    noisy = [fast(images)[0].detach().numpy() for _ in range(2)]
    assert not np.array_equal(*noisy)
    model.eval()
    still = [m(images)[0].detach().numpy() for m in (model, fast, fast)]
    np.testing.assert_allclose(still[1], still[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(still[1], still[2])


def test_loss_against_pytorch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(5, k)).astype(np.float32) for k in (64, 3, 3)]
    arrays.append(rng.random((5, 64)).astype(np.float32))
    error, divergence = vae.negative_elbo(*map(dg.tensor, arrays))
    logits, mean, log_var, images = map(torch.tensor, arrays)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, images, reduction="none")
    assert error.item() == pytest.approx(bce.sum(1).mean().item(), rel=1e-5)
    code = torch.distributions.Normal(mean, (log_var / 2).exp())
    kl = torch.distributions.kl_divergence(code, torch.distributions.Normal(0.0, 1.0))
    assert divergence.item() == pytest.approx(kl.sum(1).mean().item(), rel=1e-5)


def test_exported(tmp_path: Any) -> None:
    model = vae.VAE(latent=4, hidden=32).eval()
    path, decoder = tmp_path / "vae.onnx", tmp_path / "decoder.onnx"
    names = ["logits", "mean", "log_var"]
    dg.onnx.export(
        model, vae.example_inputs(), path, output_names=names, dynamic_shapes={"images": ("n",)}
    )
    code = dg.randn(2, 4)
    dg.onnx.export(model.decode, (code,), decoder, dynamic_shapes={"code": {0: "n"}})
    for n in (1, 7):
        images, code = *vae.example_inputs(n), dg.randn(n, 4)
        agree(path, [images], model(images))
        agree(decoder, [code], model.decode(code))


def test_samples_and_pictures() -> None:
    drawn = vae.VAE(latent=4, hidden=32).sample(3)
    assert drawn.shape == (3, 1, 8, 8)
    assert not drawn.requires_grad
    lines = vae.picture(drawn).splitlines()
    assert [len(line) for line in lines] == [48] * 8
