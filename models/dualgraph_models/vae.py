"""A variational autoencoder: D. Kingma, M. Welling, "Auto-encoding variational Bayes" (2014).

Trained on the 8x8 images of the UCI optical digits. The noise of the reparameterised samples is
drawn inside the compiled step, from the same stream of random numbers as in eager code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import dualgraph as dg
import dualgraph.nn.functional as F
from dualgraph import nn, optim
from dualgraph_models.datasets import digits_split
from dualgraph_models.pretrained import Pretrained
from dualgraph_models.running import options, progress


class VAE(nn.Module, Pretrained):
    """A Gaussian code of an image, and what that decodes to.

    Shapes: images [N, 1, 8, 8], 0 to 1 -> logits of the pixels [N, 1, 8, 8], and mean and
    logarithm of the variance of the code, [N, latent] each.

    Args:
        latent: features of the code.
        hidden: features between image and code.
    """

    def __init__(self, latent: int = 8, hidden: int = 128) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(64, hidden), nn.SiLU(), nn.Linear(hidden, 2 * latent)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 64),
            nn.Unflatten(1, (1, 8, 8)),
        )

    def encode(self, images: dg.Tensor) -> tuple[dg.Tensor, dg.Tensor]:
        """Mean and log variance of the code of images."""
        mean, log_var = self.encoder(images).chunk(2, dim=1)
        return mean, log_var

    def decode(self, code: dg.Tensor) -> dg.Tensor:
        """The logits of the pixels for codes [N, latent]."""
        return self.decoder(code)  # type: ignore[no-any-return]

    def reparameterize(self, mean: dg.Tensor, log_var: dg.Tensor) -> dg.Tensor:
        """A sample of the code that gradients of mean and variance go through; the mean in
        evaluation mode."""
        if not self.training:
            return mean
        noise = dg.randn_like(mean)
        return mean + noise * (0.5 * log_var).exp()

    def forward(self, images: dg.Tensor) -> tuple[dg.Tensor, dg.Tensor, dg.Tensor]:
        mean, log_var = self.encode(images)
        return self.decode(self.reparameterize(mean, log_var)), mean, log_var

    @dg.no_grad()
    def sample(self, count: int) -> dg.Tensor:
        """New images [count, 1, 8, 8]: decoded codes of the standard normal distribution."""
        return self.decode(dg.randn(count, self.latent)).sigmoid()


def negative_elbo(
    logits: dg.Tensor, mean: dg.Tensor, log_var: dg.Tensor, images: dg.Tensor
) -> tuple[dg.Tensor, dg.Tensor]:
    """Reconstruction error and divergence from the standard normal, in nats an image."""
    n = images.shape[0]
    error = F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / n
    divergence = -0.5 * (1 + log_var - mean * mean - log_var.exp()).sum() / n
    return error, divergence


def training_step(
    model: VAE, optimizer: optim.Optimizer
) -> Callable[[dg.Tensor], tuple[dg.Tensor, dg.Tensor]]:
    """A function of images that trains on them; returns the two parts of the loss before."""

    def step(images: dg.Tensor) -> tuple[dg.Tensor, dg.Tensor]:
        logits, mean, log_var = model(images)
        error, divergence = negative_elbo(logits, mean, log_var, images)
        (error + divergence).backward()
        optimizer.step()
        optimizer.zero_grad()
        return error.detach(), divergence.detach()

    return step


def batches(images: Any, size: int, count: int, seed: int = 0) -> Iterator[dg.Tensor]:
    """`count` batches of `size` images, drawn at random from an array [n, 1, 8, 8]."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield dg.tensor(images[rng.integers(len(images), size=size)])


def example_inputs(batch: int = 2) -> tuple[dg.Tensor]:
    """Random images [batch, 1, 8, 8]."""
    return (dg.rand(batch, 1, 8, 8),)


def picture(images: dg.Tensor) -> str:
    """Images [N, 1, 8, 8] side by side, in characters."""
    ink = np.array(list(" .:-=+*#%@"))
    rows = np.concatenate(list(images.numpy()[:, 0]), axis=1) * (len(ink) - 1)
    lines = ink[rows.round().astype(int).clip(0, len(ink) - 1)].repeat(2, axis=1)
    return "\n".join("".join(line) for line in lines)


def main() -> None:
    """Train on digits, and draw some that nobody wrote."""
    args = options("vae", __doc__, steps=3000, batch=64)
    split = digits_split()
    model = VAE()
    step: Any = training_step(model, optim.Adam(model.parameters(), lr=2e-3))
    if not args.eager:
        step = dg.compile(step)
    began = time.perf_counter()
    with progress(args.steps) as report:
        for images in batches(split.train_images, args.batch, args.steps, args.seed):
            error, divergence = step(images)
            report(error.item() + divergence.item())
    seconds = time.perf_counter() - began
    model.eval()
    images = dg.tensor(split.test_images)
    with dg.no_grad():
        logits, mean, log_var = model(images)
        error, divergence = negative_elbo(logits, mean, log_var, images)
    print(f"{args.steps} steps in {seconds:.0f} s; on held-out images, in nats an image:")
    print(f"error {error.item():.1f} of the decoded mean, divergence {divergence.item():.1f}\n")
    print(f"held-out images\n{picture(images[:6])}\ndecoded\n{picture(logits[:6].sigmoid())}")
    print(f"drawn by the model\n{picture(model.sample(6))}")


if __name__ == "__main__":
    main()
