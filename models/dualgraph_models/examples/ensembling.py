"""Several networks trained at once with `torch.func`: stacked weights, `vmap` over them."""

import argparse
import copy

import torch
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from dualgraph_models.datasets import digits_split


class SimpleMLP(nn.Module):
    """Three linear layers."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 32)
        self.fc3 = nn.Linear(32, 10)

    def forward(self, x):
        x = x.flatten(1)
        x = self.fc1(x).relu()
        x = self.fc2(x).relu()
        return self.fc3(x)


def main():
    """Read the options, train all models on the same batches, and vote."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.2)
    parser.add_argument("--log-interval", type=int, default=10)
    args = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    split = digits_split()
    images = torch.from_numpy(split.train_images).to(device)
    labels = torch.from_numpy(split.train_labels).to(device)
    models = [SimpleMLP().to(device) for _ in range(args.models)]
    params, buffers = stack_module_state(models)
    base_model = copy.deepcopy(models[0])

    def loss_fn(params, buffers, x, y):
        scores = functional_call(base_model, (params, buffers), (x,))
        return nn.functional.cross_entropy(scores, y)

    step_of_all = vmap(grad_and_value(loss_fn), in_dims=(0, 0, None, None))
    for step in range(args.steps):
        at = torch.randint(0, len(images), (args.batch_size,), device=device)
        grads, losses = step_of_all(params, buffers, images[at], labels[at])
        with torch.no_grad():
            params = {name: p - args.lr * grads[name] for name, p in params.items()}
        if step % args.log_interval == 0:
            print(step, " ".join(f"{loss:.4f}" for loss in losses.tolist()))

    def scores_of(params, buffers, x):
        return functional_call(base_model, (params, buffers), (x,)).softmax(dim=-1)

    test_images = torch.from_numpy(split.test_images).to(device)
    test_labels = torch.from_numpy(split.test_labels).to(device)
    with torch.no_grad():
        votes = vmap(scores_of, in_dims=(0, 0, None))(params, buffers, test_images)
    single = (votes.argmax(-1) == test_labels).float().mean(-1)
    together = (votes.mean(0).argmax(-1) == test_labels).float().mean()
    print("each:", " ".join(f"{a:.3f}" for a in single.tolist()), f"together: {together:.3f}")


if __name__ == "__main__":
    main()
