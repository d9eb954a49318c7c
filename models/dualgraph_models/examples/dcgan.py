"""A deep convolutional GAN that draws digits, after A. Radford, L. Metz and S. Chintala (2016)."""

import argparse
import os
import random

import torch
import torch.nn as nn
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset

from dualgraph_models.datasets import load_digits


def weights_init(m):
    """Normal convolutions around 0, normal batch norms around 1, as the paper says."""
    classname = m.__class__.__name__
    if classname.find("Conv") != -1:
        nn.init.normal_(m.weight.data, 0.0, 0.02)
    elif classname.find("BatchNorm") != -1:
        nn.init.normal_(m.weight.data, 1.0, 0.02)
        nn.init.constant_(m.bias.data, 0)


class Generator(nn.Module):
    """Noise [N, nz, 1, 1] -> images [N, nc, 16, 16], -1 to 1."""

    def __init__(self, nz, ngf, nc):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 2, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, input):
        return self.main(input)


class Discriminator(nn.Module):
    """Images [N, nc, 16, 16] -> the probability that each is real [N]."""

    def __init__(self, ndf, nc):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(nc, ndf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ndf * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf * 2, 1, 4, 1, 0, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, input):
        return self.main(input).view(-1, 1).squeeze(1)


def main():
    """Read the options, and train the two networks against each other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--nz", type=int, default=32, help="size of the noise")
    parser.add_argument("--ngf", type=int, default=16)
    parser.add_argument("--ndf", type=int, default=16)
    parser.add_argument("--niter", type=int, default=5, help="number of epochs")
    parser.add_argument("--lr", type=float, default=0.0002)
    parser.add_argument("--beta1", type=float, default=0.5)
    parser.add_argument("--no-cuda", action="store_true", help="stay on the CPU")
    parser.add_argument("--dry-run", type=int, default=0, metavar="N", help="stop after N batches")
    parser.add_argument("--netG", default="", help="generator to continue training")
    parser.add_argument("--netD", default="", help="discriminator to continue training")
    parser.add_argument("--outf", default="", help="folder for checkpoints")
    parser.add_argument("--manual-seed", type=int)
    opt = parser.parse_args()
    if opt.manual_seed is None:
        opt.manual_seed = random.randint(1, 10000)
    print("Random Seed:", opt.manual_seed)
    random.seed(opt.manual_seed)
    torch.manual_seed(opt.manual_seed)
    if torch.cuda.is_available() and not opt.no_cuda:
        device = torch.device("cuda:0")
    else:
        device = torch.device("cpu")

    images = torch.from_numpy(load_digits()[0])
    images = nn.functional.interpolate(images, scale_factor=2, mode="bilinear")
    dataset = TensorDataset(images.sub(0.5).div(0.5))
    dataloader = DataLoader(dataset, batch_size=opt.batch_size, shuffle=True, drop_last=True)

    netG = Generator(opt.nz, opt.ngf, 1).to(device)
    netG.apply(weights_init)
    if opt.netG != "":
        netG.load_state_dict(torch.load(opt.netG, map_location=device))
    print(netG)
    netD = Discriminator(opt.ndf, 1).to(device)
    netD.apply(weights_init)
    if opt.netD != "":
        netD.load_state_dict(torch.load(opt.netD, map_location=device))
    print(netD)

    criterion = nn.BCELoss()
    fixed_noise = torch.randn(opt.batch_size, opt.nz, 1, 1, device=device)
    real_label = 1
    fake_label = 0
    optimizerD = optim.Adam(netD.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))
    optimizerG = optim.Adam(netG.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))

    for epoch in range(opt.niter):
        for i, data in enumerate(dataloader, 0):
            # The discriminator: maximise log(D(x)) + log(1 - D(G(z))).
            netD.zero_grad()
            real = data[0].to(device)
            batch_size = real.size(0)
            label = torch.full((batch_size,), real_label, dtype=real.dtype, device=device)
            output = netD(real)
            errD_real = criterion(output, label)
            errD_real.backward()
            D_x = output.mean().item()

            noise = torch.randn(batch_size, opt.nz, 1, 1, device=device)
            fake = netG(noise)
            label.fill_(fake_label)
            output = netD(fake.detach())
            errD_fake = criterion(output, label)
            errD_fake.backward()
            D_G_z1 = output.mean().item()
            errD = errD_real + errD_fake
            optimizerD.step()

            # The generator: maximise log(D(G(z))).
            netG.zero_grad()
            label.fill_(real_label)
            output = netD(fake)
            errG = criterion(output, label)
            errG.backward()
            D_G_z2 = output.mean().item()
            optimizerG.step()

            print(
                f"[{epoch}/{opt.niter}][{i}/{len(dataloader)}] Loss_D: {errD.item():.4f} "
                f"Loss_G: {errG.item():.4f} D(x): {D_x:.4f} "
                f"D(G(z)): {D_G_z1:.4f} / {D_G_z2:.4f}"
            )
            if opt.dry_run and i + 1 == opt.dry_run:
                break
        netG.eval()
        with torch.no_grad():
            drawn = netG(fixed_noise)
        netG.train()
        print(f"drawn: mean {drawn.mean().item():.4f}, deviation {drawn.std().item():.4f}")
        if opt.outf:
            os.makedirs(opt.outf, exist_ok=True)
            torch.save(netG.state_dict(), os.path.join(opt.outf, f"netG_epoch_{epoch}.pt"))
            torch.save(netD.state_dict(), os.path.join(opt.outf, f"netD_epoch_{epoch}.pt"))


if __name__ == "__main__":
    main()
