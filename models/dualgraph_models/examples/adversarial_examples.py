"""Images changed so that a classifier errs: the fast gradient sign attack."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torch.utils.data import DataLoader, TensorDataset, random_split

from dualgraph_models.datasets import load_digits


def train(model, loader, optimizer, scheduler, epochs, device):
    """Train with a learning rate that rises and falls within the run."""
    model.train()
    for epoch in range(epochs):
        for data, target in loader:
            data, target = data.to(device), target.to(device)
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(data), target, label_smoothing=0.05)
            loss.backward()
            nn.utils.clip_grad_value_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
        print(f"epoch {epoch}: loss {loss.item():.4f}, lr {scheduler.get_last_lr()[0]:.5f}")


def fgsm_attack(image, epsilon, data_grad):
    """Every pixel moved by `epsilon` up the loss."""
    sign_data_grad = data_grad.sign()
    perturbed_image = image + epsilon * sign_data_grad
    return torch.clamp(perturbed_image, 0, 1)


def test(model, device, loader, epsilon):
    """How many images are recognised before and after the attack."""
    correct = 0
    for data, target in loader:
        data, target = data.to(device), target.to(device)
        data.requires_grad = True
        output = model(data)
        right = output.max(1, keepdim=True)[1].squeeze(1) == target
        loss = F.nll_loss(F.log_softmax(output, dim=1), target)
        model.zero_grad()
        loss.backward()
        perturbed = fgsm_attack(data, epsilon, data.grad.data)
        found = model(perturbed).max(1)[1]
        correct += ((found == target) & right).sum().item()
    count = len(loader.dataset)
    print(f"Epsilon: {epsilon}\tTest Accuracy = {correct} / {count} = {correct / count:.3f}")


def main():
    """Read the options, train, attack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    images, labels = load_digits()
    dataset = TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    held_out = len(dataset) // 5
    generator = torch.Generator().manual_seed(args.seed)
    train_set, test_set = random_split(dataset, [len(dataset) - held_out, held_out], generator)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=200, shuffle=False)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 64),
        nn.LayerNorm(64),
        nn.SiLU(),
        nn.Linear(64, 10),
    ).to(device)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    scheduler = optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.2, epochs=args.epochs, steps_per_epoch=len(train_loader)
    )
    train(model, train_loader, optimizer, scheduler, args.epochs, device)
    model.eval()
    for epsilon in [0, 0.05, 0.1, 0.15, 0.2]:
        test(model, device, test_loader, epsilon)


if __name__ == "__main__":
    main()
