"""A variational autoencoder of handwritten digits, after D. Kingma and M. Welling (2014)."""

import argparse

import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from dualgraph_models.datasets import digits_split


class Images(Dataset):
    """Images [1, 8, 8] of an array, without their labels."""

    def __init__(self, images):
        self.images = torch.as_tensor(images, dtype=torch.float32)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


class VAE(nn.Module):
    """One hidden layer on either side of a Gaussian code."""

    def __init__(self, hidden=100, code=8):
        super().__init__()
        self.fc1 = nn.Linear(64, hidden)
        self.fc21 = nn.Linear(hidden, code)
        self.fc22 = nn.Linear(hidden, code)
        self.fc3 = nn.Linear(code, hidden)
        self.fc4 = nn.Linear(hidden, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    """Reconstruction error plus divergence from the prior, summed over images and pixels."""
    bce = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return bce + kld


def train(args, model, device, loader, optimizer, epoch):
    """One pass over the training set."""
    model.train()
    train_loss = 0
    for batch_idx, data in enumerate(loader):
        data = data.to(device)
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
        if batch_idx % args.log_interval == 0:
            print(
                f"Train Epoch: {epoch} [{batch_idx * len(data)}/{len(loader.dataset)}]"
                f"\tLoss: {loss.item() / len(data):.6f}"
            )
    print(f"====> Epoch: {epoch} Average loss: {train_loss / len(loader.dataset):.4f}")


def test(model, device, loader):
    """Mean loss on the test set."""
    model.eval()
    test_loss = 0
    with torch.no_grad():
        for data in loader:
            data = data.to(device)
            recon_batch, mu, logvar = model(data)
            test_loss += loss_function(recon_batch, data, mu, logvar).item()
    print(f"====> Test set loss: {test_loss / len(loader.dataset):.4f}")


def show(images):
    """Print images [N, 8, 8] side by side in characters."""
    ink = " .:-=+*#%@"
    levels = (images.clamp(0, 1) * (len(ink) - 1)).round().long()
    for rows in levels.permute(1, 0, 2).tolist():
        print("  ".join("".join(ink[level] * 2 for level in row) for row in rows))


def main():
    """Read the options, train, test, and draw a few digits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=128, metavar="N")
    parser.add_argument("--epochs", type=int, default=10, metavar="N")
    parser.add_argument("--no-cuda", action="store_true", help="stay on the CPU")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-interval", type=int, default=5, metavar="N")
    args = parser.parse_args()
    cuda = not args.no_cuda and torch.cuda.is_available()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if cuda else "cpu")
    kwargs = {"num_workers": 1, "pin_memory": True} if cuda else {}

    split = digits_split()
    train_loader = DataLoader(
        Images(split.train_images), batch_size=args.batch_size, shuffle=True, **kwargs
    )
    test_loader = DataLoader(Images(split.test_images), batch_size=args.batch_size, **kwargs)

    model = VAE().to(device)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, train_loader, optimizer, epoch)
        test(model, device, test_loader)
    with torch.no_grad():
        sample = torch.randn(6, 8).to(device)
        show(model.decode(sample).cpu().view(6, 8, 8))


if __name__ == "__main__":
    main()
