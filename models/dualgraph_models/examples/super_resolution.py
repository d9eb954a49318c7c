"""Super-resolution by an efficient sub-pixel network, after W. Shi et al. (2016)."""

import argparse
from math import log10

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.nn.init as init
import torch.optim as optim
from torch.utils.data import DataLoader, Dataset

from dualgraph_models.datasets import digits_split


class DatasetFromArray(Dataset):
    """Pairs of a small image and the original, from an array [n, 1, H, W]."""

    def __init__(self, images, upscale_factor):
        super().__init__()
        self.images = images
        self.upscale_factor = upscale_factor

    def __getitem__(self, index):
        target = torch.from_numpy(self.images[index])
        small = F.avg_pool2d(target.unsqueeze(0), self.upscale_factor)
        return small.squeeze(0), target

    def __len__(self):
        return len(self.images)


class Net(nn.Module):
    """Convolutions on the small image, whose channels become the pixels of the large one."""

    def __init__(self, upscale_factor):
        super().__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(1, 32, (5, 5), (1, 1), (2, 2))
        self.conv2 = nn.Conv2d(32, 32, (3, 3), (1, 1), (1, 1))
        self.conv3 = nn.Conv2d(32, 16, (3, 3), (1, 1), (1, 1))
        self.conv4 = nn.Conv2d(16, upscale_factor**2, (3, 3), (1, 1), (1, 1))
        self.pixel_shuffle = nn.PixelShuffle(upscale_factor)
        self._initialize_weights()

    def forward(self, x):
        x = self.relu(self.conv1(x))
        x = self.relu(self.conv2(x))
        x = self.relu(self.conv3(x))
        return self.pixel_shuffle(self.conv4(x))

    def _initialize_weights(self):
        init.orthogonal_(self.conv1.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv2.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv3.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv4.weight)


def main():
    """Read the options, train, and measure against interpolation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upscale-factor", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64, help="training batch size")
    parser.add_argument("--test-batch-size", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--threads", type=int, default=0, help="of the data loader")
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--checkpoint", metavar="FILE", help="written after every epoch")
    opt = parser.parse_args()
    torch.manual_seed(opt.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    split = digits_split()
    train_set = DatasetFromArray(split.train_images, opt.upscale_factor)
    test_set = DatasetFromArray(split.test_images, opt.upscale_factor)
    training_data_loader = DataLoader(
        dataset=train_set, num_workers=opt.threads, batch_size=opt.batch_size, shuffle=True
    )
    testing_data_loader = DataLoader(
        dataset=test_set, num_workers=opt.threads, batch_size=opt.test_batch_size, shuffle=False
    )
    model = Net(upscale_factor=opt.upscale_factor).to(device)
    criterion = nn.MSELoss()
    optimizer = optim.Adam(model.parameters(), lr=opt.lr)

    def train(epoch):
        epoch_loss = 0
        for iteration, batch in enumerate(training_data_loader, 1):
            input, target = batch[0].to(device), batch[1].to(device)
            optimizer.zero_grad()
            loss = criterion(model(input), target)
            epoch_loss += loss.item()
            loss.backward()
            optimizer.step()
            print(
                f"===> Epoch[{epoch}]({iteration}/{len(training_data_loader)}): "
                f"Loss: {loss.item():.4f}"
            )
        mean = epoch_loss / len(training_data_loader)
        print(f"===> Epoch {epoch} Complete: Avg. Loss: {mean:.4f}")

    def test():
        avg_psnr = bicubic_psnr = 0
        with torch.no_grad():
            for batch in testing_data_loader:
                input, target = batch[0].to(device), batch[1].to(device)
                prediction = model(input)
                avg_psnr += 10 * log10(1 / criterion(prediction, target).item())
                plain = F.interpolate(
                    input, scale_factor=opt.upscale_factor, mode="bicubic", align_corners=False
                )
                bicubic_psnr += 10 * log10(1 / criterion(plain, target).item())
        count = len(testing_data_loader)
        print(f"===> Avg. PSNR: {avg_psnr / count:.4f} dB (bicubic: {bicubic_psnr / count:.4f} dB)")

    def checkpoint(epoch):
        state = {
            "epoch": epoch,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        torch.save(state, opt.checkpoint)
        print(f"Checkpoint saved to {opt.checkpoint}")

    for epoch in range(1, opt.epochs + 1):
        train(epoch)
        test()
        if opt.checkpoint:
            checkpoint(epoch)


if __name__ == "__main__":
    main()
