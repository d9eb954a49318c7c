"""A Wasserstein GAN with gradient penalty, on points, after I. Gulrajani et al. (2017)."""

import argparse

import numpy as np
import torch
import torch.nn as nn
from torch import autograd, optim


class Generator(nn.Module):
    """Noise [N, 2] -> points [N, 2]."""

    def __init__(self, dim):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(2, dim), nn.ReLU(True), nn.Linear(dim, dim), nn.ReLU(True), nn.Linear(dim, 2)
        )

    def forward(self, noise):
        return self.main(noise)


class Critic(nn.Module):
    """Points [N, 2] -> how real they seem [N]."""

    def __init__(self, dim):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(2, dim), nn.Tanh(), nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1)
        )

    def forward(self, x):
        return self.main(x).view(-1)


def eight_gaussians(count, rng):
    """Points around eight places on a circle."""
    angles = rng.integers(8, size=count) * np.pi / 4
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return (centres + 0.05 * rng.standard_normal((count, 2))).astype(np.float32)


def calc_gradient_penalty(critic, real, fake, weight):
    """How far the critic's gradient is from length 1 between real and made points."""
    alpha = torch.rand(real.size(0), 1)
    alpha = alpha.expand(real.size()).to(real.device)
    interpolates = alpha * real + ((1 - alpha) * fake)
    interpolates = autograd.Variable(interpolates, requires_grad=True)
    scores = critic(interpolates)
    gradients = autograd.grad(
        outputs=scores,
        inputs=interpolates,
        grad_outputs=torch.ones(scores.size()).to(real.device),
        create_graph=True,
        retain_graph=True,
        only_inputs=True,
    )[0]
    return ((gradients.norm(2, dim=1) - 1) ** 2).mean() * weight


def main():
    """Read the options, and train critic and generator in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--critic-iterations", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--penalty", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    generator, critic = Generator(args.dim).to(device), Critic(args.dim).to(device)
    optimizer_critic = optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
    optimizer_generator = optim.RMSprop(generator.parameters(), lr=1e-3)
    one = torch.tensor(1, dtype=torch.float).to(device)
    mone = one * -1
    for iteration in range(args.iterations):
        for p in critic.parameters():
            p.requires_grad = True
        for _ in range(args.critic_iterations):
            real = torch.from_numpy(eight_gaussians(args.batch_size, rng)).to(device)
            critic.zero_grad()
            critic_real = critic(real).mean()
            critic_real.backward(mone)
            noise = torch.randn(args.batch_size, 2).to(device)
            with torch.no_grad():
                fake = generator(noise)
            critic_fake = critic(fake).mean()
            critic_fake.backward(one)
            penalty = calc_gradient_penalty(critic, real, fake, args.penalty)
            penalty.backward()
            optimizer_critic.step()
        for p in critic.parameters():
            p.requires_grad = False
        generator.zero_grad()
        noise = torch.randn(args.batch_size, 2).to(device)
        cost = critic(generator(noise)).mean()
        cost.backward(mone)
        optimizer_generator.step()
        if iteration % 20 == 0:
            distance = critic_real - critic_fake
            print(f"{iteration}: distance {distance.item():.4f}, penalty {penalty.item():.4f}")
    points = generator(torch.randn(1000, 2).to(device)).detach().cpu()
    radius = points.pow(2).sum(1).sqrt()
    print(f"radius {radius.mean():.3f} +- {radius.std():.3f} (of the data: 2)")


if __name__ == "__main__":
    main()
