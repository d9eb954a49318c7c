"""A cubic fitted to a sine: with an autograd function of one's own, weight norm, hooks."""

import argparse
import math

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class LegendrePolynomial3(torch.autograd.Function):
    """The third Legendre polynomial, (5 x**3 - 3 x) / 2."""

    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return 0.5 * (5 * input**3 - 3 * input)

    @staticmethod
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        return grad_output * 1.5 * (5 * input**2 - 1)


class Polynomial(nn.Module):
    """``a + b P3(c + d x)`` and a small network for what is left."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(()))
        self.b = nn.Parameter(torch.full((), -1.0))
        self.c = nn.Parameter(torch.zeros(()))
        self.d = nn.Parameter(torch.full((), 0.3))
        self.rest = nn.Sequential(
            weight_norm(nn.Linear(1, 16)), nn.Softplus(beta=2), nn.Linear(16, 1, bias=False)
        )
        nn.init.zeros_(self.rest[2].weight)

    def forward(self, x):
        P3 = LegendrePolynomial3.apply
        return self.a + self.b * P3(self.c + self.d * x) + self.rest(x[:, None]).squeeze(-1)

    def string(self):
        values = (p.item() for p in (self.a, self.b, self.c, self.d))
        return "y = {:.3f} + {:.3f} * P3({:.3f} + {:.3f} x) + rest".format(*values)


def main():
    """Read the options, fit, and print the polynomial and gradients that hooks have seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--points", type=int, default=500)
    args = parser.parse_args()
    torch.manual_seed(0)
    x = torch.linspace(-2, math.pi, args.points)
    y = torch.sin(x)
    model = Polynomial().to(torch.device("cpu"))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    seen = []
    model.rest.register_full_backward_hook(
        lambda module, grad_input, grad_output: seen.append(grad_output[0].abs().mean().item())
    )
    model.b.register_hook(lambda grad: grad * 0.5)
    optimizer = torch.optim.NAdam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=20, factor=0.5)
    for t in range(args.steps):
        y_pred = model(x)
        loss = (y_pred - y).pow(2).mean()
        if t % 20 == 0:
            print(t, f"{loss.item():.6f}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
        average.update_parameters(model)
    print(f"Result: {model.string()}")
    with torch.no_grad():
        print(f"averaged: {nn.functional.mse_loss(average(x), y).item():.6f}")
    print(f"gradients at the rest: {seen[0]:.6f} to {seen[-1]:.6f}")
    slope = torch.autograd.functional.jacobian(lambda v: model(v).sum(), torch.zeros(1))
    print(f"slope at 0: {slope.item():.4f}")


if __name__ == "__main__":
    main()
