"""A siamese network that says whether two images show the same digit."""

import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset

from dualgraph_models.datasets import digits_split


class SiameseNetwork(nn.Module):
    """Two images through the same residual network; a head compares their features."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
        )
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(8),
        )
        self.pool = nn.AdaptiveAvgPool2d((2, 2))
        self.fc_in_features = 8 * 2 * 2
        self.fc = nn.Sequential(
            nn.Linear(self.fc_in_features * 2, 64),
            nn.ReLU(inplace=True),
            nn.Linear(64, 1),
        )
        self.sigmoid = nn.Sigmoid()
        self.stem.apply(self.init_weights)
        self.body.apply(self.init_weights)
        self.fc.apply(self.init_weights)

    def init_weights(self, m):
        if isinstance(m, nn.Linear):
            torch.nn.init.xavier_uniform_(m.weight)
            m.bias.data.fill_(0.01)
        elif isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward_once(self, x):
        output = self.stem(x)
        output = torch.relu(output + self.body(output))
        output = self.pool(output)
        return output.view(output.size()[0], -1)

    def forward(self, input1, input2):
        output1 = self.forward_once(input1)
        output2 = self.forward_once(input2)
        output = torch.cat((output1, output2), 1)
        return self.sigmoid(self.fc(output))


class PairMatcher(Dataset):
    """Pairs of images and whether they show the same digit, in even and odd places in turn."""

    def __init__(self, images, labels):
        super().__init__()
        self.data = torch.from_numpy(images)
        self.targets = torch.from_numpy(labels)
        self.group_examples()

    def group_examples(self):
        np_arr = self.targets.clone().numpy()
        self.grouped_examples = {}
        for i in range(10):
            self.grouped_examples[i] = np.where(np_arr == i)[0]

    def __len__(self):
        return self.data.shape[0]

    def __getitem__(self, index):
        selected_class = random.randint(0, 9)
        members = self.grouped_examples[selected_class]
        image_1 = self.data[members[random.randint(0, members.shape[0] - 1)]].clone().float()
        if index % 2 == 0:
            other_class = selected_class
            target = torch.tensor(1, dtype=torch.float)
        else:
            other_class = random.randint(0, 9)
            while other_class == selected_class:
                other_class = random.randint(0, 9)
            target = torch.tensor(0, dtype=torch.float)
        members = self.grouped_examples[other_class]
        image_2 = self.data[members[random.randint(0, members.shape[0] - 1)]].clone().float()
        return image_1, image_2, target


def train(args, model, device, train_loader, optimizer, epoch):
    """One pass over the training pairs."""
    model.train()
    criterion = nn.BCELoss()
    for batch_idx, (images_1, images_2, targets) in enumerate(train_loader):
        images_1, images_2, targets = (
            images_1.to(device),
            images_2.to(device),
            targets.to(device),
        )
        optimizer.zero_grad()
        outputs = model(images_1, images_2).squeeze()
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        if batch_idx % args.log_interval == 0:
            print(
                f"Train Epoch: {epoch} [{batch_idx * len(images_1)}/{len(train_loader.dataset)}]"
                f"\tLoss: {loss.item():.6f}"
            )
        if args.dry_run and batch_idx + 1 == args.dry_run:
            break


def test(model, device, test_loader):
    """Mean loss and accuracy on the test pairs."""
    model.eval()
    test_loss = 0
    correct = 0
    criterion = nn.BCELoss()
    with torch.no_grad():
        for images_1, images_2, targets in test_loader:
            images_1, images_2, targets = (
                images_1.to(device),
                images_2.to(device),
                targets.to(device),
            )
            outputs = model(images_1, images_2).squeeze()
            test_loss += criterion(outputs, targets).sum().item()
            pred = torch.where(outputs > 0.5, 1, 0)
            correct += pred.eq(targets.view_as(pred)).sum().item()
    test_loss /= len(test_loader)
    count = len(test_loader.dataset)
    print(f"\nTest set: Average loss: {test_loss:.4f}, Accuracy: {correct}/{count}\n")


def main():
    """Read the options, train, test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=64, metavar="N")
    parser.add_argument("--test-batch-size", type=int, default=200, metavar="N")
    parser.add_argument("--epochs", type=int, default=5, metavar="N")
    parser.add_argument("--lr", type=float, default=1.0, metavar="LR")
    parser.add_argument("--gamma", type=float, default=0.7, metavar="M")
    parser.add_argument("--no-cuda", action="store_true", help="stay on the CPU")
    parser.add_argument("--dry-run", type=int, default=0, metavar="N", help="N batches per epoch")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--log-interval", type=int, default=10, metavar="N")
    parser.add_argument("--save-model", metavar="FILE")
    args = parser.parse_args()
    use_cuda = not args.no_cuda and torch.cuda.is_available()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cuda") if use_cuda else torch.device("cpu")

    split = digits_split()
    train_loader = DataLoader(
        PairMatcher(split.train_images, split.train_labels),
        batch_size=args.batch_size,
        shuffle=True,
    )
    test_loader = DataLoader(
        PairMatcher(split.test_images, split.test_labels), batch_size=args.test_batch_size
    )
    model = SiameseNetwork().to(device)
    optimizer = optim.Adadelta(model.parameters(), lr=args.lr)
    scheduler = StepLR(optimizer, step_size=1, gamma=args.gamma)
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, train_loader, optimizer, epoch)
        test(model, device, test_loader)
        scheduler.step()
    if args.save_model:
        torch.save(model.state_dict(), args.save_model)


if __name__ == "__main__":
    main()
